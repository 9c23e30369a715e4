//! Siblings of faults that a review found: the same kind with another noun, or in the other order.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::{self, SET, SETTLED, check_in, check_out, mount_with, status};
use crate::support::mount::PROJECT;
use crate::support::storage::{Access, WriteOutcome};
use crate::support::{Answered, Mount};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount with the static role `app`, on an account that was there before.
async fn with_static_role(mut role: Value) -> (Mount, String) {
    let mount = mount().await;
    let account = mount.seed("app", false).id;
    role["project"] = PROJECT.into();
    role["service_account_id"] = account.as_str().into();
    mount.write("static-roles/app", role).await.done();
    (mount, account)
}

fn admin_keys(mount: &Mount) -> Vec<String> {
    let keys = mount.sim.state().admin_keys.into_iter();
    keys.filter(|key| key.live).map(|key| key.value).collect()
}

fn stored_admin_key(mount: &Mount) -> String {
    let config: Value = serde_json::from_str(&mount.storage_text("config")).unwrap();
    config["admin_api_key"].as_str().unwrap().to_owned()
}

/// Ticks on a clock that stands still but for waits, and asserts that the tick ends within its minute. The clock stays
/// paused.
async fn tick_in_time(mount: &Mount) {
    mount.advance(SETTLED);
    tokio::time::pause();
    let begun = Instant::now();
    let _said = mount.tick().await;
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
}

async fn four_ticks(mount: &Mount) {
    for _ in 0..4 {
        mount.advance(SETTLED);
        let _said = mount.tick().await;
    }
}

async fn ticks(mount: &Mount) {
    for _ in 0..4 {
        mount.advance(SETTLED);
        let _said = mount.tick_now().await;
    }
    mount.tick_now().await.done();
}

// C4

#[tokio::test]
async fn an_admin_key_whose_write_comes_through_later_locks_nobody_out() {
    for by_hand in [false, true] {
        for outcomes in [
            &[WriteOutcome::Late][..],
            &[WriteOutcome::Late, WriteOutcome::Late],
            &[WriteOutcome::Late, WriteOutcome::Lost],
        ] {
            let mount = mount().await;
            let given = library::admin(&mount).0.create_admin_key("by hand", None).await.unwrap();
            mount.watched.set_write_outcomes("config", outcomes);
            let body = if by_hand { json!({"new_admin_api_key": given.value.expose()}) } else { json!({}) };
            mount.write("config/rotate-admin-key", body).await.error();
            mount.watched.commit_late_writes().await;
            mount.watched.set_write_outcomes("", &[]);
            mount.restart().await;
            assert!(admin_keys(&mount).contains(&stored_admin_key(&mount)), "{by_hand} {outcomes:?}");
            ticks(&mount).await;
            let mut left = admin_keys(&mount);
            left.retain(|key| *key == stored_admin_key(&mount) || key != given.value.expose());
            assert_eq!(left, [stored_admin_key(&mount)], "{by_hand} {outcomes:?}");
            mount.write("config/rotate", json!({})).await.done();
        }
    }
}

