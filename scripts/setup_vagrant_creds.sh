#!/usr/bin/env bash
# On the host: hands OpenAI's key to the Vagrant machine, as ~/.openai_env there, which only its user can read.
#
# usage: OPENAI_ADMIN_API_KEY=... OPENAI_ORG_ID=... [OPENAI_PROJECT_ID=...] scripts/setup_vagrant_creds.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "setup_vagrant_creds.sh: $*" >&2
  exit 1
}

# As a line of shell that sets the variable to this very text.
line() {
  printf "export %s='%s'\n" "$1" "$(printf %s "$2" | sed "s/'/'\\\\''/g")"
}

[ -n "${OPENAI_ADMIN_API_KEY:-}" ] || fail 'export OPENAI_ADMIN_API_KEY first'
[ -n "${OPENAI_ORG_ID:-}" ] || fail 'export OPENAI_ORG_ID first'
command -v vagrant >/dev/null || fail 'there is no Vagrant here: https://developer.hashicorp.com/vagrant/install'

connection=$(mktemp)
trap 'rm -f "$connection"' EXIT
vagrant ssh-config >"$connection" || fail 'the machine is not up: vagrant up'

# Through standard input, so that no list of processes shows it.
{
  line OPENAI_ADMIN_API_KEY "$OPENAI_ADMIN_API_KEY"
  line OPENAI_ORG_ID "$OPENAI_ORG_ID"
  [ -z "${OPENAI_PROJECT_ID:-}" ] || line OPENAI_PROJECT_ID "$OPENAI_PROJECT_ID"
} | ssh -F "$connection" default 'umask 077 && cat >~/.openai_env.new && mv ~/.openai_env.new ~/.openai_env'

echo 'The machine has it. There: scripts/provision_helper.sh'
[ -n "${OPENAI_PROJECT_ID:-}" ] || echo 'OPENAI_PROJECT_ID is not set: the scripts use a simulator until it is.'
