//! `tidy`: what nothing owns is found and, if asked, removed; nothing else is ever touched.

use std::time::Duration;

use openai_secrets::engine::naming::names::MountTag;
use openai_secrets::logical::{Entry, Storage};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::storage::Access;
use crate::support::wait::eventually;
use crate::support::{Mount, library};

const DAY: Duration = Duration::from_secs(86_400);

async fn mount() -> Mount {
    let role = json!({"ttl": "96h", "max_ttl": "96h"});
    Mount::start().await.configured().await.with_project().await.with_role(role).await
}

/// Runs to the end and answers the status.
async fn tidy(mount: &Mount, order: Value) -> Value {
    mount.write("tidy", order).await.done();
    ended(mount).await
}

async fn ended(mount: &Mount) -> Value {
    eventually("tidy comes to its end", async || {
        let status = mount.read("tidy/status").await.json();
        (status["state"] != "running").then_some(status)
    })
    .await
}

/// The name of an account as this mount makes them.
async fn tagged(mount: &Mount, front: &str) -> String {
    format!("{front}-{}", mount.read("info").await.text("mount_tag"))
}

fn names(status: &Value) -> Vec<&str> {
    status["found"].as_array().unwrap().iter().filter_map(|found| found["name"].as_str()).collect()
}

fn accounts(mount: &Mount) -> Vec<String> {
    mount.sim.state().accounts.into_iter().map(|account| account.name).collect()
}

async fn store(mount: &Mount, key: &str, value: Value) {
    let entry = Entry { key: key.to_owned(), value: value.to_string().into_bytes(), seal_wrap: false };
    mount.storage.put(entry).await.unwrap();
}

#[tokio::test]
async fn what_a_restored_backup_knows_nothing_of_is_found_and_removed_only_when_asked() {
    let mount = mount().await.without_lag();
    let foreign = mount.seed("somebody-elses-account", true);
    let backup = mount.storage.snapshot();
    let lost = mount.read("creds/app").await;
    mount.storage.restore(backup);
    mount.lose(lost.lease());
    let kept = mount.read("creds/app").await;

    let status = tidy(&mount, json!({})).await;
    assert_eq!((&status["found_count"], &status["looked_at"]), (&json!(0), &json!(3)), "too young: {status}");

    mount.advance(DAY + Duration::from_secs(60));
    let status = tidy(&mount, json!({})).await;
    assert_eq!(names(&status), [lost.text("service_account")]);
    assert_eq!(status["found"][0]["id"], lost.text("service_account_id"));
    assert_eq!(
        (&status["state"], &status["dry_run"], &status["removed"]),
        (&json!("finished"), &json!(true), &json!(0))
    );
    assert_eq!(accounts(&mount).len(), 3);

    let status = tidy(&mount, json!({"dry_run": false})).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(1), &json!(0)), "{status}");
    let left = mount.sim.state();
    assert!(left.account(&foreign.id).is_some() && left.is_live(&kept.text("api_key")));
    assert!(!left.is_live(&lost.text("api_key")));
    assert_eq!(tidy(&mount, json!({"dry_run": false})).await["found_count"], 0);
    mount.finish().await;
}

#[tokio::test]
async fn min_age_is_asked_of_openais_own_time_of_creation() {
    let mount = mount().await;
    mount.seed(&tagged(&mount, "vault-app-old12345").await, true);
    mount.advance(Duration::from_secs(7_200));
    mount.seed(&tagged(&mount, "vault-app-new12345").await, true);
    let status = tidy(&mount, json!({"min_age": "1h"})).await;
    assert_eq!(names(&status), [tagged(&mount, "vault-app-old12345").await]);
    assert_eq!(tidy(&mount, json!({"min_age": 0})).await["found_count"], 2);
}

#[tokio::test]
async fn another_mounts_account_is_never_touched() {
    let mount = mount().await;
    let other = MountTag::of("another mount");
    for name in [format!("vault-app-a1b2c3d4-{other}"), "vault-app-a1b2c3d4".to_owned(), "x".repeat(20)] {
        mount.seed(&name, true);
    }
    mount.advance(DAY * 2);
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["looked_at"], &status["found_count"]), (&json!(3), &json!(0)));
    assert_eq!(accounts(&mount).len(), 3);
}

