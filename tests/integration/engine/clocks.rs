//! A clock of the server that is wrong: nothing in use ends by it, and nothing due is forgotten for it.

use std::collections::BTreeMap;
use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{SET, check_in, check_out, mount_with, status};
use crate::support::storage::Access;
use crate::support::wait::eventually;
use crate::support::{Granted, Mount};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A mount with a lease of an hour.
async fn with_lease() -> (Mount, Granted) {
    let mount = Mount::start().await.configured().await.with_project().await;
    let mount = mount.with_role(json!({"ttl": "1h"})).await;
    let lease = lease(&mount).await;
    (mount, lease)
}

async fn lease(mount: &Mount) -> Granted {
    mount.read("creds/app").await.lease().clone()
}

fn is_live(mount: &Mount, key: &str) -> bool {
    mount.sim.state().is_live(key)
}

async fn ticks(mount: &Mount) {
    mount.tick().await.done();
    mount.tick_now().await.done();
}

/// A mount with a static role that is rotated daily, and whose readers have it cached.
async fn with_static_role() -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("app", false).id;
    let role = json!({"project": "research", "service_account_id": account, "rotation_period": "24h"});
    mount.write("static-roles/app", role).await.done();
    mount
}

async fn static_key(mount: &Mount) -> String {
    mount.read("static-creds/app").await.text("api_key")
}

#[tokio::test]
async fn a_clock_that_is_ahead_ends_no_credential() {
    let (mount, lease) = with_lease().await;
    for ahead in [HOUR * 2, DAY * 400] {
        mount.put_clock_ahead(ahead);
        ticks(&mount).await;
        assert!(is_live(&mount, &lease.api_key), "{ahead:?}");
        mount.put_clock_back(ahead);
        ticks(&mount).await;
        assert!(is_live(&mount, &lease.api_key), "{ahead:?}");
    }
    mount.lose(&lease);
    mount.advance(HOUR + MINUTE * 3);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty(), "its own end is still kept");
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_stays_ahead_ends_each_credential_at_its_own_end() {
    let (mount, before) = with_lease().await;
    mount.put_clock_ahead(DAY);
    mount.advance(MINUTE * 30);
    let after = lease(&mount).await;
    mount.tick().await.done();
    assert!(is_live(&mount, &before.api_key) && is_live(&mount, &after.api_key));
    mount.lose(&before);
    mount.advance(MINUTE * 33);
    mount.tick().await.done();
    assert!(!is_live(&mount, &before.api_key) && is_live(&mount, &after.api_key));
    mount.revoke(&after).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_behind_and_is_put_right_ends_no_credential() {
    let (mount, _) = with_lease().await;
    mount.put_clock_back(DAY);
    let lease = lease(&mount).await;
    mount.put_clock_ahead(DAY);
    ticks(&mount).await;
    assert!(is_live(&mount, &lease.api_key));
    mount.abandon();
}

#[tokio::test]
async fn a_restart_under_a_clock_that_is_ahead_ends_no_credential_and_a_quiet_mount_still_ends_what_is_over()
{
    let (mount, lease) = with_lease().await;
    mount.put_clock_ahead(DAY);
    mount.restart().await;
    ticks(&mount).await;
    assert!(is_live(&mount, &lease.api_key));
    mount.put_clock_back(DAY);
    mount.lose(&lease);
    mount.advance(HOUR * 2);
    mount.restart().await;
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty(), "nobody else asks OpenAI for the time");
    mount.finish().await;
}

#[tokio::test]
async fn while_openai_cannot_be_asked_nothing_ends_by_a_clock_that_is_ahead() {
    let (mount, lease) = with_lease().await;
    mount.sim.fault(Fault::everywhere(Action::final_status(503)));
    mount.put_clock_ahead(DAY);
    mount.restart().await;
    let _said = mount.tick().await;
    assert!(mount.revoke(&lease).await.answer.is_err(), "its key lives");
    mount.sim.clear_faults();
    ticks(&mount).await;
    mount.abandon();
}