#[tokio::test]
async fn a_first_static_key_whose_write_was_said_to_fail_is_the_roles_or_goes() {
    for prefix in ["static-role/", "account-owner/", "due/"] {
        for outcome in [WriteOutcome::Done, WriteOutcome::Late, WriteOutcome::Lost] {
            let mount = mount().await;
            let account = mount.seed("app", false).id;
            let role = json!({"project": PROJECT, "service_account_id": account});
            mount.watched.set_write_outcomes(prefix, &[outcome]);
            mount.write("static-roles/app", role.clone()).await.error();
            mount.watched.commit_late_writes().await;
            mount.watched.set_write_outcomes("", &[]);
            mount.restart().await;
            let is_there = mount.read("static-roles/app").await.answer.unwrap().is_some();
            if is_there {
                let got = mount.read("static-creds/app").await.text("api_key");
                ticks(&mount).await;
                assert!(mount.sim.state().is_live(&got), "{prefix} {outcome:?}");
            } else {
                ticks(&mount).await;
                assert_eq!(mount.sim.state().live_keys().count(), 0, "{prefix} {outcome:?}");
                mount.write("static-roles/app", role).await.done();
            }
            mount.delete("static-roles/app").await.done();
            assert_eq!(mount.sim.state().live_keys().count(), 0, "{prefix} {outcome:?}");
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn a_rotation_to_another_account_whose_write_was_said_to_fail_keeps_what_readers_got() {
    for prefix in ["static-role/", "account-owner/", "due/"] {
        for outcome in [WriteOutcome::Done, WriteOutcome::Late, WriteOutcome::Lost] {
            for rotations in [1, 2] {
                let role = json!({"rotation_method": "account", "rotation_period": "1h", "grace_period": 0});
                let (mount, _) = with_static_role(role).await;
                for _ in 1..rotations {
                    mount.write("static-creds/app/rotate", json!({})).await.done();
                }
                mount.watched.set_write_outcomes(prefix, &[outcome]);
                let _said = mount.write("static-creds/app/rotate", json!({})).await;
                mount.watched.commit_late_writes().await;
                mount.watched.set_write_outcomes("", &[]);
                mount.restart().await;
                let got = mount.read("static-creds/app").await.text("api_key");
                for _ in 0..3 {
                    mount.tick_now().await.done();
                    assert!(mount.sim.state().is_live(&got), "{prefix} {outcome:?} {rotations}");
                    mount.advance(MINUTE);
                }
                mount.delete("static-roles/app").await.done();
                ticks(&mount).await;
                assert_eq!(mount.sim.state().live_keys().count(), 0, "{prefix} {outcome:?} {rotations}");
                assert_eq!(library::names(&mount), ["app"], "{prefix} {outcome:?} {rotations}");
                mount.finish().await;
            }
        }
    }
}

#[tokio::test]
async fn an_account_that_leaves_its_set_by_a_write_that_was_said_to_fail_goes_only_if_it_left() {
    for prefix in ["library-set/", "due/"] {
        for outcome in [WriteOutcome::Done, WriteOutcome::Late, WriteOutcome::Lost] {
            let mount = mount_with("a,b").await;
            mount.watched.set_write_outcomes(prefix, &[outcome]);
            let _said = mount.write(SET, json!({"service_account_names": "a"})).await;
            mount.watched.commit_late_writes().await;
            mount.watched.set_write_outcomes("", &[]);
            mount.restart().await;
            let lent = [check_out(&mount).await, mount.write(&format!("{SET}/check-out"), json!({})).await];
            for _ in 0..3 {
                mount.advance(SETTLED);
                mount.tick_now().await.done();
                for lent in lent.iter().filter(|lent| lent.answer.is_ok()) {
                    assert!(mount.sim.state().is_live(&lent.text("api_key")), "{prefix} {outcome:?}");
                }
            }
            for lent in lent.iter().filter(|lent| lent.answer.is_ok()) {
                check_in(&mount, lent).await.done();
                mount.revoke(lent.lease()).await.done();
            }
            let members = mount.read(SET).await.json()["service_account_names"].clone();
            assert_eq!(json!(library::names(&mount)), members, "{prefix} {outcome:?}");
            mount.finish().await;
        }
    }
}

// C5

/// Begins something, has the mount moved or the clock jump right after OpenAI has made what it asked for, and ends it.
async fn moved_meanwhile(mount: &Mount, creation: &str, path: &str, body: Value, taint: bool) -> Answered {
    let delay = Action::delay(Duration::from_millis(700));
    mount.sim.fault(Fault::on(creation, delay).times(1).after_the_work());
    let made = |mount: &Mount| {
        let state = mount.sim.state();
        state.created.keys + state.created.accounts + state.admin_keys.len() as u64
    };
    let before = made(mount);
    let (answered, ()) = tokio::join!(mount.write(path, body), async {
        while made(mount) == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        mount.host.set_tainted(taint);
        let _said = mount.tick_now().await;
        mount.host.set_tainted(false);
    });
    mount.sim.clear_faults();
    answered
}

#[tokio::test]
async fn what_is_made_for_a_set_a_role_or_the_configuration_while_the_mount_is_moved_lives() {
    for taint in [false, true] {
        let mount = mount().await;
        let names = json!({"project": PROJECT, "service_account_names": "a"});
        moved_meanwhile(&mount, endpoint::CREATE_ACCOUNT, SET, names, taint).await.done();
        let names = json!({"service_account_names": "a,b"});
        moved_meanwhile(&mount, endpoint::CREATE_ACCOUNT, SET, names, taint).await.done();
        assert_eq!(library::names(&mount), ["a", "b"]);
        let account = mount.seed("app", false).id;
        let role = json!({"project": PROJECT, "service_account_id": account});
        moved_meanwhile(&mount, endpoint::CREATE_KEY, "static-roles/app", role, taint).await.done();
        let got = mount.read("static-creds/app").await.text("api_key");
        assert!(mount.sim.state().is_live(&got), "{taint}");
        mount.write("static-roles/app", json!({"rotation_method": "account"})).await.done();
        let rotated =
            moved_meanwhile(&mount, endpoint::CREATE_ACCOUNT, "static-creds/app/rotate", json!({}), taint)
                .await;
        assert!(mount.sim.state().is_live(&rotated.text("api_key")), "{taint}");
        moved_meanwhile(&mount, endpoint::CREATE_ADMIN_KEY, "config/rotate", json!({}), taint).await.done();
        assert_eq!(admin_keys(&mount), [stored_admin_key(&mount)], "{taint}");
        let out = format!("{SET}/check-out");
        let lent = moved_meanwhile(&mount, endpoint::CREATE_KEY, &out, json!({}), taint).await;
        assert!(mount.sim.state().is_live(&lent.text("api_key")), "{taint}");
        mount.abandon();
    }
}

// C8

#[tokio::test]
async fn a_tick_ends_in_time_however_slowly_openai_tells_of_foreign_keys() {
    let names = ('a'..='n').map(String::from).collect::<Vec<_>>().join(",");
    let mount = mount_with(&names).await.without_lag();
    for account in mount.sim.state().accounts {
        library::foreign_key(&mount, &account.id, "theirs").await;
        mount.mark_foreign(&account.id);
    }
    mount.delete_by_force(SET).await.done();
    mount.sim.fault(Fault::on(endpoint::READ_KEY, Action::delay(Duration::from_secs(7))));
    tick_in_time(&mount).await;
    tokio::time::resume();
    assert_eq!(mount.sim.state().accounts.len(), 14);
    mount.abandon();
}

#[tokio::test]
async fn a_tick_ends_in_time_however_slowly_the_keys_of_a_role_go() {
    let (mount, _) = with_static_role(json!({"rotation_period": 0})).await;
    for _ in 0..18 {
        mount.write("static-creds/app/rotate", json!({"grace_period": "8000h"})).await.done();
    }
    let refused = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.delete("static-roles/app").await.error();
    mount.sim.remove_fault(refused);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::delay(Duration::from_secs(7))));
    tick_in_time(&mount).await;
    let left = mount.sim.state().live_keys().count();
    assert!((1..19).contains(&left), "{left}");
    four_ticks(&mount).await;
    tokio::time::resume();
    assert_eq!(mount.sim.state().live_keys().count(), 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_ends_in_time_however_slowly_replaced_keys_go() {
    let (mount, _) = with_static_role(json!({"rotation_period": 0})).await;
    let refused = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    for _ in 0..18 {
        mount.write("static-creds/app/rotate", json!({"grace_period": 0})).await.done();
    }
    mount.sim.remove_fault(refused);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::delay(Duration::from_secs(7))));
    tick_in_time(&mount).await;
    four_ticks(&mount).await;
    tokio::time::resume();
    assert_eq!(mount.sim.state().live_keys().count(), 1);
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_ends_in_time_though_openai_does_not_list_the_admin_keys() {
    let mount = mount().await;
    let unlisted = Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html);
    let (unlisted, _) =
        (mount.sim.fault(unlisted), mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop)));
    for _ in 0..4 {
        mount.write("config/rotate", json!({})).await.error();
    }
    mount.sim.remove_fault(unlisted);
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::delay(Duration::from_secs(29))));
    tick_in_time(&mount).await;
    tokio::time::resume();
    mount.sim.clear_faults();
    four_ticks(&mount).await;
    assert_eq!(admin_keys(&mount), [stored_admin_key(&mount)]);
    mount.finish().await;
}

