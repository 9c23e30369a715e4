//! Revocations that tell the truth, and what becomes of those that have to wait.

use std::sync::Arc;
use std::time::Duration;

use openai_secrets::logical::{Kind, Operation};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Simulator, endpoint};
use crate::support::api::exchange;
use crate::support::storage::CrashPoint;
use crate::support::wait::eventually;
use crate::support::{Granted, Mount};

const MINUTE: Duration = Duration::from_secs(60);
/// A lease of an hour, its key's margin, and what clocks may differ by.
const UNTIL_DEAD: Duration = Duration::from_secs(3600 + 60 + 6);

async fn start() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({"ttl": "1h"})).await
}

async fn start_queueing() -> Mount {
    let mount = start().await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    mount
}

async fn lease(mount: &Mount) -> Granted {
    mount.read("creds/app").await.lease().clone()
}

/// OpenAI's answer to a deletion cannot be read: it is neither done nor to be repeated at once.
fn break_deletions(mount: &Mount) {
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html));
}

fn accounts(mount: &Mount) -> usize {
    mount.sim.state().accounts.len()
}

fn on_record(mount: &Mount) -> usize {
    mount.stored("ledger/").len()
}

/// Everything at OpenAI and on record is gone after some ticks.
async fn ends(mount: &Mount, story: &str) {
    mount.sim.clear_faults();
    for _ in 0..3 {
        mount.advance(MINUTE * 16);
        mount.tick_now().await.done();
    }
    assert_eq!((accounts(mount), on_record(mount)), (0, 0), "{story}");
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new(), "{story}");
}

/// OpenAI's answer to a key that is dead or never was a key.
fn dead_key() -> Action {
    let error =
        json!({"message": "no", "type": "invalid_request_error", "param": null, "code": "invalid_api_key"});
    Action::status_with(401, json!({"error": error}))
}

#[tokio::test]
async fn a_revocation_leaves_nothing_and_may_be_repeated() {
    let mount = start().await;
    let lease = lease(&mount).await;
    for _ in 0..2 {
        mount.revoke(&lease).await.nothing();
        assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
    }
    mount.finish().await;
}

#[tokio::test]
async fn what_lives_is_not_told_dead_and_waits_on_record() {
    let mount = start().await;
    let lease = lease(&mount).await;
    break_deletions(&mount);
    mount.revoke(&lease).await.failed(Kind::Internal, "revocation failed");
    assert!(mount.sim.state().is_live(&lease.api_key));

    let listed = mount.list("revocations").await;
    let name = &listed.keys()[0];
    let info = &listed.json()["key_info"][name];
    assert_eq!(
        (&info["role"], &info["failures"], &info["key_dead"]),
        (&json!("app"), &json!(1), &json!(false))
    );
    assert!(info["last_error"].as_str().unwrap().contains("cannot be read"), "{info}");
    assert!(info["retry_at"].as_str().unwrap() > info["since"].as_str().unwrap(), "{info}");
    assert_eq!(mount.read(&format!("revocations/{name}")).await.json(), *info);

    // Vault tries again: still the truth, still one record.
    mount.revoke(&lease).await.failed(Kind::Internal, "revocation failed");
    assert_eq!(on_record(&mount), 1);
    // And should Vault give up, the tick does not.
    mount.sim.clear_faults();
    mount.restart().await;
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
    mount.revoke(&lease).await.nothing();
    mount.read(&format!("revocations/{name}")).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn an_expired_key_is_dead_whatever_openai_says_and_its_account_goes_later() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.sim.fault(Fault::everywhere(Action::Drop));
    mount.advance(UNTIL_DEAD);
    mount.revoke(&lease).await.nothing();
    assert_eq!((accounts(&mount), on_record(&mount)), (1, 1));
    let listed = mount.list("revocations").await;
    assert_eq!(listed.json()["key_info"][&listed.keys()[0]]["key_dead"], true);
    mount.sim.clear_faults();
    mount.advance(MINUTE * 3);
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
    mount.finish().await;
}

