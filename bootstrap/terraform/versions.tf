terraform {
  required_version = ">= 1.5"

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.9" # the first with vault_plugin_runtime
    }
  }
}

# The provider takes the server from VAULT_ADDR and VAULT_TOKEN.
