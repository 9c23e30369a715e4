//! Terraform's `vault_generic_endpoint`, which writes an object, reads it back, and plans a change for each difference.

use serde_json::{Value, json};

use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};
use crate::support::terraform::Terraform;

/// A resource that writes these fields and looks at no other.
fn endpoint(name: &str, path: &str, after: &[&str], fields: &Value) -> String {
    let after: Vec<_> = after.iter().map(|name| format!("vault_generic_endpoint.{name}")).collect();
    format!(
        r#"resource "vault_generic_endpoint" "{name}" {{
               path = "{path}"
               ignore_absent_fields = true
               depends_on = [{}]
               data_json = {}
           }}
        "#,
        after.join(", "),
        json!(fields.to_string()),
    )
}

/// The configuration, with an `api_endpoint` as people write it.
fn config(openai: &OpenAi, more: &Value) -> String {
    let mut fields = json!({
        "admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION, "api_endpoint": format!("{}/", openai.endpoint()),
        "automatic_rotation_period": 2_592_000, "key_expiry_margin": 90, "quota_tracking": false
    });
    for (field, value) in more.as_object().expect("fields") {
        fields[field] = value.clone();
    }
    endpoint("config", "openai/config", &[], &fields)
}

/// One resource of each other kind, each with most of its fields.
fn the_rest(openai: &OpenAi) -> String {
    let project = json!({"project_id": PROJECT, "description": "by Terraform"});
    let role = json!({"project": "terraform", "ttl": 900, "max_ttl": 7_200, "scopes": ["api.model.read"],
        "metadata": {"team": "search"}});
    let by_period = json!({
        "project": "terraform", "service_account_id": openai.bystander(), "rotation_period": 86_400,
        "grace_period": 300, "ttl": 3_600, "metadata": {"team": "search"}
    });
    let by_schedule = json!({
        "project": "terraform", "service_account_id": openai.existing_account("scheduled"),
        "rotation_schedule": "0 3 * * *", "rotation_window": 7_200, "rotation_method": "account"
    });
    let set = json!({
        "project": "terraform", "service_account_names": ["pool-b", "pool-a"], "max_ttl": 172_800, "ttl": 3_600,
        "description": "a pool", "disable_check_in_enforcement": true, "metadata": {"team": "search"}
    });
    let after = ["project"];
    endpoint("project", "openai/project/terraform", &["config"], &project)
        + &endpoint("role", "openai/roles/terraform", &after, &role)
        + &endpoint("by_period", "openai/static-roles/by-period", &after, &by_period)
        + &endpoint("by_schedule", "openai/static-roles/by-schedule", &after, &by_schedule)
        + &endpoint("set", "openai/library-sets/terraform", &after, &set)
}

fn keep_admin_keys(host: &Host, openai: &OpenAi) {
    host.keep_secret(ADMIN_KEY);
    for key in openai.admin_keys() {
        host.keep_secret(&key.value);
    }
}

#[tokio::test]
async fn terraform_finds_what_it_wrote_and_neither_fights_a_rotation_nor_undoes_it() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        host.enable("openai").await;
        keep_admin_keys(host, &openai);
        let rest = the_rest(&openai);
        let Some(terraform) = Terraform::with(host, &(config(&openai, &json!({})) + &rest)).await else {
            return;
        };
        terraform.applies().await;
        terraform.has_nothing_to_do().await;

        // Which keys and accounts Vault has made since is no affair of Terraform's.
        host.api().write("openai/config/rotate", json!({})).await.ok();
        for role in ["by-period", "by-schedule"] {
            let rotated =
                host.api().write(&format!("openai/static-creds/{role}/rotate"), json!({})).await.ok();
            host.keep_secret(&rotated.text("api_key"));
        }
        keep_admin_keys(host, &openai);
        let working = openai.admin_keys();
        terraform.has_nothing_to_do().await;
        terraform.applies().await;

        // A change of another field is refused with the key that Terraform remembers, and made without it.
        let slower = json!({"key_expiry_margin": 120});
        terraform.describe(&(config(&openai, &slower) + &rest));
        let refused = terraform.apply().await.expect_err("the key is retired");
        assert!(refused.contains("rotation has retired this key"), "{refused}");
        let without = json!({"key_expiry_margin": 120, "organization_id": ORGANIZATION});
        let config = endpoint("config", "openai/config", &[], &without);
        terraform.describe(&(config + &rest));
        terraform.applies().await;
        terraform.has_nothing_to_do().await;
        assert_eq!(*host.api().read("openai/config").await.ok().data("key_expiry_margin"), json!(120));
        assert_eq!(openai.admin_keys().len(), working.len());
        assert_eq!(openai.admin_keys()[0].value, working[0].value, "the rotated key stays");
    })
    .await;
}