#[tokio::test]
async fn a_deletion_of_a_role_with_many_keys_is_answered_in_vaults_time() {
    let (mount, _) = with_static_role(json!({"rotation_period": 0})).await;
    for _ in 0..18 {
        mount.write("static-creds/app/rotate", json!({"grace_period": "8000h"})).await.done();
    }
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::delay(Duration::from_secs(7))));
    tokio::time::pause();
    let begun = Instant::now();
    let _said = mount.delete("static-roles/app").await;
    assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", begun.elapsed());
    four_ticks(&mount).await;
    tokio::time::resume();
    assert_eq!(mount.sim.state().live_keys().count(), 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_does_not_wait_for_a_rotation_of_the_admin_key_by_hand() {
    let mount = mount().await.with_role(json!({"ttl": "10m"})).await;
    // A creation that was cut off, so that the sweep has something to do about admin keys.
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html).skipping(0));
    mount.write("config/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    let lost = mount.read("creds/app").await;
    mount.lose(lost.lease());
    mount.advance(HOUR);
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::delay(Duration::from_secs(29))).times(1));
    tokio::time::pause();
    let rotates = mount.write("config/rotate", json!({}));
    let (rotated, ticked) = tokio::join!(rotates, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        let _said = mount.tick_now().await;
        begun.elapsed()
    });
    tokio::time::resume();
    rotated.done();
    assert!(ticked < Duration::from_secs(75), "{ticked:?}");
    assert!(mount.sim.state().accounts.is_empty(), "the rest of the tick's work is done");
    mount.abandon();
}

