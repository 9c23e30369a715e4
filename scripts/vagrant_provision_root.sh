#!/usr/bin/env bash
# Makes an Ubuntu machine one that can build, test and run the plugin in a container: Docker, gVisor, Vault, Rust. Run by `vagrant up`, as
# root; running it again changes nothing.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

[ "$(id -u)" = 0 ] || { echo 'vagrant_provision_root.sh: for root' >&2; exit 1; }
readonly user=${SUDO_USER:-vagrant}
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

# usage: add_repository NAME KEY_URL 'URL SUITE COMPONENT' [FINGERPRINT of the key]
add_repository() {
  local key="/etc/apt/keyrings/$1.asc"
  curl --fail --silent --show-error --location --proto =https --output "$key" "$2"
  if [ -n "${4:-}" ] && ! gpg --show-keys --with-colons "$key" | grep -q "^fpr:.*:$4:"; then
    rm "$key"
    echo "vagrant_provision_root.sh: the key of $1 is another than $4" >&2
    exit 1
  fi
  echo "deb [arch=$(dpkg --print-architecture) signed-by=$key] $3" >"/etc/apt/sources.list.d/$1.list"
}

install_packages() {
  apt-get update
  apt-get install -y ca-certificates curl gpg
  install -d -m 755 /etc/apt/keyrings
  add_repository docker https://download.docker.com/linux/ubuntu/gpg "https://download.docker.com/linux/ubuntu $codename stable" \
    9DC858229FC7DD38854AE2D88D81803C0EBFCD88
  add_repository gvisor https://gvisor.dev/archive.key 'https://storage.googleapis.com/gvisor/releases release main'
  add_repository hashicorp https://apt.releases.hashicorp.com/gpg "https://apt.releases.hashicorp.com $codename main" \
    798AEC654E5C15428C8E42EEAA16FCBCA621E701
  apt-get update
  apt-get install -y docker-ce docker-ce-cli docker-buildx-plugin containerd.io runsc vault gcc make git jq python3 python3-pip zsh
}

# --host-uds: the plugin's socket is in a folder of the host.
configure_docker() {
  local wanted='{"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=all"]}}}'
  if [ "$(cat /etc/docker/daemon.json 2>/dev/null)" != "$wanted" ]; then
    echo "$wanted" >/etc/docker/daemon.json
    systemctl restart docker
  fi
  usermod --append --groups docker "$user"
}

# Vault's package is for a server of its own; here it is started by hand, and needs no locked memory.
configure_vault() {
  systemctl disable --now vault 2>/dev/null || true
  setcap -r /usr/bin/vault 2>/dev/null || true
}

install_rust() {
  sudo -u "$user" --login bash -c \
    'command -v cargo >/dev/null || curl --proto =https --tlsv1.2 --fail --silent --show-error https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy,rustfmt'
}

install_packages
configure_docker
configure_vault
install_rust