#[tokio::test]
async fn what_anything_speaks_for_is_not_found() {
    let mount = mount().await;
    let [claimed, pending, role] = ["vault-claimed1", "vault-pending1", "vault-forrole1"];
    let claimed = mount.seed(&tagged(&mount, claimed).await, false).id;
    mount.seed(&tagged(&mount, pending).await, false);
    let of_role = mount.seed(&tagged(&mount, role).await, false).id;
    let claim = json!({"version": 1, "owner": {"static_role": "s"}, "made": mount.now()});
    store(&mount, &format!("account-owner/{claimed}"), claim).await;
    let creation = json!({
        "organization_id": mount.sim.organization(),
        "project_id": mount.sim.project(),
        "name": tagged(&mount, pending).await,
        "service_account_id": null,
        "owner": {"ledger": "00000001/00/x"},
    });
    let entry = json!({"type": "creation", "data": creation, "created_at": 4_000_000_000_u64});
    store(&mount, "wal/1", entry).await;
    mount.write("roles/fixed", json!({"project": "research", "service_account_id": of_role})).await.done();

    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    let counts = ["looked_at", "found_count", "failed"].map(|count| status[count].clone());
    assert_eq!(counts, [3, 0, 0].map(Value::from), "{status}");
    assert_eq!(accounts(&mount).len(), 3);
}

#[tokio::test]
async fn an_account_that_is_made_while_the_records_are_read_is_not_found() {
    let mount = mount().await.without_lag();
    let given = mount.seed("automation", false).id;
    mount.write("static-roles/app", json!({"project": "research", "service_account_id": given})).await.done();
    // The owners are read first to know the projects, and last: by then the accounts were listed, and the windows and the
    // ledger read.
    mount.watched.hold(Access::Read, "static-role/");
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    mount.watched.held().await;
    mount.watched.hold(Access::Read, "static-role/");
    mount.watched.release();
    mount.watched.held().await;
    let made = mount.read("creds/app").await;
    mount.watched.release();
    let status = ended(&mount).await;
    assert_eq!((&status["found_count"], &status["failed"]), (&json!(0), &json!(0)), "{status}");
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_a_static_role_was_given_stays() {
    let mount = mount().await.without_lag();
    let given = mount.seed(&tagged(&mount, "vault-given123").await, false).id;
    let role = json!({"project": "research", "service_account_id": given, "rotation_method": "account",
        "grace_period": "2h"});
    mount.write("static-roles/app", role).await.done();
    let old = mount.read("static-creds/app").await.text("api_key");
    mount.write("static-creds/app/rotate", json!({})).await.done();
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!(status["found_count"], 0, "{status}");
    assert!(mount.sim.state().is_live(&old), "its grace is not over");
    mount.delete("static-roles/app").await.done();
    let status = tidy(&mount, json!({"dry_run": true, "min_age": 0})).await;
    assert_eq!(status["found_count"], 1, "nothing speaks for it any more: {status}");
}

#[tokio::test]
async fn a_write_ahead_entry_that_cannot_be_read_stops_the_run() {
    let mount = mount().await;
    mount.seed(&tagged(&mount, "vault-stray123").await, false);
    store(&mount, "wal/1", json!("nonsense")).await;
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!(status["state"], "failed");
    assert!(status["last_error"].as_str().unwrap().contains("wal/1"), "{status}");
    assert_eq!(accounts(&mount).len(), 1);
}

#[tokio::test]
async fn a_run_that_panics_has_failed_and_another_may_follow() {
    let mount = mount().await;
    mount.watched.panic_at_list("role/");
    let status = tidy(&mount, json!({})).await;
    assert_eq!(status["state"], "failed");
    assert!(status["last_error"].as_str().unwrap().contains("panic"), "{status}");
    assert_eq!(tidy(&mount, json!({})).await["state"], "finished");
    mount.finish().await;
}

#[tokio::test]
async fn one_failure_does_not_stop_the_rest() {
    let mount = mount().await;
    for front in ["vault-stray-a1", "vault-stray-b1", "vault-stray-c1"] {
        mount.seed(&tagged(&mount, front).await, true);
    }
    mount.sim.add_project("proj_gone");
    mount.write("roles/raw", json!({"project_id": "proj_gone"})).await.done();
    let gone = "GET /organization/projects/proj_gone/service_accounts";
    mount.sim.fault(Fault::on(gone, Action::status(404)));
    let refusal = Action::Status { status: 400, headers: std::collections::BTreeMap::new(), body: None };
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, refusal).times(1));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!(
        (&status["found_count"], &status["removed"], &status["failed"]),
        (&json!(3), &json!(2), &json!(1)),
        "{status}"
    );
    assert_eq!(accounts(&mount).len(), 1);
}

