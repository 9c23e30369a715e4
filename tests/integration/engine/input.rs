//! What every path takes alike: names, `null`, lists, sizes; and what a request for something that does not exist says.

use openai_secrets::logical::{Entry, Kind, Operation, Storage as _};
use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::mount::PROJECT;

/// Every path that captures a name, and an operation on it.
const NAMED: [(Operation, &str); 17] = [
    (Operation::Read, "project/NAME"),
    (Operation::Update, "project/NAME"),
    (Operation::Delete, "project/NAME"),
    (Operation::Read, "roles/NAME"),
    (Operation::Update, "roles/NAME"),
    (Operation::Patch, "roles/NAME"),
    (Operation::Read, "creds/NAME"),
    (Operation::Update, "creds/NAME"),
    (Operation::Read, "static-roles/NAME"),
    (Operation::Update, "static-roles/NAME"),
    (Operation::Read, "static-creds/NAME"),
    (Operation::Update, "static-creds/NAME/rotate"),
    (Operation::Update, "library-sets/NAME"),
    (Operation::Read, "library-sets/NAME/status"),
    (Operation::Update, "library-sets/NAME/check-out"),
    (Operation::Read, "revocations/NAME"),
    (Operation::Update, "revocations/NAME/retry"),
];

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

async fn role(mount: &Mount, change: Value) -> Value {
    mount.write("roles/app", json!({"project": PROJECT})).await.done();
    mount.patch("roles/app", change).await.done();
    mount.read("roles/app").await.json()
}

#[tokio::test]
async fn a_name_that_storage_refuses_is_refused_by_name_everywhere_and_a_long_one_by_writes() {
    let mount = mount().await;
    let stored = mount.storage.snapshot();
    for (operation, path) in NAMED {
        let writes = operation == Operation::Update;
        let long = (&*"n".repeat(129), "at most 128 bytes");
        for (name, says) in std::iter::once(("a..b", "must not contain \"..\"")).chain(writes.then_some(long))
        {
            let answer = mount.ask(mount.request(operation, &path.replace("NAME", name), json!({}))).await;
            let error = answer.error();
            assert_eq!(error.kind(), Kind::BadRequest, "{operation:?} {path}");
            assert!(error.message().contains("name") && error.message().contains(says), "{path}: {error}");
        }
    }
    assert_eq!(mount.storage.snapshot(), stored);
}

