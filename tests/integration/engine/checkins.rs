//! `check-in` and `admin-check-in`: by whom, of what, and what is dead when the answer comes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{self, SET, SETTLED};
use crate::support::wait::eventually;
use crate::support::{Answered, Mount};

const ONE_RETRY: Duration = Duration::from_secs(180);

fn path(verb: &str) -> String {
    format!("{SET}/{verb}")
}

async fn lent_to(mount: &Mount, entity: &str, token: &str) -> Answered {
    let lent = mount.as_caller(entity, token).write(&path("check-out"), json!({})).await;
    lent.done();
    lent
}

async fn returned_by(mount: &Mount, entity: &str, token: &str, body: Value) -> Answered {
    mount.as_caller(entity, token).write(&path("check-in"), body).await
}

#[tokio::test]
async fn the_key_is_dead_when_the_answer_comes() {
    let mount = library::mount_with("a").await;
    for (verb, message) in [
        ("check-in", "Service account checked in and API key rotated."),
        ("checkin", "Service account checked in and API key rotated."),
        ("admin-check-in", "Service account forcibly checked in and API key rotated."),
        ("admin-checkin", "Service account forcibly checked in and API key rotated."),
    ] {
        let lent = library::check_out(&mount).await;
        let body = json!({"service_account_id": lent.text("service_account_id")});
        let answer = mount.write(&path(verb), body).await;
        assert_eq!(answer.json(), json!({"message": message}));
        assert!(!mount.sim.state().is_live(&lent.text("api_key")));
        library::assert_at_rest(&mount, &["a"]).await;
        mount.revoke(lent.lease()).await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn only_the_borrower_may_check_in() {
    // (borrower, caller, whether the caller may)
    for (borrower, caller, may) in [
        (("e1", "t1"), ("e1", "t2"), true),
        (("e1", "t1"), ("e2", "t1"), false),
        (("e1", "t1"), ("", "t1"), false),
        (("", "t1"), ("", "t1"), true),
        (("", "t1"), ("", "t2"), false),
        (("", ""), ("", ""), false),
    ] {
        let mount = library::mount_with("a").await;
        let lent = lent_to(&mount, borrower.0, borrower.1).await;
        let body = json!({"service_account_id": lent.text("service_account_id")});
        let answer = returned_by(&mount, caller.0, caller.1, body).await;
        if may {
            answer.done();
        } else {
            answer.refused("service account a is checked out by somebody else");
            assert!(mount.sim.state().is_live(&lent.text("api_key")));
        }
        mount.finish().await;
    }
}

#[tokio::test]
async fn anybody_may_where_the_set_says_so_and_an_operator_always() {
    let mount = library::mount_with("a").await;
    let lent = lent_to(&mount, "e1", "t1").await;
    let body = json!({"service_account": "a"});
    returned_by(&mount, "e2", "t2", body.clone()).await.refused("by somebody else");
    mount.write(SET, json!({"disable_check_in_enforcement": true})).await.done();
    returned_by(&mount, "e2", "t2", body.clone()).await.done();
    mount.write(SET, json!({"disable_check_in_enforcement": false})).await.done();
    mount.revoke(lent.lease()).await.done();
    let _ = lent_to(&mount, "e1", "t1").await;
    mount.as_caller("e2", "t2").write(&path("admin-check-in"), body).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn who_has_just_one_need_not_say_which() {
    let mount = library::mount_with("a,b,c").await;
    returned_by(&mount, "e1", "t1", json!({}))
        .await
        .refused("you have no service account of library set pool");
    let _ = lent_to(&mount, "e2", "t2").await;
    let _ = lent_to(&mount, "e1", "t1").await;
    returned_by(&mount, "e1", "t1", json!({})).await.done();
    let _ = lent_to(&mount, "e1", "t1").await;
    let _ = lent_to(&mount, "e1", "t1").await;
    returned_by(&mount, "e1", "t1", json!({})).await.refused("you have b, c");
    mount.write(&path("admin-check-in"), json!({})).await.refused("must say which account");
    mount.finish().await;
}

#[tokio::test]
async fn what_is_free_or_unknown_is_not_checked_in() {
    let mount = library::mount_with("a,b").await;
    let ids: Vec<String> = mount.sim.state().accounts.into_iter().map(|account| account.id).collect();
    for verb in ["check-in", "admin-check-in"] {
        let ask = async |body: Value| mount.write(&path(verb), body).await;
        ask(json!({"service_account_id": ids[0]})).await.refused("service account a is not checked out");
        ask(json!({"service_account": "z"})).await.refused("library set pool has no service account \"z\"");
        ask(json!({"service_account_id": ids[0], "service_account": "b"})).await.refused("the same account");
    }
    mount.write("library-sets/none/check-in", json!({})).await.refused("library set \"none\" not found");
    mount.finish().await;
}

#[tokio::test]
async fn a_check_in_that_openai_fails_leaves_the_account_returning_until_the_tick_ends_its_key() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(2));
    library::check_in(&mount, &lent).await.refused("service account a is not free yet and is tried again");
    mount.write(&path("check-out"), json!({})).await.refused("no available service accounts in library");
    mount.renew(lent.lease(), Duration::ZERO).await.refused("this check-out is over");
    let status = mount.read(&path("status")).await.json();
    assert_eq!([&status["returning_accounts"], &status["checked_out_accounts"]], [&json!(1), &json!(0)]);
    assert!(status["check_outs"]["a"]["last_error"].as_str().unwrap().contains("revocation failed"));
    library::check_in(&mount, &lent).await.refused("is not free yet");
    mount.advance(ONE_RETRY);
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn retries_come_later_each_time_and_cost_a_call_each() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    library::check_in(&mount, &lent).await.error();
    for _ in 0..120 {
        mount.advance(Duration::from_secs(60));
        mount.tick().await.done();
    }
    let calls = mount.sim.calls(endpoint::DELETE_KEY);
    assert!((8..=16).contains(&calls), "{calls} calls in two hours");
    mount.sim.clear_faults();
    mount.advance(SETTLED);
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_expired_key_counts_as_dead() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    library::check_in(&mount, &lent).await.error();
    mount.advance(Duration::from_secs(25 * 3600));
    mount.revoke(lent.lease()).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_revocation_that_openai_fails_says_so_and_a_later_one_ends_it() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(1));
    mount.revoke(lent.lease()).await.failed(openai_secrets::logical::Kind::Internal, "revocation failed");
    assert_eq!(library::status(&mount).await, json!({"a": "returning"}));
    mount.revoke(lent.lease()).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn in_queue_mode_a_lease_ends_at_once_and_its_key_as_openai_allows() {
    let mount = library::mount_with("a").await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    let lent = library::check_out(&mount).await;
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.revoke(lent.lease()).await.nothing();
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    mount.write(&path("check-out"), json!({})).await.refused("no available service accounts in library");

    let (name, info) = eventually("the end of its key was tried", async || {
        let listed = mount.list("revocations").await.json();
        let info = listed["key_info"][listed["keys"][0].as_str()?].clone();
        (info["failures"] == 1).then_some((listed["keys"][0].as_str()?.to_owned(), info))
    })
    .await;
    assert_eq!([&info["role"], &info["key_dead"]], [&json!("pool"), &json!(false)], "{info}");
    assert_eq!(info["service_account_id"], lent.text("service_account_id"));
    assert!(info["last_error"].as_str().unwrap().contains("revocation failed"), "{info}");
    assert_eq!(mount.read(&format!("revocations/{name}")).await.json(), info);

    let retry = format!("revocations/{name}/retry");
    mount.write(&retry, json!({})).await.refused("revocation failed");
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&tried["removed"], &tried["failed"], &tried["waiting"]), (&json!(0), &json!(1), &json!(1)));
    mount.sim.remove_fault(fault);
    mount.write(&retry, json!({})).await.nothing();
    library::assert_at_rest(&mount, &["a"]).await;
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn in_queue_mode_a_check_in_still_answers_when_the_key_is_dead() {
    let mount = library::mount_with("a").await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    let lent = library::check_out(&mount).await;
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    library::check_in(&mount, &lent).await.refused("is not free yet");
    mount.sim.remove_fault(fault);
    // What was asked for and not done is done by the tick, though nobody asks again.
    mount.advance(ONE_RETRY);
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
}

