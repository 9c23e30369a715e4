# One policy for each thing a program may need, and one for whoever runs the engine. None of them can read or write the admin key.

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
    path "${local.mount}/config/rotate" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/static-creds/+/rotate" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/library-sets/+/admin-check-in" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/library-sets/+/status" {
      capabilities = ["read"]
    }
    path "${local.mount}/tidy" {
      capabilities = ["create", "update"]
    }
    path "${local.mount}/tidy/status" {
      capabilities = ["read"]
    }
    path "${local.mount}/metrics" {
      capabilities = ["read"]
    }
    path "${local.mount}/health" {
      capabilities = ["read"]
    }
    path "${local.mount}/info" {
      capabilities = ["read"]
    }
  HCL
}
