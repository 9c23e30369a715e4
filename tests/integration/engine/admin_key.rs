//! Rotation of the admin key: what is answered, and that nobody locks themselves out, whatever fails or dies.

use std::time::Duration;

use openai_secrets::logical::{Entry, Operation, Request, Storage};
use openai_secrets::openai::{AdminKey, Client, CreatedAdminKey, Endpoint, NoopObserver, Settings};
use serde_json::{Value, json};

use crate::simulator::{Action, AdminKeyState, Fault, Limit, Per, endpoint};
use crate::support::Mount;
use crate::support::storage::{CrashPoint, WriteOutcome};
use crate::support::wait::eventually;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn start() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({})).await
}

async fn start_with(config: Value) -> Mount {
    let mount = start().await;
    mount.write("config", config).await.done();
    mount
}

fn live(mount: &Mount) -> Vec<AdminKeyState> {
    mount.sim.state().admin_keys.into_iter().filter(|key| key.live).collect()
}

/// The key in storage.
fn stored(mount: &Mount) -> String {
    let config: Value = serde_json::from_str(&mount.storage_text("config")).unwrap();
    config["admin_api_key"].as_str().unwrap().to_owned()
}

fn rotate(mount: &Mount) -> Request {
    mount.request(Operation::Update, "config/rotate", json!({}))
}

/// A client of the simulator with its first key, as an operator has one.
fn operator(mount: &Mount) -> Client {
    Client::new(Settings {
        endpoint: Endpoint::parse(&mount.sim.url()).unwrap(),
        admin_key: AdminKey::parse(mount.sim.admin_key()).unwrap(),
        organization: mount.sim.organization().parse().unwrap(),
        ca_cert: None,
        client_certificate: None,
        max_requests_per_minute: 0,
        observer: std::sync::Arc::new(NoopObserver),
    })
    .unwrap()
}

async fn operators_key(mount: &Mount) -> CreatedAdminKey {
    operator(mount).create_admin_key("by hand", None).await.unwrap()
}

/// Uses up the faults that storage still has.
async fn heal(mount: &Mount) {
    let key = "config-healed";
    let entry = || Entry { key: key.to_owned(), value: Vec::new(), seal_wrap: false };
    while mount.storage.put(entry()).await.is_err() {}
    mount.storage.delete(key).await.unwrap();
}

/// The stored key works now, whatever happened. Later, when ticks have come, it is the only one.
async fn recovers(mount: &Mount, story: &str) {
    let key = stored(mount);
    assert!(live(mount).iter().any(|kept| kept.value == key), "{story}: the stored key is dead");
    mount.sim.clear_faults();
    let made = mount.read("creds/app").await;
    mount.revoke(made.lease()).await.done();
    for _ in 0..2 {
        mount.advance(MINUTE * 20);
        mount.tick_now().await.done();
    }
    let (left, key) = (live(mount), stored(mount));
    assert_eq!(left.len(), 1, "{story}: {:?}", left.iter().map(|key| &key.name).collect::<Vec<_>>());
    assert_eq!(left[0].value, key, "{story}");
    let config = mount.read("config").await.json();
    assert_eq!(config["admin_api_key_id"], left[0].id, "{story}");
    assert_eq!(config["retiring_admin_api_key_ids"], json!([]), "{story}");
    assert!(!mount.storage_text("config").contains("\"making\""), "{story}");
    assert_eq!(mount.stored("wal/"), Vec::<String>::new(), "{story}");
    mount.write("config/rotate", json!({})).await.done();
}