#[tokio::test]
async fn a_key_without_an_expiry_is_dead_only_when_it_is_deleted() {
    let mount = start().await;
    let address = mount.sim.origin().trim_start_matches("http://").parse().unwrap();
    let bearer = format!("Bearer {}", mount.sim.admin_key());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = format!("/v1/organization/projects/{}/service_accounts", mount.sim.project());
    let made = exchange(address, "POST", &path, &headers, Some(json!({"name": "made"}))).await.unwrap();
    let mut made = made.ok().body.clone();
    made["api_key"].as_object_mut().unwrap().remove("expires_at").unwrap();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status_with(200, made)).times(1));
    let issued = mount.read("creds/app").await;
    assert_eq!(issued.text("expires_at"), "", "OpenAI named none");
    let lease = issued.lease().clone();
    mount.sim.fault(Fault::everywhere(Action::Drop));
    mount.advance(UNTIL_DEAD);
    mount.revoke(&lease).await.error();
    assert!(mount.sim.state().is_live(&issued.text("api_key")));
    ends(&mount, "deleted when OpenAI is back").await;
    mount.finish().await;
}

#[tokio::test]
async fn what_no_lease_asks_for_goes_after_its_end() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.lose(&lease);
    mount.advance(Duration::from_secs(3600));
    mount.tick().await.done();
    assert_eq!(accounts(&mount), 1, "Vault's own revocation comes first");
    mount.advance(MINUTE * 4);
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

#[tokio::test]
async fn queue_mode_answers_when_it_is_on_record() {
    let mount = start_queueing().await;
    let lease = lease(&mount).await;
    break_deletions(&mount);
    mount.revoke(&lease).await.nothing();
    assert!(mount.sim.state().is_live(&lease.api_key));
    assert_eq!(mount.list("revocations").await.keys().len(), 1);
    ends(&mount, "queued").await;
}

#[tokio::test]
async fn queue_mode_begins_at_once() {
    let mount = start_queueing().await;
    let leases = [lease(&mount).await, lease(&mount).await, lease(&mount).await];
    for lease in &leases {
        mount.revoke(lease).await.nothing();
    }
    // No tick is needed. What came while a pass was ending may be left to the next one.
    for _ in 0..500 {
        if accounts(&mount) == 0 && on_record(&mount) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

#[tokio::test]
async fn nothing_is_put_off_when_the_mount_goes_away() {
    let mount = start_queueing().await;
    let (alive, dead) = (lease(&mount).await, lease(&mount).await);
    mount.host.set_tainted(true);
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
    mount.revoke(&alive).await.failed(Kind::Internal, "revocation failed");
    mount.revoke(&alive).await.nothing();
    mount.advance(UNTIL_DEAD);
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(503)));
    mount.revoke(&dead).await.failed(Kind::Status(503), "revocation failed");
    mount.sim.remove_fault(fault);
    mount.revoke(&dead).await.nothing();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

#[tokio::test]
async fn the_last_tick_of_a_mount_tries_what_failed_a_moment_ago() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
    mount.revoke(&lease).await.failed(Kind::Internal, "revocation failed");
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (1, 1), "it is left alone for a while");
    mount.host.set_tainted(true);
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

#[tokio::test]
async fn an_unconfigured_mount_goes_away_when_its_keys_are_dead() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.delete_by_force("config").await.done();
    mount.host.set_tainted(true);
    mount.revoke(&lease).await.failed(Kind::Internal, "OpenAI client not configured");
    mount.advance(UNTIL_DEAD);
    mount.revoke(&lease).await.nothing();
    mount.abandon();
}

