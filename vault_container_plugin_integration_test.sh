#!/usr/bin/env bash
# The plugin in a container, from its image to a credential, on a real Vault, each step shown: `make test-container`.
#
# usage: zsh (or bash) vault_container_plugin_integration_test.sh [RUNTIME...]     each of them; runc and runsc (gVisor) if none is named
#
# OpenAI is a simulator, or the real one when OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID are set. At the end the
# credential is revoked and everything is stopped; the image stays. What else can be set:
#   VAULT_BIN=FILE         Vault's program, if it is not on the PATH
#   VAULT_RUN_AS=UID:GID   root can have Vault run as that user
#   RUN_AS=UID:GID         the user of the image (Dockerfile)
#   ROOTLESS=1             registers the runtimes with -rootless
#   PLUGIN_BINARY=FILE     a static program to pack into the image, instead of building one
#   KEEP=ADDRESS:PORT      leaves all of it running, Vault at that address with the token `root`
# shellcheck disable=SC2016 # commands are shown as typed and expanded when they run
if [ -n "${ZSH_VERSION:-}" ]; then emulate sh; fi
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/stage.sh
. scripts/stage.sh

readonly name=vault-plugin-secrets-openai
runtime=
image_id=
lacking=

lacks() {
  printf '  %s\n' "$*" >&2
  lacking=yes
}

# Everything that is missing, not only the first.
check_this_machine() {
  [ "$(uname -s)" = Linux ] || fail 'Vault runs containers on Linux only. `vagrant up` makes such a machine, see docs/development.md.'
  check_docker "$@"
  check_vault
  command -v python3 >/dev/null || lacks 'Python 3: apt-get install python3'
  openai_is_given || command -v ip >/dev/null || lacks 'ip: apt-get install iproute2'
  openai_is_given || command -v cargo >/dev/null ||
    lacks 'Rust, for the simulator of OpenAI: https://rustup.rs, or set OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID'
  [ -z "$lacking" ] || fail 'this machine lacks what is listed above'
}

check_docker() {
  if ! command -v docker >/dev/null; then
    lacks 'Docker: apt-get install docker.io (and runsc for gVisor), or https://docs.docker.com/engine/install'
  elif ! docker info >/dev/null 2>&1; then
    lacks 'a Docker daemon that this user may use: systemctl start docker (without systemd, as root: scripts/dockerd.sh start), and usermod -aG docker you'
  else
    local wanted known
    known=$(docker info --format '{{range $runtime, $_ := .Runtimes}}{{$runtime}} {{end}}')
    for wanted in "$@"; do
      case " $known" in *" $wanted "*) ;; *) lacks_runtime "$wanted" ;; esac
    done
  fi
}

lacks_runtime() {
  if [ "$1" = runsc ]; then
    lacks 'gVisor in Docker: apt-get install runsc (Debian), or https://gvisor.dev/docs/user_guide/install; then in /etc/docker/daemon.json'
    lacks '  {"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--host-uds=all"]}}}   and restart Docker. Or name only runc.'
  else
    lacks "the runtime $1 in Docker's daemon.json"
  fi
}

check_vault() {
  local found
  found=${VAULT_BIN:-$(command -v vault || true)}
  case "$("${found:-false}" version 2>/dev/null)" in
    'Vault v'*) ;;
    *) lacks 'Vault 1.16 or later (OpenBao runs no containers): https://developer.hashicorp.com/vault/install, or set VAULT_BIN' ;;
  esac
}

build() {
  chapter 'Step 1: the image'
  show 'scripts/image.sh'
  image_id=$(scripts/image.sh)
  readonly image_id
  say "$image_id"
  say "$(docker image inspect --format '{{.Size}}' "$image_id") bytes"
  [ -n "$openai_is_real" ] || cargo build --quiet --locked --workspace --bin openai-simulator
}

start() {
  chapter "Step 2: a Vault dev server, and OpenAI"
  local port
  port=$(free_port 8200)
  prepare_stage
  trap stop EXIT
  find_server
  if [ -n "${VAULT_RUN_AS:-}" ]; then change_user "$VAULT_RUN_AS"; fi
  show "$cli server -dev -dev-root-token-id=root -dev-listen-address=${KEEP:-127.0.0.1:$port} &"
  if [ -n "${KEEP:-}" ]; then
    start_server "${KEEP##*:}" -log-level=debug -dev-listen-address="$KEEP"
  else
    start_server "$port" -log-level=debug
  fi
  say "$("$cli" version) is up."
  if [ -n "$openai_is_real" ]; then
    say "OpenAI is the real one, at $OPENAI_BASE_URL."
  else
    start_reachable_simulator
    say "OpenAI is a simulator, at $OPENAI_BASE_URL."
  fi
}

