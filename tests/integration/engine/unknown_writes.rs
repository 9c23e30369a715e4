//! A write of storage that is reported as failed and came through all the same, or comes through later: as where a
//! leader loses its term while it writes. Nothing at OpenAI is undone on such a word; a later look at storage decides.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::library::{self, SET, SETTLED};
use crate::support::storage::{Failure, WriteOutcome};

/// More writes than any check-out or credential needs.
const MOST_WRITES: usize = 20;

/// Writes the set, is told that the last write of its record failed, and goes on as the next leader with what storage then
/// holds.
async fn write_as_a_leader_that_loses_its_term(mount: &Mount, fate: WriteOutcome, body: Value) {
    fail_the_last_write(mount, fate, &body);
    mount.write(SET, body).await.error();
    mount.watched.commit_late_writes().await;
    mount.restart().await;
}

/// The record is written twice for each account that is made, once for those that are adopted, and then once more.
fn fail_the_last_write(mount: &Mount, fate: WriteOutcome, body: &Value) {
    let names = body["service_account_names"].as_str().unwrap();
    let adopted = usize::from(names.contains("old"));
    let made = names.split(',').filter(|name| *name != "old").count() - library::names(mount).len() + adopted;
    mount.watched.set_write_outcomes_after("library-set/", 2 * made + adopted, &[fate]);
}

#[tokio::test]
async fn a_set_that_is_stored_although_its_write_failed_keeps_its_accounts() {
    for fate in [WriteOutcome::Done, WriteOutcome::Late] {
        let mount = library::mount().await;
        mount.seed("old", false);
        let body = json!({"project": "research", "service_account_names": "a,old"});
        write_as_a_leader_that_loses_its_term(&mount, fate, body).await;
        assert_eq!(library::names(&mount), ["old", "a"], "{fate:?}");
        for _ in 0..2 {
            let lent = library::check_out(&mount).await;
            assert!(mount.sim.state().is_live(&lent.text("api_key")), "{fate:?}");
            mount.tick_now().await.done();
            mount.revoke(lent.lease()).await.done();
        }
        library::settle(&mount).await;
        library::assert_at_rest(&mount, &["old", "a"]).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn an_account_that_the_next_leader_has_lent_keeps_its_key() {
    for fate in [WriteOutcome::Done, WriteOutcome::Late] {
        let mount = library::mount_with("a").await;
        let body = json!({"service_account_names": "a,b"});
        write_as_a_leader_that_loses_its_term(&mount, fate, body).await;
        let lent =
            mount.write(&format!("{SET}/check-out"), json!({"service_account": "b", "ttl": "4h"})).await;
        lent.done();
        for _ in 0..3 {
            mount.advance(SETTLED);
            mount.tick_now().await.done();
        }
        assert!(mount.sim.state().is_live(&lent.text("api_key")), "{fate:?}");
        assert_eq!(library::names(&mount), ["a", "b"], "{fate:?}");
        library::check_in(&mount, &lent).await.done();
        library::assert_at_rest(&mount, &["a", "b"]).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_set_that_was_never_stored_lets_its_accounts_go_by_the_tick() {
    let mount = library::mount().await;
    mount.seed("old", false);
    let body = json!({"project": "research", "service_account_names": "a,old"});
    write_as_a_leader_that_loses_its_term(&mount, WriteOutcome::Lost, body).await;
    mount.read(SET).await.nothing();
    assert_eq!(library::names(&mount), ["old", "a"], "not at once");
    library::settle(&mount).await;
    assert_eq!(library::names(&mount), ["old"]);
    assert!(mount.stored("library").is_empty() && mount.stored("account-owner/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_node_that_cannot_write_any_more_deletes_no_account() {
    let mount = library::mount().await;
    let body = json!({"project": "research", "service_account_names": "a"});
    fail_the_last_write(&mount, WriteOutcome::Late, &body);
    mount.write(SET, body).await.error();
    // It still believes that it leads: it reads its own old storage, and its ticks run.
    mount.advance(SETTLED);
    mount.storage.fail_put("library-set/");
    let _ = mount.tick_now().await;
    assert_eq!(library::names(&mount), ["a"]);
    mount.watched.commit_late_writes().await;
    mount.restart().await;
    mount.advance(SETTLED);
    mount.tick_now().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_with_a_write_that_came_through_all_the_same_is_worked_off() {
    for number in 0..MOST_WRITES {
        let mount = library::mount_with("a").await;
        mount.watched.fail(Failure::Denied(number));
        let lent = mount.write(&format!("{SET}/check-out"), json!({})).await;
        if !mount.watched.take_failed() {
            assert!(number > 2, "a check-out has some writes");
            library::check_in(&mount, &lent).await.done();
            mount.abandon();
            return;
        }
        if lent.answer.is_ok() {
            library::check_in(&mount, &lent).await.done();
        }
        library::settle(&mount).await;
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
    panic!("a check-out does not end");
}

#[tokio::test]
async fn a_credential_whose_record_came_through_although_its_write_failed_is_worked_off() {
    for fate in [WriteOutcome::Done, WriteOutcome::Late, WriteOutcome::Lost] {
        let mount = library::mount().await.with_role(json!({"ttl": "10m"})).await.without_lag();
        mount.watched.set_write_outcomes("ledger/", &[fate]);
        mount.read("creds/app").await.error();
        mount.watched.commit_late_writes().await;
        mount.restart().await;
        assert_eq!(mount.sim.state().live_keys().count(), 0, "{fate:?}: nobody has it");
        assert!(library::names(&mount).is_empty(), "{fate:?}");
        mount.advance(Duration::from_secs(20 * 60));
        mount.tick_now().await.done();
        assert!(mount.stored("ledger/").is_empty(), "{fate:?}: its record goes at its time");
        assert_eq!(mount.read("health").await.json()["status"], "ok", "{fate:?}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_rotation_that_came_through_although_its_write_failed_keeps_the_key_that_readers_got() {
    use WriteOutcome::{Done, Late, Lost, Written};
    // The write before OpenAI is asked, and the write that brings the new key in.
    for fate in [&[Done][..], &[Late], &[Lost], &[Written, Done], &[Written, Late], &[Written, Lost]] {
        let mount = library::mount().await;
        let account = mount.seed("app", false);
        let role = json!({
            "project": "research", "service_account_id": account.id, "rotation_period": "1h",
            "grace_period": "30m",
        });
        mount.write("static-roles/app", role).await.done();
        mount.advance(Duration::from_secs(3700));
        mount.watched.set_write_outcomes("static-role/", fate);
        let _ = mount.tick().await;
        mount.watched.commit_late_writes().await;
        mount.restart().await;
        let got = mount.read("static-creds/app").await.text("api_key");
        for _ in 0..6 {
            mount.tick_now().await.done();
            assert!(mount.sim.state().is_live(&got), "{fate:?}: what a reader got is dead");
            mount.advance(Duration::from_secs(60));
        }
        assert!(!mount.storage_text("static-role/").contains("\"making\""), "{fate:?}");
        mount.finish().await;
    }
}
