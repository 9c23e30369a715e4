#!/usr/bin/env bash
# Makes docs/monitoring/dashboard.png anew: the demo's paths for six minutes, with a limit and an outage of the simulated OpenAI in
# them, scraped by a real Prometheus through the server. It is drawn by dashboard_picture.py, as Grafana is not needed here.
#
# usage: scripts/dashboard_picture.sh [PICTURE]; needs prometheus, and python3 with matplotlib.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR source=stage.sh
. scripts/stage.sh

picture=${1:-docs/monitoring/dashboard.png}
minutes=6

set_up() {
  find_server
  prepare_stage
  build_for_trial
  place_plugin
  start_server "$(free_port 8200)"
  start_simulator "$(built debug openai-simulator)" --latency-ms 120
  make register enable BIN="$plugins/vault-plugin-secrets-openai"
  "$cli" write openai/config admin_api_key="$OPENAI_ADMIN_API_KEY" organization_id="$OPENAI_ORG_ID" \
    api_endpoint="$OPENAI_BASE_URL" quota_tracking=true
  "$cli" write openai/project/my-project project_id="$OPENAI_PROJECT_ID"
  local role
  for role in web batch reports; do "$cli" write "openai/roles/$role" project=my-project ttl=90s; done
  "$cli" write openai/static-roles/nightly project=my-project rotation_period=60s \
    service_account_id="$(scripts/ask_openai.py make-account nightly)"
  "$cli" write openai/library-sets/shared-pool project=my-project service_account_names=pool-1,pool-2,pool-3,pool-4 max_ttl=1h
  "$cli" write openai/config/federation token_endpoint="${OPENAI_BASE_URL%/v1}/oauth/token"
  "$cli" write openai/roles/agent project=my-project credential_type=access_token
}

scrape() {
  local folder=$stage_folder/prometheus port
  port=$(free_port 9090)
  prometheus_url=http://127.0.0.1:$port
  mkdir "$folder"
  "$cli" policy write openai-metrics docs/monitoring/metrics-policy.hcl
  "$cli" token create -policy=openai-metrics -no-default-policy -field=token >"$folder/token"
  cp docs/monitoring/alerts.yml "$folder"
  sed -e "s/127.0.0.1:8200/${VAULT_ADDR#http://}/" -e 's/_interval: 30s/_interval: 2s/' docs/monitoring/prometheus.yml \
    >"$folder/prometheus.yml"
  prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" --web.listen-address="127.0.0.1:$port" \
    >"$folder/log" 2>&1 &
  helper_pid=$!
  wait_until 'Prometheus answers' "$helper_pid" "$folder/log" curl --silent --fail "$prometheus_url/-/ready"
}

simulated() {
  curl --silent --show-error --fail -X "$1" "${OPENAI_BASE_URL%/v1}/_sim/$2" ${3:+-d "$3"} >/dev/null
}

# What people do, and in the third and the fifth minute what OpenAI does.
use_it() {
  local begun=$SECONDS phase=0 elapsed
  while elapsed=$((SECONDS - begun)) && [ $elapsed -lt $((minutes * 60)) ]; do
    if [ $phase -eq 0 ] && [ $elapsed -ge 130 ]; then simulated POST limit '{"calls": 1, "per": "second"}' && phase=1; fi
    if [ $phase -eq 1 ] && [ $elapsed -ge 180 ]; then simulated DELETE limit && "$cli" write -f openai/config/rotate && phase=2; fi
    if [ $phase -eq 2 ] && [ $elapsed -ge 250 ]; then simulated POST faults '{"action": {"kind": "status", "status": 503}}' && phase=3; fi
    if [ $phase -eq 3 ] && [ $elapsed -ge 290 ]; then simulated DELETE faults && phase=4; fi
    "$cli" read openai/creds/web &
    "$cli" read openai/creds/web &
    [ $((elapsed % 3)) -ne 0 ] || "$cli" read openai/creds/batch &
    [ $((elapsed % 5)) -ne 0 ] || "$cli" read openai/creds/reports &
    [ $((elapsed % 2)) -ne 0 ] || "$cli" read openai/creds/agent &
    [ $((elapsed % 4)) -ne 0 ] || "$cli" read openai/identity-token/agent &
    [ $((elapsed % 7)) -ne 0 ] || "$cli" write openai/library-sets/shared-pool/check-out ttl=30s &
    sleep 1
  done >"$stage_folder/used" 2>&1
}

set_up
scrape
use_it
python3 scripts/dashboard_picture.py "$prometheus_url" "$minutes" "$picture"
