#!/usr/bin/env bash
# Every test that this machine can run: lints, the tests of the code and on real servers, and the plugin in containers.
#
# usage: scripts/run_tests.sh [RUNTIME...]    the containers under these; runc and runsc if none is named
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$HOME/.cargo/bin:$PATH"

make check
make test
./vault_container_plugin_integration_test.sh "$@"
