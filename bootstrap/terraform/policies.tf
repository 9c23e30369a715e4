# One policy for each thing a program may need, and the operator's of docs/policies.md. None of them can read the admin key, and the
# operator's shows no key at all.

resource "vault_policy" "role" {
  for_each = var.roles

  name   = "${var.mount_path}-creds-${each.key}"
  policy = <<-HCL
    path "${local.mount}/creds/${each.key}" {
      capabilities = ["read"]
    }
  HCL
}

resource "vault_policy" "static_role" {
  for_each = var.static_roles

  name   = "${var.mount_path}-static-creds-${each.key}"
  policy = <<-HCL
    path "${local.mount}/static-creds/${each.key}" {
      capabilities = ["read"]
    }
  HCL
}

resource "vault_policy" "library_set" {
  for_each = var.library_sets

  name   = "${var.mount_path}-library-${each.key}"
  policy = <<-HCL
    path "${local.mount}/library-sets/${each.key}/check-out" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/library-sets/${each.key}/check-in" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/library-sets/${each.key}/status" {
      capabilities = ["read"]
    }
  HCL
}

resource "vault_policy" "operator" {
  name   = "${var.mount_path}-operator"
  policy = <<-HCL
    path "${local.mount}/config" {
      capabilities = ["create", "update", "patch", "read"]
    }
    path "${local.mount}/config/+" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/config/check" {
      capabilities = ["read"]
    }
    path "${local.mount}/config/federation" {
      capabilities = ["create", "update", "patch", "read"]
    }
    path "${local.mount}/config/federation/rotate" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/admin-key-rotation" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/project/*" {
      capabilities = ["create", "update", "patch", "read", "delete", "list"]
    }
    path "${local.mount}/roles/*" {
      capabilities = ["create", "update", "patch", "read", "delete", "list"]
    }
    path "${local.mount}/static-roles/*" {
      capabilities = ["create", "update", "patch", "read", "delete", "list"]
    }
    path "${local.mount}/library-sets/" {
      capabilities = ["list"]
    }
    path "${local.mount}/library-sets/+" {
      capabilities = ["create", "update", "patch", "read", "delete"]
    }
    path "${local.mount}/library-sets/+/status" {
      capabilities = ["read"]
    }
    path "${local.mount}/library-sets/+/admin-check-in" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/revocations/*" {
      capabilities = ["create", "update", "read", "list"]
    }
    path "${local.mount}/tidy" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/tidy/status" {
      capabilities = ["read"]
    }
    path "${local.mount}/health" {
      capabilities = ["read"]
    }
    path "${local.mount}/info" {
      capabilities = ["read"]
    }
    path "${local.mount}/metrics" {
      capabilities = ["read"]
    }
  HCL
}
