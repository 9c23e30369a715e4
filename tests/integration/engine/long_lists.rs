//! A project with thousands of keys and accounts of others, whose lists OpenAI allows few calls a minute: each promise that
//! needs a whole list is kept some ticks later.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{self, SET};
use crate::support::mount::PROJECT;
use crate::support::{Answered, Mount};

const MINUTE: Duration = Duration::from_secs(60);
/// Keys, or accounts, of others. A list of them has 25 pages.
const MANY: usize = 2_500;
/// Pages that OpenAI sends in a minute.
const PAGES: u64 = 10;
/// A list takes 3 minutes, and the longest work needs two lists and 3 minutes before. The rest is for retries.
const MINUTES: usize = 20;

/// An account of others with many keys. The list has them before all later keys.
fn crowd_of_keys(mount: &Mount) {
    let crowd = mount.seed("crowd", false);
    for number in 0..MANY {
        mount.seed_key(&crowd.id, &format!("key-{number}"));
    }
}

fn crowd_of_accounts(mount: &Mount) {
    for number in 0..MANY {
        mount.seed(&format!("crowd-{number}"), false);
    }
}

/// OpenAI refuses the list after [`PAGES`] more calls. The refusal names a short wait, because the limiter waits in real
/// time.
fn limit(mount: &Mount, list: &str) {
    let headers = [("x-should-retry", "false"), ("retry-after-ms", "1")];
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let action = Action::Status { status: 429, headers, body: None };
    mount.sim.fault(Fault::on(list, action).skipping(PAGES));
}

fn limit_lists(mount: &Mount) {
    mount.sim.clear_faults();
    limit(mount, endpoint::LIST_KEYS);
    limit(mount, endpoint::LIST_ACCOUNTS);
}

/// One minute with its tick.
async fn minute(mount: &Mount) {
    limit_lists(mount);
    mount.advance(MINUTE);
    drop(mount.tick_immediately().await);
}

/// Ticks until this holds.
async fn until(mount: &Mount, what: &str, holds: impl Fn(&Mount) -> bool) {
    for _ in 0..MINUTES {
        if holds(mount) {
            return;
        }
        minute(mount).await;
    }
    assert!(holds(mount), "{what}: {:?}", mount.list("revocations").await.json());
}

fn has_account(mount: &Mount, id: &str) -> bool {
    mount.sim.state().account(id).is_some()
}

/// Loses the next answer to this creation, and every list that looks for the object at once.
async fn lost<T>(mount: &Mount, creation: &str, work: impl Future<Output = T>) {
    mount.sim.fault(Fault::on(creation, Action::Drop).times(1).after_the_work());
    for list in [endpoint::LIST_KEYS, endpoint::LIST_ACCOUNTS] {
        mount.sim.fault(Fault::on(list, Action::Html));
    }
    drop(work.await);
    mount.sim.clear_faults();
}

fn newest_account(mount: &Mount) -> String {
    mount.sim.state().accounts.last().expect("an account").id.clone()
}

/// The mount with a static role that makes an account for each rotation, and the first rotation's account.
async fn with_static_role() -> (Mount, String) {
    let mount = library::mount().await.without_lag();
    let given = mount.seed("given", true);
    let role = json!({
        "service_account_id": given.id, "project": PROJECT, "rotation_method": "account", "rotation_period": 0,
    });
    mount.write("static-roles/app", role).await.nothing();
    let made = rotated(&mount).await.text("service_account_id");
    (mount, made)
}

async fn rotated(mount: &Mount) -> Answered {
    mount.write("static-creds/app/rotate", json!({})).await
}

#[tokio::test]
async fn a_deleted_sets_account_goes() {
    let mount = library::mount_with("a").await.without_lag();
    crowd_of_keys(&mount);
    let id = mount.sim.state().accounts[0].id.clone();
    limit_lists(&mount);
    mount.delete(SET).await.done();
    assert!(has_account(&mount, &id), "nobody has read the whole list yet");
    until(&mount, "the account goes", |mount| !has_account(mount, &id)).await;
    mount.finish().await;
}

#[tokio::test]
async fn the_accounts_of_a_deleted_set_go_with_one_list() {
    let mount = library::mount_with("a,b,c,d").await.without_lag();
    crowd_of_keys(&mount);
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html));
    mount.delete(SET).await.done();
    mount.sim.clear_faults();
    // Earlier lists are too old by then.
    mount.advance(MINUTE * 20);
    let before = mount.sim.calls(endpoint::LIST_KEYS);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.iter().all(|account| account.name == "crowd"));
    assert!((25..=27).contains(&(mount.sim.calls(endpoint::LIST_KEYS) - before)));
    mount.finish().await;
}