#[tokio::test]
async fn without_a_configuration_a_key_is_dead_when_it_has_expired() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.delete_by_force("config").await.done();
    mount.revoke(&lease).await.failed(Kind::Internal, "OpenAI client not configured");
    mount.advance(UNTIL_DEAD);
    mount.revoke(&lease).await.nothing();
    mount.tick().await.done();
    let listed = mount.list("revocations").await;
    let info = listed.json()["key_info"][&listed.keys()[0]].clone();
    assert!(info["last_error"].as_str().unwrap().contains("not configured"), "{info}");
    mount.write("config", mount.config()).await.done();
    ends(&mount, "configured again").await;
}

#[tokio::test]
async fn another_organizations_404_proves_nothing() {
    let mount = start().await;
    let lease = lease(&mount).await;
    let other = Simulator::start().await;
    let elsewhere = json!({"admin_api_key": other.admin_key(), "organization_id": other.organization(),
        "api_endpoint": other.url()});
    mount.write("config", elsewhere).await.done();
    mount.revoke(&lease).await.failed(Kind::Internal, "belongs to organization");
    assert_eq!(other.calls(endpoint::DELETE_ACCOUNT), 0);
    mount.advance(UNTIL_DEAD);
    mount.revoke(&lease).await.nothing();
    let listed = mount.list("revocations").await;
    let info = &listed.json()["key_info"][&listed.keys()[0]];
    assert!(info["last_error"].as_str().unwrap().contains("belongs to organization"), "{info}");
    assert_eq!(on_record(&mount), 1);
    mount.write("config", mount.config()).await.done();
    ends(&mount, "back again").await;
}

#[tokio::test]
async fn one_that_fails_stops_nobody_and_is_left_alone_for_a_while() {
    let mount = start().await;
    let mut names = Vec::new();
    for _ in 0..20 {
        let lease = lease(&mount).await;
        names.push(lease.internal["service_account_id"].as_str().unwrap().to_owned());
        mount.lose(&lease);
    }
    mount.advance(UNTIL_DEAD + MINUTE * 5);
    let stubborn = endpoint::DELETE_ACCOUNT.replace("{service_account_id}", &names[3]);
    mount.sim.fault(Fault::on(&stubborn, Action::Html));
    assert!(mount.tick().await.error().message().contains("revocation failed"));
    assert_eq!((accounts(&mount), on_record(&mount)), (1, 1));
    let calls = mount.sim.state().all_calls();
    mount.tick().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls);
    ends(&mount, "the stubborn one").await;
}

#[tokio::test]
async fn what_concerns_all_is_nobodys_failure() {
    let mount = start().await;
    for _ in 0..20 {
        mount.lose(&lease(&mount).await);
    }
    mount.advance(UNTIL_DEAD + MINUTE * 5);
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, dead_key()));
    assert!(mount.tick().await.answer.is_err());
    assert!(mount.sim.calls(endpoint::DELETE_ACCOUNT) <= 8, "a dead admin key is not tried on all");
    let listed = mount.list("revocations").await.json();
    for info in listed["key_info"].as_object().unwrap().values() {
        assert_eq!(info["failures"], 0);
        assert!(info["last_error"].as_str().unwrap().contains("HTTP 401"), "{info}");
    }
    mount.sim.remove_fault(fault);
    mount.tick().await.done();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

#[tokio::test]
async fn an_operator_may_try_again_at_once() {
    let mount = start().await;
    let leases = [lease(&mount).await, lease(&mount).await, lease(&mount).await];
    break_deletions(&mount);
    for lease in &leases {
        let _failed = mount.revoke(lease).await;
    }
    let names = mount.list("revocations").await.keys();
    let retry = format!("revocations/{}/retry", names[0]);
    mount.write(&retry, json!({})).await.failed(Kind::Internal, "revocation failed");
    assert_eq!(mount.read(&format!("revocations/{}", names[0])).await.json()["failures"], 2);
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&tried["removed"], &tried["failed"], &tried["waiting"]), (&json!(0), &json!(3), &json!(3)));
    mount.sim.clear_faults();
    mount.write(&retry, json!({})).await.nothing();
    assert_eq!(accounts(&mount), 2);
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!(tried, json!({"removed": 2, "failed": 0, "waiting": 0, "last_error": ""}));
    mount.write(&retry, json!({})).await.refused("not found");
    mount.read(&format!("revocations/{}", names[0])).await.nothing();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
}