#[tokio::test]
async fn rotation_makes_proves_stores_and_then_deletes() {
    let mount = start().await.without_lag();
    mount.advance(HOUR);
    let answer = mount.write("config/rotate", json!({})).await;
    let left = live(&mount);
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].value, mount.sim.admin_key());
    assert!(answer.warnings().is_empty());
    let config = mount.read("config").await.json();
    assert_eq!(
        answer.json(),
        json!({"message": "Admin API key has been rotated.", "admin_api_key_id": left[0].id,
            "last_rotated": config["last_rotated"]})
    );
    let calls: Vec<_> = mount.sim.log().into_iter().rev().take(4).map(|call| call.method).collect();
    assert_eq!(calls, ["DELETE", "GET", "POST", "GET"]);
    recovers(&mount, "after a rotation").await;
    mount.finish().await;
}

#[tokio::test]
async fn every_way_to_rotate_rotates() {
    let mount = start().await;
    let run = mount.write("admin-key-rotation", json!({})).await;
    assert_eq!(run.json(), json!({"success": true}));
    let run = mount.write("config/rotate-admin-key", json!({})).await;
    assert_eq!(run.text("message"), "Admin API key has been rotated.");
    mount.write("config", json!({"automatic_rotation_period": "1d"})).await.done();
    mount.ask(mount.request(Operation::Rotate, "", json!({}))).await.nothing();
    let state = mount.sim.state();
    assert_eq!((state.created.admin_keys, state.deleted.admin_keys), (3, 3));
    recovers(&mount, "three rotations").await;
}

#[tokio::test]
async fn vaults_rotation_manager_is_refused_while_rotation_is_off() {
    let mount = start().await;
    let ask = async || mount.ask(mount.request(Operation::Rotate, "config", json!({}))).await;
    ask().await.refused("automated rotation of the admin key is off");
    mount.write("config", json!({"rotation_schedule": "0 3 * * *"})).await.done();
    ask().await.nothing();
    mount.write("config", json!({"disable_automated_rotation": true})).await.done();
    ask().await.refused("disable_automated_rotation");
    mount.write("config", json!({"disable_automated_rotation": false})).await.done();
    ask().await.nothing();
    assert_eq!(mount.sim.state().created.admin_keys, 2);
    mount.delete("config").await.done();
    ask().await.refused("OpenAI client not configured");
}

#[tokio::test]
async fn without_a_configuration_there_is_nothing_to_rotate() {
    let mount = Mount::start().await;
    for path in ["config/rotate", "config/rotate-admin-key", "admin-key-rotation"] {
        mount.write(path, json!({})).await.refused("OpenAI client not configured");
    }
    mount
        .write("config/rotate-admin-key", json!({"new_admin_api_key": "sk-x"}))
        .await
        .refused("not configured");
    mount.tick().await.done();
}

#[tokio::test]
async fn a_key_whose_id_cannot_be_known_is_not_rotated() {
    let mount = Mount::start().await;
    let nothing = Action::status_with(200, json!({"object": "list", "data": [], "has_more": false}));
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, nothing));
    let written = mount.write("config", mount.config()).await;
    assert!(written.warnings()[0].contains("admin_api_key_id"));
    mount.write("config/rotate", json!({})).await.refused("write its id to config as admin_api_key_id");
    assert_eq!(live(&mount).len(), 1);
    let id = live(&mount)[0].id.clone();
    mount.write("config", json!({"admin_api_key_id": id})).await.done();
    mount.write("config/rotate", json!({})).await.done();
    assert_eq!(live(&mount).len(), 1);
}

#[tokio::test]
async fn an_id_of_another_key_is_refused_and_never_deleted() {
    let mount = start().await;
    let other = operators_key(&mount).await;
    let id = other.id.to_string();
    mount.write("config", json!({"admin_api_key_id": id})).await.refused("is another key's");
    mount.write("config", json!({"admin_api_key_id": "key_none"})).await.refused("OpenAI has no admin key");
    // Not tried at the write, the wrong id is found out by the rotation.
    mount.write("config", json!({"admin_api_key_id": id, "verify_connection": false})).await.done();
    mount.write("config/rotate", json!({})).await.done();
    assert!(live(&mount).iter().any(|key| key.id == id));
    assert_eq!(live(&mount).len(), 2);
}

