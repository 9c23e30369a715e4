#!/bin/sh
# Mounts and configures the plugin, makes one of each kind of credential, and a token for Prometheus. CLI=bao for OpenBao.
set -eu
cli=${CLI:-vault}

"$cli" secrets enable -path=openai vault-plugin-secrets-openai
"$cli" write openai/config admin_api_key="$OPENAI_ADMIN_API_KEY" organization_id="$OPENAI_ORG_ID" api_endpoint="$OPENAI_BASE_URL"
"$cli" write openai/project/my-project project_id="$OPENAI_PROJECT_ID"
"$cli" write openai/roles/my-role project=my-project ttl=15m
"$cli" write openai/library-sets/shared-pool project=my-project service_account_names=pool-1,pool-2 max_ttl=1h
"$cli" read openai/creds/my-role >/dev/null

# Prometheus' files. Its token reads metrics and nothing else.
cp "$MONITORING/prometheus.yml" "$MONITORING/alerts.yml" "$PROMETHEUS"
"$cli" policy write openai-metrics "$MONITORING/metrics-policy.hcl"
"$cli" token create -policy=openai-metrics -no-default-policy -period=24h -field=token >"$PROMETHEUS/token"
chmod 644 "$PROMETHEUS/token"
