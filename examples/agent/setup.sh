#!/bin/sh
# Once, by an operator: a policy, an AppRole, and the two files with which the agent logs in. CLI=bao for OpenBao.
set -eu
cli=${CLI:-vault}

"$cli" policy write openai-app - <<'HCL'
path "openai/static-creds/app" {
  capabilities = ["read"]
}
HCL
"$cli" auth list | grep -q '^approle/' || "$cli" auth enable approle
"$cli" write auth/approle/role/openai-app token_policies=openai-app token_ttl=1h token_max_ttl=24h
umask 077
"$cli" read -field=role_id auth/approle/role/openai-app/role-id >role_id
"$cli" write -force -field=secret_id auth/approle/role/openai-app/secret-id >secret_id
