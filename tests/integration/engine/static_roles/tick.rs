//! Rotation by itself: the tick goes by what storage says and by nothing else.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, Limit, Per, Retry, endpoint};

/// Ticks and answers whether the key is another one.
async fn rotates(mount: &Mount, name: &str) -> bool {
    let before = key(mount, name).await;
    mount.tick().await.done();
    key(mount, name).await != before
}

async fn ttl(mount: &Mount, name: &str) -> u64 {
    mount.read(&format!("static-creds/{name}")).await.json()["ttl"].as_u64().unwrap()
}

#[tokio::test]
async fn a_role_is_rotated_when_its_period_is_over_and_not_before() {
    let (mount, account) = with_app(json!({"rotation_period": "1h", "grace_period": 0})).await;
    mount.advance(MINUTE * 59);
    assert!(!rotates(&mount, "app").await);
    mount.advance(MINUTE * 2);
    assert!(rotates(&mount, "app").await);
    assert!(!rotates(&mount, "app").await);
    assert_eq!(live_keys(&mount, &account.id).len(), 2);
    assert_eq!(mount.stored("due/").len(), 1);
}

#[tokio::test]
async fn the_time_told_to_readers_runs_down_and_starts_over_only_with_a_new_key() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    let first = ttl(&mount, "app").await;
    assert!((3600..=3620).contains(&first), "{first}");
    mount.advance(MINUTE * 30);
    let half = ttl(&mount, "app").await;
    assert!((1799..=1820).contains(&half), "{half}");
    mount.advance(MINUTE * 40);
    assert_eq!(ttl(&mount, "app").await, 10, "overdue: come back soon");
    assert!(rotates(&mount, "app").await);
    assert!(ttl(&mount, "app").await >= 3600);
}

#[tokio::test]
async fn nothing_but_the_time_changes_between_rotations() {
    for settings in [
        json!({"rotation_period": "1h"}),
        json!({"rotation_schedule": "0 3 * * MON-FRI"}),
        json!({"rotation_period": 0}),
    ] {
        let (mount, _) = with_app(settings).await;
        let mut before = mount.read("static-creds/app").await.json();
        assert!(before["rotation_period"].as_u64().unwrap() >= 1);
        assert!(before["ttl"].as_u64().unwrap() >= 1);
        for hours in [1, 9, 30, 100] {
            mount.advance(HOUR * hours);
            let now = mount.read("static-creds/app").await.json();
            assert!(now["ttl"].as_u64().unwrap() >= 1);
            before["ttl"] = now["ttl"].clone();
            assert_eq!(now, before);
        }
    }
}

#[tokio::test]
async fn the_ttl_of_the_role_caps_the_time_told() {
    let (mount, _) = with_app(json!({"ttl": "5m"})).await;
    assert_eq!(ttl(&mount, "app").await, 300);
    mount.write("static-roles/app", json!({"ttl": 3})).await.nothing();
    mount.advance(DAY * 2);
    assert_eq!(ttl(&mount, "app").await, 3);
}

#[tokio::test]
async fn what_was_missed_for_days_is_made_up_for_once() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    mount.advance(DAY * 30);
    assert!(rotates(&mount, "app").await);
    assert!(!rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_role_by_hand_is_never_rotated_and_has_no_marker() {
    let (mount, _) = with_app(json!({"rotation_period": 0, "ttl": "1h"})).await;
    mount.advance(DAY * 400);
    assert!(!rotates(&mount, "app").await);
    assert_eq!(ttl(&mount, "app").await, 3600);
    assert_eq!(role(&mount, "app").await["next_vault_rotation"], "");
    assert!(mount.stored("due/").is_empty());
    // Its replaced key, though, is the tick's.
    let old = key(&mount, "app").await;
    mount.write("static-creds/app/rotate", json!({"grace_period": 60})).await.done();
    mount.advance(MINUTE * 3);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old) && mount.stored("due/").is_empty());
}

