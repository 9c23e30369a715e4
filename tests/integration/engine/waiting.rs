//! What waits for its end is seen: in `revocations`, in `health`, as a metric; and can be tried again at once.

use std::time::{Duration, Instant};

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::check_out;
use crate::support::mount::PROJECT;
use crate::support::storage::Access;
use crate::support::wait::eventually;

const MINUTE: Duration = Duration::from_secs(60);
const SET: &str = "library-sets/pool";

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({"ttl": "1h"})).await
}

async fn with_static_role(mount: &Mount) {
    let account = mount.seed("app", false).id;
    mount.write("static-roles/app", json!({"project": PROJECT, "service_account_id": account})).await.done();
}

async fn with_set(mount: &Mount) {
    mount.write(SET, json!({"project": PROJECT, "service_account_names": "a"})).await.done();
}

/// OpenAI refuses to delete anything.
fn refuse_deletions(mount: &Mount) {
    for endpoint in [endpoint::DELETE_ACCOUNT, endpoint::DELETE_KEY, endpoint::DELETE_ADMIN_KEY] {
        mount.sim.fault(Fault::on(endpoint, Action::status(403)));
    }
}

/// The only thing that waits, as everything tells it alike.
async fn waits(mount: &Mount, role: &str) -> String {
    let listed = mount.list("revocations").await;
    let keys = listed.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let info = listed.json()["key_info"][&keys[0]].clone();
    assert_eq!(info["role"], role, "{info}");
    assert!(info["failures"].as_i64().unwrap() > 0, "{info}");
    let told = info["last_error"].as_str().unwrap();
    assert!(told.contains("403") && !told.contains("<mount>"), "{info}");
    assert_eq!(mount.read(&format!("revocations/{}", keys[0])).await.json(), info);
    assert_eq!(mount.read("health").await.json()["pending_deletions"], 1);
    assert!(mount.read("metrics").await.text("http_raw_body").contains("openai_pending_deletions 1"));
    keys[0].clone()
}

/// After `MINUTE`s of waiting health says so; then a retry ends it.
async fn is_told_and_ends(mount: Mount, role: &str) {
    let name = waits(&mount, role).await;
    mount.advance(MINUTE * 11);
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "degraded", "{health}");
    assert!(health["reasons"].to_string().contains("revocations lists it"), "{health}");
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.error();
    let all = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!(
        (&all["removed"], &all["failed"], &all["waiting"]),
        (&json!(0), &json!(1), &json!(1)),
        "{all}"
    );
    assert!(!all.to_string().contains("<mount>"), "{all}");
    mount.sim.clear_faults();
    let all = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!(
        (&all["removed"], &all["failed"], &all["waiting"]),
        (&json!(1), &json!(0), &json!(0)),
        "{all}"
    );
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    let health = mount.read("health").await.json();
    assert_eq!(health["pending_deletions"], 0, "{health}");
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_left_its_set_is_told() {
    let mount = mount().await;
    with_set(&mount).await;
    refuse_deletions(&mount);
    mount.delete(SET).await.done();
    is_told_and_ends(mount, "pool").await;
}

