#!/usr/bin/env bash
# Holds the dependencies to .deny.toml, and asks RustSec's advisories about them, twice: cargo-deny looks at what is built
# for the systems of the release, cargo-audit at all of Cargo.lock.
#
# What cannot be asked, because a tool or the advisories cannot be had here, is said loudly; with MUST_AUDIT=1, as in CI,
# that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unasked=0

not_asked() {
  printf '\n*** NOT CHECKED: %s\n\n' "$*" >&2
  unasked=1
}

has() {
  cargo "$1" --version >/dev/null 2>&1
}

if has deny; then
  # Licenses, bans and sources need no network beyond what a build does.
  cargo deny --log-level error check licenses bans sources
  if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check advisories
  else
    not_asked "RustSec's advisories by cargo-deny: its database cannot be fetched from here"
  fi
else
  not_asked 'licenses, bans, sources and advisories: there is no cargo-deny here (cargo install --locked cargo-deny)'
fi

if ! has audit; then
  not_asked "RustSec's advisories for Cargo.lock: there is no cargo-audit here (cargo install --locked cargo-audit)"
elif advisories=$(cargo audit --deny yanked 2>&1); then
  echo "$advisories"
elif grep -q "couldn't fetch advisory database" <<<"$advisories"; then
  not_asked "RustSec's advisories by cargo-audit: its database cannot be fetched from here"
else
  echo "$advisories" >&2
  exit 1
fi

if [ "$unasked" = 1 ] && [ "${MUST_AUDIT:-0}" = 1 ]; then
  exit 1
fi