#[tokio::test]
async fn nothing_lent_is_put_off_when_the_mount_goes_away() {
    let mount = library::mount_with("a").await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    let lent = library::check_out(&mount).await;
    mount.host.set_tainted(true);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(1));
    mount.revoke(lent.lease()).await.failed(openai_secrets::logical::Kind::Internal, "revocation failed");
    mount.revoke(lent.lease()).await.nothing();
    assert!(!mount.sim.state().is_live(&lent.text("api_key")));
}

#[tokio::test]
async fn a_list_of_what_waits_goes_on_from_loans_to_credentials() {
    let mount = library::mount_with("a,b").await.with_role(json!({})).await;
    let loans = [library::check_out(&mount).await, library::check_out(&mount).await];
    let credentials = [mount.read("creds/app").await, mount.read("creds/app").await];
    mount.sim.fault(Fault::everywhere(Action::Html));
    for lease in loans.iter().chain(&credentials) {
        mount.revoke(lease.lease()).await.error();
    }
    let all = mount.list("revocations").await.keys();
    assert_eq!(all.len(), 4);
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let query = json!({"after": after, "limit": 1});
        let page =
            mount.ask(mount.request(openai_secrets::logical::Operation::List, "revocations/", query)).await;
        let keys = page.keys();
        let Some(last) = keys.last() else { break };
        assert_eq!(keys.len(), 1);
        after.clone_from(last);
        seen.extend(keys);
    }
    assert_eq!(seen, all);
    mount.sim.clear_faults();
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&tried["removed"], &tried["waiting"]), (&json!(4), &json!(0)), "{tried}");
    mount.finish().await;
}

