//! A provider that Vault registers: the way from the first write to the last deletion.

use std::time::Instant;

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_role_gets_an_account_a_rule_and_tokens_and_takes_them_along() {
    let mount = with_app().await;
    let read = mount.read("roles/app").await.json();
    let (rule, provider) = (rule(&mount), provider(&mount));
    assert_eq!(read["credential_type"], "access_token");
    assert_eq!(
        (&read["service_account_id"], &read["ttl"], &read["enabled"]),
        (&json!(""), &json!(900), &json!(true))
    );
    assert_eq!(read["current_service_account_id"], rule.account.as_str());
    assert_eq!(read["federation_rule_id"], rule.id.as_str());
    assert_eq!(rule.matchers["sub"], read["subject"]);
    let tag = mount.read("info").await.text("mount_tag");
    assert_eq!(read["subject"], format!("vault:{tag}:role:app"));
    let state = mount.sim.state();
    let account = state.account(&rule.account).unwrap();
    assert!(account.keys.is_empty() && account.name.ends_with(&tag), "{account:?}");

    let answer = mount.read("creds/app").await;
    assert!(answer.lease.is_none());
    let answer = answer.json();
    assert!(opens(&mount, answer["access_token"].as_str().unwrap()).await);
    assert_eq!((&answer["token_type"], &answer["role"]), (&json!("Bearer"), &json!("app")));
    assert_eq!(answer["project_id"], mount.sim.project());
    assert_eq!(
        (&answer["service_account_id"], &answer["rotation_period"]),
        (&json!(rule.account), &json!(900))
    );
    let ttl = answer["ttl"].as_u64().unwrap();
    assert!((500..=600).contains(&ttl), "{ttl}");
    assert_eq!(mount.leases().len(), 0);

    let identity = mount.read("identity-token/app").await.json();
    assert_eq!(identity["identity_provider_id"], provider.id.as_str());
    let granted = exchange_elsewhere(&mount, &identity).await;
    assert!(opens(&mount, granted["access_token"].as_str().unwrap()).await);

    mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
    assert_eq!(mount.list("roles").await.keys(), ["app", "dynamic"]);
    mount.delete("config/federation").await.refused("app");
    mount.delete("config").await.refused("federated role");
    mount.delete("roles/app").await.nothing();
    mount.read("roles/app").await.nothing();
    mount.read("creds/app").await.refused("role \"app\" not found");
    assert!(accounts(&mount).is_empty());
    mount.delete("config/federation").await.nothing();
    assert!(mount.sim.state().providers.is_empty());
    mount.read("config/federation").await.nothing();
    assert_gone(mount).await;
}

#[tokio::test]
async fn the_issuer_is_read_back_and_a_second_write_changes_nothing() {
    let mount = managed().await;
    let read = mount.read("config/federation").await.json();
    let (provider, tag) = (provider(&mount), mount.read("info").await.text("mount_tag"));
    assert_eq!((&read["mode"], &read["identity_provider_id"]), (&json!("managed"), &json!(provider.id)));
    assert_eq!((&read["issuer"], &read["audience"]), (&json!(provider.issuer), &json!(provider.audience)));
    assert!(provider.audience.ends_with(&tag) && provider.issuer.contains(&tag), "{provider:?}");
    assert_eq!(read["jwks"]["keys"][0]["kid"], read["current_kid"]);
    assert_eq!(provider.kids, [read["current_kid"].as_str().unwrap()]);
    assert_eq!((&read["rules"], &read["rules_limit"]), (&json!(0), &json!(50)));
    assert!(!mount.storage_text("federation").is_empty());
    let sent = ["issuer", "audience", "identity_provider_id", "token_endpoint", "key_rotation_period"];
    let again: serde_json::Map<_, _> =
        sent.iter().map(|name| ((*name).to_owned(), read[*name].clone())).collect();
    mount.write("config/federation", Value::Object(again)).await.nothing();
    assert_eq!(mount.read("config/federation").await.json(), read);
    mount.finish().await;
}

