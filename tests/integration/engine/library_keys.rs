//! Accounts that more than one mount uses, or whose organization is gone: what a set may delete, and what it leaves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Lag, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET, SETTLED};

async fn move_back(mount: &Mount) {
    mount.write("config", mount.config()).await.done();
}

#[tokio::test]
async fn an_account_with_a_key_of_somebody_else_is_not_deleted() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &id, "vault-theirs-abcdefgh-zzzzzz").await;
    for refused in [mount.delete(SET).await, mount.write(SET, json!({"service_account_names": "b"})).await] {
        refused.refused("service account a has keys that do not come from this library set");
    }
    assert!(mount.sim.state().is_live(&theirs.value));
    assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a", "b"]));
    library::end_key(&mount, &theirs.id).await;
    mount.delete(SET).await.nothing();
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_somebody_else_made_a_moment_ago_keeps_its_account() {
    for force in [false, true] {
        let mount = library::mount_with("a").await;
        let id = mount.sim.state().accounts[0].id.clone();
        // Lists show the key at once, and it is not found by its id yet.
        let lag = Lag { post: false, delete: false, list: false, ..Lag::of(Duration::from_secs(15)) };
        mount.advance(SETTLED);
        mount.sim.lag(Some(lag));
        let theirs = library::foreign_key(&mount, &id, "theirs").await;
        if force {
            mount.delete_by_force(SET).await.done();
        } else {
            mount.delete(SET).await.refused("has keys that do not come from this library set");
        }
        assert!(mount.sim.state().is_live(&theirs.value), "{force}");
        library::end_key(&mount, &theirs.id).await;
        mount.delete(SET).await.nothing();
        mount.advance(SETTLED);
        mount.tick().await.done();
        assert!(library::names(&mount).is_empty());
        mount.finish().await;
    }
}