#[tokio::test]
async fn one_run_at_a_time_and_it_ends_with_the_mount() {
    let mount = mount().await;
    mount.sim.latency(Duration::from_secs(600));
    mount.write("tidy", json!({})).await.done();
    mount.write("tidy", json!({})).await.refused("tidy is running already");
    assert_eq!(mount.read("tidy/status").await.json()["state"], "running");
    mount.backend().cleanup().await;
    assert_eq!(ended(&mount).await["state"], "stopped");
}

#[tokio::test]
async fn tidy_needs_a_configuration_and_a_node_that_may_write() {
    let mount = Mount::start().await;
    mount.write("tidy", json!({})).await.refused("OpenAI client not configured");
    assert_eq!(mount.read("tidy/status").await.json()["state"], "inactive");
    mount.host.set_performance_standby(true);
    for answered in [mount.write("tidy", json!({})).await, mount.read("tidy/status").await] {
        assert_eq!(answered.error().message(), openai_secrets::logical::StorageError::READ_ONLY);
    }
}

#[tokio::test]
async fn a_run_reads_the_ledger_once_however_many_accounts_there_are() {
    let mount = mount().await;
    for _ in 0..40 {
        mount.read("creds/app").await.done();
    }
    mount.advance(DAY * 2);
    let before = mount.storage.calls();
    let status = tidy(&mount, json!({"dry_run": false})).await;
    assert_eq!((&status["looked_at"], &status["found_count"]), (&json!(40), &json!(0)));
    let after = mount.storage.calls();
    assert!(after.lists - before.lists < 20, "{} lists", after.lists - before.lists);
    assert!(after.gets - before.gets < 15, "{} reads", after.gets - before.gets);
    mount.abandon();
}

/// A mount that hands out keys on accounts that were there before, in each way there is.
async fn mount_with_keys() -> Mount {
    let mount = mount().await;
    let account = |name| mount.seed(name, true).id;
    let role = json!({"project": "research", "service_account_id": account("of-a-role"), "ttl": "96h"});
    mount.write("roles/app", role).await.done();
    let role = json!({"project": "research", "service_account_id": account("of-a-static-role"), "grace_period": "96h",
        "rotation_period": "200h"});
    mount.write("static-roles/app", role).await.done();
    account("of-a-set");
    let set =
        json!({"project": "research", "service_account_names": "of-a-set", "ttl": "96h", "max_ttl": "96h"});
    mount.write("library-sets/pool", set).await.done();
    mount
}

