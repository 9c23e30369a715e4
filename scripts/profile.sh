#!/usr/bin/env bash
# How the program is used, for the compiler and the linker: `make profile`, after changes of what requests go through and after
# updates of the compiler or of libraries. Both files go into the next commit; the program works without, slower and larger.
#
#   scripts/plugin.llvmVERSION.profdata.gz   how often what runs, counted by the program itself
#   scripts/layout.ld                        what runs at all, seen by valgrind: it knows the C library and AWS-LC too
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name=vault-plugin-secrets-openai
readonly work=$PWD/target/profile
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tools=$(rustc --print target-libdir)/../bin

fail() {
  echo "profile.sh: $*" >&2
  exit 1
}

[ -x "$tools/llvm-profdata" ] || fail 'the tool for profiles is missing: rustup component add llvm-tools'
command -v valgrind >/dev/null || fail 'valgrind is missing'

count() {
  rm -rf "$work/counts"
  COUNTS_INTO=$work/counts scripts/static_binary.sh "$work/counting"
  python3 scripts/bench/practice.py "$work/counting/$name"
  "$tools/llvm-profdata" merge --output "$work/plugin.profdata" "$work/counts"
  rm -f scripts/plugin.llvm*.profdata.gz
  gzip --best --no-name --stdout "$work/plugin.profdata" >"scripts/plugin.llvm$llvm.profdata.gz"
}

arrange() {
  MAP=$work/map scripts/static_binary.sh "$work/symbols"
  python3 scripts/bench/layout.py "$work/symbols/$name" "$work/map" scripts/layout.ld
}

cargo build --release --example openai-simulator --example load
count
arrange
