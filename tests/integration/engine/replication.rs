//! A replicated mount on Vault Enterprise: what the active node of a performance secondary does by itself, in its local
//! storage, and what it leaves to the primary.

use std::time::Duration;

use openai_secrets::logical::{Entry, Kind, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library;
use crate::support::mount::PROJECT;

const PATH: &str = "creds/app";
const HOUR: Duration = Duration::from_secs(3_600);
const READ_ONLY: &str = "cannot write to readonly storage";

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({})).await
}

#[tokio::test]
async fn a_secondary_issues_and_revokes_credentials_by_itself() {
    let mount = mount().await;
    mount.set_secondary(true);
    for made in [mount.read(PATH).await, mount.write(PATH, json!({"ttl": 600})).await] {
        assert!(mount.sim.state().is_live(&made.text("api_key")));
        mount.revoke(made.lease()).await.done();
        assert!(!mount.sim.state().is_live(&made.text("api_key")));
    }
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_secondary_forwards_whatever_writes_replicated_storage() {
    let mount = library::mount_with("a").await.with_role(json!({})).await;
    mount.set_secondary(true);
    let calls = mount.sim.state().all_calls();
    for (path, body) in [
        ("roles/other", json!({"project": PROJECT})),
        ("config/rotate", json!({})),
        ("library-sets/pool/check-out", json!({})),
        ("static-roles/s", json!({"project": PROJECT, "service_account_id": "svc_acct_1"})),
        ("tidy", json!({})),
    ] {
        mount.write(path, body).await.failed(Kind::ReadOnly, READ_ONLY);
    }
    mount.delete("config").await.failed(Kind::ReadOnly, READ_ONLY);
    assert_eq!(mount.sim.state().all_calls(), calls);
}

#[tokio::test]
async fn a_secondary_works_off_its_own_ledger() {
    let mount = mount().await;
    mount.set_secondary(true);
    let lost = mount.read(PATH).await;
    mount.lose(lost.lease());
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_secondary_works_off_what_is_queued_there() {
    let mount = mount().await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    mount.set_secondary(true);
    let made = mount.read(PATH).await;
    let outage = Fault::on(endpoint::DELETE_ACCOUNT, Action::status(503)).times(1);
    mount.sim.fault(outage);
    mount.revoke(made.lease()).await.done();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_cluster_that_was_demoted_works_off_the_ledger_of_its_time_as_primary() {
    let mount = mount().await;
    let lost = mount.read(PATH).await;
    mount.lose(lost.lease());
    mount.set_secondary(true);
    mount.restart().await;
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_secondarys_tick_leaves_to_the_primary_what_is_replicated() {
    let mount = library::mount_with("a").await;
    let seeded = mount.seed("worker", false);
    let role = json!({"project": PROJECT, "service_account_id": seeded.id, "rotation_period": 3_600});
    mount.write("static-roles/s", role).await.done();
    let lent = library::check_out(&mount).await;
    mount.lose(lent.lease());
    mount.advance(HOUR * 30);
    let (calls, stored) = (mount.sim.state().all_calls(), mount.storage.snapshot());
    mount.set_secondary(true);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls);
    assert_eq!(mount.storage.snapshot(), stored);
    mount.set_secondary(false);
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await["a"], "available");
    assert_ne!(mount.sim.state().all_calls(), calls);
}

#[tokio::test]
async fn a_standby_does_nothing_at_all() {
    let mount = mount().await;
    let lost = mount.read(PATH).await;
    mount.lose(lost.lease());
    mount.advance(HOUR * 2);
    let calls = mount.sim.state().all_calls();
    mount.host.set_performance_standby(true);
    mount.tick_now().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.host.set_performance_standby(false);
    mount.tick().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_key_of_a_check_out_dies_with_its_lease_on_a_secondary_too() {
    for queued in [false, true] {
        let mount = library::mount_with("a").await;
        if queued {
            mount.write("config", json!({"revocation_mode": "queue"})).await.done();
        }
        let lent = library::check_out(&mount).await;
        mount.set_secondary(true);
        mount.revoke(lent.lease()).await.done();
        assert!(!mount.sim.state().is_live(&lent.text("api_key")), "queued: {queued}");
        // Again, once the key is old enough for its absence to be believed.
        mount.advance(Duration::from_secs(120));
        mount.revoke(lent.lease()).await.done();
        // The loan is the primary's to end, and nobody gets the account before.
        mount.set_secondary(false);
        assert_eq!(library::status(&mount).await["a"], "checked-out");
        mount.advance(HOUR * 2);
        mount.tick().await.done();
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_check_outs_lease_that_a_secondary_cannot_end_is_no_success() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.set_secondary(true);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::final_status(500)));
    assert!(mount.revoke(lent.lease()).await.answer.is_err());
    mount.sim.clear_faults();
    mount.revoke(lent.lease()).await.done();
    assert!(!mount.sim.state().is_live(&lent.text("api_key")));
    mount.abandon();
}

#[tokio::test]
async fn a_renewal_on_a_secondary_is_forwarded_and_changes_nothing_there() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.set_secondary(true);
    mount.renew(lent.lease(), HOUR).await.failed(Kind::ReadOnly, READ_ONLY);
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    mount.set_secondary(false);
    mount.renew(lent.lease(), HOUR).await.done();
    library::check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn tidy_refuses_where_another_cluster_may_have_issued_what_it_finds() {
    let mount = mount().await;
    mount.host.set_performance_primary(true);
    for dry_run in [true, false] {
        mount.write("tidy", json!({"dry_run": dry_run})).await.refused("replicat");
    }
    mount.host.set_local_mount(true);
    mount.write("tidy", json!({})).await.done();
}

#[tokio::test]
async fn an_operator_of_a_secondary_retries_what_waits_there() {
    let mount = mount().await;
    mount.set_secondary(true);
    let lost = mount.read(PATH).await;
    mount.lose(lost.lease());
    mount.advance(HOUR * 2);
    let name = lost.text("service_account");
    assert_eq!(mount.list("revocations").await.keys(), std::slice::from_ref(&name));
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.done();
    assert!(mount.sim.state().accounts.is_empty());
    let lost = mount.read(PATH).await;
    mount.lose(lost.lease());
    mount.advance(HOUR * 2);
    let answer = mount.write("revocations/retry", json!({})).await;
    assert_eq!((&answer.json()["removed"], &answer.json()["failed"]), (&json!(1), &json!(0)));
    mount.finish().await;
}

#[tokio::test]
async fn a_loan_that_waits_is_the_primarys_to_retry() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::final_status(500)));
    assert!(library::check_in(&mount, &lent).await.answer.is_err());
    mount.sim.clear_faults();
    mount.set_secondary(true);
    let calls = mount.sim.state().all_calls();
    let answer = mount.write("revocations/retry", json!({})).await;
    assert_eq!((&answer.json()["failed"], &answer.json()["waiting"]), (&json!(0), &json!(1)));
    assert_eq!(mount.sim.state().all_calls(), calls);
    let name = mount.list("revocations").await.keys().remove(0);
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.failed(Kind::ReadOnly, READ_ONLY);
    mount.set_secondary(false);
    mount.write("revocations/retry", json!({})).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.revoke(lent.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_secondary_ends_the_key_that_a_lease_names_though_its_loan_does_not_name_it_yet() {
    let mount = library::mount_with("a").await.without_lag();
    let lent = library::check_out(&mount).await;
    mount.sim.use_key(&lent.text("api_key"));
    // The loan as the secondary still has it, from before the key.
    let key = mount.stored("library-loan/").remove(0);
    let entry = mount.storage.get(&key).await.unwrap().unwrap();
    let mut loan: Value = serde_json::from_slice(&entry.value).unwrap();
    (loan["state"], loan["api_key_id"]) = ("reserved".into(), Value::Null);
    mount.storage.put(Entry { value: loan.to_string().into(), ..entry }).await.unwrap();
    mount.set_secondary(true);
    mount.revoke(lent.lease()).await.done();
    assert!(!mount.sim.state().is_live(&lent.text("api_key")));
    mount.abandon();
}

#[tokio::test]
async fn a_check_out_whose_key_has_expired_is_over_on_a_secondary_whatever_openai_says() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.set_secondary(true);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.revoke(lent.lease()).await.error();
    mount.advance(HOUR * 25);
    mount.revoke(lent.lease()).await.done();
    mount.abandon();
}
