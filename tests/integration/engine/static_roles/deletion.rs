//! Deleting a static role: its keys are dead when it answers success, and nothing is lost when it does not.

use openai_secrets::logical::Kind;
use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

#[tokio::test]
async fn a_deletion_ends_the_key_and_leaves_the_account() {
    let (mount, account) = with_app(json!({"grace_period": "1h"})).await;
    let first = key(&mount, "app").await;
    let second = rotate(&mount, "app").await;
    mount.delete("static-roles/app").await.nothing();
    let state = mount.sim.state();
    assert!(!state.is_live(&first) && !state.is_live(&second), "in grace or current: dead");
    assert!(is_untouched(&mount, &account));
    for left in ["static-", "account-owner/", "wal/"] {
        assert!(mount.stored(left).is_empty(), "{left}");
    }
    mount.read("static-roles/app").await.nothing();
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn a_key_or_account_that_is_gone_already_does_not_hold_up_a_deletion() {
    let (mount, account) = with_app(json!({})).await;
    let mount = mount.without_lag();
    delete_account(&mount, &account.id).await;
    assert!(mount.sim.state().accounts.is_empty());
    // What is a minute old and answers 404 is gone.
    mount.advance(MINUTE * 2);
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn while_openai_fails_the_deletion_is_under_way_and_the_tick_ends_it() {
    let (mount, account) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(2));
    mount
        .delete("static-roles/app")
        .await
        .refused("static role \"app\" is being deleted, but not all of it is gone yet");
    assert_eq!(role(&mount, "app").await["deleting"], true);
    mount.read("static-creds/app").await.refused("static role \"app\" is being deleted");
    mount.write("static-creds/app/rotate", json!({})).await.refused("is being deleted");

    mount.advance(MINUTE);
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&old));
    let waiting = mount.list("revocations").await.json();
    let (_, info) = waiting["key_info"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(info["failures"], 2);
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old) && is_untouched(&mount, &account));
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
}

#[tokio::test]
async fn an_outage_is_answered_as_one_and_a_second_deletion_takes_over() {
    let (mount, _) = with_app(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(401)).times(1));
    assert!(mount.delete("static-roles/app").await.answer.is_err());
    mount.delete("static-roles/app").await.nothing();
    assert!(mount.stored("static-").is_empty());
}

#[tokio::test]
async fn without_a_configuration_a_deletion_is_refused_and_nothing_changes() {
    let (mount, _) = with_app(json!({})).await;
    mount.delete_by_force("config").await.done();
    mount.delete("static-roles/app").await.failed(Kind::BadRequest, "OpenAI client not configured");
    key(&mount, "app").await;
    assert_eq!(role(&mount, "app").await["deleting"], false);
}

#[tokio::test]
async fn a_key_that_openai_refuses_to_delete_holds_up_no_other() {
    for refused in 0..3 {
        let (mount, _) = with_app(json!({"grace_period": "1h"})).await;
        let mut keys = vec![key(&mount, "app").await];
        keys.push(rotate(&mount, "app").await);
        keys.insert(0, rotate(&mount, "app").await);
        let fault = Fault::on(endpoint::DELETE_KEY, Action::status(403)).skipping(refused).times(1);
        mount.sim.fault(fault);
        mount.delete("static-roles/app").await.refused("not all of it is gone yet");
        let live = keys.iter().filter(|key| mount.sim.state().is_live(key)).count();
        assert_eq!(live, 1, "only the one that OpenAI refused to delete");
        mount.advance(MINUTE * 2);
        mount.delete("static-roles/app").await.nothing();
        assert!(keys.iter().all(|key| !mount.sim.state().is_live(key)));
        assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
    }
}

/// The warning of a deletion by force.
async fn force(mount: &Mount) -> String {
    let answered = mount.delete_by_force("static-roles/app").await;
    assert!(mount.stored("static-role/").is_empty() && mount.stored("account-owner/").is_empty());
    mount.read("static-roles/app").await.nothing();
    answered.warnings().join("; ")
}

#[tokio::test]
async fn force_removes_a_role_whose_organization_is_gone_and_names_what_is_left() {
    let (mount, account) = with_app(json!({"rotation_method": "account", "grace_period": "1h"})).await;
    let given = mount.read("static-creds/app").await.text("api_key_id");
    rotate(&mount, "app").await;
    let made = mount.read("static-creds/app").await.json();
    mount.configure_elsewhere().await;
    mount.delete("static-roles/app").await.refused("this belongs to organization");

    let said = force(&mount).await;
    let organization = mount.sim.organization().to_owned();
    let made_account = made["service_account_id"].as_str().unwrap();
    for left in [&organization, mount.sim.project(), &given, &account.id, made_account] {
        assert!(said.contains(left), "{said} lacks {left}");
    }
    assert!(said.contains(made["api_key_id"].as_str().unwrap()), "{said}");
    mount.tick_now().await.done();
    assert!(mount.stored("static-").is_empty());
    mount.abandon();
}

