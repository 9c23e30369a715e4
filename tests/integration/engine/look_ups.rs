//! Look-ups of creations whose answer was lost: when they begin after a crash, how often a failing one is repeated, and
//! what `revocations` says about it.

use std::time::Duration;

use openai_secrets::logical::{Operation, Request};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET};
use crate::support::mount::PROJECT;
use crate::support::storage::CrashPoint;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// Most tries of one look-up in an hour: the wait doubles from 30 seconds to 15 minutes.
const MOST_IN_AN_HOUR: u64 = 14;
/// Minutes within which a failed look-up is repeated.
const A_RETRY: u32 = 20;

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.without_lag()
}

/// A mount with the static role `app` on an account without keys of others.
async fn with_static_role(mut settings: Value) -> Mount {
    let mount = mount().await;
    settings["service_account_id"] = mount.seed("account-of-app", false).id.into();
    settings["project"] = PROJECT.into();
    mount.write("static-roles/app", settings).await.done();
    mount
}

async fn with_federation() -> Mount {
    let mount = mount().await;
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount
}

fn federated_role() -> Value {
    json!({"project": PROJECT, "credential_type": "access_token"})
}

fn tick(mount: &Mount) -> Request {
    mount.request(Operation::Rollback, "", json!({}))
}

/// Ticks once a minute. A tick may say what it could not do.
async fn ticks(mount: &Mount, minutes: u32) {
    for _ in 0..minutes {
        mount.advance(MINUTE);
        let _said = mount.tick().await;
    }
}

/// The configuration is away while a tick looks at all owners, and is written again.
async fn lose_the_configuration_for_a_tick(mount: &Mount) {
    mount.delete_by_force("config").await.done();
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    mount.write("config", mount.config()).await.done();
}

/// OpenAI makes the next account and the answer is lost. After `lists` more, no list can be read until the faults are cleared.
fn lose_the_next_account(mount: &Mount, lists: u64) {
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).skipping(lists));
}

/// The accounts at OpenAI, by id and name.
fn accounts(mount: &Mount) -> Vec<(String, String)> {
    mount.sim.state().accounts.into_iter().map(|account| (account.id, account.name)).collect()
}

fn has_account(mount: &Mount, id: &str) -> bool {
    mount.sim.state().account(id).is_some()
}

/// A write whose new account is lost: its id and name.
async fn lost_account(mount: &Mount, path: &str, body: Value) -> (String, String) {
    let before = accounts(mount);
    // A set reads the list before it makes an account.
    lose_the_next_account(mount, u64::from(path == SET));
    mount.write(path, body).await.error();
    mount.sim.clear_faults();
    accounts(mount).into_iter().find(|account| !before.contains(account)).expect("OpenAI made it")
}

/// A static role with a lost account, on which somebody made a key: with id and name of the account, and id and value of the
/// key.
async fn with_stuck_look_up() -> (Mount, (String, String), (String, String)) {
    let mount = with_static_role(json!({"rotation_method": "account", "rotation_period": 0})).await;
    let lost = lost_account(&mount, "static-creds/app/rotate", json!({})).await;
    ticks(&mount, 1).await;
    let theirs = mount.seed_key(&lost.0, "another-mounts-key");
    (mount, lost, theirs)
}

/// `revocations` gives the reason why a look-up fails, and the number of its failures.
async fn assert_tells(mount: &Mount, name: &str, reason: &str) {
    let said = mount.read(&format!("revocations/{name}")).await.json();
    let error = said["last_error"].as_str().unwrap();
    assert!(error.contains(reason) && !error.contains("the tick removes it"), "{error}");
    assert!(said["failures"].as_u64().unwrap() > 0, "{said}");
    assert_ne!(said["retry_at"], "", "{said}");
}