/// A lease whose credential OpenAI took this long to create. The lease ends this much later than its ledger record.
async fn lease_made_slowly(mount: &Mount, takes: Duration) -> Granted {
    let delay = Action::delay(Duration::from_millis(200));
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, delay).times(1));
    let passes = async {
        while mount.sim.faults_left() > 0 {
            tokio::task::yield_now().await;
        }
        mount.advance(takes);
    };
    let (read, ()) = tokio::join!(mount.read("creds/app"), passes);
    read.lease().clone()
}

#[tokio::test]
async fn a_retry_ends_no_lease_that_still_runs() {
    let mount = start().await;
    let lease = lease_made_slowly(&mount, Duration::from_secs(80)).await;
    let name = lease.internal["name"].as_str().unwrap().to_owned();
    mount.advance(Duration::from_secs(3_595));
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&tried["removed"], &tried["failed"]), (&json!(0), &json!(0)));
    assert!(mount.sim.state().is_live(&lease.api_key), "the lease runs for 5 more seconds");
    mount
        .write(&format!("revocations/{name}/retry"), json!({}))
        .await
        .refused("lease of this credential may still run");
    assert!(mount.sim.state().is_live(&lease.api_key), "the lease runs for 5 more seconds");
    let told = mount.read(&format!("revocations/{name}")).await.json();
    assert!(told["retry_at"].as_str().unwrap() > told["since"].as_str().unwrap(), "{told}");
    mount.lose(&lease);
    mount.advance(MINUTE * 2);
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.nothing();
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
    mount.finish().await;
}

#[tokio::test]
async fn a_retry_that_openai_refuses_is_told_as_a_refusal_and_leaves_the_record() {
    let mount = start().await;
    let lease = lease(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(400)));
    let _failed = mount.revoke(&lease).await;
    let name = mount.list("revocations").await.keys().remove(0);
    let retry = format!("revocations/{name}/retry");
    mount.write(&retry, json!({})).await.refused("revocation failed: ");
    mount.sim.clear_faults();
    let before = mount.read(&format!("revocations/{name}")).await.json();
    assert_eq!((&before["key_dead"], &before["failures"]), (&json!(false), &json!(2)));
    // That the admin key is no good says nothing of this one.
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, dead_key()));
    mount.write(&retry, json!({})).await.failed(Kind::BadRequest, "HTTP 401");
    mount.sim.remove_fault(fault);
    assert_eq!(mount.read(&format!("revocations/{name}")).await.json(), before);
    assert!(mount.sim.state().is_live(&lease.api_key));
    ends(&mount, "refused, then not").await;
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let mount = start().await;
    for _ in 0..5 {
        mount.lose(&lease(&mount).await);
    }
    mount.advance(UNTIL_DEAD);
    let all = mount.list("revocations").await.keys();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let query = json!({"after": after, "limit": 2});
        let page = mount.ask(mount.request(Operation::List, "revocations/", query)).await;
        let keys = page.keys();
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        seen.extend(keys);
    }
    assert_eq!((seen.len(), &seen), (5, &all));
    ends(&mount, "listed").await;
}

/// The names after the one of this name.
async fn after(mount: &Mount, name: &str) -> Vec<String> {
    mount.ask(mount.request(Operation::List, "revocations/", json!({"after": name}))).await.keys()
}