#[tokio::test]
async fn a_retired_key_is_not_taken_back_and_the_present_one_changes_nothing() {
    let mount = start().await;
    mount.write("config/rotate", json!({})).await.done();
    let before = mount.read("config").await.json();
    let calls = mount.sim.state().all_calls();
    // What Terraform does: the whole configuration again.
    mount.write("config", mount.config()).await.refused("rotation has retired this key");
    let unproven = json!({"admin_api_key": mount.sim.admin_key(), "verify_connection": false});
    mount.write("config", unproven).await.refused("rotation has retired this key");
    let again = json!({"new_admin_api_key": mount.sim.admin_key()});
    mount.write("config/rotate-admin-key", again).await.refused("rotation has retired this key");
    mount.advance(HOUR);
    mount.write("config", json!({"admin_api_key": stored(&mount)})).await.done();
    assert_eq!(mount.read("config").await.json(), before);
    assert_eq!(mount.sim.state().all_calls(), calls);
    recovers(&mount, "after refusals").await;
}

#[tokio::test]
async fn a_given_key_takes_the_place_of_the_old_one() {
    let mount = start().await.without_lag();
    let given = operators_key(&mount).await;
    let body = json!({"new_admin_api_key": given.value.expose()});
    let answer = mount.write("config/rotate-admin-key", body.clone()).await;
    assert_eq!(answer.text("admin_api_key_id"), given.id.as_str());
    assert!(answer.warnings().is_empty());
    assert_eq!(live(&mount).iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), [given.id.as_str()]);
    // A repeated request, as after a lost answer, must not delete the key in use.
    let again = mount.write("config/rotate-admin-key", body).await;
    assert!(again.warnings()[0].contains("nothing was changed"));
    recovers(&mount, "after a given key").await;
}

#[tokio::test]
async fn a_given_key_that_is_no_good_changes_nothing() {
    let mount = start().await;
    let given = operators_key(&mount).await;
    let own = live(&mount)[0].id.clone();
    for (body, says) in [
        (json!({"new_admin_api_key": "sk-admin-unknown"}), "error validating OpenAI configuration"),
        (json!({"new_admin_api_key": "sk admin"}), "new_admin_api_key"),
        (json!({"new_admin_api_key": given.value.expose(), "new_admin_api_key_id": own}), "another key's"),
        (
            json!({"new_admin_api_key": given.value.expose(), "new_admin_api_key_id": "k/1"}),
            "new_admin_api_key_id",
        ),
    ] {
        mount.write("config/rotate-admin-key", body).await.refused(says);
    }
    assert_eq!((stored(&mount).as_str(), live(&mount).len()), (mount.sim.admin_key(), 2));
}

#[tokio::test]
async fn a_given_key_that_only_reads_changes_nothing() {
    let mount = start().await.without_lag();
    let given = operators_key(&mount).await;
    let body = json!({"new_admin_api_key": given.value.expose()});
    mount.sim.restrict_admin_keys(true);
    mount
        .write("config/rotate-admin-key", body.clone())
        .await
        .refused("error validating OpenAI configuration: the admin key may not change anything");
    assert_eq!((stored(&mount).as_str(), live(&mount).len()), (mount.sim.admin_key(), 2));
    mount.sim.restrict_admin_keys(false);
    mount.write("config/rotate-admin-key", body).await.done();
    recovers(&mount, "after a key that only read").await;
}

