#!/usr/bin/env bash
# Builds the plugin as one static program, the same bytes wherever the source and the cargo folder lie, and puts it into a folder.
# It is what make build makes, and goes into the image and into a release. usage: scripts/static_binary.sh FOLDER
#
# REVISION is the commit that the program tells as its own; that of this checkout if it is not set.
#
# Static on the GNU target: that needs no second C library, and the plugin brings its own resolver and CA roots anyway.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name=vault-plugin-secrets-openai
folder=${1:?usage: scripts/static_binary.sh FOLDER}
triple=$(rustc -vV | sed -n 's/^host: //p')

case "$triple" in
  *-linux-*) ;;
  *) echo "static_binary.sh: a container needs a program for Linux and this is $triple: docker build ." >&2; exit 1 ;;
esac

# What runs lies together, so that the rest of the program need not be in memory.
link='-C link-arg=-Wl,-T,scripts/layout.ld'
# Packed relocations are 0.4 MB less; the C library's own start unpacks them from 2.36 on.
if printf '2.36\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort -CV; then
  link+=' -C link-arg=-Wl,-z,pack-relative-relocs'
fi

# Named as a target, so that the flags reach the plugin and not the build scripts and macros, which cannot be static.
upper=$(printf %s "$triple" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static $link --remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# They would come before the ones above.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
BUILD_COMMIT=${REVISION:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || true)}
export BUILD_COMMIT

cargo build --release --locked --target "$triple" --bin "$name"
mkdir -p "$folder"
install -m 755 "${CARGO_TARGET_DIR:-target}/$triple/release/$name" "$folder/$name"

# A program that asks for an interpreter would start here and not in an empty image.
if grep -aq '/ld-linux' "$folder/$name" || ! env -i "$folder/$name" --version >/dev/null; then
  echo "static_binary.sh: $folder/$name is not static, or does not start" >&2
  exit 1
fi
