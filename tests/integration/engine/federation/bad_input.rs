//! Refusals of bad input, each by the name of its field.

use super::*;
use crate::simulator::{Action, Fault, Federation, endpoint};
use crate::support::library::SETTLED;

#[tokio::test]
async fn what_a_type_does_not_have_is_refused_by_name() {
    let mount = managed().await;
    for (field, value) in [
        ("service_account_name_template", json!("x")),
        ("service_account_description", json!("x")),
        ("max_ttl", json!("2h")),
    ] {
        let mut body = role();
        body[field] = value;
        mount.write("roles/app", body).await.refused(&format!("{field} does not apply"));
    }
    mount
        .write("roles/app", json!({"project": PROJECT, "enabled": false}))
        .await
        .refused("enabled does not apply");
    mount
        .write("roles/app", role_with(json!({"credential_type": "password"})))
        .await
        .refused("credential_type must be");
    for ttl in ["0", "61m", "2h"] {
        mount.write("roles/app", role_with(json!({"ttl": ttl}))).await.refused("ttl must be from 1s to 1h");
    }
    mount.write("roles/app", json!({"credential_type": "access_token"})).await.refused("project");
    assert!(mount.sim.state().rules.is_empty() && accounts(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn the_type_of_a_role_stays() {
    let mount = with_app().await;
    mount
        .write("roles/app", json!({"credential_type": "api_key"}))
        .await
        .refused("cannot be changed from access_token");
    mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
    mount
        .write("roles/dynamic", json!({"credential_type": "access_token"}))
        .await
        .refused("cannot be changed from api_key");
    assert_eq!(mount.read("roles/dynamic").await.json()["credential_type"], "api_key");
    mount
        .write("roles/app", json!({"service_account_id": "svc_else"}))
        .await
        .refused("service_account_id cannot be changed");
    mount.finish().await;
}

#[tokio::test]
async fn a_federation_comes_first_and_its_texts_are_checked() {
    let mount = mount().await;
    mount.write("roles/app", role()).await.refused("config/federation");
    mount.write("config/federation/rotate", json!({})).await.refused("config/federation");
    mount.read("identity-token/app").await.refused("not found");
    for (field, value, says) in [
        ("issuer", json!("http://vault.example.com"), "issuer"),
        ("issuer", json!("https://vault.example.com/*"), "issuer must not contain *"),
        ("audience", json!("vault*"), "audience must not contain *"),
        ("audience", json!("a b"), "audience must be visible"),
        ("token_endpoint", json!("http://tokens.example.com"), "token_endpoint"),
        ("token_endpoint", json!("https://user@tokens.example.com"), "token_endpoint"),
        ("key_rotation_period", json!("1m"), "key_rotation_period must be"),
        ("identity_provider_id", json!("a/b"), "identity_provider_id"),
    ] {
        let mut body = json!({});
        body[field] = value;
        mount.write("config/federation", body).await.refused(says);
    }
    assert_eq!(mount.sim.state().providers, []);
    mount.patch("config/federation", json!({})).await.error();
    mount.finish().await;
}

#[tokio::test]
async fn an_admin_key_without_the_permission_is_told_of_the_way_by_hand() {
    let mount = mount().await;
    mount.sim.federation(Federation { forbidden: true, ..Federation::default() });
    mount.write("config/federation", json!({})).await.refused("identity_provider_id");
    assert_eq!(mount.stored("federation"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_has_one_user() {
    let mount = managed().await;
    let account = mount.seed("agent", false).id;
    let on_account = json!({"project": PROJECT, "service_account_id": account});
    mount.write("roles/dynamic", on_account.clone()).await.done();
    let federated = role_with(json!({"service_account_id": account}));
    mount.write("roles/app", federated.clone()).await.refused("role dynamic");
    mount.delete("roles/dynamic").await.nothing();

    mount.write("static-roles/s", on_account.clone()).await.done();
    mount.write("roles/app", federated.clone()).await.refused("static role s");
    mount.delete("static-roles/s").await.done();

    mount
        .write("library-sets/pool", json!({"project": PROJECT, "service_account_names": "agent"}))
        .await
        .done();
    mount.write("roles/app", federated.clone()).await.refused("library set pool");
    mount.delete("library-sets/pool").await.done();

    mount.write("roles/app", federated.clone()).await.nothing();
    mount.write("roles/b", federated).await.refused("federated role app");
    mount.write("roles/dynamic", on_account.clone()).await.refused("federated role app");
    mount.write("static-roles/s", on_account).await.refused("federated role app");
    let set = json!({"project": PROJECT, "service_account_names": "agent"});
    mount.write("library-sets/pool", set).await.refused("federated role app");

    // An account that was made for a role is that role's alone.
    mount.write("roles/made", role()).await.done();
    let made = mount.read("roles/made").await.text("current_service_account_id");
    let on_made = role_with(json!({"service_account_id": made}));
    mount.write("roles/b", on_made).await.refused("made");
    assert_eq!(rules(&mount).len(), 2);
    for name in ["app", "made"] {
        mount.delete(&format!("roles/{name}")).await.nothing();
    }
    mount.finish().await;
}

#[tokio::test]
async fn the_limit_of_rules_is_told_before_it_is_hit() {
    let mount = managed().await.without_lag();
    for number in 0..44 {
        mount.write(&format!("roles/r{number}"), role()).await.nothing();
    }
    let near = mount.write("roles/r44", role()).await;
    assert!(near.warnings()[0].contains("45 of 50"), "{:?}", near.warnings());
    for number in 45..50 {
        mount.write(&format!("roles/r{number}"), role()).await.done();
    }
    let before = accounts(&mount).len();
    mount.write("roles/r50", role()).await.refused("has 50 federation rules, and OpenAI allows 50");
    assert_eq!((rules(&mount).len(), accounts(&mount).len()), (50, before));
    assert_eq!(mount.read("config/federation").await.json()["rules"], 50);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_or_a_project_that_openai_does_not_have_is_refused() {
    let mount = managed().await;
    let unknown = role_with(json!({"service_account_id": "svc_nobody"}));
    mount.write("roles/app", unknown).await.refused("service_account_id must name an account");
    let elsewhere = json!({"project_id": "proj_nowhere", "credential_type": "access_token"});
    mount.write("roles/app", elsewhere).await.refused("proj_nowhere");
    assert_gone(mount).await;
}

#[tokio::test]
async fn what_openai_refuses_leaves_nothing() {
    let mount = managed().await;
    mount.write("roles/app", role_with(json!({"scopes": "admin.everything"}))).await.refused("scopes");
    assert!(accounts(&mount).is_empty() && rules(&mount).is_empty());
    let account = mount.seed("agent", false).id;
    mount.read("roles/app").await.nothing();
    mount.write("roles/app", role_with(json!({"scopes": "api.model.read"}))).await.done();
    mount.write("roles/app", json!({"scopes": "admin.everything", "ttl": "1m"})).await.refused("scopes");
    let read = mount.read("roles/app").await.json();
    assert_eq!((&read["scopes"], &read["ttl"]), (&json!(["api.model.read"]), &json!(900)));
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(400)).times(1));
    mount.write("roles/b", role()).await.refused("service account creation failed");
    mount.read("roles/b").await.nothing();
    assert_eq!(mount.list("roles").await.keys(), ["app"]);
    let on_account = |scopes: &str| role_with(json!({"service_account_id": account, "scopes": scopes}));
    mount.write("roles/c", on_account("admin.everything")).await.refused("scopes");
    mount.write("roles/c", on_account("api.model.read")).await.done();
    // Vault looks whether OpenAI made the account or the rule all the same.
    for _ in 0..2 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    assert_eq!(mount.stored("federated-role/"), ["federated-role/app", "federated-role/c"]);
    assert!(!mount.storage_text("federated-role/").contains("making"));
    assert_eq!(rules(&mount).len(), 2);
    mount.finish().await;
}

#[tokio::test]
async fn a_longer_ttl_than_the_roles_is_refused() {
    let mount = with_app().await;
    for path in ["creds/app", "identity-token/app"] {
        mount.read_with(path, json!({"ttl": "16m"})).await.refused("ttl must be from 1s to the role's ttl");
        mount.read_with(path, json!({"ttl": "0"})).await.refused("ttl must be from 1s");
        let short = mount.read_with(path, json!({"ttl": "60"})).await.json();
        assert_eq!(short["rotation_period"], 60);
        assert!((35..=40).contains(&short["ttl"].as_u64().unwrap()), "{short}");
    }
    mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
    let says = "role \"dynamic\" not found, or its credential_type is not access_token";
    mount.read("identity-token/dynamic").await.refused(says);
    mount.finish().await;
}