#[tokio::test]
async fn a_key_that_a_rotation_made_ends_after_config_names_another() {
    let mount = start().await.without_lag();
    let (first, second) = (operators_key(&mount).await, operators_key(&mount).await);
    mount.write("config/rotate", json!({})).await.done();
    let made = mount.read("config").await.text("admin_api_key_id");
    mount.write("config", json!({"admin_api_key": first.value.expose()})).await.done();
    assert_eq!(mount.read("config").await.json()["retiring_admin_api_key_ids"], json!([made]));
    mount.tick().await.done();
    let ids = || live(&mount).into_iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!(ids(), [first.id.as_str(), second.id.as_str()], "nobody has the key of the rotation");
    // An operator's key is the operator's.
    mount.write("config", json!({"admin_api_key": second.value.expose()})).await.done();
    mount.tick().await.done();
    assert_eq!(ids(), [first.id.as_str(), second.id.as_str()]);
    mount.finish().await;
}

#[tokio::test]
async fn an_old_key_that_is_gone_already_is_warned_of() {
    let mount = start().await.without_lag();
    let given = operators_key(&mount).await;
    let old = live(&mount)[0].id.parse().unwrap();
    operator(&mount).delete_admin_key(&old).await.unwrap();
    // A 404 for what is younger proves nothing.
    mount.advance(Duration::from_secs(120));
    let body = json!({"new_admin_api_key": given.value.expose(), "new_admin_api_key_id": given.id.as_str()});
    let answer = mount.write("config/rotate-admin-key", body).await;
    assert!(answer.warnings()[0].contains("was not found"));
    recovers(&mount, "the old key was gone").await;
}

#[tokio::test]
async fn a_new_key_may_take_a_moment_to_work() {
    let mount = start().await;
    let refused = Fault::on(endpoint::READ_ADMIN_KEY, Action::status(401)).skipping(1).times(3);
    mount.sim.fault(refused);
    mount.write("config/rotate", json!({})).await.done();
    recovers(&mount, "a young key").await;
}

/// OpenAI's refusal of a key that it does not know.
fn unknown_key() -> Action {
    let error = json!({"message": "Incorrect API key provided", "type": "invalid_request_error", "param": null,
        "code": "invalid_api_key"});
    Action::status_with(401, json!({"error": error}))
}

#[tokio::test]
async fn a_new_key_that_openai_does_not_know_everywhere_yet_fails_nobody() {
    let mount = start().await;
    mount.write("config/rotate", json!({})).await.done();
    for endpoint in [endpoint::CREATE_ACCOUNT, endpoint::READ_PROJECT] {
        mount.sim.fault(Fault::on(endpoint, unknown_key()).times(2));
    }
    let made = mount.read("creds/app").await;
    mount.revoke(made.lease()).await.done();
    mount.write("project/other", json!({"project_id": mount.sim.project()})).await.done();
    assert_eq!((mount.sim.faults_left(), mount.sim.state().created.accounts), (0, 1));
    // A key that is not new is refused at once, and so is a new one for what it may not do.
    mount.advance(Duration::from_secs(120));
    mount.restart().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, unknown_key()).times(1));
    mount.read("creds/app").await.refused("Incorrect API key provided");
    mount.write("config/rotate", json!({})).await.done();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(403)).times(1));
    mount.read("creds/app").await.error();
    mount.finish().await;
}

#[tokio::test]
async fn a_new_key_that_openai_does_not_know_everywhere_yet_fails_nobody_after_a_restart() {
    let mount = start().await;
    mount.write("config/rotate", json!({})).await.done();
    mount.restart().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, unknown_key()).times(2));
    let made = mount.read("creds/app").await;
    mount.revoke(made.lease()).await.done();
    assert_eq!((mount.sim.faults_left(), mount.sim.state().created.accounts), (0, 1));
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn a_new_key_that_cannot_be_proven_is_deleted_and_the_old_one_stays() {
    let mount = start().await;
    mount.sim.fault(Fault::on(endpoint::READ_ADMIN_KEY, Action::Html).skipping(1));
    let answer = mount.write("config/rotate", json!({})).await;
    answer.refused("trying the new admin key");
    assert_eq!((stored(&mount).as_str(), live(&mount).len()), (mount.sim.admin_key(), 1));
    let config = mount.read("config").await.json();
    assert_eq!(config["rotation_failures"], 1);
    assert!(config["last_rotation_error"].as_str().unwrap().contains("trying the new admin key"));
    recovers(&mount, "a key that was not proven").await;
}