#[tokio::test]
async fn a_revocation_under_a_clock_that_is_ahead_calls_no_living_key_dead() {
    let (mount, lease) = with_lease().await;
    mount.sim.fault(Fault::everywhere(Action::final_status(500)));
    mount.put_clock_ahead(DAY);
    assert!(mount.revoke(&lease).await.answer.is_err());
    let name = &mount.list("revocations").await.keys()[0];
    assert_eq!(mount.read(&format!("revocations/{name}")).await.json()["key_dead"], false);
    mount.put_clock_back(DAY);
    mount.sim.clear_faults();
    mount.revoke(&lease).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_retry_under_a_clock_that_is_ahead_ends_no_credential() {
    let (mount, lease) = with_lease().await;
    let name = lease.internal["name"].as_str().unwrap().to_owned();
    mount.put_clock_ahead(DAY);
    mount.restart().await;
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.error();
    mount.write("revocations/retry", json!({})).await.done();
    assert!(is_live(&mount, &lease.api_key));
    mount.put_clock_back(DAY);
    mount.revoke(&lease).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_returns_no_loan() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    for ahead in [HOUR * 26, DAY * 400] {
        mount.put_clock_ahead(ahead);
        ticks(&mount).await;
        mount.put_clock_back(ahead);
        ticks(&mount).await;
        assert!(is_live(&mount, &lent.text("api_key")), "{ahead:?}");
        assert_eq!(status(&mount).await, json!({"a": "checked-out"}), "{ahead:?}");
    }
    mount.lose(lent.lease());
    mount.advance(HOUR * 25);
    mount.tick().await.done();
    assert_eq!(status(&mount).await, json!({"a": "available"}), "its own end is still kept");
    mount.finish().await;
}

#[tokio::test]
async fn a_loan_made_under_a_clock_that_was_behind_lasts() {
    let mount = mount_with("a").await;
    mount.put_clock_back(DAY * 3);
    let lent = check_out(&mount).await;
    mount.put_clock_ahead(DAY * 3);
    ticks(&mount).await;
    assert!(is_live(&mount, &lent.text("api_key")));
    assert_eq!(status(&mount).await, json!({"a": "checked-out"}));
    check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn no_account_is_free_under_a_clock_that_is_ahead_while_its_key_lives() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    mount.sim.fault(Fault::everywhere(Action::final_status(500)));
    mount.put_clock_ahead(DAY * 400);
    check_in(&mount, &lent).await.error();
    let _said = mount.tick().await;
    assert_ne!(status(&mount).await, json!({"a": "available"}));
    mount.put_clock_back(DAY * 400);
    mount.sim.clear_faults();
    check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_loan_is_renewed_under_a_clock_that_is_ahead() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    mount.put_clock_ahead(DAY * 3);
    mount.renew(lent.lease(), HOUR).await.done();
    mount.put_clock_back(DAY * 3);
    check_in(&mount, &lent).await.done();
    mount.finish().await;
}

/// A server starts with a clock that is behind, and OpenAI cannot be reached; then `happens`, and both are put right.
async fn starts_behind_without_openai(mount: &Mount, by: Duration, happens: impl AsyncFnOnce()) {
    mount.tick().await.done();
    mount.put_clock_back(by);
    mount.sim.fault(Fault::everywhere(Action::status(403)));
    mount.restart().await;
    let _said = mount.tick_now().await;
    happens().await;
    mount.sim.clear_faults();
    mount.put_clock_ahead(by);
    ticks(mount).await;
}

#[tokio::test]
async fn a_start_under_a_clock_that_is_behind_shortens_no_loan() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    starts_behind_without_openai(&mount, DAY * 3, async || ()).await;
    assert!(is_live(&mount, &lent.text("api_key")));
    assert_eq!(status(&mount).await, json!({"a": "checked-out"}));
    mount.sim.fault(Fault::everywhere(Action::status(403)));
    check_in(&mount, &lent).await.error();
    mount.sim.clear_faults();
    check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_renewal_under_a_clock_that_is_behind_shortens_no_loan() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    starts_behind_without_openai(&mount, HOUR * 5, async || {
        mount.renew(lent.lease(), HOUR).await.done();
    })
    .await;
    assert!(is_live(&mount, &lent.text("api_key")));
    assert_eq!(status(&mount).await, json!({"a": "checked-out"}));
    check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_start_under_a_clock_that_is_behind_shortens_no_grace() {
    let mount = with_static_role().await;
    let first = static_key(&mount).await;
    mount.write("static-creds/app/rotate", json!({"grace_period": "2h"})).await.done();
    starts_behind_without_openai(&mount, DAY * 3, async || ()).await;
    assert!(is_live(&mount, &first), "its grace is not over");
    mount.advance(HOUR * 3);
    mount.tick().await.done();
    assert!(!is_live(&mount, &first));
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_rotates_no_key_and_ends_no_grace() {
    let mount = with_static_role().await;
    let first = static_key(&mount).await;
    mount.put_clock_ahead(HOUR * 25);
    ticks(&mount).await;
    assert_eq!(static_key(&mount).await, first, "its readers come back tomorrow");
    mount.put_clock_back(HOUR * 25);
    let second = mount.write("static-creds/app/rotate", json!({"grace_period": "10m"})).await;
    for _ in 0..2 {
        mount.put_clock_ahead(HOUR);
        ticks(&mount).await;
        assert!(is_live(&mount, &first), "its grace is not over");
        mount.put_clock_back(HOUR);
        ticks(&mount).await;
        assert!(is_live(&mount, &first), "its grace is not over");
    }
    mount.advance(MINUTE * 11);
    mount.tick().await.done();
    assert!(!is_live(&mount, &first) && is_live(&mount, &second.text("api_key")));
    assert_eq!(mount.read("static-roles/app").await.json()["grace_keys"], json!({}));
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_grace_of_none_ends_at_once_whatever_the_clock_says() {
    let mount = with_static_role().await;
    for (ahead, back) in [(Duration::ZERO, Duration::ZERO), (DAY, Duration::ZERO), (Duration::ZERO, DAY)] {
        mount.put_clock_ahead(ahead);
        mount.put_clock_back(back);
        let first = static_key(&mount).await;
        mount.write("static-creds/app/rotate", json!({"grace_period": 0})).await.done();
        assert!(!is_live(&mount, &first), "{ahead:?} {back:?}");
        mount.put_clock_ahead(back);
        mount.put_clock_back(ahead);
    }
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_grace_begun_under_a_clock_that_was_behind_lasts() {
    let mount = with_static_role().await;
    let first = static_key(&mount).await;
    mount.put_clock_back(DAY);
    mount.write("static-creds/app/rotate", json!({"grace_period": "10m"})).await.done();
    mount.put_clock_ahead(DAY);
    ticks(&mount).await;
    assert!(is_live(&mount, &first), "its grace is not over");
    mount.advance(MINUTE * 11);
    mount.tick().await.done();
    assert!(!is_live(&mount, &first));
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn tidy_takes_no_account_for_old_by_a_clock_that_is_ahead() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let tag = mount.read("info").await.text("mount_tag");
    mount.seed(&format!("vault-app-abcdefgh-{tag}"), false);
    mount.put_clock_ahead(DAY * 2);
    mount.write("tidy", json!({"dry_run": false, "min_age": "24h"})).await.done();
    let told = eventually("tidy comes to its end", async || {
        let told = mount.read("tidy/status").await.json();
        (told["state"] != "running").then_some(told)
    })
    .await;
    assert_eq!(told["state"], "finished", "{told}");
    assert_eq!(mount.sim.state().accounts.len(), 1, "{told}");
    mount.put_clock_back(DAY * 2);
}

/// Under a clock that is ahead by a year OpenAI fails, and perhaps its time is not known, as after a start; then both are
/// put right.
async fn fails_while_the_clock_is_ahead(mount: &Mount, is_known: bool, happens: impl AsyncFnOnce()) {
    mount.put_clock_ahead(DAY * 365);
    mount.sim.fault(Fault::everywhere(Action::final_status(500)));
    if !is_known {
        mount.restart().await;
    }
    happens().await;
    let _said = mount.tick().await;
    mount.sim.clear_faults();
    mount.put_clock_back(DAY * 365);
    mount.restart().await;
}

/// As long as any wait is.
async fn within_a_wait(mount: &Mount) {
    for _ in 0..2 {
        mount.advance(MINUTE * 16);
        mount.tick_now().await.done();
    }
}

#[tokio::test]
async fn what_could_not_be_revoked_under_a_clock_that_was_ahead_is_tried_again_soon() {
    for is_known in [true, false] {
        let (mount, lease) = with_lease().await;
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            mount.revoke(&lease).await.error();
        })
        .await;
        within_a_wait(&mount).await;
        assert!(!is_live(&mount, &lease.api_key), "{is_known}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn an_account_that_could_not_be_freed_under_a_clock_that_was_ahead_is_free_soon() {
    for is_known in [true, false] {
        let mount = mount_with("a").await;
        let lent = check_out(&mount).await;
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            check_in(&mount, &lent).await.error();
        })
        .await;
        within_a_wait(&mount).await;
        assert_eq!(status(&mount).await, json!({"a": "available"}), "{is_known}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_check_out_that_failed_under_a_clock_that_was_ahead_blocks_its_account_not_for_long() {
    for is_known in [true, false] {
        let mount = mount_with("a").await;
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            mount.write(&format!("{SET}/check-out"), json!({})).await.error();
        })
        .await;
        within_a_wait(&mount).await;
        assert_eq!(status(&mount).await, json!({"a": "available"}), "{is_known}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn an_account_that_could_not_leave_its_set_under_a_clock_that_was_ahead_leaves_soon() {
    for is_known in [true, false] {
        let mount = mount_with("a, b").await;
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            let _answer = mount.delete(SET).await;
        })
        .await;
        within_a_wait(&mount).await;
        assert_eq!(mount.sim.state().accounts.len(), 0, "{is_known}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_role_that_cannot_be_read_hides_from_no_other_that_the_clock_was_put_back() {
    let mount = with_static_role().await;
    mount.advance(DAY * 300);
    let account = mount.seed("other", false).id;
    let other = json!({"project": "research", "service_account_id": account});
    mount.write("static-roles/other", other).await.done();
    let mut entries = mount.storage.snapshot();
    for entry in entries.iter_mut().filter(|entry| entry.key == "static-role/app") {
        entry.value = br#"{"version": 99}"#.to_vec();
    }
    mount.storage.restore(entries);
    let _said = mount.tick().await;
    let key = mount.read("static-creds/other").await.text("api_key");
    mount.put_clocks_back(DAY * 300);
    mount.restart().await;
    for _ in 0..2 {
        let _said = mount.tick().await;
    }
    assert_ne!(mount.read("static-creds/other").await.text("api_key"), key, "its time is not believed");
    mount.abandon();
}

#[tokio::test]
async fn a_clock_that_is_put_back_during_a_tick_is_noticed() {
    let mount = with_static_role().await;
    mount.advance(DAY * 300);
    let account = mount.seed("other", false).id;
    let other = json!({"project": "research", "service_account_id": account, "rotation_period": "24h"});
    mount.write("static-roles/other", other).await.done();
    let key = mount.read("static-creds/other").await.text("api_key");
    // The tick rotates the other role, which is overdue.
    mount.watched.hold(Access::Write, "static-role/app");
    let put_back = async {
        mount.watched.held().await;
        mount.put_clocks_back(DAY * 300);
        mount.watched.release();
    };
    let (_said, ()) = tokio::join!(mount.tick(), put_back);
    for _ in 0..2 {
        let _said = mount.tick().await;
    }
    assert_ne!(mount.read("static-creds/other").await.text("api_key"), key, "its time is not believed");
    mount.abandon();
}

#[tokio::test]
async fn a_clock_that_is_behind_for_a_tick_rotates_no_key() {
    let mount = with_static_role().await;
    let key = static_key(&mount).await;
    mount.put_clock_back(DAY * 3);
    ticks(&mount).await;
    assert_eq!(static_key(&mount).await, key, "its readers come back tomorrow");
    let ttl = mount.read("static-creds/app").await.json()["ttl"].as_u64().unwrap();
    assert!(ttl <= 86_400, "they are not told to come back later than that: {ttl}");
    mount.put_clock_ahead(DAY * 3);
    mount.abandon();
}

/// A mount with a static role of these settings.
async fn with_static_role_of(mut role: Value) -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await.without_lag();
    role["service_account_id"] = mount.seed("app", false).id.into();
    role["project"] = "research".into();
    mount.write("static-roles/app", role).await.done();
    mount
}

#[tokio::test]
async fn a_wrong_clock_keeps_no_rotation_from_its_window() {
    let settings = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
    for (ahead, back) in [(HOUR * 2, Duration::ZERO), (Duration::ZERO, HOUR * 2)] {
        let mount = with_static_role_of(settings.clone()).await;
        let key = static_key(&mount).await;
        mount.put_clock_ahead(ahead);
        mount.put_clock_back(back);
        for _ in 0..150 {
            mount.advance(MINUTE * 30);
            mount.tick().await.done();
        }
        assert_ne!(static_key(&mount).await, key, "{ahead:?} {back:?}");
        mount.delete("static-roles/app").await.done();
        mount.finish().await;
    }
}

#[tokio::test]
async fn readers_come_back_before_a_rotation_in_its_window_under_a_wrong_clock() {
    for (ahead, back) in [(HOUR * 2, Duration::ZERO), (Duration::ZERO, HOUR * 2)] {
        let settings = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
        let mount = with_static_role_of(settings).await;
        mount.put_clock_ahead(ahead);
        mount.put_clock_back(back);
        mount.tick().await.done();
        let (mut key, mut comes_back) = (static_key(&mount).await, Duration::ZERO);
        for step in 0..450 {
            let passed = MINUTE * 10 * step;
            mount.tick().await.done();
            let read = mount.read("static-creds/app").await.json();
            assert!(read["api_key"] == key.as_str() || comes_back <= passed, "{ahead:?} {back:?} {passed:?}");
            key = read["api_key"].as_str().unwrap().to_owned();
            comes_back = passed + Duration::from_secs(read["ttl"].as_u64().unwrap());
            mount.advance(MINUTE * 10);
        }
        mount.delete("static-roles/app").await.done();
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_wrong_clock_keeps_no_rotation_of_the_admin_key_from_its_window() {
    for (ahead, back) in [(HOUR * 2, Duration::ZERO), (Duration::ZERO, HOUR * 2)] {
        let mount = Mount::start().await;
        let mut config = mount.config();
        config["rotation_schedule"] = "0 3 * * *".into();
        config["rotation_window"] = "1h".into();
        mount.write("config", config).await.done();
        let id = mount.read("config").await.text("admin_api_key_id");
        mount.put_clock_ahead(ahead);
        mount.put_clock_back(back);
        for _ in 0..150 {
            mount.advance(MINUTE * 30);
            mount.tick().await.done();
        }
        assert_ne!(mount.read("config").await.text("admin_api_key_id"), id, "{ahead:?} {back:?}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_key_with_an_end_is_replaced_before_it_expires_under_a_clock_that_is_behind() {
    let mount = with_static_role_of(json!({"rotation_period": "1h", "key_ttl": "75m"})).await;
    mount.put_clock_back(MINUTE * 50);
    for minute in 0..300 {
        mount.advance(MINUTE);
        mount.tick().await.done();
        assert!(is_live(&mount, &static_key(&mount).await), "minute {minute}");
    }
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

/// OpenAI makes the next key of the role, and neither its answer nor a list arrives.
async fn lose_the_next_key(mount: &Mount, role: &str) {
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write(&format!("static-creds/{role}/rotate"), json!({})).await.error();
    mount.sim.clear_faults();
}

fn live_count(mount: &Mount) -> usize {
    mount.sim.state().live_keys().count()
}

#[tokio::test]
async fn a_lost_key_is_found_under_a_clock_that_is_ahead() {
    let mount = with_static_role_of(json!({"rotation_period": 0})).await;
    let other = json!({"project": "research", "service_account_id": mount.seed("other", false).id, "rotation_period": 0});
    mount.write("static-roles/other", other).await.done();
    mount.put_clock_ahead(MINUTE * 10);
    for role in ["app", "other"] {
        lose_the_next_key(&mount, role).await;
        mount.advance(MINUTE * 4);
        mount.tick().await.done();
    }
    for _ in 0..3 {
        mount.advance(MINUTE * 4);
        mount.tick().await.done();
    }
    assert_eq!(live_count(&mount), 2, "one of each role");
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_that_failed_under_a_clock_that_was_ahead_is_made_up_for_soon() {
    let mount = with_static_role_of(json!({"rotation_period": 0})).await;
    let key = static_key(&mount).await;
    mount.put_clock_ahead(DAY * 2);
    mount.restart().await;
    mount.sim.fault(Fault::everywhere(Action::final_status(500)));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    within_a_wait(&mount).await;
    assert!(!is_live(&mount, &key), "it was rotated by hand, perhaps after a leak");
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_was_lost_under_a_clock_that_was_ahead_is_deleted_soon() {
    let mount = with_static_role_of(json!({"rotation_period": 0})).await;
    mount.put_clock_ahead(DAY * 2);
    mount.restart().await;
    lose_the_next_key(&mount, "app").await;
    for _ in 0..10 {
        mount.advance(MINUTE);
        mount.tick().await.done();
    }
    assert_eq!(live_count(&mount), 1, "the rotation by hand was repeated, and the lost key is gone");
    mount.finish().await;
}

/// A proxy answers one list with a date that is two days ahead. So the creation seems to be of then.
#[tokio::test]
async fn an_account_that_a_set_lost_after_a_wrong_date_is_deleted_soon() {
    for is_killed in [false, true] {
        let mount = mount_with("a").await.without_lag();
        let date = (mount.now() + DAY * 2).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let ahead = Action::Status {
            status: 200,
            headers: BTreeMap::from([("date".to_owned(), date)]),
            body: Some(json!({"object": "list", "data": [], "has_more": false})),
        };
        mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, ahead).times(1));
        mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
        mount.write(SET, json!({"service_account_names": "a,b"})).await.error();
        mount.sim.clear_faults();
        assert_eq!(mount.sim.state().accounts.len(), 2);
        if is_killed {
            mount.restart().await;
        }
        for _ in 0..10 {
            mount.advance(MINUTE);
            mount.tick().await.done();
        }
        assert_eq!(mount.sim.state().accounts.len(), 1, "{is_killed}");
        mount.finish().await;
    }
}

/// As from a mount whose endpoint sent no date.
#[tokio::test]
async fn a_grace_that_was_stored_under_a_clock_that_was_ahead_is_over_soon() {
    let settings = json!({"rotation_period": 0, "rotation_method": "account", "grace_period": "10m"});
    let mount = with_static_role_of(settings).await;
    for _ in 0..2 {
        mount.write("static-creds/app/rotate", json!({"grace_period": "10m"})).await.done();
    }
    let entry = mount.storage.get("static-role/app").await.unwrap().unwrap();
    let mut record: Value = serde_json::from_slice(&entry.value).unwrap();
    for old in record["ending"].as_array_mut().unwrap() {
        old["ends"] = (mount.now() + DAY * 2).to_rfc3339().into();
    }
    mount.storage.put(Entry { value: record.to_string().into(), ..entry }).await.unwrap();
    mount.restart().await;
    let accounts = || mount.sim.state().accounts.len();
    assert_eq!(accounts(), 3);
    for _ in 0..25 {
        mount.advance(MINUTE);
        mount.tick().await.done();
    }
    assert_eq!(mount.read("static-roles/app").await.json()["grace_keys"], json!({}));
    assert_eq!(accounts(), 2, "the given account and the present one");
    mount.finish().await;
}

#[tokio::test]
async fn a_loan_that_began_under_a_clock_that_was_ahead_is_returned_in_time_without_its_lease() {
    let mount = mount_with("a").await.without_lag();
    mount.put_clock_ahead(DAY * 2);
    // A new process learns OpenAI's time from the answer with the key.
    mount.restart().await;
    let lent = check_out(&mount).await;
    mount.lose(lent.lease());
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert_eq!(status(&mount).await["a"], "available");
    mount.finish().await;
}