#[tokio::test]
async fn a_key_that_a_killed_tick_made_is_gone_in_time_although_the_configuration_had_just_come_back() {
    for number in 0.. {
        let mount = with_static_role(json!({"rotation_period": "1h"})).await;
        lose_the_configuration_for_a_tick(&mount).await;
        if !mount.killed(tick(&mount), CrashPoint::Before(number)).await {
            assert!(number > 2, "the tick stores what is being made, and then the new key");
            return mount.abandon();
        }
        ticks(&mount, 10).await;
        let current = mount.read("static-creds/app").await.text("api_key");
        let live: Vec<String> = mount.sim.state().live_keys().map(|key| key.value.clone()).collect();
        assert_eq!(live, [current], "{number}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_federated_role_is_made_in_time_although_a_tick_was_killed_after_the_configuration_came_back() {
    for number in 0.. {
        let mount = with_federation().await;
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop));
        mount.write("roles/app", federated_role()).await.error();
        mount.sim.clear_faults();
        lose_the_configuration_for_a_tick(&mount).await;
        if !mount.killed(tick(&mount), CrashPoint::Before(number)).await {
            assert!(number > 2, "the tick stores the account and the rule");
            return mount.abandon();
        }
        ticks(&mount, 10).await;
        assert_eq!((mount.sim.state().accounts.len(), mount.sim.state().rules.len()), (1, 1), "{number}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn what_waited_for_the_organization_is_done_in_time_although_the_process_died_before_its_tick() {
    let mount = with_static_role(json!({"rotation_period": 0})).await;
    mount.write("roles/dynamic", json!({"project": PROJECT, "ttl": "10m"})).await.done();
    let lease = mount.read("creds/dynamic").await.lease().clone();
    mount.lose(&lease);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.configure_elsewhere().await;
    mount.advance(HOUR * 2);
    let _said = mount.tick().await;
    mount.write("config", mount.config()).await.done();
    mount.restart().await;
    ticks(&mount, 10).await;
    assert_eq!(mount.sim.state().live_keys().count(), 1, "the lost key");
    assert_eq!(accounts(&mount).len(), 1, "the account of the lost lease");
    mount.finish().await;
}

#[tokio::test]
async fn a_look_up_of_a_static_role_that_fails_is_repeated_at_growing_intervals_and_says_why() {
    let (mount, (lost, name), theirs) = with_stuck_look_up().await;
    let before = mount.sim.calls(endpoint::LIST_KEYS);
    ticks(&mount, 60).await;
    let lists = mount.sim.calls(endpoint::LIST_KEYS) - before;
    assert!((3..=MOST_IN_AN_HOUR).contains(&lists), "{lists} lists in an hour");
    assert_tells(&mount, &name, &theirs.0).await;
    assert!(mount.sim.state().is_live(&theirs.1), "somebody uses the account");
    // A rotation does not wait for the look-up.
    mount.write("static-creds/app/rotate", json!({})).await.done();
    assert_eq!(mount.read("static-roles/app").await.json()["rotation_failures"], 0);
    mount.remove_key_at_openai(&theirs.0).await;
    ticks(&mount, A_RETRY).await;
    assert!(!has_account(&mount, &lost));
    mount.finish().await;
}

#[tokio::test]
async fn a_look_up_that_fails_delays_no_other_look_up_of_the_same_static_role() {
    let (mount, (stuck, _), theirs) = with_stuck_look_up().await;
    ticks(&mount, 30).await;
    let (lost, _) = lost_account(&mount, "static-creds/app/rotate", json!({})).await;
    ticks(&mount, 5).await;
    assert!(has_account(&mount, &stuck) && !has_account(&mount, &lost));
    mount.remove_key_at_openai(&theirs.0).await;
    ticks(&mount, A_RETRY).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_deletion_of_a_static_role_tries_a_look_up_that_failed_at_once() {
    let mount = mount().await;
    let account = mount.seed("account-of-app", false).id;
    let body = json!({"project": PROJECT, "service_account_id": account, "rotation_period": 0});
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write("static-roles/app", body).await.error();
    mount.sim.clear_faults();
    let lost = mount.sim.state().live_keys().next().unwrap().value.clone();
    mount.sim.use_key(&lost);
    ticks(&mount, 60).await;
    assert!(mount.sim.state().is_live(&lost), "somebody uses the key of a restored backup");
    mount.delete("static-roles/app").await.done();
    ticks(&mount, 2).await;
    assert!(!mount.sim.state().is_live(&lost));
    mount.finish().await;
}

#[tokio::test]
async fn a_look_up_of_a_federated_role_that_fails_says_why_and_delays_no_other() {
    let mount = with_federation().await;
    let (stuck, name) = lost_account(&mount, "roles/app", federated_role()).await;
    lose_the_next_account(&mount, 0);
    ticks(&mount, 2).await;
    mount.sim.clear_faults();
    let theirs = mount.seed_key(&stuck, "another-mounts-key");
    assert_eq!(accounts(&mount).len(), 3, "one tick lost another, and the next made the role's");
    let before = mount.sim.calls(endpoint::LIST_KEYS);
    ticks(&mount, 60).await;
    let lists = mount.sim.calls(endpoint::LIST_KEYS) - before;
    assert!((3..=MOST_IN_AN_HOUR).contains(&lists), "{lists} lists in an hour");
    assert_tells(&mount, &name, &theirs.0).await;
    assert!(has_account(&mount, &stuck));
    assert_eq!(accounts(&mount).len(), 2, "the stuck account, and that of the role");
    assert_eq!(mount.read("roles/app").await.json()["last_error"], "", "the role itself is as written");
    mount.remove_key_at_openai(&theirs.0).await;
    ticks(&mount, A_RETRY).await;
    assert!(!has_account(&mount, &stuck));
    mount.finish().await;
}

#[tokio::test]
async fn a_look_up_of_a_set_that_fails_says_why_and_delays_no_other() {
    let mount = library::mount_with("a").await.without_lag();
    let names = |names: &str| json!({"project": PROJECT, "service_account_names": names});
    let (stuck, name) = lost_account(&mount, SET, names("a,b")).await;
    ticks(&mount, 1).await;
    let theirs = mount.seed_key(&stuck, "another-mounts-key");
    ticks(&mount, 60).await;
    assert_tells(&mount, &name, &theirs.0).await;
    let (lost, _) = lost_account(&mount, SET, names("a,c")).await;
    ticks(&mount, 5).await;
    assert!(has_account(&mount, &stuck) && !has_account(&mount, &lost));
    mount.remove_key_at_openai(&theirs.0).await;
    ticks(&mount, A_RETRY).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_look_up_of_an_admin_key_that_fails_is_repeated_at_growing_intervals_and_says_why() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html));
    mount.write("config/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    let lost = mount.sim.state().admin_keys.pop().expect("OpenAI made it");
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    let before = mount.sim.calls(endpoint::DELETE_ADMIN_KEY);
    ticks(&mount, 60).await;
    let tries = mount.sim.calls(endpoint::DELETE_ADMIN_KEY) - before;
    assert!((3..=MOST_IN_AN_HOUR).contains(&tries), "{tries} tries in an hour");
    assert_tells(&mount, &lost.name, "403").await;
    mount.sim.clear_faults();
    ticks(&mount, A_RETRY).await;
    assert_eq!(mount.sim.state().admin_keys.iter().filter(|key| key.live).count(), 1);
    mount.finish().await;
}
