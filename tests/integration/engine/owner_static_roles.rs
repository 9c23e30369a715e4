//! The rules of an owner's record, for static roles: what is being made, what is current and what ends stand in one record.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, KeyState, endpoint};
use crate::support::Mount;
use crate::support::mount::PROJECT;
use crate::support::storage::{Access, WriteOutcome};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// After this time a name is looked for at OpenAI.
const SETTLED: Duration = Duration::from_secs(240);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.without_lag()
}

fn body(account: &str, mut settings: Value) -> Value {
    settings["service_account_id"] = account.into();
    settings["project"] = PROJECT.into();
    settings
}

/// A mount with the static role `app`, and the account that it was given.
async fn with_app(settings: Value) -> (Mount, String) {
    let mount = mount().await;
    let account = mount.seed("account-of-app", false).id;
    mount.write("static-roles/app", body(&account, settings)).await.done();
    (mount, account)
}

async fn key(mount: &Mount) -> String {
    mount.read("static-creds/app").await.text("api_key")
}

/// The stored record.
async fn record(mount: &Mount) -> Value {
    let entry = mount.storage.get("static-role/app").await.unwrap().expect("there is a record");
    serde_json::from_slice(&entry.value).unwrap()
}

fn live(mount: &Mount) -> Vec<KeyState> {
    mount.sim.state().live_keys().cloned().collect()
}

/// OpenAI makes the next key, the answer is lost, and nothing can be listed until the faults are cleared.
fn lose_the_next_key(mount: &Mount) {
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
}

async fn settle(mount: &Mount) {
    mount.advance(SETTLED);
    mount.tick().await.done();
}

/// The writes and the deletions of storage that the work takes.
async fn writes(mount: &Mount, work: impl Future<Output = ()>) -> (usize, usize) {
    let before = mount.storage.calls();
    work.await;
    let after = mount.storage.calls();
    (after.puts - before.puts, after.deletes - before.deletes)
}

#[tokio::test]
async fn the_name_of_a_new_key_is_on_record_before_openai_is_asked_and_until_the_key_comes_in() {
    let (mount, account) = with_app(json!({})).await;
    lose_the_next_key(&mount);
    let old = key(&mount).await;
    mount.write("static-creds/app/rotate", json!({})).await.error();
    let making = record(&mount).await["making"].clone();
    let lost = live(&mount).into_iter().find(|key| key.value != old).expect("OpenAI made it");
    assert_eq!(making[0]["name"], lost.name);
    assert_eq!(making[0]["service_account_id"], account);
    assert_eq!(mount.stored("wal/"), Vec::<String>::new());
    // Absence from a list that cannot be read proves nothing.
    settle(&mount).await;
    assert_eq!(record(&mount).await["making"][0]["name"], making[0]["name"]);
    mount.sim.clear_faults();
    settle(&mount).await;
    assert_eq!(record(&mount).await["making"], Value::Null);
    let current = key(&mount).await;
    assert_eq!(live(&mount).iter().map(|key| &key.value).collect::<Vec<_>>(), [&current]);
    mount.finish().await;
}