#[tokio::test]
async fn an_old_key_that_cannot_be_deleted_yet_is_deleted_by_a_later_tick() {
    let mount = start().await;
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    let answer = mount.write("config/rotate", json!({})).await;
    assert!(answer.warnings()[0].contains("could not be deleted yet"), "{:?}", answer.warnings());
    let old = live(&mount)[0].id.clone();
    assert_eq!(mount.read("config").await.json()["retiring_admin_api_key_ids"], json!([old]));
    // It backs off: the next tick leaves OpenAI alone.
    let calls = mount.sim.calls(endpoint::DELETE_ADMIN_KEY);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::DELETE_ADMIN_KEY), calls);
    mount.advance(MINUTE);
    assert!(mount.tick().await.answer.is_err());
    assert!(mount.sim.remove_fault(fault));
    mount.restart().await;
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert_eq!(live(&mount).len(), 1);
    recovers(&mount, "a late deletion").await;
}

#[tokio::test]
async fn a_configuration_is_not_deleted_while_a_replaced_key_stands() {
    let mount = start().await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    mount.write("config/rotate", json!({})).await.done();
    let old = live(&mount)[0].id.clone();
    mount.delete("config").await.refused(&old);
    assert_eq!(live(&mount).len(), 2);
    mount.sim.clear_faults();
    mount.delete("config").await.nothing();
    assert_eq!(live(&mount).len(), 1);
    mount.delete("config").await.nothing();
    mount.read("config").await.nothing();
}

#[tokio::test]
async fn force_deletes_the_configuration_and_says_what_stands() {
    let mount = start().await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    mount.write("config/rotate", json!({})).await.done();
    let old = live(&mount)[0].id.clone();
    let forced = mount.ask(mount.request(Operation::Delete, "config", json!({"force": true}))).await;
    assert!(forced.warnings()[0].contains(&old), "{:?}", forced.warnings());
    mount.read("config").await.nothing();
    // A new configuration begins without the old one's memory.
    mount.sim.clear_faults();
    mount.write("config", mount.config()).await.done();
}

#[tokio::test]
async fn deleting_the_configuration_undoes_a_creation_that_died() {
    let mount = start().await;
    // The write of the new key is the second, after that of its name.
    assert!(mount.killed(rotate(&mount), CrashPoint::Before(1)).await);
    assert_eq!(live(&mount).len(), 2);
    mount.delete("config").await.nothing();
    assert_eq!(live(&mount).len(), 1);
    assert_eq!(mount.stored("wal/"), Vec::<String>::new());
}

#[tokio::test]
async fn a_period_rotates_at_its_time_and_a_restart_keeps_it() {
    let mount = start_with(json!({"automatic_rotation_period": "24h"})).await;
    let made = mount.sim.state().created.admin_keys;
    let rotations = || mount.sim.state().created.admin_keys - made;
    mount.advance(MINUTE * (24 * 60 - 1));
    mount.tick().await.done();
    mount.restart().await;
    assert_eq!(rotations(), 0);
    mount.advance(MINUTE);
    mount.tick().await.done();
    mount.tick().await.done();
    assert_eq!(rotations(), 1);
    // Three days without a server are made up for by one rotation.
    mount.advance(DAY * 3);
    mount.tick().await.done();
    mount.tick().await.done();
    assert_eq!(rotations(), 2);
    mount.write("config", json!({"disable_automated_rotation": true})).await.done();
    assert_eq!(mount.read("config").await.json()["next_rotation"], "");
    mount.advance(DAY * 3);
    mount.tick().await.done();
    assert_eq!(rotations(), 2);
}