#[tokio::test]
async fn keys_on_other_peoples_accounts_that_a_restored_backup_knows_nothing_of_are_found_and_removed() {
    let mount = mount_with_keys().await.without_lag();
    let backup = mount.storage.snapshot();
    let lost = [
        mount.read("creds/app").await,
        mount.write("static-creds/app/rotate", json!({"grace_period": "96h"})).await,
        mount.write("library-sets/pool/check-out", json!({})).await,
    ];
    mount.storage.restore(backup);
    mount.restart().await;
    for lost in &lost {
        if lost.lease.is_some() {
            mount.lose(lost.lease());
        }
    }
    let kept =
        [mount.read("creds/app").await.text("api_key"), mount.read("static-creds/app").await.text("api_key")];
    let strays: Vec<String> = lost.iter().map(|lost| lost.text("api_key")).collect();

    assert_eq!(tidy(&mount, json!({})).await["found_count"], 0, "too young");
    mount.advance(DAY + Duration::from_secs(60));
    let status = tidy(&mount, json!({})).await;
    assert_eq!((&status["found_count"], &status["removed"]), (&json!(3), &json!(0)), "{status}");
    for found in status["found"].as_array().unwrap() {
        let of = lost.iter().find(|lost| lost.text("api_key_id") == found["id"]).expect("a lost key");
        assert_eq!(found["service_account_id"], of.text("service_account_id"));
        assert_eq!(found["kind"], "key");
    }
    assert!(strays.iter().all(|key| mount.sim.state().is_live(key)), "nothing is removed unasked");

    let status = tidy(&mount, json!({"dry_run": false})).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(3), &json!(0)), "{status}");
    let left = mount.sim.state();
    assert!(strays.iter().all(|key| !left.is_live(key)) && kept.iter().all(|key| left.is_live(key)));
    assert_eq!(left.accounts.len(), 3, "accounts stay");
    assert_eq!(tidy(&mount, json!({"dry_run": false})).await["found_count"], 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_any_record_names_is_not_found() {
    let mount = mount_with_keys().await.without_lag();
    let read = mount.read("creds/app").await;
    let old = mount.read("static-creds/app").await.text("api_key");
    let new = mount.write("static-creds/app/rotate", json!({"grace_period": "96h"})).await.text("api_key");
    let lent = mount.write("library-sets/pool/check-out", json!({})).await;
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["found_count"], &status["keys_looked_at"]), (&json!(0), &json!(8)), "{status}");
    // Seven of accounts, and the admin key.
    let keys = [read.text("api_key"), old, new, lent.text("api_key")];
    assert!(keys.iter().all(|key| mount.sim.state().is_live(key)));
    mount.finish().await;
}

#[tokio::test]
async fn a_list_of_keys_that_fails_keeps_the_accounts_that_somebody_may_use_and_stops_not_the_run() {
    let mount = mount().await;
    mount.seed(&tagged(&mount, "vault-stray123").await, true);
    let fault = mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!(
        (&status["state"], &status["removed"], &status["failed"]),
        (&json!("finished"), &json!(0), &json!(1))
    );
    assert!(status["last_error"].as_str().unwrap().starts_with("listing API keys: "), "{status}");
    mount.sim.remove_fault(fault);
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(1), &json!(0)), "{status}");
}

#[tokio::test]
async fn a_404_in_the_middle_of_the_list_of_keys_keeps_the_accounts_that_somebody_may_use() {
    let mount = mount().await.without_lag();
    let stray = mount.seed(&tagged(&mount, "vault-stray123").await, false).id;
    mount.advance(DAY);
    for number in 0..100 {
        mount.seed(&format!("other-{number}"), true);
    }
    let (_, in_use) = mount.seed_key(&stray, "of-somebody");
    // The key at which the first page ended was deleted meanwhile.
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status(404)).skipping(1));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(0), &json!(1)), "{status}");
    assert!(mount.sim.state().is_live(&in_use));
}

#[tokio::test]
async fn an_admin_key_that_a_rotation_made_and_a_restored_backup_does_not_name_is_found_and_removed() {
    let mount = Mount::start().await.configured().await;
    let (operator, _) = library::admin(&mount);
    let by_hand = operator.create_admin_key("by hand", None).await.unwrap();
    mount.write("config/rotate", json!({})).await.done();
    let backup = mount.storage.snapshot();
    mount.write("config/rotate", json!({})).await.done();
    let lost = mount.read("config").await.text("admin_api_key_id");
    mount.storage.restore(backup);
    mount.restart().await;
    // The key of the backup is gone at OpenAI: an operator writes another.
    let by_hand = json!({"admin_api_key": by_hand.value.expose(), "admin_api_key_id": by_hand.id.as_str()});
    mount.write("config", by_hand).await.done();
    mount.write("config/rotate", json!({})).await.done();
    let kept = mount.read("config").await.text("admin_api_key_id");
    mount.advance(DAY * 2);
    let status = tidy(&mount, json!({"dry_run": false})).await;
    assert_eq!((&status["found_count"], &status["removed"]), (&json!(1), &json!(1)), "{status}");
    assert_eq!((&status["found"][0]["id"], &status["found"][0]["kind"]), (&json!(lost), &json!("admin_key")));
    let live: Vec<String> =
        mount.sim.state().admin_keys.into_iter().filter(|key| key.live).map(|key| key.id).collect();
    assert_eq!(live, [kept]);
    mount.finish().await;
}