#[tokio::test]
async fn a_page_goes_on_after_a_name_that_is_gone_meanwhile() {
    let mount = start().await.without_lag();
    let leases = [lease(&mount).await, lease(&mount).await, lease(&mount).await, lease(&mount).await];
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)));
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    for revoked in &leases[..2] {
        mount.revoke(revoked).await.done();
    }
    for lost in &leases[2..] {
        mount.lose(lost);
    }
    mount.advance(UNTIL_DEAD + MINUTE * 10);
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    for _ in 0..2 {
        mount.write("config/rotate", json!({})).await.done();
    }
    let all = mount.list("revocations").await.keys();
    assert_eq!(all.len(), 6, "{all:?}");
    mount.sim.clear_faults();
    for (number, name) in all.iter().enumerate() {
        assert_eq!(after(&mount, name).await, all[number + 1..], "{number}: {name} is there");
    }
    // The retry of an admin key ends all of them.
    for number in [0, 2, 3, 4, 5] {
        mount.write(&format!("revocations/{}/retry", all[number]), json!({})).await.done();
        let left = if number == 0 { &all[2..] } else { &all[number + 1..] };
        assert_eq!(after(&mount, &all[number]).await, left, "{number} is gone");
    }
    ends(&mount, "listed").await;
}

/// A request that revokes this lease.
fn revocation(mount: &Mount, lease: &Granted) -> openai_secrets::logical::Request {
    let mut request = mount.request(Operation::Revoke, "creds/app", json!({}));
    request.secret = Some(lease.secret(Duration::ZERO));
    request
}

