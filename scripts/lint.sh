#!/usr/bin/env bash
# Lints everything that is not Rust, and fails on a warning: shell scripts, the Vagrant machine, Terraform's files, workflows and
# examples (`make lint`). A missing linter is named; with MUST_LINT=1, as in CI, it is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly terraform_folders='bootstrap/terraform examples/terraform'
missing=0

# Whether the program is here.
has() {
  command -v "$1" >/dev/null && return
  echo "*** NOT LINTED: $2; there is no $1" >&2
  missing=1
  return 1
}

shell_scripts() {
  shellcheck -x ./*.sh scripts/*.sh .ci/run examples/*/*.sh
  # The one that zsh runs as well.
  if has zsh 'the container test as zsh reads it'; then zsh -n vault_container_plugin_integration_test.sh; fi
}

# Validating needs the provider: from its registry, or from where Terraform is configured to find it (TF_CLI_CONFIG_FILE). A copy of the
# folders, so that nothing is left in them.
terraform_files() {
  local copy folder
  copy=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$copy'" EXIT
  for folder in $terraform_folders; do
    terraform fmt -check -diff "$folder"
    mkdir -p "$copy/$folder"
    cp "$folder"/*.tf "$copy/$folder"
  done
  for folder in $terraform_folders; do
    if terraform -chdir="$copy/$folder" init -backend=false -input=false >"$copy/log" 2>&1; then
      terraform -chdir="$copy/$folder" validate
    else
      cat "$copy/log" >&2
      echo "*** NOT VALIDATED: $folder; its provider cannot be had" >&2
      missing=1
    fi
  done
}

yaml_files() {
  yamllint --strict --config-data '{extends: default, rules: {line-length: disable, document-start: disable, truthy: disable, comments: disable, braces: disable}}' \
    .github examples docs/monitoring
}

# Workflows, GitLab's job and the composition against their schemas.
schemas() {
  check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml examples/github-actions/*.yml
  check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
  check-jsonschema --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci examples/gitlab-ci/.gitlab-ci.yml
  check-jsonschema --builtin-schema vendor.compose-spec examples/compose/compose.yaml
}

if has shellcheck 'shell scripts'; then shell_scripts; fi
if has ruby Vagrantfile; then ruby -c Vagrantfile; fi
if has yamllint 'YAML files'; then yaml_files; fi
if has check-jsonschema 'workflows and the composition'; then schemas; fi
if has actionlint 'what workflows run'; then actionlint .github/workflows/*.yml examples/github-actions/*.yml; fi
if has zizmor 'the safety of workflows'; then zizmor --offline --quiet .github examples/github-actions; fi
if has terraform "$terraform_folders"; then terraform_files; fi
if [ "$missing" = 1 ] && [ "${MUST_LINT:-0}" = 1 ]; then
  exit 1
fi
