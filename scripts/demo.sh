#!/usr/bin/env bash
# The README's Quick Start from beginning to end, each command shown before it runs: `make demo`.
#
# It uses $VAULT_BIN, else vault or bao on the PATH, else OpenBao, which it fetches; and a simulator of OpenAI, or the real one when
# OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID are set. DEMO_KEEP=1 leaves all of it running.
# shellcheck disable=SC2016 # commands are shown as typed and expanded when they run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=stage.sh
. scripts/stage.sh

bold='' blue='' plain=''
if [ -t 1 ]; then
  bold=$'\e[1m' blue=$'\e[34m' plain=$'\e[0m'
fi

chapter() {
  printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}

say() {
  printf '%s\n' "$*"
}

# Shows a command and runs it. A backslash and newline inside are shown as they are.
run() {
  show "$1"
  eval "$1"
}

# As it would be typed.
show() {
  printf '\n%s$ %s%s\n' "$blue" "$1" "$plain"
}

build() {
  chapter 'The plugin'
  run 'make build'
  openai_is_given || cargo build --quiet --example openai-simulator
}

start() {
  chapter 'A dev server that takes plugins from ./bin'
  local port
  port=$(free_port 8200)
  show "$cli server -dev -dev-root-token-id=root -dev-plugin-dir=./bin -dev-listen-address=127.0.0.1:$port &"
  start_server "$port"
  say "$("$cli" version) is up."
  run "export VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN"

  chapter 'OpenAI'
  if openai_is_given; then
    use_real_openai
    say "The real one, at $OPENAI_BASE_URL: organization $OPENAI_ORG_ID, project $OPENAI_PROJECT_ID."
  else
    start_simulator target/debug/examples/openai-simulator
    say "A simulator, at $OPENAI_BASE_URL. With OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID set it is the real one."
    run "export OPENAI_ADMIN_API_KEY=$OPENAI_ADMIN_API_KEY OPENAI_ORG_ID=$OPENAI_ORG_ID \\
  OPENAI_PROJECT_ID=$OPENAI_PROJECT_ID OPENAI_BASE_URL=$OPENAI_BASE_URL"
  fi
}

set_up() {
  chapter 'Register and enable the plugin'
  run 'make register'
  run 'make enable'

  chapter 'Configure it'
  run "$cli"' write openai/config \
  admin_api_key="$OPENAI_ADMIN_API_KEY" \
  organization_id="$OPENAI_ORG_ID" \
  api_endpoint="$OPENAI_BASE_URL"'
  run "$cli read openai/config"

  chapter 'A project and a role'
  run "$cli"' write openai/project/my-project \
  project_id="$OPENAI_PROJECT_ID" \
  description="My OpenAI Project"'
  run "$cli"' write openai/roles/my-role \
  project="my-project" \
  service_account_name_template="vault-{{.RoleName}}-{{.RandomSuffix}}" \
  service_account_description="Service account created by Vault" \
  ttl=1h \
  max_ttl=24h'
}

issue() {
  chapter 'What OpenAI holds before'
  run 'scripts/ask_openai.py accounts'

  chapter 'Generate an API key'
  show "$cli read openai/creds/my-role"
  "$cli" read openai/creds/my-role | tee "$stage_folder/credential"
  lease_id=$(field lease_id)
  account_id=$(field service_account_id)
  OPENAI_API_KEY=$(field api_key)
  export OPENAI_API_KEY

  chapter 'What OpenAI holds now, and whether it takes the key'
  run 'scripts/ask_openai.py accounts'
  say
  say '(OPENAI_API_KEY is the api_key from above.)'
  run 'scripts/ask_openai.py key'
}

field() {
  awk -v name="$1" '$1 == name { print $2 }' "$stage_folder/credential"
}

revoke() {
  chapter 'Revoke it'
  run "$cli lease revoke -sync $lease_id"

  chapter 'What OpenAI holds after, and whether it takes the key'
  run 'scripts/ask_openai.py accounts'
  if scripts/ask_openai.py accounts | grep -q "^$account_id "; then
    fail "the account $account_id is still there"
  fi
  show 'scripts/ask_openai.py key'
  key_is_refused
}

# The real OpenAI may take a moment until every part of it knows.
key_is_refused() {
  local status deadline=$((SECONDS + 60))
  while status=0; scripts/ask_openai.py key || status=$?; [ $status -eq 0 ]; do
    if [ -z "$openai_is_real" ] || [ $SECONDS -ge $deadline ]; then fail 'OpenAI still takes the key'; fi
    sleep 2
  done
  [ $status -eq 3 ] || fail 'OpenAI did not say whether it takes the key'
}

keep() {
  trap - EXIT
  chapter 'Left running'
  cat <<TEXT
In this or another terminal:

  export PATH="$(dirname "$VAULT_BIN"):\$PATH" VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN
  $cli read openai/creds/my-role
  $cli read openai/creds/my-role ttl=10m
  $cli lease revoke -prefix openai/creds/my-role
  $cli path-help openai

The server's log is $stage_folder/server.log. To end everything:

  kill $server_pid $simulator_pid; rm -r $stage_folder
TEXT
}

find_server
prepare_stage
build
start
set_up
issue
revoke
if [ "${DEMO_KEEP:-}" = 1 ]; then
  keep
else
  strike
  chapter 'Done: everything that was started is stopped again. DEMO_KEEP=1 make demo leaves it running.'
fi