#[tokio::test]
async fn a_rotation_begins_only_within_its_window() {
    let fields = json!({"automatic_rotation_period": "24h", "automatic_rotation_window": "1h"});
    let mount = start_with(fields).await;
    mount.advance(DAY + HOUR + MINUTE);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().created.admin_keys, 0);
    mount.advance(HOUR * 23);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().created.admin_keys, 1);
}

#[tokio::test]
async fn a_period_and_a_schedule_replace_each_other() {
    let mount = start_with(json!({"automatic_rotation_period": "24h", "rotation_window": "1h"})).await;
    mount.write("config", json!({"rotation_schedule": "0 3 * * *"})).await.done();
    let config = mount.read("config").await.json();
    assert_eq!(
        (&config["automatic_rotation_period"], &config["automatic_rotation_window"]),
        (&json!(0), &json!(3600))
    );
    assert!(config["next_rotation"].as_str().unwrap().contains("T03:00:00Z"));
    mount.write("config", json!({"rotation_period": 3600})).await.done();
    assert_eq!(mount.read("config").await.json()["rotation_schedule"], "");
    let both = json!({"automatic_rotation_period": 3600, "rotation_schedule": "0 3 * * *"});
    mount.write("config", both).await.refused("mutually exclusive");
    mount.write("config", json!({"automatic_rotation_window": 90})).await.refused("at least 2m");
    mount.write("config", json!({"automatic_rotation_period": 0})).await.done();
}

#[tokio::test]
async fn a_key_that_would_expire_between_two_times_of_the_schedule_is_refused() {
    let mount = start().await;
    let too_short = "admin_key_ttl must be 0 or at least two rotation periods";
    let monthly = |ttl: &str| json!({"rotation_schedule": "0 3 1 * *", "admin_key_ttl": ttl});
    for ttl in ["1d", "61d"] {
        mount.write("config", monthly(ttl)).await.refused(too_short);
    }
    mount.write("config", monthly("62d")).await.done();
    mount.write("config", json!({"rotation_schedule": "0 3 1 1 *"})).await.refused(too_short);
    mount.write("config", json!({"rotation_schedule": "0 3 * * *", "admin_key_ttl": "2d"})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_expires_before_its_rotation_is_warned_of() {
    let mount = start().await.without_lag();
    let given = operator(&mount).create_admin_key("by hand", Some(DAY * 30)).await.unwrap();
    let written = mount.write("config", json!({"admin_api_key": given.value.expose()})).await;
    assert!(written.warnings()[0].contains("no rotation replaces it before"), "{:?}", written.warnings());
    let late = mount.write("config", json!({"automatic_rotation_period": "31d"})).await;
    assert!(late.warnings()[0].contains("no rotation replaces it before"), "{:?}", late.warnings());
    mount.write("config", json!({"automatic_rotation_period": "15d"})).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_failed_rotation_backs_off_and_is_shown() {
    let mount = start_with(json!({"automatic_rotation_period": "24h"})).await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::status(403)));
    mount.advance(DAY);
    assert!(mount.tick().await.answer.is_err());
    let config = mount.read("config").await.json();
    assert_eq!(config["rotation_failures"], 1);
    assert!(config["last_rotation_error"].as_str().unwrap().starts_with("making a new admin key"));
    assert!(config["next_rotation"].as_str() > config["last_rotated"].as_str());
    mount.restart().await;
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::CREATE_ADMIN_KEY), 1);
    mount.sim.clear_faults();
    mount.advance(MINUTE);
    mount.tick().await.done();
    let config = mount.read("config").await.json();
    assert_eq!((&config["rotation_failures"], &config["last_rotation_error"]), (&json!(0), &json!("")));
}

#[tokio::test]
async fn a_standby_rotates_nothing() {
    let mount = start_with(json!({"automatic_rotation_period": "24h"})).await;
    mount.advance(DAY);
    mount.host.set_performance_standby(true);
    mount.tick().await.done();
    assert!(mount.write("config/rotate", json!({})).await.answer.is_err());
    assert_eq!(mount.sim.state().created.admin_keys, 0);
}