// C6, C7

/// Under a clock that is ahead by a year OpenAI fails; then both are put right.
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

async fn within_a_wait(mount: &Mount) {
    for _ in 0..2 {
        mount.advance(MINUTE * 16);
        mount.tick_now().await.done();
    }
}

#[tokio::test]
async fn a_static_role_that_could_not_be_deleted_under_a_clock_that_was_ahead_goes_soon() {
    for is_known in [true, false] {
        let (mount, _) = with_static_role(json!({"rotation_period": "24h"})).await;
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            mount.delete("static-roles/app").await.error();
        })
        .await;
        within_a_wait(&mount).await;
        assert_eq!(mount.sim.state().live_keys().count(), 0, "{is_known}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_key_replaced_under_a_clock_that_was_ahead_ends_at_the_end_of_its_grace() {
    for (grace, ahead) in [("0s", DAY * 365), ("10m", DAY * 365), ("10m", HOUR * 2)] {
        for is_down in [true, false] {
            let (mount, _) = with_static_role(json!({"rotation_period": 0})).await;
            let old = mount.read("static-creds/app").await.text("api_key");
            mount.put_clock_ahead(ahead);
            mount.restart().await;
            if is_down {
                mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::final_status(500)));
                mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::final_status(500)));
            }
            mount.write("static-creds/app/rotate", json!({"grace_period": grace})).await.done();
            let _said = mount.tick().await;
            mount.sim.clear_faults();
            mount.put_clock_back(ahead);
            mount.restart().await;
            within_a_wait(&mount).await;
            assert!(!mount.sim.state().is_live(&old), "{grace} {ahead:?} {is_down}");
            mount.delete("static-roles/app").await.done();
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn the_admin_key_whose_rotation_failed_under_a_clock_that_was_ahead_is_rotated_soon() {
    for is_known in [true, false] {
        let mount = mount().await;
        mount.write("config", json!({"automatic_rotation_period": "24h"})).await.done();
        let key = stored_admin_key(&mount);
        fails_while_the_clock_is_ahead(&mount, is_known, async || {
            mount.write("config/rotate", json!({})).await.error();
        })
        .await;
        mount.advance(HOUR * 25);
        within_a_wait(&mount).await;
        assert_ne!(stored_admin_key(&mount), key, "{is_known}");
        assert_eq!(admin_keys(&mount), [stored_admin_key(&mount)], "{is_known}");
    }
}