#[tokio::test]
async fn force_removes_a_role_without_a_configuration_too() {
    let (mount, _) = with_app(json!({})).await;
    let left = mount.read("static-creds/app").await.text("api_key_id");
    mount.delete_by_force("config").await.done();
    assert!(force(&mount).await.contains(&left));
    mount.abandon();
}

#[tokio::test]
async fn force_ends_what_it_can_and_names_only_the_rest() {
    let (mount, _) = with_app(json!({"grace_period": "1h"})).await;
    let first = mount.read("static-creds/app").await.json();
    rotate(&mount, "app").await;
    let second = mount.read("static-creds/app").await.json();
    let id = |key: &Value| key["api_key_id"].as_str().unwrap().to_owned();
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(1));
    let said = force(&mount).await;
    assert!(said.contains(&id(&second)) && !said.contains(&id(&first)), "{said}");
    assert!(!mount.sim.state().is_live(first["api_key"].as_str().unwrap()));
    mount.abandon();
}

#[tokio::test]
async fn force_that_is_not_needed_is_a_deletion_like_any_other() {
    let (mount, account) = with_app(json!({})).await;
    assert_eq!(force(&mount).await, "");
    assert!(is_untouched(&mount, &account));
    mount.delete_by_force("static-roles/app").await.nothing();
}

#[tokio::test]
async fn force_removes_a_record_that_cannot_be_read() {
    let (mount, _) = with_app(json!({})).await;
    let mut entries = mount.storage.snapshot();
    let entry = entries.iter_mut().find(|entry| entry.key == "static-role/app").unwrap();
    entry.value = br#"{"version": 1, "project": 7}"#.to_vec();
    mount.storage.restore(entries);
    mount.delete("static-roles/app").await.error();
    let answered = mount.delete_by_force("static-roles/app").await;
    assert!(answered.warnings()[0].contains("cannot be read"), "{:?}", answered.warnings());
    assert!(mount.stored("static-role/").is_empty());
    mount.delete(&format!("project/{PROJECT}")).await.nothing();
    mount.abandon();
}

/// A key or account whose answer was lost, and that nobody has.
#[tokio::test]
async fn a_deletion_says_that_a_key_may_live_whose_answer_was_lost_until_the_tick_has_looked_it_up() {
    for (method, creation, list) in [
        ("key", endpoint::CREATE_KEY, endpoint::LIST_KEYS),
        ("account", endpoint::CREATE_ACCOUNT, endpoint::LIST_ACCOUNTS),
    ] {
        let (mount, account) = with_app(json!({"rotation_method": method})).await;
        let mount = mount.without_lag();
        mount.sim.fault(Fault::on(creation, Action::Drop).times(1).after_the_work());
        mount.sim.fault(Fault::on(list, Action::Html));
        mount.write("static-creds/app/rotate", json!({})).await.error();
        mount.sim.clear_faults();
        let record: Value = serde_json::from_str(&mount.storage_text("static-role/app")).unwrap();
        let name = record["making"][0]["name"].as_str().unwrap().to_owned();

        let said = mount.delete("static-roles/app").await.warnings().join("; ");
        assert!(said.contains(&name) && said.contains("if OpenAI made it"), "{method}: {said}");
        let keys = mount.sim.state().live_keys().count();
        assert_eq!(keys, 2, "{method}: the lost key, and the account's own");
        mount.read("static-roles/app").await.nothing();
        // A second deletion says the same.
        let again = mount.delete("static-roles/app").await.warnings().join("; ");
        assert!(again.contains(&name), "{method}: {again}");

        mount.advance(MINUTE * 4);
        mount.tick().await.done();
        assert_eq!(mount.sim.state().live_keys().count(), 1, "{method}");
        assert!(is_untouched(&mount, &account));
        assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty(), "{method}");
        mount.delete("static-roles/app").await.nothing();
        mount.finish().await;
    }
}

/// The answer to the next creation of a key is lost, and no list shows the key.
fn lose_the_next_key(mount: &Mount) {
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
}

#[tokio::test]
async fn readers_of_a_deleted_role_are_told_of_its_deletion_while_a_creation_is_looked_for() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    let mount = mount.without_lag();
    lose_the_next_key(&mount);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.delete("static-roles/app").await.done();
    mount.read("static-creds/app").await.refused("is being deleted");
    mount.advance(MINUTE * 4);
    mount.tick().await.done();
    mount.read("static-creds/app").await.refused("not found");
    mount.finish().await;
}

#[tokio::test]
async fn readers_of_a_role_that_is_written_anew_are_told_of_its_creation_while_old_keys_are_deleted() {
    let (mount, account) = with_app(json!({"rotation_period": 0})).await;
    let mount = mount.without_lag();
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.delete("static-roles/app").await.refused("is being deleted");
    mount.read("static-creds/app").await.refused("is being deleted");
    lose_the_next_key(&mount);
    let body = json!({"project": PROJECT, "service_account_id": account.id});
    mount.write("static-roles/app", body).await.error();
    mount.sim.clear_faults();
    mount.read("static-creds/app").await.refused("has no key yet");
    mount.advance(HOUR);
    for _ in 0..2 {
        mount.tick().await.done();
    }
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
    assert!(is_untouched(&mount, &account));
    mount.finish().await;
}
