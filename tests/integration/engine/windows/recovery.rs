//! Windows of another process: when they are looked up, and what stays.

use std::time::Duration;

use chrono::TimeDelta;
use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    MINUTE, PATH, TTL, die_with_one_made, key_of, ledger_place, lose, mount, names, no_such_account,
    tick_after,
};
use crate::simulator::{Action, Fault, endpoint};
use crate::support::storage::Access;
use crate::support::{Mount, windows};

/// A list that does not show yet what it should.
pub(super) fn lists_nothing(list: &str) -> Fault {
    Fault::on(list, Action::status_with(200, json!({"object": "list", "data": [], "has_more": false})))
}

#[tokio::test]
async fn what_another_process_left_is_looked_up_three_minutes_after_the_setup_and_once_more() {
    let mount = mount().await;
    let name = die_with_one_made(&mount).await;
    for _ in 0..2 {
        tick_after(&mount, MINUTE).await.done();
        assert_eq!(names(&mount).len(), 1);
    }
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 1));
    // OpenAI carries out late what the process before had asked for.
    mount.sim.seed_account(mount.sim.project(), &format!("late-{name}"), true).unwrap();
    for _ in 0..4 {
        tick_after(&mount, MINUTE).await.done();
        assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (1, 1));
    }
    let listed = mount.sim.calls(endpoint::LIST_ACCOUNTS);
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
    assert_eq!((listed, mount.sim.calls(endpoint::LIST_ACCOUNTS)), (1, 2), "one listing for each look");
}

#[tokio::test]
async fn the_configuration_stays_until_what_a_process_left_is_looked_up() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let refused = "1 unfinished creation has still to be ended";
    mount.delete("config").await.refused(refused);
    mount.delete("config").await.refused("wait 10 minutes");
    for _ in 0..9 {
        tick_after(&mount, MINUTE).await.done();
    }
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
    lose(&mount, Action::Html).await;
    mount.delete("config").await.refused(refused);
    for _ in 0..4 {
        tick_after(&mount, MINUTE).await.done();
    }
    mount.delete("config").await.nothing();
}

#[tokio::test]
async fn no_wall_clock_decides_when_it_is_looked_up() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let yesterday = mount.now() - TimeDelta::days(1);
    let key = mount.stored("wal/").remove(0);
    let mut entry: Value = serde_json::from_str(&mount.storage_text("wal/")).unwrap();
    entry["created_at"] = yesterday.timestamp().into();
    let value = entry.to_string().into_bytes();
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
    mount.tick().await.done();
    assert_eq!(names(&mount).len(), 1, "the entry seems to be old, and this process knows it for a moment");
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_entry_that_comes_to_be_known_later_is_young_then() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let key = mount.stored("wal/").remove(0);
    let entry = mount.storage.get(&key).await.unwrap().unwrap();
    mount.storage.delete(&key).await.unwrap();
    mount.restart().await;
    tick_after(&mount, MINUTE * 20).await.done();
    // Another node wrote it just now.
    mount.storage.put(entry).await.unwrap();
    mount.tick().await.done();
    assert_eq!(names(&mount).len(), 1);
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn what_the_ledger_has_stays_wherever_its_record_is() {
    let mount = mount().await;
    let (one, two) = (mount.read(PATH).await, mount.read(PATH).await);
    // Its end was asked for, and could not be had.
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
    assert!(mount.revoke(two.lease()).await.answer.is_err());
    assert!(ledger_place(&mount, &two.text("service_account")).unwrap().starts_with("ledger/00000000/00/"));
    mount.restart().await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)));
    let _failed = mount.tick_now().await;
    assert_eq!(mount.stored("wal/").len(), 0, "the window is done with");
    mount.sim.clear_faults();
    for made in [&one, &two] {
        assert!(mount.sim.state().is_live(&made.text("api_key")));
    }
    mount.revoke(two.lease()).await.done();
}