/// A write of the set waits for OpenAI or for storage, and holds the set's lock.
#[tokio::test]
async fn a_retry_waits_a_few_seconds_for_a_request_that_changes_the_owner() {
    let mount = mount().await.without_lag();
    mount.write(SET, json!({"project": PROJECT, "service_account_names": "a,b"})).await.done();
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    let name = mount.list("revocations").await.keys()[0].clone();
    mount.watched.hold(Access::Write, "library-set/");
    let retries = async {
        mount.watched.held().await;
        let began = Instant::now();
        mount.write(&format!("revocations/{name}/retry"), json!({})).await.refused("another request changes");
        let answer = mount.write("revocations/retry", json!({})).await.json();
        assert_eq!((&answer["failed"], &answer["waiting"]), (&json!(1), &json!(1)), "{answer}");
        assert!(began.elapsed() < Duration::from_secs(20));
        mount.watched.release();
    };
    let (write, ()) = tokio::join!(mount.write(SET, json!({"description": "shared"})), retries);
    write.done();
    mount.write("revocations/retry", json!({})).await.done();
    assert!(mount.list("revocations").await.keys().is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_replaced_key_whose_grace_is_over_is_told() {
    let mount = mount().await;
    with_static_role(&mount).await;
    refuse_deletions(&mount);
    let rotated = mount.write("static-creds/app/rotate", json!({"grace_period": 0})).await;
    assert!(rotated.warnings()[0].contains("ask the operator of openai "), "{:?}", rotated.warnings());
    is_told_and_ends(mount, "app").await;
}

#[tokio::test]
async fn the_key_of_a_role_that_was_deleted_is_told() {
    let mount = mount().await;
    with_static_role(&mount).await;
    refuse_deletions(&mount);
    mount.delete("static-roles/app").await.error();
    is_told_and_ends(mount, "app").await;
}

#[tokio::test]
async fn a_check_out_that_could_not_be_returned_is_told() {
    let mount = mount().await;
    with_set(&mount).await;
    let lent = check_out(&mount).await;
    refuse_deletions(&mount);
    mount.revoke(lent.lease()).await.error();
    is_told_and_ends(mount, "pool").await;
}

#[tokio::test]
async fn a_replaced_admin_key_is_told() {
    let mount = mount().await;
    refuse_deletions(&mount);
    mount.write("config/rotate", json!({})).await.done();
    is_told_and_ends(mount, "config").await;
}

#[tokio::test]
async fn a_credential_is_told_as_before() {
    let mount = mount().await;
    let lease = mount.read("creds/app").await.lease().clone();
    refuse_deletions(&mount);
    mount.revoke(&lease).await.error();
    is_told_and_ends(mount, "app").await;
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_told() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.read("creds/app").await.error();
    assert_eq!(mount.list("revocations").await.keys().len(), 0, "it is not time yet");
    for key in mount.stored("wal/") {
        let entry = mount.storage.get(&key).await.unwrap().unwrap();
        let mut record: Value = serde_json::from_slice(&entry.value).unwrap();
        record["created_at"] = (record["created_at"].as_i64().unwrap() - 1_400).into();
        mount.storage.put(Entry { value: record.to_string().into_bytes(), ..entry }).await.unwrap();
    }
    let listed = mount.list("revocations").await;
    let name = listed.keys()[0].clone();
    assert!(listed.json()["key_info"][&name]["last_error"].as_str().unwrap().contains("cut off"));
    assert_eq!(mount.read("health").await.json()["pending_deletions"], 1);
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.refused("cut off");
    mount.sim.clear_faults();
    mount.tick_now().await.done();
    assert_eq!(mount.list("revocations").await.keys().len(), 0);
    mount.finish().await;
}

#[tokio::test]
async fn an_outage_is_told_soon_and_in_words() {
    let mount = mount().await;
    mount.sim.fault(Fault::everywhere(Action::Drop));
    mount.read("creds/app").await.error();
    mount.advance(MINUTE * 3);
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["last_error"], "the connection to OpenAI broke before the answer was whole");
    mount.sim.clear_faults();
    mount.tick_now().await.done();
    mount.abandon();
}

#[tokio::test]
async fn an_outage_that_is_over_is_told_no_longer_though_nobody_asks_for_anything() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::READ_PROJECT, Action::Html).times(1));
    mount.write("project/other", json!({"project_id": mount.sim.project()})).await.error();
    mount.advance(MINUTE * 3);
    assert_eq!(mount.read("health").await.json()["status"], "degraded");
    mount.tick().await.done();
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    let calls = mount.sim.state().all_calls();
    mount.tick().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls, "while all is well a tick has nothing to ask");
    mount.finish().await;
}

