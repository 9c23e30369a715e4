#!/usr/bin/env bash
# What a release consists of, into dist/: `make release`. The same commit gives the same bytes.
#
#   NAME_VERSION_OS_ARCH                    the program, for plugin_directory
#   NAME_VERSION_OS_ARCH.tar.gz             the program as NAME, LICENSE, and the license texts of all crates in it
#   NAME_VERSION_OS_ARCH.cdx.json           the list of contents, as CycloneDX
#   NAME_VERSION_linux_ARCH.image.tar       the image, for `docker load`
#   NAME_VERSION_linux_ARCH.config.json     the image's configuration: its SHA-256 is the image's id, which Vault wants as -sha256
#   NAME_VERSION_linux_ARCH.manifest.json   the image's manifest: its SHA-256 is the id where Docker keeps images in containerd
#   SHA256SUMS                              of all of these
#
# On a Mac there is no image.
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

system() {
  uname -s | tr '[:upper:]' '[:lower:]'
}

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi
}

check() {
  case $(system) in linux | darwin) ;; *) fail 'releases are made on Linux and macOS' ;; esac
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

# usage: pack PROGRAM ARCHIVE
pack() {
  scripts/licenses.py >dist/THIRD_PARTY_LICENSES.txt
  python3 - "$1" "$2" "$name" <<'PYTHON'
import gzip, os, sys, tarfile

program, archive, name = sys.argv[1:]
epoch = int(os.environ["SOURCE_DATE_EPOCH"])

def plain(member):
    member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
    member.mode = 0o755 if member.name == name else 0o644
    return member

with open(archive, "wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed, tarfile.open(mode="w", fileobj=packed) as tar:
    for path, within in ((program, name), ("LICENSE", "LICENSE"), ("dist/THIRD_PARTY_LICENSES.txt", "THIRD_PARTY_LICENSES.txt")):
        tar.add(path, within, filter=plain)
PYTHON
  rm dist/THIRD_PARTY_LICENSES.txt
}

# usage: make_image PROGRAM
make_image() {
  local id
  id=$(PLUGIN_BINARY="$1" scripts/image.sh --archive "$1.image.tar")
  from_archive "$1.image.tar" "blobs/sha256/$id" >"$1.config.json"
  from_archive "$1.image.tar" "blobs/sha256/$(manifest_digest "$1.image.tar")" >"$1.manifest.json"
}

make_release() {
  local artifact
  artifact=${name}_${version}_$(system)_$(architecture)
  rm -rf dist
  mkdir dist
  contents >"dist/$artifact.cdx.json"
  build "dist/$artifact"
  pack "dist/$artifact" "dist/$artifact.tar.gz"
  [ "$(system)" != linux ] || make_image "dist/$artifact"
  (cd dist && sha256 "$artifact"* >SHA256SUMS)
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
