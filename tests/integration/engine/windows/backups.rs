//! Storage that is not the newest: a backup was restored, or a server was copied.

use std::time::Duration;

use openai_secrets::logical::Storage as _;
use serde_json::json;
use uuid::Uuid;

use super::recovery::lists_nothing;
use super::{MINUTE, PATH, TTL, die_with_one_made, ledger_place, mount, names, tick_after};
use crate::simulator::{Lag, endpoint};
use crate::support::{Answered, Mount, windows};

#[tokio::test]
async fn a_backup_that_was_restored_ends_nothing_that_it_does_not_know() {
    let mount = mount().await;
    let known = mount.read(PATH).await;
    let backup = mount.storage.snapshot();
    let in_its_window = mount.read(PATH).await;
    assert_eq!(mount.entries_left().await, 0);
    let later = mount.read(PATH).await;
    mount.storage.restore(backup);
    mount.restart().await;
    for _ in 0..3 {
        mount.tick_now().await.done();
        for made in [&known, &in_its_window, &later] {
            assert!(mount.sim.state().is_live(&made.text("api_key")));
        }
    }
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "degraded");
    assert!(health["reasons"].to_string().contains("restored from a backup"), "{health}");
    assert!(
        ledger_place(&mount, &in_its_window.text("service_account")).is_some(),
        "it ends with its own end"
    );

    // An operator has what is left over removed.
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    while mount.read("tidy/status").await.text("state") == "running" {
        tokio::task::yield_now().await;
    }
    assert!(!mount.sim.state().is_live(&later.text("api_key")));
    for _ in 0..2 {
        tick_after(&mount, MINUTE * 61).await.done();
    }
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "ok", "{health}");
    assert_eq!(mount.stored("wal/").len(), 0);
    for made in [&known, &in_its_window, &later] {
        mount.lose(made.lease());
    }
    mount.abandon();
}

#[tokio::test]
async fn what_a_restored_backup_does_not_know_is_forgotten_with_its_end() {
    let mount = mount().await;
    mount.read(PATH).await.done();
    let backup = mount.storage.snapshot();
    assert_eq!(mount.entries_left().await, 0);
    mount.read(PATH).await.done();
    mount.storage.restore(backup);
    mount.restart().await;
    for _ in 0..2 {
        mount.tick_now().await.done();
    }
    assert_eq!(mount.read("health").await.json()["status"], "degraded");
    mount.advance(Duration::from_secs(TTL + 600));
    for _ in 0..2 {
        mount.tick().await.done();
        mount.advance(MINUTE * 61);
    }
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.abandon();
}

#[tokio::test]
async fn in_doubt_too_a_key_that_a_list_does_not_show_yet_is_left_alone() {
    let mount = mount().await;
    mount.read(PATH).await.done();
    let backup = mount.storage.snapshot();
    let in_its_window = mount.read(PATH).await;
    assert_eq!(mount.entries_left().await, 0);
    let later = mount.read(PATH).await;
    mount.storage.restore(backup);
    mount.restart().await;
    tick_after(&mount, MINUTE * 3).await.done();
    mount.sim.fault(lists_nothing(endpoint::LIST_KEYS).times(1));
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((mount.sim.faults_left(), is_degraded(&mount).await), (0, true));
    tick_after(&mount, MINUTE * 60).await.done();
    for made in [&in_its_window, &later] {
        assert!(mount.sim.state().is_live(&made.text("api_key")));
    }
    assert!(ledger_place(&mount, &in_its_window.text("service_account")).is_some());
    mount.abandon();
}

/// Deletes the write-ahead entries of all windows except this one.
async fn delete_entries_except(mount: &Mount, entry: &str) {
    for key in mount.stored("wal/") {
        if key != entry {
            mount.storage.delete(&key).await.unwrap();
        }
    }
}

/// Uses windows one after the other: for 70 credentials, then for one.
async fn read_in_later_windows(mount: &Mount) -> Answered {
    next_window(mount);
    for _ in 0..70 {
        mount.read(PATH).await.done();
    }
    next_window(mount);
    mount.read(PATH).await
}