#[tokio::test]
async fn a_proxy_that_answers_in_openais_place_is_told_as_an_outage_and_not_as_a_refused_key() {
    let mount = mount().await;
    for (status, body) in [(404, json!("not here")), (403, json!("<html>blocked</html>")), (407, json!(""))] {
        mount.sim.fault(Fault::everywhere(Action::status_with(status, body)));
        mount.read("creds/app").await.error();
        mount.write("project/other", json!({"project_id": mount.sim.project()})).await.error();
        mount.advance(MINUTE * 3);
        let _said = mount.tick().await;
        let health = mount.read("health").await.json();
        assert_eq!(health["status"], "degraded", "{health}");
        assert!(health["reasons"].to_string().contains("no call to OpenAI has succeeded"), "{health}");
        assert!(!health["reasons"].to_string().contains("admin key"), "{health}");
        assert_eq!(health["last_error"], format!("the answer is not from OpenAI ({status})"));
        mount.sim.clear_faults();
        mount.tick_now().await.done();
        assert_eq!(mount.read("health").await.json()["status"], "ok");
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_record_of_another_organization_goes_a_year_and_a_day_after_its_keys_end() {
    let mount = mount().await;
    let lease = mount.read("creds/app").await.lease().clone();
    mount.lose(&lease);
    mount.delete_by_force("config").await.done();
    mount.configure_elsewhere().await;
    let day = MINUTE * 60 * 24;
    mount.advance(day * 364);
    let _said = mount.tick().await;
    assert_eq!(mount.list("revocations").await.keys().len(), 1, "its organization may come back");
    mount.advance(day * 3);
    mount.tick().await.done();
    assert_eq!(mount.list("revocations").await.keys().len(), 0);
    assert_eq!(mount.stored("ledger/").len(), 0);
    mount.abandon();
}

#[tokio::test]
async fn the_configuration_stays_while_something_needs_it_and_the_refusal_says_what_to_do() {
    let mount = mount().await;
    with_static_role(&mount).await;
    mount.delete("config").await.refused("1 static role (app) has still to be ended");
    mount.delete("config").await.refused("delete the static roles");
    with_set(&mount).await;
    mount.delete("config").await.refused("1 static role (app) and 1 library set (pool) have");
    let forced = mount.delete_by_force("config").await;
    let said = forced.warnings().join(" ");
    assert!(said.contains("the keys of static roles never end"), "{said}");
    assert!(said.contains("vault lease revoke -force -prefix openai/"), "{said}");
    mount.write("config", mount.config()).await.done();
    mount.delete("static-roles/app").await.done();
    mount.delete("config").await.refused("delete the library sets");
    mount.delete(SET).await.done();
    mount.delete("config").await.nothing();
}

#[tokio::test]
async fn a_credential_holds_the_configuration_behind_many_of_another_organization() {
    let mount = mount().await;
    let lease = mount.read("creds/app").await.lease().clone();
    let key = mount.stored("ledger/").pop().unwrap();
    let stored = mount.storage.get(&key).await.unwrap().unwrap();
    let elsewhere = String::from_utf8(stored.value).unwrap().replace(mount.sim.organization(), "org-other");
    for number in 0..1_000 {
        let key = format!("ledger/00000000/00/elsewhere{number:04}");
        mount.storage.put(Entry { key, value: elsewhere.clone().into(), seal_wrap: false }).await.unwrap();
    }
    mount.delete("config").await.refused("1 credential has still to be ended");
    mount.revoke(&lease).await.done();
    mount.delete("config").await.nothing();
    mount.abandon();
}

#[tokio::test]
async fn a_set_of_accounts_that_were_there_before_does_not_hold_the_configuration() {
    let mount = mount().await;
    mount.seed("mine", false);
    mount.write(SET, json!({"project": PROJECT, "service_account_names": "mine"})).await.done();
    mount.delete("config").await.nothing();
    mount.delete(SET).await.done();
}

#[tokio::test]
async fn a_deletion_of_a_role_or_set_that_waits_holds_the_configuration() {
    let mount = mount().await;
    with_static_role(&mount).await;
    with_set(&mount).await;
    refuse_deletions(&mount);
    mount.delete("static-roles/app").await.error();
    mount.delete(SET).await.done();
    mount.delete("config").await.refused("1 static role (app) and 1 library set (pool) have");
    mount.sim.clear_faults();
    mount.write("revocations/retry", json!({})).await.done();
    mount.delete("config").await.nothing();
}

#[tokio::test]
async fn a_creation_of_a_static_key_that_was_cut_off_holds_the_configuration() {
    let mount = mount().await;
    let account = mount.seed("app", false).id;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html).times(1));
    mount.write("static-roles/app", json!({"project": PROJECT, "service_account_id": account})).await.error();
    mount.delete("config").await.refused("1 static role (app) has");
    assert_eq!(mount.list("revocations").await.keys().len(), 0, "it is not time yet");
    mount.advance(MINUTE * 4);
    let listed = mount.list("revocations").await;
    let name = listed.keys()[0].clone();
    assert!(listed.json()["key_info"][&name]["last_error"].as_str().unwrap().contains("cut off"));
    assert_eq!(mount.read("health").await.json()["unfinished_creations"], 1);
    mount.tick_now().await.done();
    assert_eq!(mount.list("revocations").await.keys().len(), 0);
    mount.delete("config").await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_that_openai_holds_up_holds_up_no_deletion_of_a_set() {
    let mount = mount().await.without_lag();
    with_set(&mount).await;
    with_static_role(&mount).await;
    refuse_deletions(&mount);
    mount.delete(SET).await.done();
    mount.sim.clear_faults();
    mount.advance(MINUTE * 60 * 48);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::delay(Duration::from_secs(40))));
    let gone = eventually("the set's account is deleted", async || {
        (mount.stored("library-set/").is_empty()).then_some(())
    });
    tokio::select! {
        _ = mount.tick() => panic!("the tick waits for the rotation"),
        () = gone => {}
    }
    mount.abandon();
}
