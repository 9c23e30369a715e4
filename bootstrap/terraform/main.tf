# The OpenAI secrets engine from the catalog entry to its roles, on Vault or OpenBao (there without a container).
#
# A field that is not given is not sent, so that the plugin's default holds, and a second apply changes nothing.

locals {
  name      = "vault-plugin-secrets-openai"
  container = try(var.plugin.oci_runtime, null) != null
  mount     = vault_mount.openai.path
}

resource "vault_plugin_runtime" "openai" {
  count = local.container ? 1 : 0

  type        = "container"
  name        = "${local.name}-${var.plugin.oci_runtime}"
  oci_runtime = var.plugin.oci_runtime
  rootless    = var.plugin.rootless
}

resource "vault_plugin" "openai" {
  count = var.plugin == null ? 0 : 1

  type      = "secret"
  name      = local.name
  version   = var.plugin.version
  sha256    = var.plugin.sha256
  env       = var.plugin.env
  command   = local.container ? "/${local.name}" : local.name # the provider asks for one; it is the image's own entrypoint
  oci_image = local.container ? local.name : null
  runtime   = one(vault_plugin_runtime.openai[*].name)
}

resource "vault_mount" "openai" {
  path           = var.mount_path
  type           = local.name
  plugin_version = try(var.plugin.version, null)
  description    = "OpenAI service accounts and their API keys"

  depends_on = [vault_plugin.openai]
}

# The admin key is written once. Vault rotates it afterwards and refuses the key that it has retired, which is all that Terraform
# still knows. To give another: terraform apply -replace=vault_generic_endpoint.credentials
resource "vault_generic_endpoint" "credentials" {
  path                 = "${local.mount}/config"
  ignore_absent_fields = true
  disable_delete       = true # unmounting removes it; replacing must not leave a moment without

  data_json = jsonencode({ for field, value in {
    admin_api_key   = var.admin_api_key
    organization_id = var.organization_id
    api_endpoint    = var.api_endpoint
    ca_cert         = var.ca_cert
  } : field => value if value != null })

  lifecycle {
    ignore_changes = [data_json]
  }
}

resource "vault_generic_endpoint" "settings" {
  count = length(var.settings) == 0 ? 0 : 1

  path                 = "${local.mount}/config"
  ignore_absent_fields = true
  disable_delete       = true
  data_json            = jsonencode(var.settings)

  depends_on = [vault_generic_endpoint.credentials]
}

resource "vault_generic_endpoint" "project" {
  for_each = var.projects

  path                 = "${local.mount}/project/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })

  depends_on = [vault_generic_endpoint.credentials]
}

resource "vault_generic_endpoint" "federation" {
  count = var.federation == null ? 0 : 1

  path                 = "${local.mount}/config/federation"
  ignore_absent_fields = true
  data_json            = jsonencode(var.federation)

  depends_on = [vault_generic_endpoint.credentials]
}

resource "vault_generic_endpoint" "role" {
  for_each = var.roles

  path                 = "${local.mount}/roles/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })

  depends_on = [vault_generic_endpoint.project, vault_generic_endpoint.federation]
}

resource "vault_generic_endpoint" "static_role" {
  for_each = var.static_roles

  path                 = "${local.mount}/static-roles/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })

  depends_on = [vault_generic_endpoint.project]
}

resource "vault_generic_endpoint" "library_set" {
  for_each = var.library_sets

  path                 = "${local.mount}/library-sets/${each.key}"
  ignore_absent_fields = true
  data_json            = jsonencode({ for field, value in each.value : field => value if value != null })

  depends_on = [vault_generic_endpoint.project]
}
