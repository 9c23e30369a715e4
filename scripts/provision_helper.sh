#!/usr/bin/env bash
# In the Vagrant machine: leaves a Vault running with the plugin mounted at openai/, in a container under gVisor.
#
# OpenAI is the real one if ~/.openai_env has its key (setup_vagrant_creds.sh puts it there), else a simulator. Vault listens on every
# address of the machine, so that the host's http://localhost:8200 reaches it; the token is `root`.
# usage: scripts/provision_helper.sh [RUNTIME]    runsc (gVisor) or runc
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -e "$HOME/.openai_env" ]; then
  # shellcheck source=/dev/null
  . "$HOME/.openai_env"
fi
PATH="$HOME/.cargo/bin:$PATH"
KEEP=0.0.0.0:8200 exec ./vault_container_plugin_integration_test.sh "${1:-runsc}"