/// The role is written, and its key handed out, after `tidy` has read the owners.
#[tokio::test]
async fn an_account_that_a_role_takes_while_tidy_runs_stays() {
    let mount = mount().await.without_lag();
    let stray = mount.seed(&tagged(&mount, "vault-stray123").await, false).id;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::delay(Duration::from_secs(2))).times(1));
    let other = mount.seed(&tagged(&mount, "vault-another1").await, false).id;
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    eventually("the first account is being removed", async || {
        (mount.read("tidy/status").await.json()["found_count"] == 1).then_some(())
    })
    .await;
    let taken = mount.read("tidy/status").await.json()["found"][0]["id"].clone();
    let free = [stray, other].into_iter().find(|id| taken != json!(id)).unwrap();
    let role = json!({"project": "research", "service_account_id": free});
    mount.write("roles/on-it", role).await.done();
    let lent = mount.read("creds/on-it").await;
    ended(&mount).await;
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    mount.abandon();
}

#[tokio::test]
async fn an_account_with_the_key_of_a_lease_stays_though_its_role_is_gone() {
    let mount = mount().await.without_lag();
    let stray = mount.seed(&tagged(&mount, "vault-stray123").await, false).id;
    mount.advance(Duration::from_secs(600));
    let role = json!({"project": "research", "service_account_id": stray, "ttl": "96h", "max_ttl": "96h"});
    mount.write("roles/on-it", role).await.done();
    let lent = mount.read("creds/on-it").await;
    mount.delete("roles/on-it").await.done();
    assert_eq!(mount.entries_left().await, 0, "no window names the account");
    let order = json!({"dry_run": false, "min_age": 0});
    let status = tidy(&mount, order.clone()).await;
    assert!(mount.sim.state().is_live(&lent.text("api_key")), "{status}");
    assert!(status["last_error"].as_str().unwrap().contains(&lent.text("api_key_id")), "{status}");
    mount.revoke(lent.lease()).await.done();
    assert_eq!(tidy(&mount, order).await["removed"], 1);
    mount.finish().await;
}

/// The key at the end of a page is deleted before the next page is read.
#[tokio::test]
async fn a_list_of_keys_that_loses_its_place_keeps_the_accounts_that_somebody_may_use() {
    let mount = mount().await.without_lag();
    let stray = mount.seed(&tagged(&mount, "vault-stray123").await, false).id;
    for number in 0..100 {
        mount.seed(&format!("other-{number}"), true);
    }
    mount.advance(Duration::from_secs(600));
    let (_, theirs) = mount.seed_key(&stray, "theirs");
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status(404)).skipping(1).times(1));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert!(mount.sim.state().is_live(&theirs), "{status}");
    assert_eq!((&status["removed"], &status["failed"]), (&json!(0), &json!(1)), "{status}");
    mount.finish().await;
}

#[tokio::test]
async fn the_admin_key_in_use_stays_though_its_id_is_not_known() {
    let mount = Mount::start().await.without_lag();
    let name = tagged(&mount, "vault-admin-abcdefgh").await;
    let (operator, _) = library::admin(&mount);
    let key = operator.create_admin_key(&name, None).await.unwrap();
    let nothing = Action::status_with(200, json!({"object": "list", "data": [], "has_more": false}));
    let unlisted = mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, nothing));
    let mut config = mount.config();
    config["admin_api_key"] = key.value.expose().into();
    mount.write("config", config).await.done();
    mount.sim.remove_fault(unlisted);
    assert_eq!(mount.read("config").await.text("admin_api_key_id"), "");
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["keys_looked_at"], &status["found_count"]), (&json!(2), &json!(0)), "{status}");
    assert!(mount.sim.state().admin_keys.iter().any(|it| it.live && it.id == key.id.as_str()));
    mount.finish().await;
}

