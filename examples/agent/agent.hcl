# vault agent -config=agent.hcl, or bao agent -config=agent.hcl. VAULT_ADDR (BAO_ADDR) names the server.
#
# Paths are relative to the working directory: role_id and secret_id are input, openai.env is output. The agent deletes secret_id when it
# has read it, so another start needs another one: run setup.sh again.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path   = "role_id"
      secret_id_file_path = "secret_id"
    }
  }
}

# Written again after each rotation, about 11 seconds after the new key exists. The old key works during the role's grace_period.
template {
  contents    = "{{ with secret \"openai/static-creds/app\" }}OPENAI_API_KEY={{ .Data.api_key }}\n{{ end }}"
  destination = "openai.env"
  perms       = "0600"

  # A program that reads the file once needs a restart:
  # exec { command = ["systemctl", "restart", "app"] }
}
