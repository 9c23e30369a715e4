#!/usr/bin/env bash
# Credentials a second: a dev server with the plugin, a simulator that takes its time, and clients that read: `make load`.
#
# CLIENTS (64), DURATION in seconds (10) and LATENCY_MS of one OpenAI call (100) can be set; the server is found as in demo.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=stage.sh
. scripts/stage.sh

clients=${CLIENTS:-64} duration=${DURATION:-10} latency=${LATENCY_MS:-100}

find_server
prepare_stage
start_server "$(free_port 8200)" -log-level=warn
start_simulator "$(built release openai-simulator)" --latency-ms "$latency"
{
  make register enable
  "$cli" write openai/config \
    admin_api_key="$OPENAI_ADMIN_API_KEY" organization_id="$OPENAI_ORG_ID" api_endpoint="$OPENAI_BASE_URL"
  "$cli" write openai/project/load project_id="$OPENAI_PROJECT_ID"
  "$cli" write openai/roles/load project=load
} >"$stage_folder/setup.log" 2>&1 || {
  cat "$stage_folder/setup.log" >&2
  fail 'the mount could not be set up'
}

echo "$("$cli" version | cut -d' ' -f1-2 | tr -d ,), $clients clients, $latency ms for each call of OpenAI"
"$(built release examples/load)" --server "$VAULT_ADDR" --path openai/creds/load --clients "$clients" --seconds "$duration"
