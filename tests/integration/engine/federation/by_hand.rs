//! A provider that an operator registers: the mount needs no admin key.

use super::*;
use crate::simulator::{Fault, endpoint};

/// A mount without a configuration, whose provider an operator registered with the mount's public key, and whose role
/// `app` an operator mapped.
async fn by_hand() -> (Mount, String) {
    let mount = Mount::start().await;
    let account = mount.seed("agent", false).id;
    let body = json!({"identity_provider_id": "idp_later", "token_endpoint": mount.sim.token_url()});
    let written = mount.write("config/federation", body).await;
    assert!(written.warnings()[0].contains("register the public key"), "{:?}", written.warnings());
    register(&mount).await;
    let role = json!({
        "project_id": mount.sim.project(), "credential_type": "access_token", "service_account_id": account,
    });
    mount.write("roles/app", role).await.nothing();
    map(&mount, &account).await;
    (mount, account)
}

/// The operator's part for the provider.
async fn register(mount: &Mount) {
    let read = mount.read("config/federation").await.json();
    let provider = json!({
        "name": "by-hand", "type": "oidc", "issuer": read["issuer"], "audience": read["audience"],
        "verification": {"type": "uploaded_jwks", "jwks": read["jwks"]},
    });
    let made = administer(mount, "POST", "/workload_identity_providers", Some(provider)).await.ok().body;
    mount.write("config/federation", json!({"identity_provider_id": made["id"]})).await.nothing();
}

/// The operator's part for the role.
async fn map(mount: &Mount, account: &str) {
    let rule = json!({
        "name": "app", "project_id": mount.sim.project(), "service_account_id": account,
        "attribute_matchers": {"sub": mount.read("roles/app").await.text("subject")},
    });
    let path = format!("/workload_identity_providers/{}/federation_rules", provider(mount).id);
    administer(mount, "POST", &path, Some(rule)).await.ok();
}

/// The operator uploads what the mount shows.
async fn upload(mount: &Mount) {
    let jwks = mount.read("config/federation").await.json()["jwks"].clone();
    let body = json!({"verification": {"type": "uploaded_jwks", "jwks": jwks}});
    let path = format!("/workload_identity_providers/{}", provider(mount).id);
    administer(mount, "POST", &path, Some(body)).await.ok();
}

#[tokio::test]
async fn a_mount_without_an_admin_key_hands_out_tokens() {
    let (mount, account) = by_hand().await;
    mount.sim.forget_log();
    token(&mount).await;
    let identity = mount.read("identity-token/app").await.json();
    assert_eq!(identity["service_account_id"], account.as_str());
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.tick().await.done();
    // The model is the test's own call.
    let paths: Vec<String> = mount.sim.log().into_iter().map(|call| call.path).collect();
    assert!(paths.iter().all(|path| !path.contains("organization")), "{paths:?}");
    mount.delete("config/federation").await.refused("app");
    mount.delete("roles/app").await.nothing();
    mount.delete("config/federation").await.nothing();
    assert_eq!(mount.sim.state().providers.len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn what_only_vault_can_do_is_refused_by_name() {
    let (mount, account) = by_hand().await;
    let project = mount.sim.project();
    let role = |more: Value| {
        let mut role = json!({"project_id": project, "credential_type": "access_token"});
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        role
    };
    mount.write("roles/b", role(json!({}))).await.refused("service_account_id is required");
    let scoped = role(json!({"service_account_id": "svc_other", "scopes": "api.model.read"}));
    mount.write("roles/b", scoped).await.refused("scopes must be empty");
    mount.write("roles/b", role(json!({"service_account_id": account}))).await.refused("federated role app");
    let stopped = mount.write("roles/app", json!({"enabled": false})).await;
    assert!(stopped.warnings()[0].contains("disable its mapping"), "{:?}", stopped.warnings());
    mount.read("identity-token/app").await.refused("is disabled");
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_by_hand_waits_for_the_operator() {
    let (mount, _) = by_hand().await;
    let old = mount.read("config/federation").await.text("current_kid");
    let (asked, before) = (|| mount.sim.calls(endpoint::EXCHANGE_TOKEN), mount.now());
    let proofs = asked();
    let begun = mount.write("config/federation/rotate", json!({})).await;
    assert!(begun.text("rotation_waits_for").contains("by an operator"), "{:?}", begun.json());
    assert_eq!(asked() - proofs, 1, "nobody can have uploaded the key yet");
    assert!((mount.now() - before).num_seconds() < 5);
    assert_eq!(begun.text("current_kid"), old);
    token(&mount).await;
    upload(&mount).await;
    mount.advance(HOUR);
    mount.tick().await.done();
    let read = mount.read("config/federation").await.json();
    assert_ne!(read["current_kid"], old.as_str());
    assert_eq!(
        (&read["rotation_waits_for"], read["jwks"]["keys"].as_array().unwrap().len()),
        (&json!(""), 2)
    );
    token(&mount).await;
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert_eq!(mount.read("config/federation").await.json()["jwks"]["keys"].as_array().unwrap().len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_change_of_where_tokens_go_makes_a_new_signing_key() {
    let (mount, _) = by_hand().await;
    let old = mount.read("config/federation").await.text("current_kid");
    let changed = mount.write("config/federation", json!({"audience": "another"})).await;
    assert!(changed.warnings()[0].contains("register the public key"), "{:?}", changed.warnings());
    let read = mount.read("config/federation").await.json();
    assert_ne!(read["current_kid"], old.as_str());
    assert_eq!(read["jwks"]["keys"].as_array().unwrap().len(), 1);
    mount.read("creds/app").await.refused("token exchange failed");
    mount.finish().await;
}

#[tokio::test]
async fn an_identity_token_is_signed_while_openai_is_out_of_reach() {
    let (mount, _) = by_hand().await;
    mount.sim.fault(Fault::everywhere(crate::simulator::Action::Drop));
    assert!(mount.read("identity-token/app").await.text("identity_token").starts_with("eyJ"));
    let failed = mount.read("creds/app").await;
    assert_eq!(failed.status(), 503, "{failed:?}");
    mount.sim.clear_faults();
    mount.finish().await;
}
