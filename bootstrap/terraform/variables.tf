# What has no default has to be given. Secrets are best given as TF_VAR_admin_api_key and not in a file.

variable "admin_api_key" {
  description = "Admin API key of the OpenAI organization (sk-admin-...). Written once; see main.tf on rotation."
  type        = string
  sensitive   = true
}

variable "organization_id" {
  description = "The OpenAI organization (org-...)."
  type        = string
}

variable "api_endpoint" {
  description = "Where the Admin API is, if it is not OpenAI itself."
  type        = string
  default     = "https://api.openai.com/v1"
}

variable "ca_cert" {
  description = "PEM certificates to trust besides the public roots when api_endpoint needs that."
  type        = string
  default     = null
}

variable "settings" {
  description = "Further fields of openai/config by name, durations in seconds, as in { max_requests_per_minute = 60 }."
  type        = any
  default     = {}
}

variable "mount_path" {
  description = "Where the secrets engine is mounted."
  type        = string
  default     = "openai"
}

variable "plugin" {
  description = <<-TEXT
    How the plugin gets into the catalog; null if it is there already.
    sha256: of the program in the server's plugin_directory, or the id of the image (without "sha256:") when oci_runtime is given.
    oci_runtime: runc or runsc to run the image as a container, null to run the program as a process.
  TEXT
  type = object({
    sha256      = string
    version     = optional(string)
    oci_runtime = optional(string)
    rootless    = optional(bool, false)
    env         = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.plugin == null || can(regex("^[0-9a-f]{64}$", var.plugin.sha256))
    error_message = "plugin.sha256 is 64 hexadecimal digits, without \"sha256:\"."
  }

  validation {
    condition     = try(var.plugin.oci_runtime, null) == null || try(var.plugin.version, null) != null
    error_message = "A container needs plugin.version: it is how the server finds the tag of the image."
  }
}

variable "projects" {
  description = "OpenAI projects by the name they have in Vault."
  type = map(object({
    project_id  = string
    description = optional(string)
  }))
}

variable "roles" {
  description = "Roles by name, each with project or project_id: one key for each lease, on a new account or on service_account_id. Durations in seconds."
  type = map(object({
    project                       = optional(string)
    project_id                    = optional(string)
    ttl                           = optional(number)
    max_ttl                       = optional(number)
    scopes                        = optional(list(string))
    service_account_id            = optional(string)
    service_account_name_template = optional(string)
    service_account_description   = optional(string)
    metadata                      = optional(map(string))
    credential_type               = optional(string)
    enabled                       = optional(bool)
  }))
  default = {}
}

variable "federation" {
  description = "Fields of openai/config/federation, as in { key_rotation_period = 2592000 }; null if no role has credential_type = access_token."
  type        = any
  default     = null
}

variable "static_roles" {
  description = "Static roles by name, each with project or project_id: one existing account whose key is rotated. Durations in seconds."
  type = map(object({
    project            = optional(string)
    project_id         = optional(string)
    service_account_id = string
    api_key_name       = optional(string)
    rotation_period    = optional(number)
    rotation_schedule  = optional(string)
    rotation_window    = optional(number)
    rotation_method    = optional(string)
    grace_period       = optional(number)
    ttl                = optional(number)
    key_ttl            = optional(number)
    metadata           = optional(map(string))
  }))
  default = {}
}

variable "library_sets" {
  description = "Library sets by name, each with project or project_id: accounts that are lent to one borrower at a time. Durations in seconds."
  type = map(object({
    project                      = optional(string)
    project_id                   = optional(string)
    service_account_names        = list(string)
    create_missing               = optional(bool)
    ttl                          = optional(number)
    max_ttl                      = optional(number)
    disable_check_in_enforcement = optional(bool)
    description                  = optional(string)
    metadata                     = optional(map(string))
  }))
  default = {}
}
