#!/usr/bin/env bash
# What a release consists of, into dist/: `make release`. The same commit gives the same bytes.
#
#   NAME_VERSION_linux_ARCH                 the program, for plugin_directory
#   NAME_VERSION_linux_ARCH.image.tar       the image, for `docker load`
#   NAME_VERSION_linux_ARCH.config.json     the image's configuration: its SHA-256 is the image's id, which Vault wants as -sha256
#   NAME_VERSION_linux_ARCH.manifest.json   the image's manifest: its SHA-256 is the id where Docker keeps images in containerd
#   NAME_VERSION_linux_ARCH.cdx.json        what is in the program, as CycloneDX
#   SHA256SUMS                              of all of these
#
# usage: scripts/release.sh           in a clean checkout
#        scripts/release.sh --twice   and once more in another folder, from nothing: it must come out the same
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name=vault-plugin-secrets-openai
readonly sbom_tool=0.5.9
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

fail() {
  echo "release.sh: $*" >&2
  exit 1
}

architecture() {
  case "$(uname -m)" in
    x86_64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) uname -m ;;
  esac
}

check() {
  [ "$(uname -s)" = Linux ] || fail 'the program and its image are for Linux, and are made there'
  [ -z "$(git status --porcelain)" ] || fail 'there are changes that no commit holds'
  cargo cyclonedx --version >/dev/null 2>&1 || fail "the list of contents needs: cargo install cargo-cyclonedx --locked --version $sbom_tool"
}

# A file of the OCI layout that the image's archive is.
from_archive() {
  tar --extract --to-stdout --file "$1" "$2"
}

manifest_digest() {
  from_archive "$1" index.json | python3 -c 'import json, sys; print(json.load(sys.stdin)["manifests"][0]["digest"].partition(":")[2])'
}

# The tool names packages that are here by this folder's path, which says nothing to anyone else.
contents() {
  cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
  sed "s|path+file://$PWD#|path+file:///src#|g" "${name}_bin.cdx.json"
  rm "${name}_bin.cdx.json"
}

# The same bytes wherever the source and the cargo folder lie: paths that the compiler writes into messages are replaced.
build() {
  local host upper
  host=$(rustc -vV | sed -n 's/^host: //p')
  upper=$(printf %s "$host" | tr 'a-z-' 'A-Z_')
  # They would replace the flags of .cargo/config.toml.
  unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
  export "CARGO_TARGET_${upper}_RUSTFLAGS=--remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  make build
  mv "bin/$name" "$1"
  # A program that asks for an interpreter would start here and not in an empty image.
  ! grep -aq '/ld-linux' "$1" || fail "$1 is not static"
}

make_release() {
  local artifact
  artifact=${name}_${version}_linux_$(architecture)
  rm -rf dist
  mkdir dist
  contents >"dist/$artifact.cdx.json"
  build "dist/$artifact"
  local id
  id=$(PLUGIN_BINARY="dist/$artifact" scripts/image.sh --archive "dist/$artifact.image.tar")
  from_archive "dist/$artifact.image.tar" "blobs/sha256/$id" >"dist/$artifact.config.json"
  from_archive "dist/$artifact.image.tar" "blobs/sha256/$(manifest_digest "dist/$artifact.image.tar")" >"dist/$artifact.manifest.json"
  (cd dist && sha256sum "$artifact"* >SHA256SUMS)
}

compare_with_another() {
  local elsewhere
  elsewhere=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$elsewhere'" EXIT
  git clone --quiet . "$elsewhere/source"
  env -u CARGO_TARGET_DIR "$elsewhere/source/scripts/release.sh"
  diff dist/SHA256SUMS "$elsewhere/source/dist/SHA256SUMS" || fail 'the second build differs from the first'
  echo 'A second build in another folder gave the same bytes.'
}

check
make_release
cat dist/SHA256SUMS
if [ "${1:-}" = --twice ]; then compare_with_another; fi