#[tokio::test]
async fn a_backup_is_doubted_however_many_credentials_it_knows() {
    let mount = mount().await;
    let in_its_window = mount.read(PATH).await;
    let entry = mount.stored("wal/").remove(0);
    // They are younger than the window's own, and on record.
    let later = read_in_later_windows(&mount).await;
    delete_entries_except(&mount, &entry).await;
    for lost in [&in_its_window, &later] {
        let place = ledger_place(&mount, &lost.text("service_account")).unwrap();
        mount.storage.delete(&place).await.unwrap();
    }
    mount.restart().await;
    for minutes in [3, 1, 5] {
        tick_after(&mount, MINUTE * minutes).await.done();
        assert!(mount.sim.state().is_live(&in_its_window.text("api_key")), "{minutes}");
    }
    assert!(is_degraded(&mount).await);
    mount.abandon();
}

#[tokio::test]
async fn a_backup_is_doubted_though_nothing_of_its_windows_is_missing() {
    let mount = mount().await;
    mount.read(PATH).await.done();
    let entry = mount.stored("wal/").remove(0);
    let later = read_in_later_windows(&mount).await;
    delete_entries_except(&mount, &entry).await;
    let place = ledger_place(&mount, &later.text("service_account")).unwrap();
    mount.storage.delete(&place).await.unwrap();
    mount.restart().await;
    for minutes in [3, 1] {
        tick_after(&mount, MINUTE * minutes).await.done();
    }
    assert!(is_degraded(&mount).await);
    mount.abandon();
}

/// The open window takes nobody any more.
fn next_window(mount: &Mount) {
    mount.advance(Duration::from_secs(11));
}

async fn is_degraded(mount: &Mount) -> bool {
    mount.read("health").await.text("status") == "degraded"
}

#[tokio::test]
async fn a_copy_of_a_server_ends_nothing_though_each_look_finds_other_credentials() {
    let mount = mount().await.without_lag();
    let made = mount.read(PATH).await;
    let place = ledger_place(&mount, &made.text("service_account")).unwrap();
    mount.storage.delete(&place).await.unwrap();
    mount.restart().await;
    // The original goes on, with short credentials.
    for minutes in [3, 1, 5] {
        let short = made_by_the_original(&mount, minutes).await;
        tick_after(&mount, MINUTE * minutes).await.done();
        assert!(mount.sim.state().is_live(&made.text("api_key")), "{minutes}");
        let path = format!("/organization/projects/{}/service_accounts/{short}", mount.sim.project());
        mount.remove_at_openai(&path).await;
    }
    assert!(is_degraded(&mount).await);
    assert!(ledger_place(&mount, &made.text("service_account")).is_some(), "it ends with its own end");
    mount.abandon();
}

/// A credential of another server with the same tag; the id of its account.
async fn made_by_the_original(mount: &Mount, number: u32) -> String {
    let tag = mount.read("info").await.text("mount_tag");
    let stamp = windows::stamp(mount.now() + MINUTE * 2, Uuid::from_u128(number.into()));
    let name = format!("vault-app-{number:08}-{stamp}-{tag}");
    mount.sim.seed_account(mount.sim.project(), &name, true).expect("the project is there").id
}

#[tokio::test]
async fn a_credential_that_was_revoked_while_a_look_ran_says_nothing_about_storage() {
    let mount = mount().await;
    // A deleted account stays in lists until OpenAI catches up.
    mount.sim.lag(Some(Lag { deleted_ms: 3_600_000, ..Lag::of(Duration::ZERO) }));
    let name = die_with_one_made(&mount).await;
    mount.advance_monotonic(MINUTE * 2);
    for _ in 0..2 {
        mount.advance_monotonic(Duration::from_secs(30));
        let short = mount.read(PATH).await;
        mount.advance_monotonic(Duration::from_secs(11));
        mount.tick().await.done();
        mount.revoke(short.lease()).await.done();
        for _ in 0..2 {
            mount.advance_monotonic(Duration::from_secs(10));
        }
        mount.tick().await.done();
    }
    assert!(!names(&mount).contains(&name), "nobody has its key");
    assert!(!is_degraded(&mount).await);
    mount.finish().await;
}