#[tokio::test]
async fn an_admin_key_that_could_not_be_deleted_under_a_clock_that_was_ahead_goes_soon() {
    for is_known in [true, false] {
        let mount = mount().await;
        mount.put_clock_ahead(DAY * 365);
        if !is_known {
            mount.restart().await;
        }
        mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
        mount.write("config/rotate", json!({})).await.done();
        let _said = mount.tick().await;
        mount.sim.clear_faults();
        mount.put_clock_back(DAY * 365);
        mount.restart().await;
        within_a_wait(&mount).await;
        assert_eq!(admin_keys(&mount), [stored_admin_key(&mount)], "{is_known}");
        mount.write("config", json!({"automatic_rotation_period": "24h"})).await.done();
        let key = stored_admin_key(&mount);
        mount.advance(HOUR * 25);
        within_a_wait(&mount).await;
        assert_ne!(
            stored_admin_key(&mount),
            key,
            "{is_known}: the time of its last rotation is not believed"
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_rotates_no_admin_key() {
    let mount = mount().await;
    mount.write("config", json!({"automatic_rotation_period": "24h"})).await.done();
    let key = stored_admin_key(&mount);
    for ahead in [HOUR * 25, DAY * 400] {
        mount.put_clock_ahead(ahead);
        mount.tick().await.done();
        mount.tick_now().await.done();
        mount.put_clock_back(ahead);
        assert_eq!(stored_admin_key(&mount), key, "{ahead:?}");
    }
}

#[tokio::test]
async fn an_account_that_was_missed_under_a_clock_that_was_ahead_is_looked_for_again_soon() {
    let mount = mount_with("a").await;
    mount.advance(HOUR);
    mount.put_clock_ahead(DAY * 365);
    mount.restart().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)).times(1));
    mount.write(&format!("{SET}/check-out"), json!({})).await.error();
    mount.sim.clear_faults();
    mount.put_clock_back(DAY * 365);
    mount.restart().await;
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert_eq!(status(&mount).await["a"], "available");
    mount.finish().await;
}

#[tokio::test]
async fn a_set_made_under_a_clock_that_was_ahead_is_used_as_any_other() {
    let mount = mount().await;
    mount.put_clock_ahead(DAY * 365);
    mount.write(SET, json!({"project": PROJECT, "service_account_names": "a,b"})).await.done();
    mount.put_clock_back(DAY * 365);
    mount.restart().await;
    mount.advance(HOUR);
    let state = mount.sim.state();
    mount.sim.lag(None);
    library::delete_account(&mount, &state.accounts[0].id).await;
    let lent = check_out(&mount).await;
    assert_eq!(lent.text("service_account"), "b");
    check_in(&mount, &lent).await.done();
    mount.revoke(lent.lease()).await.done();
    mount.delete(SET).await.done();
    ticks(&mount).await;
    assert_eq!(mount.sim.state().accounts.len(), 0);
    mount.finish().await;
}

// C11 and S6: an account that is another's to end

#[tokio::test]
async fn an_account_that_goes_with_a_lease_is_lent_to_nobody_else() {
    let mount = mount().await.with_role(json!({"ttl": "1h"})).await;
    let made = mount.read("creds/app").await;
    mount.advance(MINUTE * 2);
    let account = made.text("service_account_id");
    let static_role = json!({"project": PROJECT, "service_account_id": account});
    for refused in [
        mount.write("static-roles/app", static_role.clone()).await,
        mount.write("roles/other", static_role).await,
        mount
            .write(SET, json!({"project": PROJECT, "service_account_names": made.text("service_account")}))
            .await,
    ] {
        refused.refused("service account");
    }
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_a_role_hands_keys_of_out_is_lent_to_nobody_by_a_set() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    mount.write("roles/app", json!({"project": PROJECT, "service_account_id": account})).await.done();
    mount
        .write(SET, json!({"project": PROJECT, "service_account_names": "worker"}))
        .await
        .refused("role app");
    mount.finish().await;
}

#[tokio::test]
async fn an_account_of_a_set_is_no_static_roles_and_no_roles_and_no_other_sets() {
    let mount = mount_with("a").await;
    mount.advance(MINUTE * 2);
    let id = mount.sim.state().accounts[0].id.clone();
    let on_it = json!({"project": PROJECT, "service_account_id": id});
    for refused in [
        mount.write("static-roles/app", on_it.clone()).await,
        mount.write("roles/app", on_it).await,
        mount.write("library-sets/other", json!({"project": PROJECT, "service_account_names": "a"})).await,
    ] {
        refused.refused("library set pool");
    }
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_a_static_role_claims_at_this_moment_is_no_sets_though_the_clock_goes_back() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    mount.watched.hold(Access::Write, "static-role/");
    let set = async {
        mount.watched.held().await;
        mount.put_clock_back(Duration::from_secs(10));
        let set = json!({"project_id": mount.sim.project(), "service_account_names": "worker"});
        let answered = mount.write(SET, set).await;
        mount.watched.release();
        answered
    };
    let role = json!({"project": PROJECT, "service_account_id": account});
    let (role, set) = tokio::join!(mount.write("static-roles/app", role), set);
    set.refused("static role app");
    role.done();
    mount.finish().await;
}