#[tokio::test]
async fn what_a_late_write_brings_in_is_not_ended_before_the_name_has_settled() {
    let (mount, _) = with_app(json!({})).await;
    let old = key(&mount).await;
    mount.watched.set_write_outcomes("static-role/", &[WriteOutcome::Written, WriteOutcome::Late]);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    for _ in 0..2 {
        mount.advance(MINUTE);
        mount.tick().await.done();
        assert_eq!(live(&mount).len(), 2, "nothing is ended while the outcome of the write is not known");
    }
    mount.watched.commit_late_writes().await;
    let new = key(&mount).await;
    assert_ne!(new, old);
    for _ in 0..5 {
        mount.advance(MINUTE * 2);
        mount.tick().await.done();
        assert!(live(&mount).iter().any(|key| key.value == new));
    }
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_name_is_looked_for_in_its_own_organization_alone() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    lose_the_next_key(&mount);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.configure_elsewhere().await;
    for _ in 0..3 {
        mount.advance(HOUR);
        mount.tick().await.done();
    }
    assert_eq!(record(&mount).await["making"].as_array().map(Vec::len), Some(1));
    mount.write("config", mount.config()).await.done();
    for _ in 0..3 {
        mount.advance(HOUR);
        mount.tick().await.done();
    }
    assert_eq!(record(&mount).await["making"], Value::Null);
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_sixth_unknown_outcome_is_refused_until_the_others_are_known() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    for _ in 0..5 {
        lose_the_next_key(&mount);
        mount.write("static-creds/app/rotate", json!({})).await.error();
    }
    let asked = mount.sim.calls(endpoint::CREATE_KEY);
    mount.write("static-creds/app/rotate", json!({})).await.refused("have an unknown outcome");
    assert_eq!(mount.sim.calls(endpoint::CREATE_KEY), asked);
    mount.sim.clear_faults();
    settle(&mount).await;
    settle(&mount).await;
    assert_eq!(record(&mount).await["making"], Value::Null);
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_first_creation_stores_its_record_first_and_readers_are_told() {
    let mount = mount().await;
    let account = mount.seed("account-of-app", false).id;
    lose_the_next_key(&mount);
    mount.write("static-roles/app", body(&account, json!({}))).await.error();
    let begun = record(&mount).await;
    assert_eq!((&begun["current"], begun["making"].as_array().unwrap().len()), (&Value::Null, 1));
    mount.read("static-creds/app").await.refused("has no key yet");
    mount.read("static-roles/app").await.nothing();
    assert!(mount.list("static-roles").await.keys().is_empty());
    mount.write("static-creds/app/rotate", json!({})).await.refused("has no key yet");
    let other = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/other", other).await.refused("already belongs to static role app");
    mount.sim.clear_faults();
    // A second try takes over what the first left.
    mount.write("static-roles/app", body(&account, json!({}))).await.done();
    let new = key(&mount).await;
    assert_eq!((live(&mount).len(), record(&mount).await["making"].as_array().map(Vec::len)), (2, Some(1)));
    settle(&mount).await;
    assert_eq!(live(&mount).iter().map(|key| &key.value).collect::<Vec<_>>(), [&new]);
    mount.finish().await;
}

#[tokio::test]
async fn a_creation_that_is_given_up_leaves_nothing() {
    let mount = mount().await;
    let account = mount.seed("account-of-app", false).id;
    lose_the_next_key(&mount);
    mount.write("static-roles/app", body(&account, json!({}))).await.error();
    mount.sim.clear_faults();
    settle(&mount).await;
    assert!(live(&mount).is_empty());
    assert!(mount.stored("static-role/").is_empty() && mount.stored("account-owner/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_deleted_role_is_a_tombstone_until_all_is_known_and_ended_and_a_new_one_inherits() {
    let (mount, account) = with_app(json!({"rotation_period": 0})).await;
    lose_the_next_key(&mount);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.delete("static-roles/app").await.refused("is being deleted");
    let left = record(&mount).await;
    assert_eq!(left["current"], Value::Null);
    assert_eq!(["making", "ending"].map(|list| left[list].as_array().unwrap().len()), [1, 1]);
    mount.read("static-creds/app").await.refused("is being deleted");

    mount.write("static-roles/app", body(&account, json!({"rotation_period": 0}))).await.done();
    let new = key(&mount).await;
    let inherited = record(&mount).await;
    assert_eq!(["making", "ending"].map(|list| inherited[list].as_array().unwrap().len()), [1, 1]);
    assert_ne!(inherited["id"], left["id"]);
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert_eq!(live(&mount).iter().map(|key| &key.value).collect::<Vec<_>>(), [&new]);
    let settled = record(&mount).await;
    assert_eq!((&settled["making"], &settled["ending"]), (&Value::Null, &Value::Null));
    mount.finish().await;
}

#[tokio::test]
async fn a_late_step_for_a_deleted_role_does_not_touch_the_new_one_of_its_name() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    mount.sim.fault(
        Fault::on(endpoint::CREATE_KEY, Action::delay(Duration::from_millis(300))).times(1).after_the_work(),
    );
    let made = mount.sim.state().created.keys;
    let another_role = async {
        while mount.sim.state().created.keys == made {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What another leader stored meanwhile.
        let mut other = record(&mount).await;
        other["id"] = "another".into();
        other["making"] = json!([]);
        let value = serde_json::to_vec(&other).unwrap();
        mount.storage.put(Entry { key: "static-role/app".to_owned(), value, seal_wrap: true }).await.unwrap();
        other
    };
    let (rotated, other) = tokio::join!(mount.write("static-creds/app/rotate", json!({})), another_role);
    rotated.refused("was changed meanwhile");
    assert_eq!(record(&mount).await, other);
    assert_eq!(live(&mount).len(), 1, "the late key is taken back");
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_another_owner_claims_is_not_deleted_with_its_key() {
    let (mount, _) = with_app(json!({"rotation_method": "account"})).await;
    let made = mount.write("static-creds/app/rotate", json!({})).await.json();
    let account = made["service_account_id"].as_str().unwrap().to_owned();
    let claim = json!({"version": 1, "owner": {"library_set": "pool"}, "made": mount.now()});
    let (key, value) = (format!("account-owner/{account}"), serde_json::to_vec(&claim).unwrap());
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
    let rotated = mount.write("static-creds/app/rotate", json!({})).await;
    assert!(
        rotated.warnings()[0].contains("already belongs to library set pool"),
        "{:?}",
        rotated.warnings()
    );
    let state = mount.sim.state();
    assert!(state.account(&account).is_some(), "it is the other owner's now");
    assert!(!state.is_live(made["api_key"].as_str().unwrap()));
    mount.abandon();
}

#[tokio::test]
async fn what_a_role_ends_is_refused_to_others() {
    let (mount, _) = with_app(json!({"rotation_method": "account", "grace_period": "1h"})).await;
    let made = mount.write("static-creds/app/rotate", json!({})).await.text("service_account_id");
    let name = mount.sim.state().account(&made).unwrap().name.clone();
    mount.write("static-creds/app/rotate", json!({})).await.done();
    for (path, settings) in [
        ("static-roles/other", json!({"service_account_id": made})),
        ("roles/other", json!({"service_account_id": made})),
        ("library-sets/pool", json!({"service_account_names": name})),
    ] {
        let mut settings = settings;
        settings["project"] = PROJECT.into();
        mount.write(path, settings).await.refused("already belongs to static role app");
    }
    mount.finish().await;
}

#[tokio::test]
async fn openai_knows_the_end_of_a_grace_before_the_rotation_answers() {
    let (mount, _) = with_app(json!({"grace_period": "1h", "rotation_period": "2h"})).await;
    for by_tick in [false, true] {
        let old = key(&mount).await;
        if by_tick {
            mount.advance(HOUR * 2 + MINUTE);
            mount.tick().await.done();
        } else {
            mount.write("static-creds/app/rotate", json!({})).await.done();
        }
        let replaced = live(&mount).into_iter().find(|key| key.value == old).expect("it is in its grace");
        let left = replaced.expires_at.expect("OpenAI knows its end") - mount.sim.state().now;
        assert!((3_500..=3_600).contains(&left), "by tick {by_tick}: {left}");
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_late_release_for_a_role_that_was_deleted_leaves_the_claim_of_a_new_role_of_that_name() {
    let (mount, account) = with_app(json!({})).await;
    mount.watched.set_write_outcomes("account-owner/", &[WriteOutcome::Late]);
    mount.delete("static-roles/app").await.done();
    mount.restart().await;
    mount.advance(MINUTE * 10);
    mount.write("static-roles/app", body(&account, json!({}))).await.done();
    mount.watched.commit_late_writes().await;
    assert_eq!(mount.stored("account-owner/").len(), 1);
    let other = mount.write("static-roles/other", body(&account, json!({}))).await;
    other.refused("already belongs to static role app");
    mount.finish().await;
}

#[tokio::test]
async fn an_organization_that_cannot_be_reached_is_tried_hourly_and_at_once_when_it_comes_into_reach() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    let old = key(&mount).await;
    let failures = async || mount.read("static-roles/app").await.json()["rotation_failures"].clone();
    mount.configure_elsewhere().await;
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert_eq!(failures().await, 1);
    for _ in 0..5 {
        mount.advance(MINUTE * 11);
        mount.tick().await.done();
    }
    assert_eq!(failures().await, 1);
    assert_eq!(mount.read("health").await.json()["overdue_rotations"], 1);
    mount.advance(MINUTE * 6);
    mount.tick().await.done();
    assert_eq!(failures().await, 2);
    mount.write("config", mount.config()).await.done();
    mount.tick().await.done();
    assert_eq!(failures().await, 0);
    assert_ne!(key(&mount).await, old);
    mount.finish().await;
}

#[tokio::test]
async fn the_last_tick_of_a_mount_ends_a_replaced_key_whose_next_try_is_minutes_away() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    assert_eq!(mount.write("static-creds/app/rotate", json!({})).await.warnings().len(), 1);
    for _ in 0..4 {
        mount.advance(MINUTE * 5);
        mount.tick().await.done();
    }
    mount.sim.clear_faults();
    mount.tick().await.done();
    assert_eq!(live(&mount).len(), 2, "it is left alone for a while");
    mount.host.set_tainted(true);
    mount.tick().await.done();
    assert_eq!(live(&mount).len(), 1);
    mount.abandon();
}

#[tokio::test]
async fn a_rotation_takes_four_writes_of_storage() {
    for grace in ["0", "30m"] {
        let (mount, _) = with_app(json!({"grace_period": grace, "rotation_period": "1h"})).await;
        mount.tick().await.done();
        mount.advance(MINUTE * 2);
        // The marker, what is being made, the new key in the place of the old one, and what became of the old one.
        let by_hand = async {
            mount.write("static-creds/app/rotate", json!({})).await.done();
        };
        assert_eq!(writes(&mount, by_hand).await, (4, 0), "by hand, {grace}");
        // The marker moves, and the tick notes the time. A grace that OpenAI was told of is written down with the next change.
        // The first rotation also removes the marker from before the one by hand.
        let (mut by_tick, ends_at_once) = (Vec::new(), usize::from(grace == "0"));
        while by_tick.len() < 2 {
            mount.advance(HOUR / 2 + MINUTE);
            let old = key(&mount).await;
            let ticked = async {
                mount.tick().await.done();
            };
            let counted = writes(&mount, ticked).await;
            by_tick.extend((key(&mount).await != old).then_some(counted));
        }
        assert_eq!(by_tick[1], (3 + ends_at_once + 1, 1), "by the timetable, {grace}");
    }
}

#[tokio::test]
async fn a_deletion_that_an_earlier_release_stored_goes_on() {
    let (mount, _) = with_app(json!({})).await;
    mount.advance(MINUTE * 2);
    let mut stored = record(&mount).await;
    stored["deleting"] = true.into();
    let value = serde_json::to_vec(&stored).unwrap();
    mount.storage.put(Entry { key: "static-role/app".to_owned(), value, seal_wrap: true }).await.unwrap();
    let marker = format!("static-due/{}", mount.stored("due/")[0].trim_start_matches("due/"));
    for key in mount.stored("due/") {
        mount.storage.delete(&key).await.unwrap();
    }
    let key = marker.replace("static-role:app", "app");
    mount.storage.put(Entry { key, value: b"{\"version\":1}".to_vec(), seal_wrap: false }).await.unwrap();
    mount.restart().await;
    mount.read("static-creds/app").await.refused("is being deleted");
    mount.advance(HOUR * 30);
    mount.tick().await.done();
    assert!(live(&mount).is_empty());
    for left in ["static-", "due/", "account-owner/"] {
        assert_eq!(mount.stored(left), Vec::<String>::new());
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_key_without_an_end_is_looked_for_however_long_its_organization_was_out_of_reach() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    lose_the_next_key(&mount);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.configure_elsewhere().await;
    mount.advance(HOUR * 24 * 400);
    mount.tick().await.done();
    mount.write("config", mount.config()).await.done();
    for _ in 0..2 {
        settle(&mount).await;
    }
    assert_eq!(live(&mount).iter().map(|it| it.value.clone()).collect::<Vec<_>>(), [key(&mount).await]);
    mount.finish().await;
}

/// A rotation whose new key is stored although the write was reported as failed, but not yet: the next leader may do that.
async fn rotate_while_the_term_ends(mount: &Mount) {
    mount.watched.set_write_outcomes("static-role/", &[WriteOutcome::Written, WriteOutcome::Late]);
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.advance(SETTLED);
}

#[tokio::test]
async fn a_node_that_cannot_write_any_more_deletes_no_key_that_the_next_leader_hands_out() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    rotate_while_the_term_ends(&mount).await;
    // It still believes that it leads: it reads its own old storage, and its tick runs.
    mount.storage.fail_put("static-role/");
    let _said = mount.tick().await;
    mount.watched.commit_late_writes().await;
    mount.restart().await;
    let new = key(&mount).await;
    assert!(live(&mount).iter().any(|key| key.value == new));
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(live(&mount).iter().map(|key| &key.value).collect::<Vec<_>>(), [&new]);
    mount.finish().await;
}

#[tokio::test]
async fn a_record_that_the_next_leader_writes_during_a_look_up_keeps_its_key_and_is_not_overwritten() {
    // A rotation is due in the same tick.
    let (mount, _) = with_app(json!({"rotation_period": "2m"})).await;
    rotate_while_the_term_ends(&mount).await;
    mount.watched.hold(Access::Read, "static-role/");
    let next_leader = async {
        mount.watched.held().await;
        // The next read is that after the write, before the key is deleted.
        mount.watched.hold(Access::Read, "static-role/");
        mount.watched.release();
        mount.watched.held().await;
        mount.watched.commit_late_writes().await;
        let record = record(&mount).await;
        mount.watched.release();
        record
    };
    let (_said, written) = tokio::join!(mount.tick(), next_leader);
    assert_eq!(record(&mount).await, written);
    let new = key(&mount).await;
    assert!(live(&mount).iter().any(|key| key.value == new));
    mount.delete("static-roles/app").await.done();
    assert!(live(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_account_that_another_role_is_about_to_take_is_not_deleted() {
    let (mount, _) = with_app(json!({"rotation_period": 0, "rotation_method": "account"})).await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    let accounts = mount.sim.state().accounts;
    let stray = accounts.into_iter().find(|it| it.name != "account-of-app").expect("OpenAI made it");
    let (stray, first_key) = (stray.id, stray.keys[0].id.clone());
    mount.advance(SETTLED);
    // The other role has claimed the account, and its record is not stored yet.
    mount.watched.hold(Access::Write, "static-role/other");
    let tick = async {
        mount.watched.held().await;
        mount.tick().await.done();
        assert!(mount.sim.state().account(&stray).is_some());
        mount.watched.release();
    };
    let (other, ()) = tokio::join!(mount.write("static-roles/other", body(&stray, json!({}))), tick);
    other.done();
    // Nobody has the first key of the account, and it stays with the account.
    mount.mark_foreign(&first_key);
    let taken = mount.read("static-creds/other").await.text("api_key");
    settle(&mount).await;
    assert!(mount.sim.state().is_live(&taken));
    assert_eq!(record(&mount).await["making"], Value::Null, "nothing is left to look for");
    mount.finish().await;
}

#[tokio::test]
async fn a_refused_first_creation_holds_no_claim_on_its_account() {
    let mount = mount().await;
    let account = mount.seed("account-of-app", false).id;
    for _ in 0..5 {
        lose_the_next_key(&mount);
        mount.write("static-roles/app", body(&account, json!({}))).await.error();
    }
    let other = mount.seed("another-account", false).id;
    mount.write("static-roles/app", body(&other, json!({}))).await.refused("have an unknown outcome");
    mount.sim.clear_faults();
    mount.write("static-roles/b", body(&other, json!({}))).await.done();
    mount.write("static-roles/c", body(&account, json!({}))).await.refused("static role app");
    settle(&mount).await;
    settle(&mount).await;
    assert_eq!(mount.stored("static-role/"), ["static-role/b"]);
    mount.finish().await;
}
