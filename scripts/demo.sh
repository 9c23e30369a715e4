#!/usr/bin/env bash
# The README's Quick Start and the other ways to a key, each command shown before it runs: `make demo`. Nothing is left but what
# cargo built, and the downloaded OpenBao in .cache.
#
# It uses $VAULT_BIN, else vault or bao on the PATH, else OpenBao, which it fetches; and a simulator of OpenAI, or the real one when
# OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID are set. DEMO_KEEP=1 leaves all of it running.
# shellcheck disable=SC2016 # commands are shown as typed and expanded when they run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=stage.sh
. scripts/stage.sh

# Seconds from the start to the end of the build.
built_after=

# The account and lease of the last credential, and the account that was made from outside, while it is there.
export ACCOUNT_ID='' LEASE_ID='' REPORTS_ID=''

build() {
  chapter 'The plugin and a simulator of OpenAI, compiled without optimization'
  if [ ! -e "$(built debug vault-plugin-secrets-openai)" ]; then
    say 'The first build compiles about 250 crates: 2 to 3 minutes on 2 cores. Later runs take seconds.'
  fi
  build_for_trial
  place_plugin
  set_variable plugins "$plugins"
  built_after=$SECONDS
}

start() {
  chapter 'A dev server with a plugin directory'
  local port
  port=$(free_port 8200)
  show "$cli server -dev -dev-root-token-id=root -dev-plugin-dir=$plugins -dev-listen-address=127.0.0.1:$port &"
  start_server "$port"
  say "$("$cli" version) is up."
  show "export VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN"

  chapter 'OpenAI'
  if openai_is_given; then
    use_real_openai
    say "The real one, at $OPENAI_BASE_URL: organization $OPENAI_ORG_ID, project $OPENAI_PROJECT_ID."
  else
    start_simulator "$(built debug openai-simulator)"
    say "A simulator, at $OPENAI_BASE_URL. With OPENAI_ADMIN_API_KEY, OPENAI_ORG_ID and OPENAI_PROJECT_ID set it is the real one."
    show "export OPENAI_ADMIN_API_KEY=$OPENAI_ADMIN_API_KEY OPENAI_ORG_ID=$OPENAI_ORG_ID \\
  OPENAI_PROJECT_ID=$OPENAI_PROJECT_ID OPENAI_BASE_URL=$OPENAI_BASE_URL"
  fi
}

