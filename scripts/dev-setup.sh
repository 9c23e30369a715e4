#!/usr/bin/env bash
# A development server in the foreground, with the plugin registered, mounted and configured: `make dev-setup`. Ctrl-C ends it.
#
# Server and OpenAI are found as in demo.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=stage.sh
. scripts/stage.sh

check_programs cargo cc make python3
find_server
prepare_stage
build_for_trial
place_plugin
start_server "$(free_port 8200)" -log-level=debug
if openai_is_given; then
  use_real_openai
else
  start_simulator "$(built debug openai-simulator)"
fi
make register enable BIN="$plugins/vault-plugin-secrets-openai"
"$cli" write openai/config \
  admin_api_key="$OPENAI_ADMIN_API_KEY" organization_id="$OPENAI_ORG_ID" api_endpoint="$OPENAI_BASE_URL"
"$cli" write openai/project/my-project project_id="$OPENAI_PROJECT_ID"
"$cli" write openai/roles/my-role project=my-project

cat <<TEXT

The plugin is at openai/, with the project my-project and the role my-role; OpenAI is $OPENAI_BASE_URL. In another terminal:

  export PATH="$(dirname "$VAULT_BIN"):\$PATH" VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN
  $cli read openai/creds/my-role

After a change of the code:

  cargo build --workspace --bin vault-plugin-secrets-openai
  install -m 755 "$(built debug vault-plugin-secrets-openai)" "$plugins"
  make register BIN="$plugins/vault-plugin-secrets-openai"
  $cli plugin reload -plugin=vault-plugin-secrets-openai

The server's log is $stage_folder/server.log; what is new in it follows. Ctrl-C ends everything.

TEXT
tail -n 0 -f "$stage_folder/server.log" &
helper_pid=$!
wait "$server_pid"