# A `vault` that becomes another user first, who needs Docker's group and a copy of the program where he can read it.
change_user() {
  local program="$stage_folder/program" groups
  groups=$(getent group docker | cut -d: -f3)
  chmod 755 "$stage_folder"
  install -m 755 "$VAULT_BIN" "$program"
  cat >"$stage_folder/vault" <<WRAPPER
#!/bin/sh
HOME=/ exec setpriv --reuid ${1%:*} --regid ${1#*:} --groups "$groups" --inh-caps=-all "$program" "\$@"
WRAPPER
  chmod 755 "$stage_folder/vault"
  PATH="$stage_folder:$PATH"
  cli=vault
}

# A container sees this machine at its bridge's address, where plain http is refused by the plugin: TLS, by an authority of its own.
start_reachable_simulator() {
  local bridge gateway
  bridge=$(docker network inspect bridge --format '{{index .Options "com.docker.network.bridge.name"}}')
  gateway=$(ip -4 -oneline address show dev "$bridge" | awk '{ sub("/.*", "", $4); print $4 }')
  start_simulator "$(built debug openai-simulator)" --listen "$gateway:0" --tls "$stage_folder/ca.pem" --tls-name "$gateway"
  export SSL_CERT_FILE="$stage_folder/ca.pem"
}

register() {
  chapter "Step 3: register the image, to run under $runtime"
  run "$cli plugin runtime register -type=container -oci_runtime=$runtime ${ROOTLESS:+-rootless }$runtime"
  run "$cli plugin register -runtime=$runtime -oci_image=$name -version=$version \\
  -sha256=$image_id secret $name"
}

enable() {
  chapter 'Step 4: enable the secrets engine'
  local begun
  begun=$(date +%s%3N)
  run "$cli secrets enable -path=openai -plugin-version=$version $name"
  say "From the container's start to the mount: $(($(date +%s%3N) - begun)) ms"
  show 'docker ps'
  containers --format 'table {{.Image}}\t{{.Command}}\t{{.Status}}\t{{.Names}}'
  docker inspect --format 'runtime {{.HostConfig.Runtime}}, capabilities dropped {{.HostConfig.CapDrop}}, user {{.Config.User}}' "$(containers --quiet)"
}

# The containers of the Vault that was started here.
containers() {
  docker ps --no-trunc --filter "label=com.hashicorp.vault.pid=$server_pid" "$@"
}

configure() {
  chapter 'Step 5: configure it'
  if [ -n "$openai_is_real" ]; then
    run "$cli"' write openai/config \
  admin_api_key="$OPENAI_ADMIN_API_KEY" \
  organization_id="$OPENAI_ORG_ID" \
  api_endpoint="$OPENAI_BASE_URL"'
  else
    run "$cli"' write openai/config \
  admin_api_key="$OPENAI_ADMIN_API_KEY" \
  organization_id="$OPENAI_ORG_ID" \
  api_endpoint="$OPENAI_BASE_URL" \
  ca_cert=@"$SSL_CERT_FILE"'
  fi

  chapter 'Step 6: a project'
  run "$cli"' write openai/project/my-project project_id="$OPENAI_PROJECT_ID" description="My OpenAI Project"'

  chapter 'Step 7: a role'
  run "$cli"' write openai/roles/my-role project="my-project" ttl=1h max_ttl=24h \
  service_account_name_template="vault-{{.RoleName}}-{{.RandomSuffix}}"'
}

issue() {
  chapter 'Step 8: a credential'
  show "$cli read openai/creds/my-role"
  "$cli" read openai/creds/my-role >"$stage_folder/credential"
  cat "$stage_folder/credential"
  OPENAI_API_KEY=$(field api_key)
  export OPENAI_API_KEY
  run 'scripts/ask_openai.py key'
  say "Memory of the container: $(docker stats --no-stream --format '{{.MemUsage}}' "$(containers --quiet)")"
}

# The credential of a Vault that keeps nothing would outlive it.
revoke() {
  chapter 'After it: revoke the credential'
  set_variable LEASE_ID "$(field lease_id)"
  run "$cli"' lease revoke -sync "$LEASE_ID"'
  show 'scripts/ask_openai.py key'
  key_is_refused key
}

# A Vault that was told to end takes its containers along; one that died leaves them.
stop() {
  local ended=$?
  trap - EXIT
  if [ $ended -ne 0 ] && [ -n "$server_pid" ]; then
    printf '\nThe end of the log of Vault:\n' >&2
    tail -n 30 "$stage_folder/server.log" >&2
  fi
  strike
  if [ -n "$server_pid" ]; then
    containers --all --quiet | xargs --no-run-if-empty docker rm --force >/dev/null
  fi
  return 0
}

keep() {
  trap - EXIT
  chapter 'Left running'
  cat <<TEXT
  export PATH="$(dirname "$VAULT_BIN"):\$PATH" VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN
  $cli read openai/creds/my-role

Vault's log is $stage_folder/server.log. To end everything:

  kill $server_pid $simulator_pid; rm -r $stage_folder
TEXT
}

[ $# -gt 0 ] || set -- runc runsc
[ -z "${KEEP:-}" ] || [ $# -eq 1 ] || fail 'KEEP goes with one runtime: name it'
check_this_machine "$@"
if openai_is_given; then use_real_openai; fi
version=v$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
readonly version
plugins=
build
for runtime in "$@"; do
  start
  register
  enable
  configure
  issue
  if [ -n "${KEEP:-}" ]; then
    keep
    exit 0
  fi
  revoke
  stop
done
chapter "Done under $*: the credentials above were good and are revoked, and everything that was started is stopped."
