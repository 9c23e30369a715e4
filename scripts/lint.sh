#!/usr/bin/env bash
# What is not Rust, without a warning: `make lint`. Shell scripts, the Vagrant machine, Terraform's files. A linter that is not here is
# named, and no failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly terraform_folder=bootstrap/terraform

# Whether the program is here.
has() {
  command -v "$1" >/dev/null && return
  echo "*** NOT LINTED: $2; there is no $1" >&2
  return 1
}

shell_scripts() {
  shellcheck -x ./*.sh scripts/*.sh .ci/run
  # The one that zsh runs as well.
  if has zsh 'the container test as zsh reads it'; then zsh -n vault_container_plugin_integration_test.sh; fi
}

# Validating needs the provider: from its registry, or from where Terraform is configured to find it (TF_CLI_CONFIG_FILE). A copy of the
# folder, so that nothing is left in it.
terraform_files() {
  terraform fmt -check -diff "$terraform_folder"
  local copy
  copy=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$copy'" EXIT
  cp "$terraform_folder"/*.tf "$copy"
  if terraform -chdir="$copy" init -backend=false -input=false >"$copy/log" 2>&1; then
    terraform -chdir="$copy" validate
  else
    cat "$copy/log" >&2
    echo "*** NOT VALIDATED: $terraform_folder; its provider cannot be had" >&2
  fi
}

if has shellcheck 'shell scripts'; then shell_scripts; fi
if has ruby Vagrantfile; then ruby -c Vagrantfile; fi
if has terraform "$terraform_folder"; then terraform_files; fi
