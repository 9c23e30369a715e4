//! A loan stands under its own id until its key is dead: what that costs, and what a node that lost its term may still
//! do to it.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{self, SET};
use crate::support::storage::WriteOutcome;
use crate::support::wait::eventually;
use crate::support::{Answered, Mount};

/// The number of writes and deletions of storage in `work`.
async fn writes<T>(mount: &Mount, work: impl Future<Output = T>) -> (usize, T) {
    let count = || {
        let calls = mount.storage.calls();
        calls.puts + calls.deletes
    };
    let before = count();
    let done = work.await;
    (count() - before, done)
}

/// A check-out long after which the tick has looked at the loan.
async fn lent_for_long(mount: &Mount) -> Answered {
    let lent = library::check_out(mount).await;
    for _ in 0..2 {
        mount.advance(Duration::from_secs(400));
        mount.tick().await.done();
    }
    lent
}

#[tokio::test]
async fn a_check_out_and_a_check_in_write_three_times_each() {
    let mount = library::mount_with("a").await;
    let (count, lent) = writes(&mount, library::check_out(&mount)).await;
    assert_eq!(count, 3, "check-out: marker, reservation, loan");
    let (count, answer) = writes(&mount, library::check_in(&mount, &lent)).await;
    answer.done();
    assert_eq!(count, 3, "check-in: marker, return, its end");

    let lent = lent_for_long(&mount).await;
    mount.advance(Duration::from_secs(3600));
    let (count, answer) = writes(&mount, mount.revoke(lent.lease())).await;
    answer.done();
    assert_eq!(count, 3, "revocation: marker, return, its end");
    mount.finish().await;
}

#[tokio::test]
async fn a_marker_that_nothing_needs_goes_with_the_tick_of_its_minute() {
    let mount = library::mount_with("a").await;
    let lent = lent_for_long(&mount).await;
    library::check_in(&mount, &lent).await.done();
    for _ in 0..5 {
        mount.advance(Duration::from_secs(15 * 60));
        mount.tick().await.done();
    }
    assert_eq!(mount.stored("due/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_late_deletion_by_a_node_that_lost_its_term_frees_no_account_that_the_next_one_lent() {
    let mount = library::mount_with("a").await;
    let first = library::check_out(&mount).await;
    // A 404 for what is younger proves nothing.
    mount.advance(Duration::from_secs(100));
    mount.watched.set_write_outcomes("library-loan/", &[WriteOutcome::Done, WriteOutcome::Late]);
    // Its first write begins the return, and is reported as failed; the second frees the account.
    library::check_in(&mount, &first).await.error();
    library::check_in(&mount, &first).await.error();
    mount.restart().await;
    library::check_in(&mount, &first).await.done();
    let second = library::check_out(&mount).await;
    mount.watched.commit_late_writes().await;
    assert_eq!(library::status(&mount).await["a"], "checked-out");
    mount.write(&format!("{SET}/check-out"), json!({})).await.refused("no available service accounts");
    assert!(mount.sim.state().is_live(&second.text("api_key")));
    library::check_in(&mount, &second).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

/// Puts the only loan where the release before kept it.
async fn as_before(mount: &Mount) {
    let [key] = &mount.stored("library-loan/")[..] else { panic!("one loan") };
    let mut loan: Value =
        serde_json::from_slice(&mount.storage.get(key).await.unwrap().unwrap().value).unwrap();
    loan["due"] = loan["since"].clone();
    let value = loan.to_string().into_bytes();
    let old = key.rsplit_once('/').unwrap().0.to_owned();
    mount.storage.delete(key).await.unwrap();
    mount.storage.put(Entry { key: old, value, seal_wrap: false }).await.unwrap();
    for marker in mount.stored("due/").into_iter().filter(|key| key.contains("/loan:")) {
        mount.storage.delete(&marker).await.unwrap();
        let place: Vec<&str> = marker.split('/').collect();
        let key = format!("library-due/{}/{}/{}", place[1], place[2], loan["id"].as_str().unwrap());
        let value = json!({"version": 1, "set": "pool", "service_account_id": loan["account"]["id"]});
        mount.storage.put(Entry { key, value: value.to_string().into(), seal_wrap: false }).await.unwrap();
    }
    mount.restart().await;
}

#[tokio::test]
async fn a_loan_of_the_release_before_is_taken_and_ends_in_every_way() {
    for way in ["check-in", "check-in after a tick", "revocation", "renewal", "lost lease"] {
        let mount = library::mount_with("a").await;
        let lent = library::check_out(&mount).await;
        as_before(&mount).await;
        assert_eq!(library::status(&mount).await["a"], "checked-out", "{way}");
        mount.write(&format!("{SET}/check-out"), json!({})).await.refused("no available service accounts");
        mount.delete(SET).await.refused("must be checked in first");
        match way {
            "check-in" => drop(library::check_in(&mount, &lent).await.done()),
            "revocation" => drop(mount.revoke(lent.lease()).await.done()),
            "renewal" => {
                mount.renew(lent.lease(), Duration::ZERO).await.done();
                library::check_in(&mount, &lent).await.done();
            }
            "check-in after a tick" => {
                mount.tick().await.done();
                let loan = mount.stored("library-loan/").pop().unwrap();
                assert_eq!(loan.matches('/').count(), 3, "it has moved: {loan}");
                library::check_in(&mount, &lent).await.done();
            }
            _ => {
                mount.lose(lent.lease());
                library::settle(&mount).await;
            }
        }
        mount.tick().await.done();
        assert_eq!(mount.stored("library-due/"), Vec::<String>::new(), "{way}");
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

/// A backup of the moment of a check-out is restored: its loan is reserved, and the borrower uses the key.
#[tokio::test]
async fn a_key_that_a_restored_reservation_does_not_know_lives_as_long_as_somebody_uses_it() {
    for is_checked_in in [false, true] {
        let mount = library::mount_with("a").await;
        let lent = library::check_out(&mount).await;
        mount.sim.use_key(&lent.text("api_key"));
        mount.lose(lent.lease());
        let key = mount.stored("library-loan/").remove(0);
        let mut loan: Value = serde_json::from_str(&mount.storage_text("library-loan/")).unwrap();
        loan["state"] = "reserved".into();
        loan["api_key_id"] = Value::Null;
        let entry = Entry { key, value: loan.to_string().into(), seal_wrap: false };
        mount.storage.put(entry).await.unwrap();
        mount.restart().await;
        for _ in 0..10 {
            mount.advance(Duration::from_secs(300));
            mount.tick().await.done();
            assert!(mount.sim.state().is_live(&lent.text("api_key")), "somebody uses it");
            assert_ne!(library::status(&mount).await, json!({"a": "available"}));
        }
        if is_checked_in {
            library::check_in(&mount, &lent).await.done();
        } else {
            mount.advance(Duration::from_secs(24 * 3600));
            mount.tick().await.done();
        }
        library::assert_at_rest(&mount, &["a"]).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_return_in_the_background_ends_with_its_mount() {
    let mount = library::mount_with("a").await.without_lag();
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    let lent = library::check_out(&mount).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::delay(Duration::from_millis(200))).times(1));
    mount.revoke(lent.lease()).await.done();
    eventually("the key is being deleted", async || (mount.sim.faults_left() == 0).then_some(())).await;
    mount.backend().cleanup().await;
    let deleted = async || mount.sim.state().live_keys().next().is_none().then_some(());
    eventually("OpenAI has deleted the key", deleted).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(mount.stored("library-loan/").len(), 1, "a mount that is gone writes nothing");
    mount.restart().await;
    library::settle(&mount).await;
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}
