#!/usr/bin/env bash
# Builds the plugin as one static program, the same bytes wherever the source and the cargo folder lie, and puts it into a folder.
# It is what make build makes, and goes into the image and into a release. usage: scripts/static_binary.sh FOLDER
#
# REVISION is the commit that the program tells as its own; that of this checkout if it is not set. For scripts/profile.sh:
# COUNTS_INTO is a folder into which the program writes how often what of it ran, and MAP a file for what the linker puts where,
# with which the program keeps its symbols.
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

# How often what of the program runs: the compiler makes fast what does, and small what does not. One that is older than the
# profile cannot read it, and does without. The file's name tells the content, so that cargo sees a new one.
profile() {
  local packed made_by ours unpacked
  packed=$(ls scripts/plugin.llvm*.profdata.gz)
  made_by=${packed#*.llvm}
  ours=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  if [ "$ours" -lt "${made_by%%.*}" ]; then
    echo "static_binary.sh: this compiler is too old for the profile: the program will be slower, and larger in memory" >&2
    return
  fi
  unpacked=$(realpath -m "${CARGO_TARGET_DIR:-target}")/profile/$(sha256sum "$packed" | cut -c 1-16).profdata
  mkdir -p "${unpacked%/*}"
  gunzip -c "$packed" >"$unpacked"
  echo "-C profile-use=$unpacked"
}

if [ -n "${COUNTS_INTO:-}" ]; then
  profile="-C profile-generate=$COUNTS_INTO"
else
  profile=$(profile)
fi

# What runs lies together, so that the rest of the program need not be in memory.
link='-C link-arg=-Wl,-T,scripts/layout.ld'
# Packed relocations are 0.4 MB less; the C library's own start unpacks them from 2.36 on.
if printf '2.36\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort -CV; then
  link+=' -C link-arg=-Wl,-z,pack-relative-relocs'
fi

# Named as a target, so that the flags reach the plugin and not the build scripts and macros, which cannot be static.
upper=$(printf %s "$triple" | tr 'a-z-' 'A-Z_')
export "CARGO_TARGET_${upper}_RUSTFLAGS=-C target-feature=+crt-static $profile $link --remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# They would come before the ones above.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
BUILD_COMMIT=${REVISION:-$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || true)}
export BUILD_COMMIT

# What makes up 70 % of all that was counted is worth any size. The compiler's own 99 % would save 4 % of a credential's
# instructions and cost 0.6 MB. And what never ran of a function that did lies apart from it: half of such a function.
last=(-C llvm-args=-profile-summary-cutoff-hot=700000 -C llvm-args=-enable-split-machine-functions -C llvm-args=-mfs-psi-cutoff=0)
if [ -n "${MAP:-}" ]; then
  last+=(-C strip=none -C "link-arg=-Wl,-Map=$MAP,--no-demangle")
fi

cargo rustc --release --locked --target "$triple" --bin "$name" -- "${last[@]}"
mkdir -p "$folder"
install -m 755 "${CARGO_TARGET_DIR:-target}/$triple/release/$name" "$folder/$name"

# A program that asks for an interpreter would start here and not in an empty image.
if grep -aq '/ld-linux' "$folder/$name" || ! env -i "$folder/$name" --version >/dev/null; then
  echo "static_binary.sh: $folder/$name is not static, or does not start" >&2
  exit 1
fi