#[tokio::test]
async fn dying_at_any_write_leaves_a_key_that_works_and_in_the_end_only_that() {
    for death in [CrashPoint::Before, CrashPoint::After] {
        for number in 0.. {
            let mount = start().await.without_lag();
            let died = mount.killed(rotate(&mount), death(number)).await;
            recovers(&mount, &format!("died at {:?}", death(number))).await;
            mount.finish().await;
            if !died {
                assert_eq!(number, 3, "a rotation has three writes");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_a_key_that_works_and_in_the_end_only_that() {
    for rotations_before in 0..2 {
        for failures in 0..4 {
            let mount = start().await;
            for _ in 0..rotations_before {
                mount.write("config/rotate", json!({})).await.done();
            }
            for _ in 0..failures {
                mount.storage.fail_put("config");
            }
            let _answer = mount.write("config/rotate", json!({})).await;
            heal(&mount).await;
            recovers(&mount, &format!("the first {failures} writes failed")).await;
        }
    }
}

#[tokio::test]
async fn a_write_that_came_through_although_its_failure_was_reported_locks_nobody_out() {
    for fate in [WriteOutcome::Done, WriteOutcome::Lost, WriteOutcome::Late] {
        // The writes of the name, of the new key, and of the old key's end.
        for done in 0..3 {
            let mount = start().await;
            mount.watched.set_write_outcomes_after("config", done, &[fate]);
            let answer = mount.write("config/rotate", json!({})).await;
            assert_eq!(answer.answer.is_ok(), done == 2, "{fate:?} after {done} writes");
            mount.watched.commit_late_writes().await;
            recovers(&mount, &format!("{fate:?} after {done} writes")).await;
            mount.finish().await;
        }
    }
}

/// One rotation with this fault, and what comes of it.
async fn fails_at(call: &str, action: Action, after: bool, skip: u64) {
    let mount = start().await;
    // More often than an idempotent call is repeated in a second or two.
    let fault = Fault::on(call, action.clone()).skipping(skip).times(4);
    mount.sim.fault(if after { fault.after_the_work() } else { fault });
    let _answer = mount.write("config/rotate", json!({})).await;
    recovers(&mount, &format!("{call}: {action:?}, done: {after}, skipping {skip}")).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_call_that_fails_leaves_a_key_that_works_and_in_the_end_only_that() {
    let actions = [
        Action::status(500),
        Action::status(429),
        Action::status(401),
        Action::status_with(404, "not found"),
        Action::Drop,
        Action::Cut,
        Action::Html,
    ];
    let mut stories = Vec::new();
    for call in [endpoint::READ_ADMIN_KEY, endpoint::CREATE_ADMIN_KEY, endpoint::DELETE_ADMIN_KEY] {
        for action in &actions {
            for after in [false, true] {
                // OpenAI's own words that nothing was done are believed.
                let refused = [Action::status(429), Action::status(401)].contains(action);
                if after && refused {
                    continue;
                }
                stories.extend([0, 1].map(|skip| fails_at(call, action.clone(), after, skip)));
            }
        }
    }
    futures_util::future::join_all(stories).await;
}

#[tokio::test]
async fn a_lost_creation_that_cannot_be_undone_at_once_is_undone_by_the_sweep() {
    let mount = start().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html));
    mount.write("config/rotate", json!({})).await.refused("is removed within 10 minutes");
    assert_eq!(live(&mount).len(), 2);
    mount.tick().await.done();
    assert_eq!(live(&mount).len(), 2, "an entry so young may belong to a rotation under way");
    recovers(&mount, "a lost creation").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_notices_a_rotation() {
    let mount = start().await;
    mount.sim.latency(Duration::from_millis(5));
    // So few that calls wait for their turn while the key changes.
    mount.sim.limit(Limit::everywhere(100, Per::Second));
    let issuing = async {
        for _ in 0..30 {
            let reads = (0..8).map(|_| async {
                let made = mount.read("creds/app").await;
                mount.revoke(made.lease()).await.done();
            });
            futures_util::future::join_all(reads).await;
        }
    };
    let rotating = async {
        for _ in 0..10 {
            mount.write("config/rotate", json!({})).await.done();
        }
    };
    tokio::join!(issuing, rotating);
    recovers(&mount, "under load").await;
}

/// The new key is stored although the write was reported as failed, and the next leader deletes the old key. A late write
/// of the former leader must not bring the old key back.
#[tokio::test]
async fn a_write_of_the_new_key_that_is_reported_as_failed_is_not_followed_by_another_one() {
    let mount = start().await;
    let outcomes = [WriteOutcome::Written, WriteOutcome::Done, WriteOutcome::Late];
    mount.watched.set_write_outcomes("config", &outcomes);
    mount.write("config/rotate", json!({})).await.error();
    mount.watched.set_write_outcomes("config", &[]);
    mount.restart().await;
    mount.tick_now().await.done();
    let left = live(&mount);
    assert_eq!(left.len(), 1, "the next leader has deleted the old key");
    mount.watched.commit_late_writes().await;
    mount.restart().await;
    assert_eq!(stored(&mount), left[0].value);
    recovers(&mount, "a write that was reported as failed").await;
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_that_is_over_begins_no_rotation() {
    let mount = start_with(json!({"automatic_rotation_period": "1h"})).await.without_lag();
    let unended = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    mount.write("config/rotate", json!({})).await.done();
    mount.sim.remove_fault(unended);
    mount.advance(HOUR + MINUTE);
    let slow = Action::delay(Duration::from_millis(300));
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, slow).times(1));
    let tick = mount.request(Operation::Rollback, "", json!({}));
    let over = tick.cancelled.clone();
    let cancel = async {
        let is_asked = async || (mount.sim.faults_left() == 0).then_some(());
        eventually("the replaced key is being deleted", is_asked).await;
        over.cancel();
    };
    let (_said, ()) = tokio::join!(mount.ask(tick), cancel);
    assert_eq!(mount.sim.state().created.admin_keys, 1);
    assert_eq!(mount.read("config").await.json()["rotation_failures"], 0);
    mount.tick().await.done();
    assert_eq!((mount.sim.state().created.admin_keys, live(&mount).len()), (2, 1));
    mount.finish().await;
}

#[tokio::test]
async fn a_given_key_ends_the_refusal_of_the_one_before_at_once() {
    let mount = start().await.without_lag();
    let given = operators_key(&mount).await;
    let old = live(&mount)[0].id.parse().unwrap();
    operator(&mount).delete_admin_key(&old).await.unwrap();
    mount.advance(Duration::from_secs(120));
    mount.read("creds/app").await.error();
    assert_ne!(mount.read("health").await.json()["status"], "ok");
    let body = json!({"new_admin_api_key": given.value.expose(), "new_admin_api_key_id": given.id.as_str()});
    mount.write("config/rotate-admin-key", body).await.done();
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn a_replaced_key_waits_for_its_deletion_since_its_own_replacement() {
    let mount = start().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    let rotated = mount.write("config/rotate", json!({})).await;
    assert!(rotated.warnings()[0].contains("at growing intervals"), "{:?}", rotated.warnings());
    let old = mount.list("revocations").await.keys().remove(0);
    let path = format!("revocations/{old}");
    let since = mount.read(&path).await.text("since");
    mount.advance(HOUR);
    mount.write("config/rotate", json!({})).await.done();
    assert_eq!(mount.read(&path).await.text("since"), since);
    let age = mount.read("health").await.json()["pending_deletion_age"].as_u64().unwrap();
    assert!((3_600..3_700).contains(&age), "{age}");
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}