#[tokio::test]
async fn a_key_or_account_that_is_gone_already_is_as_good_as_ended() {
    let mount = library::mount_with("a").await.without_lag();
    let lent = library::check_out(&mount).await;
    library::delete_account(&mount, &lent.text("service_account_id")).await;
    // A 404 for what is younger proves nothing.
    mount.advance(Duration::from_secs(120));
    library::check_in(&mount, &lent).await.done();
    assert_eq!(library::status(&mount).await, json!({"a": "available"}));
    mount.delete(SET).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_proxys_404_is_no_proof_that_the_key_is_dead() {
    let mount = library::mount_with("a").await.without_lag();
    let lent = library::check_out(&mount).await;
    mount
        .sim
        .fault(Fault::on(endpoint::DELETE_KEY, Action::status_with(404, "<html>not here</html>")).times(2));
    library::check_in(&mount, &lent).await.done();
    assert_eq!(mount.sim.calls(endpoint::DELETE_KEY), 3);
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn two_returns_at_once_are_one() {
    let mount = library::mount_with("a").await;
    mount.sim.latency(Duration::from_millis(20));
    let lent = library::check_out(&mount).await;
    let (check_in, revoke) = tokio::join!(library::check_in(&mount, &lent), mount.revoke(lent.lease()));
    check_in.done();
    revoke.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_is_being_checked_out_is_not_checked_in() {
    let mount = library::mount_with("a").await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::delay(Duration::from_millis(300))).times(1));
    let check_in = async {
        eventually("the key is being made", async || (mount.sim.faults_left() == 0).then_some(())).await;
        mount.write(&path("check-in"), json!({})).await.refused("you have no service account");
        for verb in ["check-in", "admin-check-in"] {
            let by_name = mount.write(&path(verb), json!({"service_account": "a"})).await;
            by_name.refused("is being checked out at this moment");
        }
    };
    let (lent, ()) = tokio::join!(library::check_out(&mount), check_in);
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    library::check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn who_has_one_besides_what_is_returning_need_not_say_which() {
    let mount = library::mount_with("a,b").await.without_lag();
    let (first, second) = (library::check_out(&mount).await, library::check_out(&mount).await);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(1));
    library::check_in(&mount, &first).await.refused("is not free yet");
    mount.write(&path("check-in"), json!({})).await.done();
    assert!(!mount.sim.state().is_live(&second.text("api_key")));
    // The borrower has no other check-out than the one that is returning.
    mount.write(&path("check-in"), json!({})).await.done();
    library::assert_at_rest(&mount, &["a", "b"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_account_is_free_when_its_key_has_expired_however_often_its_deletion_failed() {
    let mount = library::mount_with("a").await;
    mount.write(SET, json!({"ttl": "10m", "max_ttl": "10m"})).await.done();
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    for _ in 0..8 {
        library::check_in(&mount, &lent).await.error();
    }
    mount.advance(Duration::from_secs(11 * 60));
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await["a"], "available");
    mount.finish().await;
}

/// Somebody gave an account the id of another account as its name.
#[tokio::test]
async fn an_id_means_the_account_of_this_id_and_no_other_of_this_name() {
    let mount = library::mount().await.without_lag();
    let second = mount.seed("second", false).id;
    mount.seed(&second, false);
    let names = json!([second, "second"]);
    mount.write(SET, json!({"project": "research", "service_account_names": names})).await.done();
    let lent = library::check_out(&mount).await;
    let other = library::check_out(&mount).await;
    assert_eq!([&lent, &other].map(|it| it.text("service_account")), [&second, "second"]);
    let by_id = json!({"service_account_id": second});
    mount.write(&format!("{SET}/admin-check-in"), by_id).await.done();
    let state = mount.sim.state();
    assert!(state.is_live(&lent.text("api_key")) && !state.is_live(&other.text("api_key")));
    mount.abandon();
}
