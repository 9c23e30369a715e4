output "mount_path" {
  description = "Where the secrets engine is."
  value       = vault_mount.openai.path
}

output "policies" {
  description = "The policies to give to programs and operators."
  value = concat(
    [for policy in vault_policy.role : policy.name],
    [for policy in vault_policy.static_role : policy.name],
    [for policy in vault_policy.library_set : policy.name],
    [vault_policy.operator.name],
  )
}
