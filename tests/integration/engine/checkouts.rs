//! `library-sets/:name/check-out`: one borrower for each account, for as long as the lease is kept alive.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use openai_secrets::logical::{Kind, Operation, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Policy, endpoint};
use crate::support::library::{self, SET, SETTLED};
use crate::support::storage::CrashPoint;
use crate::support::{Answered, Mount};

const HOUR: Duration = Duration::from_secs(3600);

fn path(verb: &str) -> String {
    format!("{SET}/{verb}")
}

#[tokio::test]
async fn a_check_out_is_one_call_a_renewal_none_and_a_check_in_one() {
    let mount = library::mount_with("a,b").await.without_lag();
    let before = mount.sim.state();
    let lent = mount.write(&path("check-out"), json!({"ttl": "4h"})).await;
    let after = mount.sim.state();
    assert_eq!(after.all_calls() - before.all_calls(), 1);
    assert_eq!(after.calls(endpoint::CREATE_KEY), 1);
    mount.renew(lent.lease(), Duration::ZERO).await.done();
    assert_eq!(mount.sim.state().all_calls(), after.all_calls());
    library::check_in(&mount, &lent).await.done();
    let ended = mount.sim.state();
    assert_eq!(ended.all_calls() - after.all_calls(), 1);
    assert_eq!(ended.calls(endpoint::DELETE_KEY), 1);
    mount.revoke(lent.lease()).await.done();
    assert_eq!(mount.sim.state().all_calls(), ended.all_calls(), "its lease ends nothing more");
    library::assert_at_rest(&mount, &["a", "b"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_answers_with_a_key_of_its_own_that_expires_with_max_ttl() {
    let mount = library::mount_with("a,b").await;
    for (verb, name) in [("check-out", "a"), ("checkout", "b")] {
        let lent = mount.write(&path(verb), json!({"ttl": "4h"})).await;
        let state = mount.sim.state();
        let account = state.accounts.iter().find(|account| account.name == name).unwrap();
        let [key] = account.keys.as_slice() else { panic!("{:?}", account.keys) };
        assert_eq!(key.expires_at.unwrap() / 60, (state.now + 86_400) / 60);
        let mut answer = lent.json();
        assert!(answer["checkout_time"].take().as_str().unwrap().ends_with('Z'));
        let expected = json!({
            "api_key": key.value, "api_key_id": key.id, "service_account": name,
            "service_account_id": account.id, "checkout_time": null, "library_set": "pool",
            "project_id": mount.sim.project(), "custom_metadata": {},
        });
        assert_eq!(answer, expected);
        let lease = lent.lease();
        assert_eq!((lease.ttl, lease.max_ttl, lease.renewable), (4 * HOUR, 24 * HOUR, true));
    }
    mount.finish().await;
}

#[tokio::test]
async fn fifty_at_once_get_ten_accounts() {
    let names: Vec<String> = (0..10).map(|n| format!("sa-{n}")).collect();
    let mount = library::mount_with(&names.join(",")).await;
    mount.sim.latency(Duration::from_millis(20));
    let before = mount.sim.state().all_calls();
    let asked = (0..50).map(|_| mount.write("library-sets/pool/check-out", json!({})));
    let answers = futures_util::future::join_all(asked).await;
    let lent: Vec<_> = answers.iter().filter(|answer| answer.answer.is_ok()).collect();
    let accounts: BTreeSet<String> = lent.iter().map(|answer| answer.text("service_account_id")).collect();
    assert_eq!((lent.len(), accounts.len()), (10, 10));
    for refused in answers.iter().filter(|answer| answer.answer.is_err()) {
        refused.refused("no available service accounts in library");
    }
    assert_eq!(mount.sim.state().all_calls() - before, 10, "who gets none costs no call");
    mount.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_account_is_lent_twice_while_many_borrow_and_return() {
    let mount = library::mount_with("a,b,c").await;
    let held = std::sync::Mutex::new(BTreeSet::new());
    let borrower = async |round: usize| {
        let token = format!("token-{round}");
        for _ in 0..8 {
            let caller = mount.as_caller("", &token);
            let lent = caller.write("library-sets/pool/check-out", json!({})).await;
            if lent.answer.is_err() {
                tokio::task::yield_now().await;
                continue;
            }
            let id = lent.text("service_account_id");
            assert!(held.lock().unwrap().insert(id.clone()), "{id} was lent twice");
            tokio::task::yield_now().await;
            held.lock().unwrap().remove(&id);
            caller.write("library-sets/pool/check-in", json!({})).await.done();
            // Its lease is still in the book.
            mount.revoke(lent.lease()).await.done();
        }
    };
    futures_util::future::join_all((0..12).map(borrower)).await;
    library::assert_at_rest(&mount, &["a", "b", "c"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn one_account_can_be_asked_for_by_name_or_id() {
    let mount = library::mount_with("a,b").await;
    let id = mount.sim.state().accounts[1].id.clone();
    let ask =
        async |account: &str| mount.write(&path("check-out"), json!({"service_account": account})).await;
    assert_eq!(ask(&id).await.text("service_account"), "b");
    ask("b").await.refused("service account is already checked out");
    ask("z").await.refused("library set pool has no service account \"z\"");
    assert_eq!(ask("a").await.text("service_account"), "a");
    ask("").await.refused("no available service accounts in library");
    mount.finish().await;
}

#[tokio::test]
async fn a_ttl_is_within_the_set_and_the_mount() {
    let mount = library::mount_with("a,b").await;
    mount
        .write(&path("check-out"), json!({"ttl": "25h"}))
        .await
        .refused("ttl must not be above the library set's max_ttl: 25h is more than 24h");
    mount.write(&path("check-out"), json!({"ttl": 0})).await.refused("ttl must be at least 1s");
    mount.write("library-sets/none/check-out", json!({})).await.refused("library set \"none\" not found");
    mount.host.set_max_lease_ttl(Duration::from_secs(600));
    let lent = mount.write(&path("check-out"), json!({"ttl": "2h"})).await;
    assert_eq!((lent.lease().ttl.as_secs(), lent.lease().max_ttl.as_secs()), (600, 600));
    let state = mount.sim.state();
    let key = state.live_keys().next().unwrap();
    assert!(key.expires_at.unwrap() <= state.now + 600);
    assert_eq!(library::check_out(&mount).await.lease().ttl.as_secs(), 600);
    mount.finish().await;
}

#[tokio::test]
async fn renewals_go_on_up_to_max_ttl_and_no_longer() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    assert_eq!(lent.lease().ttl, HOUR);
    for _ in 0..23 {
        mount.advance(Duration::from_secs(58 * 60));
        mount.tick().await.done();
        let renewed = mount.renew(lent.lease(), Duration::ZERO).await;
        assert_eq!(renewed.lease.unwrap().max_ttl, 24 * HOUR);
        assert_eq!(library::status(&mount).await, json!({"a": "checked-out"}));
    }
    mount.advance(2 * HOUR);
    mount.renew(lent.lease(), Duration::ZERO).await.refused("it has lasted for max_ttl");
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn what_the_borrower_asks_a_renewal_for_counts() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.renew(lent.lease(), 10 * HOUR).await.done();
    mount.advance(9 * HOUR);
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await, json!({"a": "checked-out"}));
    mount.renew(lent.lease(), Duration::from_secs(60)).await.done();
    mount.lose(lent.lease());
    mount.advance(Duration::from_secs(300));
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_that_is_over_is_not_renewed() {
    let mount = library::mount_with("a").await;
    let first = library::check_out(&mount).await;
    library::check_in(&mount, &first).await.done();
    let second = library::check_out(&mount).await;
    mount.renew(first.lease(), Duration::ZERO).await.refused("this check-out is over");
    mount.renew(second.lease(), Duration::ZERO).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_end_of_a_lease_ends_its_own_check_out_only() {
    let mount = library::mount_with("a").await;
    let first = library::check_out(&mount).await;
    library::check_in(&mount, &first).await.done();
    let second = library::check_out(&mount).await;
    mount.revoke(first.lease()).await.done();
    assert!(mount.sim.state().is_live(&second.text("api_key")));
    mount.revoke(second.lease()).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.revoke(second.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_lease_may_outlive_its_set() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    library::check_in(&mount, &lent).await.done();
    mount.delete(SET).await.nothing();
    mount.revoke(lent.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_whose_lease_was_lost_is_returned_after_its_end() {
    let mount = library::mount_with("a").await;
    let lent = mount.write(&path("check-out"), json!({"ttl": "10m"})).await;
    mount.lose(lent.lease());
    for (minutes, expected) in [(6, "checked-out"), (5, "checked-out"), (4, "available")] {
        mount.advance(Duration::from_secs(minutes * 60));
        mount.tick().await.done();
        assert_eq!(library::status(&mount).await, json!({"a": expected}));
    }
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_nobody_waits_for_is_returned_at_once() {
    let mount = library::mount_with("a").await;
    let request = mount.request(Operation::Update, &path("check-out"), json!({}));
    request.cancelled.cancel();
    mount.ask(request).await.failed(Kind::Internal, "hung up");
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_refusal_of_openai_frees_the_account_at_once() {
    let mount = library::mount_with("a").await;
    for status in [400, 403, 429] {
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(status)).times(1));
        let answer = mount.write(&path("check-out"), json!({})).await;
        if status == 429 {
            // A limit is waited out.
            library::check_in(&mount, &answer).await.done();
            mount.revoke(answer.lease()).await.done();
        } else {
            answer.refused("API key creation failed");
        }
        library::assert_at_rest(&mount, &["a"]).await;
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_policy_about_the_life_of_keys_is_told_with_the_field_to_change() {
    let mount = library::mount_with("a").await;
    mount.sim.policy(Policy { max_lifetime: Some(3600), ..Policy::default() });
    let answer = mount.write(&path("check-out"), json!({})).await;
    answer.refused("lives for its max_ttl, which is 24h: change that");
    library::assert_at_rest(&mount, &["a"]).await;
    mount.write(SET, json!({"max_ttl": "1h"})).await.done();
    mount.write(&path("check-out"), json!({})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_answer_to_a_check_out_leaves_no_key() {
    for action in
        [Action::Drop, Action::Cut, Action::Html, Action::Empty, Action::Truncated, Action::status(500)]
    {
        for after in [true, false] {
            let mount = library::mount_with("a").await;
            let fault = Fault::on(endpoint::CREATE_KEY, action.clone()).times(1);
            mount.sim.fault(if after { fault.after_the_work() } else { fault });
            mount.write(&path("check-out"), json!({})).await.error();
            library::settle(&mount).await;
            library::assert_at_rest(&mount, &["a"]).await;
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn an_account_is_not_free_while_its_key_may_still_come_into_being() {
    let mount = library::mount_with("a").await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status(403)).times(1));
    mount.write(&path("check-out"), json!({})).await.refused("may have left at OpenAI is removed");
    assert_eq!(library::status(&mount).await, json!({"a": "returning"}));
    mount.write(&path("check-out"), json!({})).await.refused("no available service accounts in library");
    mount.advance(Duration::from_secs(7 * 60));
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_never_came_into_being_is_given_up_after_a_while() {
    let mount = library::mount_with("a").await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1));
    mount.write(&path("check-out"), json!({})).await.error();
    let id = mount.sim.state().accounts[0].id.clone();
    let force = json!({"service_account_id": id});
    mount.write(&path("admin-check-in"), force.clone()).await.refused("has not said yet");
    assert_eq!(library::status(&mount).await, json!({"a": "returning"}));
    mount.advance(Duration::from_secs(301));
    mount.write(&path("admin-check-in"), force).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

/// A check-out whose reservation is stored, and which waits for OpenAI.
async fn reserved(mount: &Mount) -> Pin<Box<impl Future<Output = Answered>>> {
    let mut check_out = Box::pin(async { mount.write(&path("check-out"), json!({})).await });
    while mount.stored("library-loan/").is_empty() {
        tokio::select! {
            biased;
            answer = &mut check_out => panic!("{answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    check_out
}

#[tokio::test]
async fn a_key_that_comes_after_its_reservation_was_taken_back_is_ended() {
    for key_list_fails in [false, true] {
        let mount = library::mount_with("a").await;
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::delay(Duration::from_millis(200))).times(1));
        if key_list_fails {
            mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status(403)).times(1));
        }
        let late = reserved(&mount).await;
        mount.advance(Duration::from_secs(400));
        mount.tick().await.done();
        let answer = late.await;
        answer.refused("this check-out is over: it took too long");
        assert_eq!(mount.sim.state().live_keys().count(), 0);
        library::settle(&mount).await;
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

/// OpenAI makes the key after the tick has taken the reservation back, and then the key cannot be deleted at once.
#[tokio::test]
async fn an_account_is_not_free_while_a_key_lives_that_came_too_late() {
    for is_answered in [true, false] {
        let mount = library::mount_with("a").await;
        let create_key = endpoint::CREATE_KEY;
        mount.sim.fault(Fault::on(create_key, Action::delay(Duration::from_millis(200))).times(1));
        if !is_answered {
            mount.sim.fault(Fault::on(create_key, Action::Drop).after_the_work().times(1));
        }
        let late = reserved(&mount).await;
        mount.advance(Duration::from_secs(400));
        mount.tick().await.done();
        assert!(mount.stored("library-loan/").is_empty(), "the reservation is taken back");
        mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
        late.await.refused("is removed within 10 minutes");
        assert_eq!(library::status(&mount).await, json!({"a": "returning"}), "{is_answered}");
        mount.sim.clear_faults();
        library::settle(&mount).await;
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

/// The answer to the creation is lost minutes after the reservation, and OpenAI lists the key some seconds later.
#[tokio::test]
async fn the_key_of_a_slow_check_out_is_awaited_from_its_failure_on() {
    let mount = library::mount_with("a").await;
    let create_key = endpoint::CREATE_KEY;
    mount.sim.fault(Fault::on(create_key, Action::delay(Duration::from_millis(200))).times(1));
    mount.sim.fault(Fault::on(create_key, Action::Drop).after_the_work().times(1));
    let empty = json!({"object": "list", "first_id": null, "last_id": null, "data": [], "has_more": false});
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::status_with(200, empty)));
    let late = reserved(&mount).await;
    mount.advance(Duration::from_secs(295));
    late.await.refused("is removed within 10 minutes");
    mount.advance(Duration::from_secs(15));
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await, json!({"a": "returning"}));
    mount.sim.clear_faults();
    library::settle(&mount).await;
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_account_deleted_at_openai_is_passed_over_and_the_rest_is_lent() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    library::delete_account(&mount, &id).await;
    // A 404 for what was made less than a minute ago would prove nothing.
    mount.advance(Duration::from_secs(120));
    let lent = library::check_out(&mount).await;
    assert_eq!(lent.text("service_account"), "b");
    assert!(lent.warnings()[0].contains("no longer has service account a"), "{:?}", lent.warnings());
    mount.write(&path("check-out"), json!({})).await.refused("API key creation failed");
    mount.write(&path("check-out"), json!({"service_account": "a"})).await.refused("API key creation failed");
    assert_eq!(library::status(&mount).await, json!({"a": "missing", "b": "checked-out"}));
    mount.write(SET, json!({"service_account_names": "b"})).await.nothing();
    mount.write(SET, json!({"service_account_names": "b,a"})).await.done();
    assert_eq!(library::check_out(&mount).await.text("service_account"), "a");
    mount.finish().await;
}

#[tokio::test]
async fn the_tick_goes_on_with_the_rest() {
    let mount = library::mount_with("a,b,c").await;
    let lent = [
        library::check_out(&mount).await,
        library::check_out(&mount).await,
        library::check_out(&mount).await,
    ];
    for lent in &lent {
        mount.lose(lent.lease());
    }
    library::delete_account(&mount, &lent[0].text("service_account_id")).await;
    let stuck = format!("DELETE /organization/projects/*/api_keys/{}", lent[1].text("api_key_id"));
    mount.sim.fault(Fault::on(&stuck, Action::status(403)).times(1));
    mount.advance(Duration::from_secs(360));
    mount.tick().await.done();
    mount.advance(HOUR);
    mount.tick().await.done();
    let status = library::status(&mount).await;
    assert_eq!(status, json!({"a": "available", "b": "returning", "c": "available"}));
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await["b"], json!("available"));
    mount.finish().await;
}

#[tokio::test]
async fn a_standby_asks_openai_for_nothing() {
    let mount = library::mount_with("a").await;
    let calls = mount.sim.state().all_calls();
    mount.host.set_performance_standby(true);
    for verb in ["check-out", "checkout", "check-in", "checkin", "admin-check-in", "admin-checkin"] {
        mount.write(&path(verb), json!({})).await.failed(Kind::ReadOnly, "");
    }
    assert_eq!(library::status(&mount).await, json!({"a": "available"}));
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.host.set_performance_standby(false);
    mount.finish().await;
}

#[tokio::test]
async fn the_status_says_who_since_and_until_and_never_a_key_or_a_token() {
    let mount = library::mount_with("a,b").await;
    let lent = mount.as_caller("entity-1", "token-1").write(&path("check-out"), json!({"ttl": "2h"})).await;
    let status = mount.read(&path("status")).await;
    let mut shown = status.json();
    let out = shown["check_outs"]["a"].take();
    assert_eq!(shown["account_status"], json!({"a": "checked-out", "b": "available"}));
    assert_eq!([&shown["available_accounts"], &shown["checked_out_accounts"]], [&json!(1), &json!(1)]);
    assert_eq!((&shown["max_ttl"], &shown["project"]), (&json!(86_400), &json!("research")));
    assert_eq!(out["entity_id"], "entity-1");
    assert_eq!(out["since"], lent.json()["checkout_time"]);
    let time = |field: &str| out[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!((time("until") - time("since")).num_seconds(), 7200);
    let everything = status.json().to_string() + &mount.storage_text("library");
    for secret in ["token-1", &lent.text("api_key")] {
        assert!(!everything.contains(secret));
    }
    assert!(!status.json().to_string().contains(&lent.text("api_key_id")));
    mount.read("library-sets/none/status").await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_lowered_max_ttl_binds_what_is_lent_already() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.write(SET, json!({"ttl": "30m", "max_ttl": "2h"})).await.done();
    mount.advance(Duration::from_secs(90 * 60));
    let renewed = mount.renew(lent.lease(), 10 * HOUR).await;
    assert_eq!(renewed.lease.unwrap().max_ttl, 2 * HOUR);
    let until = mount.read(&path("status")).await.json()["check_outs"]["a"]["until"].clone();
    let until: chrono::DateTime<chrono::Utc> = until.as_str().unwrap().parse().unwrap();
    assert!((until - mount.now()).num_minutes() <= 30, "{until}");
    mount.advance(Duration::from_secs(40 * 60));
    mount.renew(lent.lease(), Duration::ZERO).await.refused("it has lasted for max_ttl");
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    // A raised one gives no more than the key that was made.
    let lent = library::check_out(&mount).await;
    mount.write(SET, json!({"max_ttl": "9h"})).await.done();
    let renewed = mount.renew(lent.lease(), 10 * HOUR).await;
    assert_eq!(renewed.lease.unwrap().max_ttl, 2 * HOUR);
    mount.finish().await;
}

#[tokio::test]
async fn a_time_above_the_mounts_maximum_is_cut_with_a_warning() {
    let mount = library::mount_with("a").await;
    mount.host.set_max_lease_ttl(HOUR / 2);
    let lent = library::check_out(&mount).await;
    assert_eq!(lent.lease().ttl, HOUR / 2);
    let [warning] = lent.warnings() else { panic!("{:?}", lent.warnings()) };
    assert!(warning.contains("1h") && warning.contains("30m"), "{warning}");
    library::check_in(&mount, &lent).await.done();
    let lent = mount.write(&path("check-out"), json!({"ttl": "10m"})).await;
    assert!(lent.warnings().is_empty(), "{:?}", lent.warnings());

    let answer = mount.write(SET, json!({"max_ttl": "3h"})).await;
    let [warning] = answer.warnings() else { panic!("{:?}", answer.warnings()) };
    assert!(warning.contains("max_ttl of 3h") && warning.contains("30m"), "{warning}");
    mount.write(SET, json!({"max_ttl": "30m", "ttl": "30m"})).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_policy_about_the_life_of_keys_is_told_with_the_numbers_that_are_sent_and_set() {
    let mount = library::mount_with("a").await;
    mount.sim.policy(Policy { max_lifetime: Some(600), ..Policy::default() });
    mount.host.set_max_lease_ttl(HOUR);
    let answer = mount.write(&path("check-out"), json!({})).await;
    answer.refused("max_ttl, which is 24h");
    answer.refused("cut to 1h by the mount's maximum");
    mount.write(SET, json!({"ttl": "10m", "max_ttl": "20m"})).await.done();
    let answer = mount.write(&path("check-out"), json!({})).await;
    answer.refused("lives for its max_ttl, which is 20m: change that");
    assert!(!answer.error().message().contains("cut to"), "{:?}", answer.answer);
    mount.write(SET, json!({"max_ttl": "10m"})).await.done();
    mount.write(&path("check-out"), json!({})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_check_out_whose_answer_was_lost_with_the_process_comes_back_after_its_ttl_or_by_its_borrower() {
    for returned in [false, true] {
        let mount = library::mount_with("a").await;
        // The last write of a check-out is the loan's own; the process ends before its answer leaves.
        let mut number = 0;
        loop {
            let request = mount.request(Operation::Update, &path("check-out"), json!({"ttl": "10m"}));
            assert!(
                mount.killed(request, CrashPoint::After(number)).await,
                "no write stores a loan that is lent"
            );
            if mount.storage_text("library-loan/").contains("\"lent\"") {
                break;
            }
            library::settle(&mount).await;
            number += 1;
        }
        assert_eq!(library::status(&mount).await, json!({"a": "checked-out"}));
        if returned {
            mount.write(&path("check-in"), json!({})).await.done();
        } else {
            for (minutes, expected) in [(6, "checked-out"), (5, "checked-out"), (2, "available")] {
                mount.advance(Duration::from_secs(minutes * 60));
                mount.tick_immediately().await.done();
                assert_eq!(library::status(&mount).await, json!({"a": expected}));
            }
        }
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn every_path_of_a_set_has_help() {
    let mount = library::mount().await;
    for verb in ["", "/check-out", "/checkout", "/check-in", "/admin-check-in", "/status"] {
        let help = mount.help(&format!("library-sets/pool{verb}")).await.json();
        let Value::String(text) = &help["help"] else { panic!("{help}") };
        assert!(text.contains("library set") || text.contains("lent"), "{text}");
    }
    mount.finish().await;
}

/// As where OpenBao has moved the mount to another namespace.
#[tokio::test]
async fn a_set_that_only_the_memory_of_the_process_has_lends_nothing() {
    let mount = library::mount_with("a").await;
    mount.storage.delete("library-set/pool").await.unwrap();
    let calls = mount.sim.state().all_calls();
    mount.write(&path("check-out"), json!({})).await.refused("is not in the mount's storage any more");
    assert_eq!(mount.stored("library-loan/"), Vec::<String>::new());
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.abandon();
}