#[tokio::test]
async fn a_key_that_was_ever_used_stays_until_its_own_end_whatever_storage_says() {
    for on_account in [false, true] {
        let mount = mount().await;
        if on_account {
            let account = mount.seed("worker", false).id;
            mount.write("roles/app", json!({"service_account_id": account})).await.done();
        }
        let made = mount.read(PATH).await;
        let name = made.lease().internal["name"].as_str().unwrap().to_owned();
        let key = made.text("api_key");
        mount.sim.use_key(&key);
        mount.storage.delete(&ledger_place(&mount, &name).unwrap()).await.unwrap();
        mount.restart().await;
        mount.tick_now().await.done();
        assert!(mount.sim.state().is_live(&key));
        assert!(ledger_place(&mount, &name).is_some(), "it is on record now");
        mount.lose(made.lease());
        mount.advance(Duration::from_secs(TTL + 600));
        mount.tick().await.done();
        assert!(!mount.sim.state().accounts.iter().any(|account| account.name == name));
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_credential_that_a_look_up_found_counts_for_no_role() {
    let mount = mount().await;
    let unknown = json!({"project_id": mount.sim.project(), "ttl": TTL});
    mount.write("roles/unknown", unknown).await.done();
    let made = mount.read(PATH).await;
    let name = made.text("service_account");
    mount.sim.use_key(&made.text("api_key"));
    mount.storage.delete(&ledger_place(&mount, &name).unwrap()).await.unwrap();
    mount.restart().await;
    mount.tick_now().await.done();
    assert!(ledger_place(&mount, &name).is_some(), "it is on record now");
    mount.restart().await;
    mount.tick().await.done();
    assert_eq!(mount.read("roles/unknown").await.json()["live_credentials"], 0);
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn before_each_deletion_the_ledger_and_the_entry_are_read_again() {
    for recorded in [true, false] {
        let mount = mount().await;
        die_with_one_made(&mount).await;
        let lists = Action::delay(Duration::from_millis(300));
        mount.sim.fault(Fault::on(endpoint::LIST_KEYS, lists).times(1));
        mount.advance_monotonic(MINUTE * 4);
        let meanwhile = async {
            while mount.sim.faults_left() > 0 {
                tokio::task::yield_now().await;
            }
            if recorded {
                let [key, _] = windows::places(&names(&mount)[0]);
                mount.storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
            } else {
                mount.storage.delete(&mount.stored("wal/")[0]).await.unwrap();
            }
        };
        let (_, ()) = tokio::join!(mount.tick(), meanwhile);
        assert_eq!((names(&mount).len(), mount.sim.calls(endpoint::DELETE_ACCOUNT)), (1, 0));
        mount.abandon();
    }
}

#[tokio::test]
async fn absence_counts_only_in_a_project_that_is_there() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let account = mount.sim.state().accounts.remove(0);
    mount.sim.fault(Fault::on(endpoint::READ_PROJECT, Action::final_status(500)));
    mount.sim.fault(lists_nothing(endpoint::LIST_ACCOUNTS));
    assert!(mount.tick_now().await.answer.is_err());
    assert_eq!(mount.stored("wal/").len(), 1);
    mount.sim.clear_faults();
    mount.sim.archive_project(&account.project);
    mount.tick_now().await.done();
    assert_eq!(mount.stored("wal/").len(), 0, "all that it held is ended");
    mount.abandon();
}

#[tokio::test]
async fn an_account_that_openai_lists_and_does_not_know_is_looked_up_again() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    mount.advance(MINUTE * 2);
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, no_such_account()).times(1));
    mount.tick_now().await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (1, 1));
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_somebody_claims_stays_and_its_entry_goes() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let key = format!("account-owner/{}/theirs", mount.sim.state().accounts[0].id);
    let claim = json!({"version": 1, "owner": {"static_role": "s"}, "made": mount.now()});
    mount.storage.put(Entry { key, value: claim.to_string().into(), seal_wrap: false }).await.unwrap();
    mount.advance(MINUTE * 2);
    for _ in 0..3 {
        mount.tick_now().await.done();
    }
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (1, 0));
    mount.abandon();
}

#[tokio::test]
async fn tidy_leaves_what_is_made_in_a_window() {
    let mount = mount().await;
    let name = die_with_one_made(&mount).await;
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    while mount.read("tidy/status").await.text("state") == "running" {
        tokio::task::yield_now().await;
    }
    assert_eq!(names(&mount), std::slice::from_ref(&name));
    assert!(mount.sim.state().is_live(&key_of(&mount, &name)));
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_record_that_comes_while_the_entry_is_read_again_counts() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::delay(Duration::from_millis(300))).times(1));
    mount.advance_monotonic(MINUTE * 4);
    let meanwhile = async {
        while mount.sim.faults_left() > 0 {
            tokio::task::yield_now().await;
        }
        mount.watched.hold(Access::Read, "wal/");
        mount.watched.held().await;
        let [key, _] = windows::places(&names(&mount)[0]);
        mount.storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        mount.watched.release();
    };
    let (_, ()) = tokio::join!(mount.tick(), meanwhile);
    assert_eq!((names(&mount).len(), mount.sim.calls(endpoint::DELETE_ACCOUNT)), (1, 0));
    mount.abandon();
}