set_up() {
  chapter 'Register and enable the plugin'
  run 'make register BIN="$plugins/vault-plugin-secrets-openai"'
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

dynamic() {
  chapter 'What OpenAI holds before: its accounts, and the ids of their keys'
  run 'scripts/ask_openai.py accounts'

  chapter 'First way: a key for each lease'
  get "$cli read openai/creds/my-role"
  set_variable LEASE_ID "$(field lease_id)"
  ACCOUNT_ID=$(field service_account_id)

  chapter 'What OpenAI holds now, and whether it takes the key'
  run 'scripts/ask_openai.py accounts'
  say
  say '(OPENAI_API_KEY is the api_key from above, here and below.)'
  run 'scripts/ask_openai.py key'

  chapter 'Revoke it'
  run "$cli"' lease revoke -sync "$LEASE_ID"'

  chapter 'What OpenAI holds after, and whether it takes the key'
  run 'scripts/ask_openai.py accounts'
  if scripts/ask_openai.py accounts | awk -v id="$ACCOUNT_ID" '$1 == id { found = 1 } END { exit !found }'; then
    fail "the account $ACCOUNT_ID is still there"
  fi
  show 'scripts/ask_openai.py key'
  key_is_refused key
}

static() {
  chapter 'Second way: the key of an account that stays'
  say 'The account is there already, made by a person or by Terraform:'
  show 'scripts/ask_openai.py make-account vault-demo-reports'
  REPORTS_ID=$(scripts/ask_openai.py make-account vault-demo-reports)
  say "$REPORTS_ID"
  set_variable REPORTS_ID "$REPORTS_ID"
  run "$cli"' write openai/static-roles/reports \
  project=my-project \
  service_account_id="$REPORTS_ID" \
  rotation_period=24h'
  get "$cli read openai/static-creds/reports"
  run 'scripts/ask_openai.py key'

  chapter 'It rotates once a day, and now by hand'
  local before=$OPENAI_API_KEY
  get "$cli write -f openai/static-creds/reports/rotate"
  run 'scripts/ask_openai.py key'
  say
  say 'The key from before:'
  OPENAI_API_KEY=$before key_is_refused
}

library() {
  chapter 'Third way: borrow one of a set of accounts'
  run "$cli"' write openai/library-sets/shared-pool \
  project=my-project \
  service_account_names=vault-demo-1,vault-demo-2 \
  max_ttl=72h'
  get "$cli write openai/library-sets/shared-pool/check-out ttl=4h"
  set_variable ACCOUNT_ID "$(field service_account_id)"
  run "$cli read openai/library-sets/shared-pool/status"

  chapter 'What OpenAI holds now: an account that is free has no key'
  run 'scripts/ask_openai.py accounts'
  run 'scripts/ask_openai.py key'

  chapter 'Check it in'
  run "$cli"' write openai/library-sets/shared-pool/check-in service_account_id="$ACCOUNT_ID"'
  run "$cli read openai/library-sets/shared-pool/status"
  show 'scripts/ask_openai.py key'
  key_is_refused key
}

# The folder to which the tests fetch OpenAI's SDK.
fetched_sdk() {
  local folder
  for folder in .cache/python/openai==*; do
    if [ -d "$folder" ]; then printf '%s\n' "$folder"; fi
  done
}

keyless() {
  chapter 'Fourth way: no key at all'
  if [ -n "$openai_is_real" ]; then
    say 'Not done with the real OpenAI, which may have to allow an issuer of your own first. On one that does:'
    show "$cli write -f openai/config/federation"
    return
  fi
  set_variable OPENAI_TOKEN_URL "${OPENAI_BASE_URL%/v1}/oauth/token"
  run "$cli"' write openai/config/federation token_endpoint="$OPENAI_TOKEN_URL"'
  run "$cli"' write openai/roles/agent \
  project=my-project \
  credential_type=access_token \
  ttl=6s'
  say
  say 'OpenAI has an account for the role, and no key of it:'
  show 'scripts/ask_openai.py accounts'
  scripts/ask_openai.py accounts
  say
  say 'An application reads identity tokens, which its SDK exchanges at OpenAI. It renews them by itself:'
  show 'scripts/keyless_app.py agent 8'
  # The SDK, if it is installed, or if the tests have fetched it.
  env -u OPENAI_API_KEY PYTHONPATH="$(fetched_sdk)${PYTHONPATH:+:$PYTHONPATH}" scripts/keyless_app.py agent 8

  chapter 'A program without such an SDK reads an access token'
  run "$cli read openai/creds/agent"

  chapter 'Stop the role'
  run "$cli write openai/roles/agent enabled=false"
  show "$cli read openai/creds/agent"
  if "$cli" read openai/creds/agent; then fail 'a stopped role hands out tokens'; fi
}

take_down() {
  chapter 'Delete set and roles: what they made goes, what was there stays'
  run "$cli delete openai/library-sets/shared-pool"
  run "$cli delete openai/static-roles/reports"
  if [ -z "$openai_is_real" ]; then
    run "$cli delete openai/roles/agent"
    run "$cli delete openai/config/federation"
  fi
  run 'scripts/ask_openai.py accounts'
  run 'scripts/ask_openai.py delete-account "$REPORTS_ID"'
  REPORTS_ID=
}

rotate_admin_key() {
  chapter 'Rotate the admin key'
  if [ -n "$openai_is_real" ]; then
    say 'Not done with the real OpenAI: it would end the key you gave, and the new one would be lost with this server. On one that stays:'
    show "$cli write -f openai/config/rotate"
    return
  fi
  run "$cli read -field=admin_api_key_id openai/config"
  say
  run "$cli write -f openai/config/rotate"
  say
  say 'The key that the mount was configured with:'
  show 'scripts/ask_openai.py admin-key'
  key_is_refused admin-key

  chapter 'Everything goes on with the new one, which nobody has ever seen'
  get "$cli read openai/creds/my-role"
  set_variable LEASE_ID "$(field lease_id)"
  run "$cli"' lease revoke -sync "$LEASE_ID"'
}

# Like `run`. The answer is kept for `field`, and its key in $OPENAI_API_KEY.
get() {
  show "$1"
  eval "$1" | tee "$stage_folder/credential"
  OPENAI_API_KEY=$(field api_key)
  export OPENAI_API_KEY
}

# Ends everything that was started, and the account that was made from outside.
end_all() {
  trap '' INT TERM
  if [ -n "$REPORTS_ID" ]; then
    scripts/ask_openai.py delete-account "$REPORTS_ID" || true
  fi
  strike
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
  $cli write openai/library-sets/pool project=my-project service_account_names=pool-1,pool-2
  $cli write -f openai/library-sets/pool/check-out
  $cli path-help openai

The server's log is $stage_folder/server.log. To end everything:

  kill $server_pid $simulator_pid; rm -r $stage_folder
TEXT
  if [ -z "$openai_is_real" ]; then
    say
    say 'The guide to keyless credentials begins with this command, as the simulator has a token exchange of its own:'
    say
    say "  $cli write openai/config/federation token_endpoint=$OPENAI_TOKEN_URL"
  fi
}

check_programs cargo cc make python3
find_server
prepare_stage
trap end_all EXIT
build
start
set_up
dynamic
static
library
keyless
take_down
rotate_admin_key
if [ "${DEMO_KEEP:-}" = 1 ]; then
  keep
else
  strike
  chapter "Done in $((SECONDS - built_after)) seconds after a build of $built_after seconds. Server and simulator are stopped."
  say 'DEMO_KEEP=1 make demo leaves them running; make dev-setup starts them for trials by hand; make build makes the plugin to install.'
fi