// C13

#[tokio::test]
async fn another_organization_in_the_configuration_is_refused_or_warned_of_while_keys_stand_in_the_old_one() {
    let (mount, _) = with_static_role(json!({})).await;
    let mut config = mount.config();
    config["organization_id"] = json!("org-other");
    config["verify_connection"] = json!(false);
    let answered = mount.write("config", config).await;
    let said = match &answered.answer {
        Ok(_) => answered.warnings().join("; "),
        Err(error) => error.to_string(),
    };
    assert!(said.contains("1 static role (app)"), "{said:?}");
    mount.abandon();
}

#[tokio::test]
async fn a_check_out_of_a_set_that_was_deleted_by_force_holds_the_configuration() {
    let mount = mount_with("a").await;
    let _lent = check_out(&mount).await;
    mount.configure_elsewhere().await;
    mount.delete_by_force(SET).await.done();
    mount.write("config", mount.config()).await.done();
    mount.delete("config").await.refused("check-out");
    mount.abandon();
}

// C16

#[tokio::test]
async fn an_admin_key_that_openai_refuses_to_delete_holds_up_no_other() {
    for refused in 0..3 {
        let mount = mount().await.without_lag();
        let all = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
        for _ in 0..3 {
            mount.write("config/rotate", json!({})).await.done();
        }
        mount.sim.remove_fault(all);
        mount
            .sim
            .fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)).skipping(refused).times(1));
        mount.advance(SETTLED);
        let _said = mount.tick().await;
        assert_eq!(admin_keys(&mount).len(), 2, "{refused}");
        mount.advance(SETTLED);
        mount.tick().await.done();
        assert_eq!(admin_keys(&mount), [stored_admin_key(&mount)], "{refused}");
    }
}

#[tokio::test]
async fn an_account_that_openai_refuses_to_delete_holds_up_no_other() {
    for refused in 0..3 {
        let mount = mount_with("a,b,c").await.without_lag();
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).skipping(refused).times(1));
        mount.delete(SET).await.done();
        assert_eq!(mount.sim.state().accounts.len(), 1, "{refused}");
        mount.advance(SETTLED);
        mount.tick().await.done();
        assert_eq!(mount.sim.state().accounts.len(), 0, "{refused}");
        mount.finish().await;
    }
}

// C18

#[tokio::test]
async fn a_borrower_that_hangs_up_blocks_no_account() {
    for early in [true, false] {
        let mount = mount_with("a").await;
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::delay(Duration::from_millis(100))).times(1));
        let request = mount.request(Operation::Update, &format!("{SET}/check-out"), json!({}));
        if early {
            request.cancelled.cancel();
        }
        let hang_up = async {
            while mount.sim.faults_left() > 0 && !early {
                tokio::task::yield_now().await;
            }
            request.cancelled.cancel();
        };
        let (answered, ()) = tokio::join!(mount.ask(request.clone()), hang_up);
        assert!(answered.lease.is_none(), "{early}");
        assert_eq!(mount.sim.state().live_keys().count(), 0, "{early}");
        assert_eq!(status(&mount).await["a"], "available", "{early}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_check_out_that_vault_could_not_store_is_revoked_for_sure() {
    let mount = mount_with("a").await;
    let lent = check_out(&mount).await;
    // Vault revokes it at once, without an id, and does not ask again.
    let mut request = mount.request(Operation::Revoke, &format!("{SET}/check-out"), json!({}));
    let mut secret = lent.lease().secret(Duration::ZERO);
    secret.lease_id = String::new();
    request.secret = Some(secret);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::Html).times(1));
    assert!(mount.ask(request).await.answer.is_err());
    mount.lose(lent.lease());
    mount.advance(MINUTE * 10);
    mount.tick().await.done();
    assert_eq!(status(&mount).await["a"], "available");
    mount.finish().await;
}