#[tokio::test]
async fn what_an_earlier_version_stored_under_a_longer_name_can_be_read_and_deleted() {
    let mount = mount().await;
    let name = "n".repeat(150);
    mount.write("roles/app", json!({"project": PROJECT})).await.done();
    let stored = mount.storage.snapshot().into_iter().find(|entry| entry.key == "role/app").unwrap();
    mount.storage.put(Entry { key: format!("role/{name}"), ..stored }).await.unwrap();
    mount.read(&format!("roles/{name}")).await.json();
    let made = mount.read(&format!("creds/{name}")).await;
    mount.revoke(made.lease()).await.done();
    mount.delete(&format!("roles/{name}")).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_longest_name_works_from_the_role_to_the_credential() {
    let mount = mount().await;
    let name = "n".repeat(128);
    mount.write(&format!("roles/{name}"), json!({"project": PROJECT})).await.done();
    let made = mount.read(&format!("creds/{name}")).await;
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_patch_of_what_does_not_exist_is_not_found_by_its_name() {
    let mount = Mount::start().await;
    for (path, says) in [
        ("config", "configuration not found"),
        ("project/none", "project \"none\" not found"),
        ("roles/none", "role \"none\" not found"),
        ("static-roles/none", "static role \"none\" not found"),
        ("library-sets/none", "library set \"none\" not found"),
    ] {
        mount.patch(path, json!({})).await.failed(Kind::Status(404), says);
    }
}

#[tokio::test]
async fn a_credential_of_a_role_that_does_not_exist_says_so() {
    let mount = mount().await;
    mount.read("creds/none").await.refused("role \"none\" not found");
    mount.write("creds/none", json!({})).await.refused("role \"none\" not found");
    mount.read("static-creds/none").await.refused("static role \"none\" not found");
    mount.write("static-creds/none/rotate", json!({})).await.refused("static role \"none\" not found");
}

#[tokio::test]
async fn null_stands_for_the_default_whatever_the_fields_type() {
    let mount = mount().await;
    mount.write("config", json!({"verify_connection": false, "revocation_mode": "queue"})).await.done();
    mount.write("config", json!({"key_expiry_margin": 90, "max_requests_per_minute": 5})).await.done();
    let nulls = json!({
        "verify_connection": null, "revocation_mode": null, "key_expiry_margin": null, "max_requests_per_minute": null,
        "automatic_rotation_period": null, "rotation_window": null,
    });
    mount.patch("config", nulls).await.done();
    let config = mount.read("config").await.json();
    assert_eq!(config["verify_connection"], true);
    assert_eq!(config["revocation_mode"], "strict");
    assert_eq!((&config["key_expiry_margin"], &config["max_requests_per_minute"]), (&json!(60), &json!(0)));

    let changed = json!({"service_account_name_template": "x-{{.RandomSuffix}}", "ttl": 60, "scopes": "a,b"});
    let default = role(&mount, json!({})).await;
    assert_ne!(role(&mount, changed).await, default);
    let nulls = json!({"service_account_name_template": null, "ttl": null, "scopes": null});
    assert_eq!(role(&mount, nulls).await, default);
}

#[tokio::test]
async fn null_for_a_field_without_a_default_is_refused_by_name_and_changes_nothing() {
    let mount = mount().await;
    let before = mount.read("config").await.json();
    for field in ["admin_api_key", "organization_id", "admin_api_key_id"] {
        for answer in [
            mount.patch("config", json!({field: null})).await,
            mount.write("config", json!({field: null})).await,
        ] {
            answer.refused(&format!("field {field:?} has no default"));
        }
    }
    mount
        .write("project/p", json!({"project_id": null}))
        .await
        .refused("field \"project_id\" has no default");
    assert_eq!(mount.read("config").await.json(), before);
}

#[tokio::test]
async fn lists_are_trimmed_lose_what_is_empty_and_repeat_nothing() {
    let mount = mount().await;
    for scopes in [json!("a,"), json!(" a , , "), json!(["a", "", " "]), json!([" a"])] {
        assert_eq!(role(&mount, json!({"scopes": scopes})).await["scopes"], json!(["a"]), "{scopes}");
    }
    for scopes in [json!("a,b,a"), json!(["a", " a"])] {
        mount.patch("roles/app", json!({"scopes": scopes})).await.refused("must not repeat \"a\"");
    }
    let set = json!({"project": PROJECT, "service_account_names": "one, ,two,"});
    mount.write("library-sets/pool", set).await.done();
    let read = mount.read("library-sets/pool").await.json();
    assert_eq!(read["service_account_names"], json!(["one", "two"]));
}

#[tokio::test]
async fn texts_and_lists_have_a_limit_on_every_path() {
    let mount = mount().await;
    let long = "x".repeat(5_000);
    for (path, field) in [
        ("config", "api_endpoint"),
        ("config", "admin_api_key_id"),
        ("config", "rotation_schedule"),
        ("project/p", "description"),
        ("roles/r", "service_account_description"),
        ("static-roles/s", "api_key_name"),
        ("library-sets/l", "description"),
        ("library-sets/l/check-out", "service_account"),
        ("library-sets/l/check-in", "service_account_id"),
        ("config/rotate-admin-key", "new_admin_api_key"),
    ] {
        let answer = mount.write(path, json!({field: long})).await;
        answer.refused(&format!("{field} must be at most 4096 bytes long, not 5000"));
    }
    let many = vec!["x"; 1_001];
    mount.write("roles/r", json!({"scopes": many})).await.refused("scopes must name at most 1000");
    mount.write("config", json!({"ca_cert": "x".repeat(300_000)})).await.refused("ca_cert must be at most");
}

#[tokio::test]
async fn an_endpoint_with_a_tab_or_a_line_break_is_refused() {
    let mount = mount().await;
    for blank in ["\t", "\n", "\r\n", " ", "\u{a0}"] {
        let mut config = mount.config();
        for endpoint in [format!("{}{blank}", mount.sim.url()), format!("{blank}{}", mount.sim.url())] {
            config["api_endpoint"] = endpoint.into();
            mount.write("config", config.clone()).await.refused("api_endpoint: it must not hold spaces");
        }
    }
}