#[tokio::test]
async fn a_role_on_an_existing_account_leaves_the_account() {
    let mount = managed().await;
    let account = mount.seed("agent", false).id;
    mount
        .write("roles/app", role_with(json!({"service_account_id": account, "scopes": "api.model.read"})))
        .await
        .done();
    assert_eq!(rule(&mount).account, account);
    let answer = mount.read("creds/app").await.json();
    assert_eq!(answer["scope"], "api.model.read");
    let read = mount.read("roles/app").await.json();
    assert_eq!((&read["service_account_id"], &read["scopes"]), (&json!(account), &json!(["api.model.read"])));
    mount.write("roles/app", read_back(&read)).await.nothing();
    mount.delete("roles/app").await.nothing();
    assert_eq!(accounts(&mount), [account]);
    assert_eq!(mount.stored("account-owner/"), Vec::<String>::new());
    assert_gone(mount).await;
}

/// The fields of a read that a write takes, as Terraform sends them.
fn read_back(read: &Value) -> Value {
    let written =
        ["project", "project_id", "credential_type", "ttl", "scopes", "enabled", "service_account_id"];
    Value::Object(written.iter().map(|name| ((*name).to_owned(), read[*name].clone())).collect())
}

#[tokio::test]
async fn enabled_false_stops_the_role_here_and_at_openai() {
    let mount = with_app().await;
    let identity = mount.read("identity-token/app").await.json();
    mount
        .write("roles/app", json!({"enabled": false, "scopes": "api.model.read", "ttl": "5m"}))
        .await
        .nothing();
    let stopped = rule(&mount);
    assert!(!stopped.enabled && stopped.scopes == Some(vec!["api.model.read".to_owned()]));
    for path in ["creds/app", "identity-token/app"] {
        mount.read(path).await.refused("is disabled");
    }
    let headers = [("Content-Type", "application/json")];
    let body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": identity["identity_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "identity_provider_id": identity["identity_provider_id"], "service_account_id": identity["service_account_id"],
    });
    assert_eq!(send(&mount, "POST", "/oauth/token", &headers, Some(body)).await.status, 400);
    mount.patch("roles/app", json!({"enabled": true, "scopes": ""})).await.nothing();
    assert!(rule(&mount).enabled && rule(&mount).scopes.is_none());
    assert_eq!(mount.read("creds/app").await.json()["rotation_period"], 300);
    mount.finish().await;
}

#[tokio::test]
async fn a_stop_that_openai_refuses_stops_the_role_here() {
    let mount = with_app().await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_RULE, Action::status(403)));
    let stop = mount.write("roles/app", json!({"enabled": false})).await;
    assert!(stop.error().message().contains("what was written is stored"), "{}", stop.error());
    for path in ["creds/app", "identity-token/app"] {
        mount.read(path).await.refused("is disabled");
    }
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(!rule(&mount).enabled);
    mount.finish().await;
}

#[tokio::test]
async fn a_change_that_succeeds_ends_the_error_of_the_one_before() {
    let mount = with_app().await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_RULE, Action::final_status(500)));
    mount.write("roles/app", json!({"scopes": "api.model.read"})).await.error();
    assert_ne!(mount.read("roles/app").await.text("last_error"), "");
    mount.sim.clear_faults();
    // The old client pauses after the failures. A new process has a new client.
    mount.restart().await;
    mount.write("roles/app", json!({"scopes": "api.responses.write"})).await.done();
    assert_eq!(mount.read("roles/app").await.text("last_error"), "");
    assert_eq!(rule(&mount).scopes, Some(vec!["api.responses.write".to_owned()]));
    mount.finish().await;
}