// C10: nothing of an organization that is gone stays for ever

#[tokio::test]
async fn an_admin_key_that_waits_in_an_organization_that_is_gone_is_given_up_by_force() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    mount.write("config/rotate", json!({})).await.done();
    mount.sim.clear_faults();
    let mut config = mount.config();
    config["organization_id"] = json!("org-other");
    config["admin_api_key"] = json!("sk-admin-other");
    config["verify_connection"] = json!(false);
    mount.write("config", config.clone()).await.done();
    mount.advance(SETTLED);
    let _said = mount.tick().await;
    let waiting = mount.list("revocations").await.keys();
    assert_eq!(waiting.len(), 2, "the first key, and the key of the rotation");
    for waiting in &waiting {
        mount.delete("config").await.refused(waiting);
    }
    let said = mount.delete_by_force("config").await;
    assert!(waiting.iter().all(|waiting| said.warnings()[0].contains(waiting)), "{said:?}");
    mount.write("config", config).await.done();
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    mount.abandon();
}

// C6: what ends by time, and whose end was stored under a wrong clock

#[tokio::test]
async fn a_foreign_key_that_lives_keeps_its_account_under_a_clock_that_is_ahead() {
    for restart in [true, false] {
        let mount = mount_with("a").await.without_lag();
        let id = mount.sim.state().accounts[0].id.clone();
        let theirs = library::expiring_key(&mount, &id, HOUR).await;
        mount.put_clock_ahead(DAY);
        if restart {
            mount.restart().await;
        }
        mount.delete(SET).await.refused("has keys that do not come from this library set");
        mount.delete_by_force(SET).await.done();
        let _said = mount.tick_now().await;
        assert!(mount.sim.state().is_live(&theirs.value), "{restart}");
        mount.put_clock_back(DAY);
        mount.advance(HOUR * 2);
        mount.tick().await.done();
        assert_eq!(mount.sim.state().accounts.len(), 0, "{restart}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_lost_loan_that_was_made_under_a_clock_that_was_ahead_is_returned_at_its_end() {
    for restart in [true, false] {
        let mount = mount_with("a").await;
        mount.put_clock_ahead(DAY * 365);
        if restart {
            mount.restart().await;
        }
        let lent = check_out(&mount).await;
        mount.lose(lent.lease());
        mount.put_clock_back(DAY * 365);
        for _ in 0..5 {
            mount.advance(HOUR * 5 + MINUTE * 10);
            mount.tick().await.done();
        }
        assert_eq!(status(&mount).await["a"], "available", "{restart}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_key_of_a_role_deleted_under_a_clock_that_was_ahead_ends_although_a_new_role_has_the_name() {
    let (mount, account) = with_static_role(json!({"rotation_period": "24h"})).await;
    let old = mount.read("static-creds/app").await.text("api_key");
    mount.put_clock_ahead(DAY * 365);
    mount.restart().await;
    let refused = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::final_status(500)));
    mount.delete("static-roles/app").await.error();
    let _said = mount.tick().await;
    mount.put_clock_back(DAY * 365);
    mount.restart().await;
    let role = json!({"project": PROJECT, "service_account_id": account});
    let _said = mount.write("static-roles/app", role.clone()).await;
    mount.sim.remove_fault(refused);
    within_a_wait(&mount).await;
    assert!(!mount.sim.state().is_live(&old));
    mount.write("static-roles/app", role).await.done();
    mount.delete("static-roles/app").await.done();
    mount.finish().await;
}

// R11

#[tokio::test]
async fn nothing_that_has_no_end_is_made_where_storage_forgot_the_mount() {
    let mount = mount().await.with_role(json!({})).await;
    let account = mount.seed("app", false).id;
    mount.read("config").await.done();
    mount.storage.restore(Vec::new());
    let before = mount.sim.state().created;
    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/app", role).await.error();
    let set = json!({"project_id": mount.sim.project(), "service_account_names": "a"});
    mount.write(SET, set).await.error();
    mount.write("config/rotate", json!({})).await.error();
    let after = mount.sim.state().created;
    assert_eq!((after.keys, after.accounts), (before.keys, before.accounts));
    assert_eq!(admin_keys(&mount).len(), 1);
    mount.abandon();
}