#[tokio::test]
async fn a_schedule_is_kept_and_a_missed_window_waits_for_the_next() {
    let (mount, _) = with_app(json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"})).await;
    let next =
        |read: &Value| -> DateTime<Utc> { read["next_vault_rotation"].as_str().unwrap().parse().unwrap() };
    let planned = next(&role(&mount, "app").await);
    assert_eq!(planned.format("%H:%M").to_string(), "03:00");
    mount.advance((planned - mount.now()).to_std().unwrap() + HOUR * 2);
    assert!(!rotates(&mount, "app").await, "the window is shut");
    assert_eq!(next(&role(&mount, "app").await), planned + chrono::TimeDelta::days(1));
    mount.advance(HOUR * 22 + MINUTE);
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_shorter_period_counts_from_the_last_rotation() {
    let (mount, _) = with_app(json!({"rotation_period": "24h"})).await;
    mount.advance(HOUR * 2);
    assert!(!rotates(&mount, "app").await);
    mount.write("static-roles/app", json!({"rotation_period": "1h"})).await.nothing();
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_restart_changes_no_timetable() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    let planned = role(&mount, "app").await["next_vault_rotation"].clone();
    mount.advance(MINUTE * 30);
    mount.restart().await;
    assert_eq!(role(&mount, "app").await["next_vault_rotation"], planned);
    assert!(!rotates(&mount, "app").await);
    mount.advance(MINUTE * 31);
    mount.restart().await;
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_clock_that_ran_years_ahead_and_is_put_right_stops_no_rotation() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    let mount = mount.without_lag();
    write_role(&mount, "other", json!({"rotation_period": "1h"})).await;
    mount.tick().await.done();
    mount.advance(DAY * 3000);
    assert!(rotates(&mount, "app").await);
    mount.put_clocks_back(DAY * 3000);
    mount.restart().await;
    let other = key(&mount, "other").await;
    assert!(rotates(&mount, "app").await, "the time of the last rotation cannot be believed");
    assert_ne!(key(&mount, "other").await, other);
    assert!(!rotates(&mount, "app").await);
    mount.advance(HOUR + MINUTE);
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_role_with_a_window_is_rotated_in_the_window_that_is_told_after_clocks_were_put_back() {
    let schedule = json!({"rotation_schedule": "0 3 * * *", "rotation_window": "1h"});
    let (mount, _) = with_app(schedule).await;
    let mount = mount.without_lag();
    let next = async || -> DateTime<Utc> {
        role(&mount, "app").await["next_vault_rotation"].as_str().unwrap().parse().unwrap()
    };
    // By hand at noon, by clocks that are a day and a half ahead.
    let noon = next().await + chrono::TimeDelta::hours(2 * 24 + 9);
    mount.advance((noon - mount.now()).to_std().unwrap());
    rotate(&mount, "app").await;
    mount.tick().await.done();
    mount.put_clocks_back(HOUR * 36);
    mount.restart().await;
    mount.tick().await.done();
    let told = next().await;
    assert!(told - mount.now() < chrono::TimeDelta::days(1), "told {told} at {}", mount.now());
    mount.advance((told - mount.now()).to_std().unwrap() + MINUTE);
    assert!(rotates(&mount, "app").await, "the window that was told is open");
    assert!(!rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_clock_put_back_a_little_rotates_nothing_again() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    mount.advance(HOUR + MINUTE);
    assert!(rotates(&mount, "app").await);
    mount.put_clock_back(MINUTE * 30);
    assert!(!rotates(&mount, "app").await);
    mount.advance(MINUTE * 89);
    assert!(!rotates(&mount, "app").await);
    mount.advance(MINUTE * 3);
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn a_marker_without_need_is_removed_when_its_minute_comes() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    mount.write("static-roles/app", json!({"rotation_period": "2h"})).await.nothing();
    // The one of the creation, and those of both times.
    assert_eq!(mount.stored("due/").len(), 3);
    mount.advance(HOUR + MINUTE);
    assert!(!rotates(&mount, "app").await);
    assert_eq!(mount.stored("due/").len(), 1);
}

#[tokio::test]
async fn where_openai_has_no_room_a_role_waits_without_blame() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    mount.advance(HOUR * 2);
    mount.sim.limit(Limit::on(endpoint::CREATE_KEY, 0, Per::Minute).telling(Retry::Seconds));
    let before = (role(&mount, "app").await, mount.stored("due/"));
    assert!(!rotates(&mount, "app").await);
    assert_eq!((role(&mount, "app").await, mount.stored("due/")), before);
    mount.sim.clear_limits();
    mount.restart().await;
    assert!(rotates(&mount, "app").await);
}

#[tokio::test]
async fn the_oldest_go_first() {
    let mount = mount().await;
    let mut accounts = Vec::new();
    for n in 0..24 {
        // The last by name is the first that is due.
        let role = json!({"rotation_period": 3600 + (24 - n) * 120});
        accounts.push(write_role(&mount, &format!("r{n:02}"), role).await.id);
    }
    // The markers of the creations go.
    mount.advance(MINUTE * 10);
    mount.tick().await.done();
    mount.advance(DAY);
    let before = mount.sim.log().len();
    mount.tick().await.done();
    let log = mount.sim.log().split_off(before);
    let made: Vec<_> = log.iter().filter(|call| call.path.ends_with("/api_keys")).collect();
    assert_eq!(made.len(), 24);
    let place = |account: &String| made.iter().position(|call| call.path.contains(account)).unwrap();
    // Sixteen go at once: the last begins when eight are done, the first is among them.
    assert!(place(&accounts[0]) >= 8 && place(&accounts[23]) < 16);
}

#[tokio::test]
async fn where_openai_has_no_room_for_creations_keys_are_deleted_all_the_same() {
    let mount = mount().await.without_lag();
    for n in 0..24 {
        write_role(&mount, &format!("r{n:02}"), json!({"rotation_period": "1h"})).await;
    }
    mount.advance(HOUR * 2);
    let account = write_role(&mount, "gone", json!({"rotation_period": 0})).await;
    let refusal = mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    mount.delete("static-roles/gone").await.refused("is being deleted");
    mount.sim.remove_fault(refusal);
    mount.sim.limit(Limit::on(endpoint::CREATE_KEY, 0, Per::Minute).telling(Retry::Seconds));
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert_eq!(live_keys(&mount, &account.id).len(), 1, "only the key that was there before");
    mount.abandon();
}

#[tokio::test]
async fn roles_that_come_into_reach_while_openai_has_no_room_are_tried_again_soon() {
    let mount = mount().await.without_lag();
    for n in 0..24 {
        write_role(&mount, &format!("r{n:02}"), json!({"rotation_period": "1h"})).await;
    }
    mount.configure_elsewhere().await;
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    mount.sim.limit(Limit::on(endpoint::CREATE_KEY, 0, Per::Minute).telling(Retry::Seconds));
    let mut config = mount.config();
    mount.write("config", config.clone()).await.done();
    mount.tick().await.done();
    // Another client knows nothing of the limit.
    mount.sim.clear_limits();
    config["max_requests_per_minute"] = 100_000.into();
    mount.write("config", config).await.done();
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert_eq!(mount.read("health").await.json()["overdue_rotations"], 0);
    mount.abandon();
}

#[tokio::test]
async fn a_tick_ends_in_time_however_slowly_openai_lists_the_keys_of_a_replaced_account() {
    let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": "1h"})).await;
    let mount = mount.without_lag();
    rotate(&mount, "app").await;
    mount.advance(HOUR + MINUTE);
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::delay(Duration::from_secs(25))));
    mount.patch("static-roles/app", json!({"grace_period": 0})).await.done();
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::delay(Duration::from_secs(45))));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    mount.tick().await.done();
    let took = begun.elapsed();
    tokio::time::resume();
    assert!(took < Duration::from_secs(52), "{took:?}");
    mount.sim.clear_faults();
    for _ in 0..2 {
        mount.advance(MINUTE * 4);
        mount.tick().await.done();
    }
    assert_eq!(role(&mount, "app").await["grace_keys"], json!({}));
    mount.finish().await;
}

#[tokio::test]
async fn no_rotation_begins_after_the_ticks_deadline() {
    let (mount, _) = with_app(json!({"rotation_period": "1h"})).await;
    let mount = mount.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.advance(HOUR + MINUTE);
    let before = mount.sim.state().created.keys;
    for endpoint in [endpoint::READ_PROJECT, endpoint::LIST_KEYS] {
        mount.sim.fault(Fault::on(endpoint, Action::delay(Duration::from_secs(27))));
    }
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    mount.tick().await.done();
    let took = begun.elapsed();
    tokio::time::resume();
    assert_eq!(mount.sim.state().created.keys, before, "{took:?}");
    mount.sim.clear_faults();
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().created.keys, before + 1);
    mount.finish().await;
}