#[tokio::test]
async fn keys_that_nobody_can_use_and_keys_of_this_mount_keep_no_account() {
    let mount = mount().await.without_lag();
    let [first, expired, ours] = ["vault-first-12", "vault-expired1", "vault-ours-123"];
    let [first, expired, ours] = [
        mount.seed(&tagged(&mount, first).await, false).id,
        mount.seed(&tagged(&mount, expired).await, false).id,
        mount.seed(&tagged(&mount, ours).await, false).id,
    ];
    // OpenAI makes the first key of an account a moment after the account.
    mount.advance(Duration::from_secs(30));
    mount.seed_key(&first, "Secret Key");
    mount.advance(Duration::from_secs(600));
    library::expiring_key(&mount, &expired, Duration::from_secs(3_600)).await;
    mount.seed_key(&ours, &tagged(&mount, "vault-key-1234").await);
    let order = json!({"dry_run": false, "min_age": 0});
    let status = tidy(&mount, order.clone()).await;
    assert_eq!((&status["failed"], accounts(&mount).len()), (&json!(1), 1), "a key is not over: {status}");
    mount.advance(Duration::from_secs(7_200));
    let status = tidy(&mount, order).await;
    assert_eq!((&status["failed"], accounts(&mount).len()), (&json!(0), 0), "{status}");
    mount.finish().await;
}

#[tokio::test]
async fn a_static_role_waits_for_the_end_of_the_account_that_tidy_removes() {
    let mount = mount().await.without_lag();
    let stray = mount.seed(&tagged(&mount, "vault-stray123").await, false).id;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::delay(Duration::from_millis(500))).times(1));
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    let is_removed = async || (mount.sim.faults_left() == 0).then_some(());
    eventually("the account is being removed", is_removed).await;
    let role = json!({"project": "research", "service_account_id": stray});
    mount.write("static-roles/app", role).await.error();
    assert_eq!(ended(&mount).await["removed"], 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_list_of_admin_keys_that_fails_is_told_and_fails_not_the_run() {
    let mount = mount().await.without_lag();
    mount.seed(&tagged(&mount, "vault-stray123").await, false);
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::status(403)));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!(
        (&status["state"], &status["removed"], &status["failed"]),
        (&json!("finished"), &json!(1), &json!(1)),
        "{status}"
    );
    assert!(status["last_error"].as_str().unwrap().starts_with("listing admin keys: "), "{status}");
    mount.finish().await;
}

#[tokio::test]
async fn the_admin_key_in_use_is_known_by_its_id_its_name_or_its_value_alone() {
    let mount = Mount::start().await.configured().await.without_lag();
    mount.write("config/rotate", json!({})).await.done();
    let present = mount.sim.state().admin_keys.into_iter().find(|key| key.live).unwrap();
    let (front, end) = (&present.value[..8], &present.value[present.value.len() - 4..]);
    let other = json!({
        "object": "organization.admin_api_key", "id": "key_other", "name": tagged(&mount, "vault-admin-another1").await,
        "redacted_value": "sk-admin-unreadable", "created_at": 1_700_000_000,
    });
    let is_found = async |field: &str, value: Value| {
        let mut listed = other.clone();
        listed[field] = value;
        let list = json!({"object": "list", "data": [listed], "has_more": false});
        let fault = mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::status_with(200, list)));
        let status = tidy(&mount, json!({})).await;
        mount.sim.remove_fault(fault);
        status["found_count"].clone()
    };
    assert_eq!(is_found("id", json!("key_another")).await, 1, "nothing tells that it is in use");
    assert_eq!(is_found("id", json!(present.id)).await, 0);
    assert_eq!(is_found("name", json!(present.name)).await, 0);
    assert_eq!(is_found("redacted_value", json!(format!("{front}...{end}"))).await, 0);
    mount.finish().await;
}

