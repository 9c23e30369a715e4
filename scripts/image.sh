#!/usr/bin/env bash
# Makes the image vault-plugin-secrets-openai:<version> in Docker and prints its id, which is what Vault wants as -sha256: `make image`.
# The same commit gives the same id.
#
# usage: scripts/image.sh [--archive FILE]    also leaves the image as a file for `docker load`
# PLUGIN_BINARY=FILE packs that program instead of building one; IMAGE_VERSION and RUN_AS are for tests of other versions and users.
# Without cargo, or not on Linux, the program is built inside Docker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name=vault-plugin-secrets-openai
version=${IMAGE_VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)}
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

archive=
if [ "${1:-}" = --archive ]; then
  archive=${2:?--archive needs a file}
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arguments=(--quiet --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "RUN_AS=${RUN_AS:-0:0}")

# Prints the id of what Docker built.
build() {
  if [ -n "${PLUGIN_BINARY:-}" ]; then
    mkdir "$work/context"
    install -m 755 "$PLUGIN_BINARY" "$work/context/$name"
  elif [ "$(uname -s)" = Linux ] && command -v cargo >/dev/null; then
    make build >&2
    mkdir "$work/context"
    install -m 755 "bin/$name" "$work/context/$name"
  else
    docker build "${arguments[@]}" .
    return
  fi
  { sed '/^FROM .* AS build$/,$d' Dockerfile; echo "COPY $name /"; } | docker build "${arguments[@]}" --file - "$work/context"
}

built=$(build)
docker save "$built" | scripts/timeless_image.py "$name:$version" >"$work/image.tar"
docker load --quiet --input "$work/image.tar" >&2
# Only if it is not the very image that was just loaded.
id=$(docker image inspect --format '{{.Id}}' "$name:$version")
[ "$built" = "$id" ] || docker rmi "$built" >/dev/null
if [ -n "$archive" ]; then
  mv "$work/image.tar" "$archive"
fi
printf '%s\n' "${id#sha256:}"
