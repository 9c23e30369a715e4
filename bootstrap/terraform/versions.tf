terraform {
  required_version = ">= 1.5"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.9" # the first with vault_plugin_runtime
    }
  }
}

# VAULT_ADDR and VAULT_TOKEN say which server.
provider "vault" {}