#[tokio::test]
async fn a_key_on_the_first_page_keeps_its_account_also_when_a_list_broke_off() {
    let mount = library::mount_with("a").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &id, "theirs").await;
    crowd_of_keys(&mount);
    limit_lists(&mount);
    mount.delete_by_force(SET).await.done();
    minute(&mount).await;
    // The object after which the next page begins is gone.
    limit_lists(&mount);
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status(400)).times(1));
    mount.advance(MINUTE);
    drop(mount.tick_immediately().await);
    until(&mount, "the key is seen", |mount| has_said(mount, &theirs.id)).await;
    assert!(mount.sim.state().is_live(&theirs.value));
    library::end_key(&mount, &theirs.id).await;
    until(&mount, "the account goes", |mount| !has_account(mount, &id)).await;
    mount.finish().await;
}

/// True if the set's record names the key that keeps an account.
fn has_said(mount: &Mount, key: &str) -> bool {
    mount.storage_text("library-set/").contains(key)
}

#[tokio::test]
async fn a_list_for_one_account_proves_nothing_about_a_key_that_was_created_since() {
    let mount = library::mount_with("a").await.without_lag();
    let other = json!({"project": PROJECT, "service_account_names": "b"});
    mount.write("library-sets/other", other).await.done();
    let [a, b] = [0, 1].map(|number| mount.sim.state().accounts[number].id.clone());
    crowd_of_keys(&mount);
    limit_lists(&mount);
    mount.delete(SET).await.done();
    until(&mount, "the first account goes", |mount| !has_account(mount, &a)).await;
    let theirs = library::foreign_key(&mount, &b, "theirs").await;
    limit_lists(&mount);
    mount.delete_by_force("library-sets/other").await.done();
    until(&mount, "the key is seen", |mount| has_said(mount, &theirs.id)).await;
    assert!(mount.sim.state().is_live(&theirs.value));
    mount.abandon();
}

#[tokio::test]
async fn a_replaced_account_of_a_static_role_goes() {
    let (mount, made) = with_static_role().await;
    crowd_of_keys(&mount);
    limit_lists(&mount);
    rotated(&mount).await.done();
    until(&mount, "the account goes", |mount| !has_account(mount, &made)).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_federated_roles_account_goes() {
    let mount = library::mount().await.without_lag();
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    let role = json!({"project": PROJECT, "credential_type": "access_token"});
    mount.write("roles/app", role).await.done();
    let made = newest_account(&mount);
    crowd_of_keys(&mount);
    limit_lists(&mount);
    mount.delete("roles/app").await.done();
    until(&mount, "the account goes", |mount| !has_account(mount, &made)).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_account_of_a_static_role_is_found_and_goes() {
    let (mount, _) = with_static_role().await;
    crowd_of_keys(&mount);
    crowd_of_accounts(&mount);
    lost(&mount, endpoint::CREATE_ACCOUNT, rotated(&mount)).await;
    let id = newest_account(&mount);
    until(&mount, "the account goes", |mount| !has_account(mount, &id)).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_key_of_a_static_role_is_found_and_goes() {
    let mount = library::mount().await.without_lag();
    let given = mount.seed("given", false);
    let role = json!({"service_account_id": given.id, "project": PROJECT, "rotation_period": 0});
    mount.write("static-roles/app", role).await.nothing();
    crowd_of_keys(&mount);
    let before = mount.sim.state().live_keys().count();
    lost(&mount, endpoint::CREATE_KEY, rotated(&mount)).await;
    assert_eq!(mount.sim.state().live_keys().count(), before + 1);
    until(&mount, "the key goes", |mount| mount.sim.state().live_keys().count() == before).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_account_of_a_set_is_found_and_goes() {
    let mount = library::mount_with("a").await.without_lag();
    let more = json!({"service_account_names": "a,b"});
    crowd_of_accounts(&mount);
    lost_after_the_list(&mount, mount.write(SET, more)).await;
    let id = newest_account(&mount);
    until(&mount, "the account goes", |mount| !has_account(mount, &id)).await;
    mount.finish().await;
}

/// Loses the next account, and the lists after the write's own list of the accounts.
async fn lost_after_the_list<T>(mount: &Mount, work: impl Future<Output = T>) {
    let pages = MANY as u64 / 100 + 1;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).skipping(pages));
    drop(work.await);
    mount.sim.clear_faults();
}

#[tokio::test]
async fn a_lost_key_of_a_check_out_is_found_and_goes() {
    let mount = library::mount_with("a").await.without_lag();
    crowd_of_keys(&mount);
    let before = mount.sim.state().live_keys().count();
    let check_out = mount.write("library-sets/pool/check-out", json!({"ttl": "24h"}));
    lost(&mount, endpoint::CREATE_KEY, check_out).await;
    assert_eq!(mount.sim.state().live_keys().count(), before + 1);
    until(&mount, "the key goes", |mount| mount.sim.state().live_keys().count() == before).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_credential_is_found_and_goes() {
    let mount = library::mount().await.with_role(json!({})).await.without_lag();
    crowd_of_accounts(&mount);
    lost(&mount, endpoint::CREATE_ACCOUNT, mount.read("creds/app")).await;
    let id = newest_account(&mount);
    until(&mount, "the account goes", |mount| !has_account(mount, &id)).await;
    mount.finish().await;
}
