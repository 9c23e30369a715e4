# A mount with a project, one of each kind of credential, and the policies for their readers.
#
#   export VAULT_ADDR=... VAULT_TOKEN=... TF_VAR_admin_api_key=sk-admin-...
#   terraform init && terraform apply

terraform {
  required_version = ">= 1.5"
}

variable "admin_api_key" {
  description = "Admin API key of the OpenAI organization."
  type        = string
  sensitive   = true
}

module "openai" {
  source = "../../bootstrap/terraform"

  admin_api_key   = var.admin_api_key
  organization_id = "org-123456"

  # The program in the server's plugin directory.
  plugin = {
    sha256  = "0000000000000000000000000000000000000000000000000000000000000000"
    version = "v0.1.0"
  }

  settings = {
    automatic_rotation_period = 2592000
    max_requests_per_minute   = 60
  }

  projects = {
    my-project = { project_id = "proj_abc123" }
  }

  roles = {
    my-role = { project = "my-project", ttl = 900, max_ttl = 3600, scopes = ["api.model.read"] }
  }

  static_roles = {
    app = {
      project            = "my-project"
      service_account_id = "svc_acct_123"
      rotation_schedule  = "0 3 * * *"
      rotation_window    = 7200
      grace_period       = 600
    }
  }

  library_sets = {
    shared-pool = { project = "my-project", service_account_names = ["pool-1", "pool-2"], create_missing = false, max_ttl = 14400 }
  }
}

output "policies" {
  value = module.openai.policies
}