#[tokio::test]
async fn dying_at_any_write_of_a_revocation_loses_nothing() {
    for (mode, broken) in [("strict", false), ("strict", true), ("queue", true)] {
        for death in [CrashPoint::Before, CrashPoint::After] {
            for number in 0.. {
                let mount = start().await;
                mount.write("config", json!({"revocation_mode": mode})).await.done();
                let lease = lease(&mount).await;
                if broken {
                    break_deletions(&mount);
                }
                let died = mount.killed(revocation(&mount, &lease), death(number)).await;
                let story = format!("{mode}, broken: {broken}, died at {:?}", death(number));
                // Vault may ask again, or have lost the lease.
                if number % 2 == 0 {
                    mount.sim.clear_faults();
                    // A 404 for what is younger proves nothing.
                    mount.advance(MINUTE * 2);
                    mount.revoke(&lease).await.nothing();
                } else {
                    mount.lose(&lease);
                }
                mount.advance(UNTIL_DEAD);
                ends(&mount, &story).await;
                if !died {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_write_that_fails_loses_nothing() {
    for mode in ["strict", "queue"] {
        for broken in [false, true] {
            for (put, delete) in [(true, false), (false, true), (true, true)] {
                let mount = start().await;
                mount.write("config", json!({"revocation_mode": mode})).await.done();
                let lease = lease(&mount).await;
                if broken {
                    break_deletions(&mount);
                }
                if put {
                    mount.storage.fail_put("ledger/");
                }
                if delete {
                    mount.storage.fail_delete("ledger/");
                }
                let answered = mount.revoke(&lease).await;
                if answered.answer.is_err() {
                    let _again = mount.revoke(&lease).await;
                }
                mount.lose(&lease);
                mount.advance(UNTIL_DEAD);
                mount.sim.clear_faults();
                let _first = mount.tick().await;
                ends(&mount, &format!("{mode}, broken: {broken}, put: {put}, delete: {delete}")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_whose_answer_was_lost_is_told_by_the_next_one() {
    let mount = start().await;
    for action in [Action::Drop, Action::Cut, Action::Html, Action::status(500)] {
        let lease = lease(&mount).await;
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, action).after_the_work().times(1));
        if mount.revoke(&lease).await.answer.is_err() {
            mount.revoke(&lease).await.nothing();
        }
        assert_eq!((accounts(&mount), on_record(&mount)), (0, 0));
    }
}

#[tokio::test]
async fn help_and_unknown_names() {
    let mount = start().await;
    mount.read("revocations/none").await.nothing();
    mount.write("revocations/none/retry", json!({})).await.refused("revocation \"none\" not found");
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    let help: Value = mount.help("revocations/x").await.json();
    assert!(help["help"].as_str().unwrap().contains("pending"));
}

#[tokio::test]
async fn many_passes_at_once_do_no_harm() {
    let mount = Arc::new(start_queueing().await);
    let mut leases = Vec::new();
    for _ in 0..40 {
        leases.push(lease(&mount).await);
    }
    let revoked = leases.iter().map(|lease| mount.revoke(lease));
    let retried = (0..4).map(|_| mount.write("revocations/retry", json!({})));
    let ticked = (0..4).map(|_| mount.tick());
    let (revoked, retried, ticked) = tokio::join!(
        futures_util::future::join_all(revoked),
        futures_util::future::join_all(retried),
        futures_util::future::join_all(ticked)
    );
    revoked.iter().for_each(crate::support::Answered::nothing);
    for answered in retried.iter().chain(&ticked) {
        answered.done();
    }
    ends(&mount, "many passes").await;
}

#[tokio::test]
async fn a_change_of_the_organization_is_not_forgotten_by_a_tick_during_a_pass() {
    let mount = start_queueing().await;
    let (first, second) = (lease(&mount).await, lease(&mount).await);
    let other = Simulator::start().await;
    let elsewhere = json!({"admin_api_key": other.admin_key(), "organization_id": other.organization(),
        "api_endpoint": other.url()});
    mount.write("config", elsewhere).await.done();
    mount.revoke(&first).await.done();
    let failures = async || {
        let listed = mount.list("revocations").await.json();
        listed["key_info"].as_object()?.values().next()?["failures"].as_i64().filter(|count| *count > 0)
    };
    eventually("the pass tries the record", failures).await;
    mount.write("config", mount.config()).await.done();
    let slow = Action::delay(Duration::from_millis(700));
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, slow).times(1));
    mount.revoke(&second).await.done();
    eventually("the pass is running", async || (mount.sim.faults_left() == 0).then_some(())).await;
    mount.tick().await.done();
    eventually("the pass is over", async || (on_record(&mount) < 2).then_some(())).await;
    for _ in 0..2 {
        mount.tick().await.done();
    }
    assert_eq!((accounts(&mount), on_record(&mount)), (0, 0), "its organization is in reach again");
    mount.finish().await;
}

/// OpenAI's 401 without a code.
fn unexplained() -> Action {
    let error = json!({"message": "no", "type": "invalid_request_error", "param": null, "code": null});
    Action::status_with(401, json!({"error": error}))
}

#[tokio::test]
async fn a_401_without_a_code_concerns_all_only_where_openai_refuses_other_calls_as_well() {
    let mount = start().await;
    for _ in 0..20 {
        mount.lose(&lease(&mount).await);
    }
    mount.advance(UNTIL_DEAD + MINUTE * 5);
    let everywhere = mount.sim.fault(Fault::everywhere(unexplained()));
    mount.read("config/check").await.done();
    assert!(mount.tick().await.answer.is_err());
    for info in mount.list("revocations").await.json()["key_info"].as_object().unwrap().values() {
        assert_eq!(info["failures"], 0, "{info}");
    }
    mount.sim.remove_fault(everywhere);
    mount.read("config/check").await.done();

    let first = mount.stored("ledger/").remove(0);
    let mut accounts_left = mount.sim.state().accounts.into_iter();
    let stubborn = accounts_left.find(|account| first.ends_with(&account.name)).expect("it is on record");
    let path = endpoint::DELETE_ACCOUNT.replace("{service_account_id}", &stubborn.id);
    mount.sim.fault(Fault::on(&path, unexplained()));
    assert!(mount.tick().await.answer.is_err());
    assert_eq!((accounts(&mount), on_record(&mount)), (1, 1), "it stops nobody else");
    ends(&mount, "a 401 without a code").await;
}