#[tokio::test]
async fn admin_keys_that_a_rotation_is_still_to_delete_are_left_to_it() {
    let mount = Mount::start().await.configured().await.without_lag();
    let unlisted = mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html));
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Cut).after_the_work().times(1));
    mount.write("config/rotate", json!({})).await.error();
    mount.sim.remove_fault(unlisted);
    let unended = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    for _ in 0..2 {
        mount.write("config/rotate", json!({})).await.done();
    }
    mount.sim.remove_fault(unended);
    let live = || mount.sim.state().admin_keys.iter().filter(|key| key.live).count();
    assert_eq!(live(), 4, "the first one, one that was lost, one that was replaced, and the present one");
    let status = tidy(&mount, json!({"dry_run": false, "min_age": 0})).await;
    assert_eq!((&status["keys_looked_at"], &status["found_count"]), (&json!(4), &json!(0)), "{status}");
    mount.advance(Duration::from_secs(3_600));
    mount.tick().await.done();
    assert_eq!(live(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn admin_keys_that_nothing_names_are_removed_when_old_enough_and_only_if_asked_one_by_one() {
    let mount = Mount::start().await.configured().await.without_lag();
    let (operator, _) = library::admin(&mount);
    for front in ["vault-admin-stray123", "vault-admin-stray456"] {
        operator.create_admin_key(&tagged(&mount, front).await, None).await.unwrap();
    }
    mount.advance(Duration::from_secs(3_600));
    let live = || mount.sim.state().admin_keys.iter().filter(|key| key.live).count();
    assert_eq!(tidy(&mount, json!({"dry_run": false})).await["found_count"], 0, "too young");
    assert_eq!(tidy(&mount, json!({"min_age": "1h"})).await["found_count"], 2);
    assert_eq!(live(), 3, "nothing is removed unasked");
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(400)).times(1));
    let status = tidy(&mount, json!({"dry_run": false, "min_age": "1h"})).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(1), &json!(1)), "{status}");
    assert_eq!(live(), 2);
    mount.finish().await;
}

#[tokio::test]
async fn an_admin_key_that_somebody_writes_while_tidy_removes_it_is_not_stored() {
    let mount = Mount::start().await.configured().await.without_lag();
    let (operator, _) = library::admin(&mount);
    let name = tagged(&mount, "vault-admin-stray123").await;
    let stray = operator.create_admin_key(&name, None).await.unwrap();
    let slow = Action::delay(Duration::from_millis(500));
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, slow).times(1));
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    let is_removed = async || (mount.sim.faults_left() == 0).then_some(());
    eventually("the key is being removed", is_removed).await;
    for (path, field) in [("config/rotate-admin-key", "new_admin_api_key"), ("config", "admin_api_key")] {
        mount.write(path, json!({field: stray.value.expose()})).await.refused("error validating");
    }
    assert_eq!(ended(&mount).await["removed"], 1);
    assert!(mount.storage_text("config").contains(mount.sim.admin_key()));
    mount.finish().await;
}

#[tokio::test]
async fn a_run_goes_on_with_the_key_and_the_settings_that_came_meanwhile() {
    let mount = mount().await.without_lag();
    let names = [tagged(&mount, "vault-app-one12345").await, tagged(&mount, "vault-app-two12345").await];
    for name in &names {
        mount.seed(name, true);
    }
    mount.advance(DAY * 2);
    // The run looks for the owner of the first account.
    mount.watched.hold(Access::Read, "account-owner/");
    mount.write("tidy", json!({"dry_run": false})).await.done();
    mount.watched.held().await;
    mount.write("config", json!({"max_requests_per_minute": 600})).await.done();
    mount.write("config/rotate", json!({})).await.done();
    mount.watched.release();
    let status = ended(&mount).await;
    assert_eq!((&status["removed"], &status["failed"]), (&json!(2), &json!(0)), "{status}");
    assert_eq!(accounts(&mount), Vec::<String>::new());
    assert_eq!(mount.read("health").await.json()["reasons"], json!([]));
    mount.finish().await;
}