#[tokio::test]
async fn a_stop_while_openai_is_out_of_reach_stops_the_role_here() {
    for is_deleted in [false, true] {
        let mount = with_app().await;
        if is_deleted {
            mount.delete_by_force("config").await.done();
        } else {
            mount.configure_elsewhere().await;
        }
        token(&mount).await;
        mount.write("roles/app", json!({"scopes": "api.model.read"})).await.error();
        let stop = mount.write("roles/app", json!({"enabled": false})).await;
        assert!(stop.error().message().contains("what was written is stored"), "{}", stop.error());
        for path in ["creds/app", "identity-token/app"] {
            mount.read(path).await.refused("is disabled");
        }
        mount.write("config", mount.config()).await.done();
        mount.tick().await.done();
        assert!(!rule(&mount).enabled && rule(&mount).scopes.is_none());
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_change_that_openai_answers_slowly_holds_up_no_other_role_of_the_project() {
    let mount = with_app().await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_RULE, Action::delay(Duration::from_secs(3))).times(1));
    // The simulator counts a call after its answer, and a fault before it.
    let asked = async || (mount.sim.faults_left() == 0).then_some(());
    let other = async {
        eventually("the change waits for OpenAI", asked).await;
        let begun = Instant::now();
        mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
        begun.elapsed()
    };
    let change = mount.write("roles/app", json!({"scopes": "api.model.read"}));
    let (changed, took) = tokio::join!(change, other);
    changed.nothing();
    assert!(took < Duration::from_secs(2), "{took:?}");
    mount.finish().await;
}

#[tokio::test]
async fn a_write_for_another_organization_than_configs_stores_nothing() {
    let mount = managed().await;
    let before = mount.read("config/federation").await.json();
    let elsewhere = json!({"organization_id": "org-other", "verify_connection": false});
    mount.write("config", elsewhere).await.done();
    let write = json!({"key_rotation_period": "30d"});
    mount.write("config/federation", write).await.refused("this belongs to organization");
    assert_eq!(mount.read("config/federation").await.json(), before);
    mount.write("config", mount.config()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_change_of_where_tokens_go_needs_the_admin_key() {
    let mount = with_app().await;
    for change in [
        json!({"issuer": "https://vault.example.com/other"}),
        json!({"audience": "other"}),
        json!({"token_endpoint": "https://tokens.example.com/"}),
        json!({"audience": "other", "admin_api_key": "sk-admin-wrong"}),
    ] {
        mount.write("config/federation", change).await.refused("admin_api_key in the same write");
    }
    let change = json!({
        "issuer": "https://vault.example.com/other", "audience": "other", "admin_api_key": mount.sim.admin_key(),
    });
    mount.write("config/federation", change).await.nothing();
    let provider = provider(&mount);
    assert_eq!(
        (provider.issuer.as_str(), provider.audience.as_str()),
        ("https://vault.example.com/other", "other")
    );
    assert_eq!(provider.kids.len(), 1);
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn the_deletion_of_a_role_goes_on_while_openai_is_down() {
    let mount = with_app().await;
    let down = mount.sim.fault(Fault::on(endpoint::DELETE_RULE, Action::status(403)));
    let deleted = mount.delete("roles/app").await;
    assert!(deleted.warnings()[0].contains("hands out no more tokens"), "{:?}", deleted.warnings());
    mount.read("creds/app").await.refused("not found");
    let listed = mount.list("revocations").await;
    assert_eq!(listed.keys().len(), 1);
    assert_eq!(listed.json()["key_info"].as_object().unwrap().values().next().unwrap()["role"], "app");
    mount.write("roles/app", role()).await.error();
    mount.sim.remove_fault(down);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(rules(&mount).is_empty() && accounts(&mount).is_empty());
    assert!(mount.list("revocations").await.keys().is_empty());
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_project_that_a_federated_role_uses_stays() {
    let mount = with_app().await;
    mount.delete(&format!("project/{PROJECT}")).await.refused("federated role app");
    mount.finish().await;
}

#[tokio::test]
async fn tidy_leaves_the_accounts_of_federated_roles() {
    let mount = with_app().await;
    mount.advance(HOUR * 48);
    mount.write("tidy", json!({"dry_run": false})).await.done();
    for _ in 0..200 {
        if mount.read("tidy/status").await.json()["state"] != "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(mount.read("tidy/status").await.json()["state"], "finished");
    assert_eq!(accounts(&mount).len(), 1);
    mount.finish().await;
}