#[tokio::test]
async fn what_is_deleted_by_force_keeps_its_account_for_as_long_as_a_key_of_somebody_else_lives() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &id, "theirs").await;
    let answer = mount.delete_by_force(SET).await;
    assert!(answer.warnings()[0].contains("still to be deleted at OpenAI"), "{answer:?}");
    mount.read(SET).await.nothing();
    for _ in 0..3 {
        mount.advance(SETTLED);
        mount.tick().await.done();
        assert_eq!(library::names(&mount), ["a"]);
        assert!(mount.sim.state().is_live(&theirs.value));
    }
    library::end_key(&mount, &theirs.id).await;
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert!(library::names(&mount).is_empty() && mount.stored("library").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_has_expired_keeps_nothing() {
    let mount = library::mount_with("a").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let _ = library::expiring_key(&mount, &id, Duration::from_secs(600)).await;
    mount.delete(SET).await.refused("has keys that do not come from this library set");
    mount.advance(Duration::from_secs(700));
    mount.delete(SET).await.nothing();
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn an_adopted_account_with_keys_leaves_its_set_freely() {
    let mount = library::mount().await;
    mount.seed("keyed", true);
    mount.write(SET, json!({"project": "research", "service_account_names": "keyed"})).await.done();
    mount.delete(SET).await.nothing();
    assert_eq!(library::names(&mount), ["keyed"]);
    mount.finish().await;
}

/// A name that another mount gives to an account of a credential, of a role with this name.
async fn name_of_another_mounts_credential(mount: &Mount, role: &str) -> String {
    mount.write(&format!("roles/{role}"), json!({"project": "research"})).await.done();
    let made = mount.read(&format!("creds/{role}")).await;
    mount.revoke(made.lease()).await.done();
    let name = made.text("service_account");
    let (front, tag) = name.rsplit_once('-').unwrap();
    assert_ne!(tag, "x9y8z7");
    format!("{front}-x9y8z7")
}

#[tokio::test]
async fn an_account_whose_name_some_vault_mount_gave_is_warned_of_at_its_adoption() {
    let mount = library::mount().await;
    let long = "r".repeat(60);
    let names = [
        "vault-app-a1b2c3d4-x9y8z7".to_owned(),
        name_of_another_mounts_credential(&mount, "app").await,
        name_of_another_mounts_credential(&mount, &long).await,
    ];
    for name in names {
        mount.seed(&name, false);
        let answer =
            mount.write(SET, json!({"project": "research", "service_account_names": name.as_str()})).await;
        let [warning] = answer.warnings() else { panic!("{name}: {answer:?}") };
        assert!(warning.contains(&name) && warning.contains("another mount"), "{warning}");
        mount.delete(SET).await.nothing();
    }
    mount.finish().await;
}

#[tokio::test]
async fn an_account_with_a_name_of_its_own_is_adopted_without_a_warning() {
    let mount = library::mount().await;
    for name in
        ["vault-app", "vault-processing-worker", "team-a1b2c3d4-x9y8z7", "vault-app-a1b2c3d4-00abc00xyz"]
    {
        mount.seed(name, false);
        mount.write(SET, json!({"project": "research", "service_account_names": name})).await.nothing();
        mount.delete(SET).await.nothing();
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_set_of_an_organization_that_is_gone_is_deleted_by_force() {
    let mount = library::mount_with("a,b").await;
    let lent = library::check_out(&mount).await;
    mount.configure_elsewhere().await;
    mount.delete(SET).await.refused("must be checked in first");
    let answer = mount.delete_by_force(SET).await;
    let said = answer.warnings().join("\n");
    assert!(said.contains("left at OpenAI in organization") && said.contains("a, b"), "{said}");
    mount.read(SET).await.nothing();
    assert!(mount.stored("library-set/").is_empty() && mount.stored("account-owner/").is_empty());
    // The borrower's key lives: its loan stays on record until it is dead.
    assert_eq!(mount.stored("library-loan/").len(), 1);
    mount.revoke(lent.lease()).await.error();
    assert_eq!(mount.list("revocations").await.keys().len(), 1);
    mount.advance(Duration::from_secs(25 * 3600));
    mount.tick().await.done();
    assert!(mount.stored("library").is_empty(), "{:?}", mount.stored("library"));
    mount.revoke(lent.lease()).await.done();
    mount.abandon();
}

#[tokio::test]
async fn what_an_earlier_deletion_left_in_an_organization_that_is_gone_is_forgotten_by_force() {
    let mount = library::mount_with("a").await;
    mount.configure_elsewhere().await;
    let answer = mount.delete(SET).await;
    assert!(answer.warnings()[0].contains("still to be deleted at OpenAI"), "{answer:?}");
    assert_eq!(mount.stored("library-set/").len(), 1, "a tombstone");
    mount.delete_by_force(SET).await.done();
    assert!(mount.stored("library").is_empty() && mount.stored("account-owner/").is_empty());
    mount.abandon();
}

#[tokio::test]
async fn force_ends_no_check_out_that_can_be_checked_in() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.delete_by_force(SET).await.refused("must be checked in first");
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    mount.configure_elsewhere().await;
    move_back(&mount).await;
    library::check_in(&mount, &lent).await.done();
    mount.revoke(lent.lease()).await.done();
    mount.delete_by_force(SET).await.nothing();
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_a_deleted_set_still_lends_joins_no_other_set() {
    let mount = library::mount_with("a").await.without_lag();
    let lent = library::check_out(&mount).await;
    mount.configure_elsewhere().await;
    mount.delete_by_force(SET).await.done();
    move_back(&mount).await;
    let (other, body) = ("library-sets/other", json!({"project": "research", "service_account_names": "a"}));
    mount.write(other, body.clone()).await.refused("already belongs to a check-out of library set pool");
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    mount.revoke(lent.lease()).await.done();
    mount.write(other, body).await.done();
    mount.delete(other).await.done();
    mount.abandon();
}

#[tokio::test]
async fn accounts_that_left_a_set_wait_for_their_organization_and_go_at_once_when_it_is_back() {
    let mount = library::mount_with("a").await.without_lag();
    mount.configure_elsewhere().await;
    mount.delete(SET).await.done();
    mount.tick().await.done();
    let record: Value = serde_json::from_str(&mount.storage_text("library-set/pool")).unwrap();
    let next_try: chrono::DateTime<chrono::Utc> = record["retry_at"].as_str().unwrap().parse().unwrap();
    assert!((next_try - mount.now()).num_minutes() > 50, "{record}");
    move_back(&mount).await;
    mount.tick().await.done();
    assert!(library::names(&mount).is_empty() && mount.stored("library").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn accounts_of_an_archived_project_leave_with_it() {
    let mount = library::mount_with("a,b").await.without_lag();
    mount.sim.archive_project(mount.sim.project());
    let archived = json!({"error": {"message": "Project is archived.", "type": "invalid_request_error",
        "param": null, "code": "project_archived"}});
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status_with(400, archived)));
    mount.delete(SET).await.nothing();
    assert!(mount.stored("library").is_empty() && mount.stored("account-owner/").is_empty());
    mount.abandon();
}

#[tokio::test]
async fn a_new_set_does_not_count_a_check_out_of_a_deleted_set_of_its_name() {
    let mount = library::mount_with("a").await.without_lag();
    let _lent = library::check_out(&mount).await;
    mount.configure_elsewhere().await;
    mount.delete_by_force(SET).await.done();
    move_back(&mount).await;
    mount.write(SET, json!({"project": "research", "service_account_names": "b"})).await.done();
    let metrics = mount.read("metrics").await.text("http_raw_body");
    for line in ["state=\"free\"} 1", "state=\"out\"} 0"] {
        assert!(metrics.contains(&format!("openai_library_accounts{{set=\"pool\",{line}")), "{metrics}");
    }
    mount.abandon();
}