#[tokio::test]
async fn a_key_that_a_list_does_not_show_yet_does_not_count_as_unused() {
    let mount = mount().await;
    let made = mount.read(PATH).await;
    let (name, key) = (made.text("service_account"), made.text("api_key"));
    mount.sim.use_key(&key);
    mount.storage.delete(&ledger_place(&mount, &name).unwrap()).await.unwrap();
    mount.restart().await;
    mount.sim.fault(lists_nothing(endpoint::LIST_KEYS).times(1));
    tick_after(&mount, MINUTE * 3).await.done();
    assert_eq!((mount.sim.faults_left(), ledger_place(&mount, &name)), (0, None), "the list was read");
    assert!(mount.sim.state().is_live(&key));
    tick_after(&mount, MINUTE * 5).await.done();
    assert!(mount.sim.state().is_live(&key));
    assert_eq!((ledger_place(&mount, &name).is_some(), mount.stored("wal/").len()), (true, 0));
}

#[tokio::test]
async fn an_account_whose_key_two_looks_five_minutes_apart_do_not_show_is_ended() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    mount.sim.fault(lists_nothing(endpoint::LIST_KEYS));
    tick_after(&mount, MINUTE * 3).await.done();
    for _ in 0..4 {
        tick_after(&mount, MINUTE).await.done();
        assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (1, 1));
    }
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
}

#[tokio::test]
async fn an_account_that_shows_up_late_and_without_its_key_waits_for_a_third_look() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    mount.sim.fault(lists_nothing(endpoint::LIST_ACCOUNTS).times(1));
    mount.sim.fault(lists_nothing(endpoint::LIST_KEYS));
    for minutes in [3, 5, 4] {
        tick_after(&mount, MINUTE * minutes).await.done();
        assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (1, 1), "{minutes}");
    }
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
}

#[tokio::test]
async fn one_listing_serves_many_windows_and_goes_on_in_the_next_tick_where_it_was_cut_off() {
    const WINDOWS: u128 = 3;
    // Two pages of a list.
    const EACH: usize = 50;
    let mount = mount().await;
    for window in 1..=WINDOWS {
        leave_window(&mount, Uuid::from_u128(window), EACH).await;
    }
    mount.restart().await;
    let cut = Fault::on(endpoint::LIST_ACCOUNTS, Action::status(429)).skipping(1);
    mount.sim.fault(cut);
    assert!(tick_after(&mount, MINUTE * 3).await.answer.is_err());
    assert_eq!(names(&mount).len(), WINDOWS as usize * EACH);
    mount.sim.clear_faults();
    let mut ticks = 0;
    while !names(&mount).is_empty() {
        ticks += 1;
        assert!(ticks < 9, "OpenAI is not asked again");
        let _while_openai_is_given_a_rest = tick_after(&mount, Duration::from_secs(31)).await;
    }
    assert_eq!(mount.sim.state().answered(endpoint::LIST_ACCOUNTS, 200), 2, "each page once");
    assert_eq!(mount.stored("wal/").len(), WINDOWS as usize, "each is looked up once more");
    mount.tick_now().await.done();
    mount.finish().await;
}

/// The entry of a window of a process that died, and so many accounts that were made in it and not recorded.
async fn leave_window(mount: &Mount, id: Uuid, accounts: usize) {
    let tag = mount.read("info").await.text("mount_tag");
    let stamp = windows::stamp(mount.now() + TimeDelta::hours(1), id);
    for number in 0..accounts {
        let name = format!("vault-app-{number:08}-{stamp}-{tag}");
        mount.sim.seed_account(mount.sim.project(), &name, true).expect("the project is there");
    }
    let window = json!({
        "organization_id": mount.sim.organization(), "project_id": mount.sim.project(),
        "service_account_id": null, "id": id, "opened": mount.now(),
    });
    let entry = json!({"type": "window", "data": window, "created_at": mount.now().timestamp()});
    let (key, value) = (format!("wal/{id}"), entry.to_string().into_bytes());
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
}

/// Ids of windows are short in names. So a window of another cluster may have the id of a stored one.
#[tokio::test]
async fn a_credential_that_was_made_long_after_the_entry_is_of_another_window_and_stays() {
    let (mount, id) = (mount().await.without_lag(), Uuid::new_v4());
    leave_window(&mount, id, 1).await;
    mount.advance(MINUTE * 31);
    let tag = mount.read("info").await.text("mount_tag");
    let stamp = windows::stamp(mount.now() + TimeDelta::hours(1), id);
    let of_another = format!("vault-app-another1-{stamp}-{tag}");
    mount.sim.seed_account(mount.sim.project(), &of_another, true).expect("the project is there");
    mount.restart().await;
    for _ in 0..2 {
        mount.tick_now().await.done();
    }
    assert_eq!(names(&mount), std::slice::from_ref(&of_another));
    assert!(mount.sim.state().is_live(&key_of(&mount, &of_another)));
    assert!(ledger_place(&mount, &of_another).is_some(), "it is removed after its own end");
    assert_eq!(mount.stored("wal/").len(), 0);
    mount.finish().await;
}
