#!/usr/bin/env bash
# Builds the plugin for Linux on arm64, and shows the demo with it on a server of this machine, under qemu-user: `make arm64`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name=vault-plugin-secrets-openai target=aarch64-unknown-linux-gnu
readonly compiler=aarch64-linux-gnu-gcc emulator=qemu-aarch64-static

for program in "$compiler" "$emulator"; do
  if ! command -v "$program" >/dev/null; then
    echo "arm64.sh: there is no $program: apt-get install gcc-aarch64-linux-gnu qemu-user-static" >&2
    exit 1
  fi
done
rustup target add "$target"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$compiler CC_aarch64_unknown_linux_gnu=$compiler
cargo build --release --locked --target "$target" --bin "$name"
program=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/$target/release/$name
if grep -aq /ld-linux "$program"; then
  echo "arm64.sh: $program is not static" >&2
  exit 1
fi

# The server starts this script, which runs the program in the emulator.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$emulator" "$program" >"$folder/$name"
chmod 755 "$folder/$name"
"$folder/$name" --version
PLUGIN_BINARY="$folder/$name" scripts/demo.sh
