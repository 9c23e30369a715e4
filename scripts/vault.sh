#!/usr/bin/env bash
# Downloads Vault for Linux, checked by HashiCorp's signature, for CI: scripts/vault.sh VERSION FOLDER
set -euo pipefail

# https://www.hashicorp.com/trust/security
readonly fingerprint=C874011F0AB405110D02105534365D9472D7468F
readonly version=${1:?usage: vault.sh VERSION FOLDER} folder=${2:?usage: vault.sh VERSION FOLDER}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GNUPGHOME="$work/gpg"

download() {
  curl --fail --silent --show-error --location --proto =https --output "$work/${2:-${1##*/}}" "$1"
}

case $(uname -m) in x86_64) architecture=amd64 ;; aarch64) architecture=arm64 ;; *) architecture=$(uname -m) ;; esac
releases=https://releases.hashicorp.com/vault/$version
archive=vault_${version}_linux_$architecture.zip
download https://www.hashicorp.com/.well-known/pgp-key.txt key
download "$releases/$archive"
download "$releases/vault_${version}_SHA256SUMS" sums
download "$releases/vault_${version}_SHA256SUMS.sig" sums.sig

mkdir -m 700 "$GNUPGHOME"
gpg --quiet --batch --import "$work/key"
# The file may hold other keys: the signature must be of this one, or of one of its subkeys.
gpg --batch --status-fd 1 --verify "$work/sums.sig" "$work/sums" 2>/dev/null |
  awk -v key="$fingerprint" '$2 == "VALIDSIG" && $NF == key { found = 1 } END { exit !found }' ||
  { echo 'vault.sh: the checksums are not signed by HashiCorp' >&2; exit 1; }
(cd "$work" && grep " $archive\$" sums | sha256sum --check --quiet -)
mkdir -p "$folder"
unzip -q -o "$work/$archive" vault -d "$folder"
