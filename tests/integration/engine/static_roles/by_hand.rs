//! A rotation by hand that fails, and many with a long grace.

use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

async fn health(mount: &Mount) -> Value {
    mount.read("health").await.json()
}

async fn metrics(mount: &Mount) -> String {
    mount.read("metrics").await.text("http_raw_body")
}

/// Rotates by hand with this grace.
async fn rotate_with(mount: &Mount, grace: &str) -> crate::support::Answered {
    mount.write("static-creds/app/rotate", json!({"grace_period": grace})).await
}

#[tokio::test]
async fn a_rotation_by_hand_that_fails_is_told_everywhere_until_it_is_made_up_for() {
    for settings in [json!({}), json!({"rotation_period": 0}), json!({"rotation_schedule": "0 3 1 1 *"})] {
        let (mount, account) = with_app(settings).await;
        delete_account(&mount, &account.id).await;
        // A 404 for what was made less than a minute ago would prove nothing.
        mount.advance(MINUTE * 2);
        mount.write("static-creds/app/rotate", json!({})).await.refused("is gone at OpenAI");
        let read = role(&mount, "app").await;
        assert_eq!(read["rotation_failures"], 1);
        let said = read["last_rotation_error"].as_str().unwrap();
        assert!(said.contains("is gone at OpenAI"), "{said}");
        assert!(metrics(&mount).await.contains("kind=\"static_role\",result=\"failed\"} 1"));
        assert_eq!(health(&mount).await["overdue_rotations"], 1);
        mount.restart().await;
        mount.advance(MINUTE * 11);
        let told = health(&mount).await;
        assert_eq!((&told["status"], &told["overdue_rotations"]), (&json!("degraded"), &json!(1)), "{told}");

        mount.write("static-roles/app", json!({"rotation_method": "account"})).await.nothing();
        mount.tick().await.done();
        let read = role(&mount, "app").await;
        assert_eq!((&read["rotation_failures"], &read["last_rotation_error"]), (&json!(0), &json!("")));
        assert!(mount.sim.state().is_live(&key(&mount, "app").await));
        assert_eq!(health(&mount).await["overdue_rotations"], 0);
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_failed_rotation_by_hand_is_made_up_for_once_with_the_grace_that_was_asked_for() {
    let (mount, account) = with_app(json!({"rotation_period": 0})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(403)).times(2));
    rotate_with(&mount, "2h").await.refused("API key creation failed");
    let ttl = mount.read("static-creds/app").await.json()["ttl"].as_u64().unwrap();
    assert!((1..=30).contains(&ttl), "readers come back when it is tried again, not in {ttl} s");
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert_eq!(role(&mount, "app").await["rotation_failures"], 2);
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert_was_rotated_with_its_grace(&mount, &old).await;
    mount.advance(HOUR + MINUTE);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old));
    assert_eq!(live_keys(&mount, &account.id).len(), 2);
    assert!(mount.stored("due/").is_empty());
}

#[tokio::test]
async fn a_rotation_by_hand_that_succeeds_ends_what_failed_before() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(403)).times(1));
    rotate_with(&mount, "2h").await.refused("API key creation failed");
    let new = rotate(&mount, "app").await;
    assert_eq!(role(&mount, "app").await["rotation_failures"], 0);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(key(&mount, "app").await, new);
}

#[tokio::test]
async fn a_rotation_that_was_not_sent_or_not_this_nodes_is_no_failure() {
    let (mount, _) = with_app(json!({})).await;
    let before = role(&mount, "app").await;
    mount.storage.set_read_only(true);
    assert!(mount.write("static-creds/app/rotate", json!({})).await.answer.is_err());
    mount.storage.set_read_only(false);
    assert_eq!(role(&mount, "app").await, before);
    assert!(metrics(&mount).await.contains("kind=\"static_role\",result=\"failed\"} 0"));
}

#[tokio::test]
async fn a_rotation_that_storage_did_not_take_leaves_the_record_to_storage() {
    for by_tick in [true, false] {
        let (mount, _) = with_app(json!({})).await;
        mount.advance(DAY + MINUTE);
        let (before, old) = (mount.storage_text("static-role/"), key(&mount, "app").await);
        mount.storage.fail_put("static-role/");
        if by_tick {
            assert!(mount.tick().await.error().message().contains("static role app"));
        } else {
            mount.write("static-creds/app/rotate", json!({})).await.error();
        }
        assert_eq!(mount.storage_text("static-role/"), before, "the outcome of that write is unknown");
        assert_eq!(key(&mount, "app").await, old);
        mount.tick_now().await.done();
        assert_ne!(key(&mount, "app").await, old);
        mount.finish().await;
    }
}

#[tokio::test]
async fn twenty_long_graces_stop_no_rotation_and_the_oldest_ends_first() {
    let (mount, account) = with_app(json!({})).await;
    let mut keys = vec![key(&mount, "app").await];
    for _ in 0..20 {
        assert!(rotate_with(&mount, "8000h").await.warnings().is_empty());
        keys.push(key(&mount, "app").await);
    }
    assert!(keys.iter().all(|key| mount.sim.state().is_live(key)));

    let said = rotate_with(&mount, "8000h").await;
    assert_eq!(said.warnings().len(), 1, "{:?}", said.warnings());
    assert!(said.warnings()[0].contains("ended before its grace was over"), "{:?}", said.warnings());
    let state = mount.sim.state();
    assert!(!state.is_live(&keys[0]) && keys[1..].iter().all(|key| state.is_live(key)));

    let current = key(&mount, "app").await;
    assert_eq!(rotate_with(&mount, "0").await.warnings().len(), 1);
    let state = mount.sim.state();
    assert!(!state.is_live(&current) && !state.is_live(&keys[1]) && state.is_live(&keys[2]));

    // The timetable goes on, too.
    let current = key(&mount, "app").await;
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    assert_ne!(key(&mount, "app").await, current);
    assert_eq!(role(&mount, "app").await["rotation_failures"], 0);
    assert!(live_keys(&mount, &account.id).len() <= 22);
    mount.delete("static-roles/app").await.nothing();
    assert_eq!(live_keys(&mount, &account.id).len(), 1);
}

#[tokio::test]
async fn the_oldest_grace_ends_first_whatever_happened_to_its_end_at_openai() {
    let (mount, _) = with_app(json!({})).await;
    let oldest = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::status(403)));
    rotate_with(&mount, "8000h").await.done();
    let second = key(&mount, "app").await;
    mount.sim.clear_faults();
    rotate_with(&mount, "8000h").await.done();
    mount.advance(MINUTE);
    for _ in 0..18 {
        rotate_with(&mount, "8000h").await.done();
    }
    let state = mount.sim.state();
    assert!(state.is_live(&oldest) && state.is_live(&second));
    rotate_with(&mount, "8000h").await.done();
    let state = mount.sim.state();
    assert!(!state.is_live(&oldest) && state.is_live(&second));
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn where_openai_ends_no_key_graces_are_not_traded_for_more_keys() {
    let (mount, account) = with_app(json!({})).await;
    for _ in 0..20 {
        rotate_with(&mount, "8000h").await.done();
    }
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    rotate_with(&mount, "8000h").await.done();
    for _ in 0..3 {
        rotate_with(&mount, "8000h").await.refused("replaced keys of this static role are not ended yet");
        rotate_with(&mount, "0").await.refused("replaced keys of this static role are not ended yet");
    }
    assert!(live_keys(&mount, &account.id).len() <= 23);
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    rotate_with(&mount, "0").await.done();
}

/// A role with a replaced key whose grace is over, and whose deletion will take 25 s.
async fn with_a_slow_deletion(graces: u32) -> Mount {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    for _ in 0..graces {
        rotate_with(&mount, "10m").await.done();
    }
    mount.advance(HOUR);
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::delay(Duration::from_secs(25))).times(1));
    mount
}

#[tokio::test]
async fn a_rotation_without_time_for_the_key_that_it_replaced_says_so() {
    let mount = with_a_slow_deletion(1).await;
    let replaced = key(&mount, "app").await;
    tokio::time::pause();
    let said = rotate_with(&mount, "0").await;
    tokio::time::resume();
    assert!(mount.sim.state().is_live(&replaced));
    assert!(said.warnings().join(" ").contains("no time was left for this key"), "{:?}", said.warnings());
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&replaced));
    mount.finish().await;
}

#[tokio::test]
async fn a_retry_without_time_for_all_replaced_keys_is_no_success() {
    let mount = with_a_slow_deletion(2).await;
    let name = mount.list("revocations").await.keys().remove(0);
    tokio::time::pause();
    let retried = mount.write(&format!("revocations/{name}/retry"), json!({})).await;
    tokio::time::resume();
    retried.refused("no time was left for this key");
    mount.write("revocations/retry", json!({})).await.done();
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    mount.finish().await;
}

/// The tick made up for a rotation by hand that failed, and rotates no more.
async fn assert_was_rotated_with_its_grace(mount: &Mount, old: &str) {
    let new = key(mount, "app").await;
    assert_ne!(new, old);
    assert!(mount.sim.state().is_live(old), "the grace that was asked for is kept");
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(key(mount, "app").await, new, "it is by hand only again");
}

#[tokio::test]
async fn a_rotation_by_hand_that_the_rate_limit_refused_is_made_up_for_by_the_tick() {
    let (mount, _) = with_app(json!({"rotation_period": 0})).await;
    let old = key(&mount, "app").await;
    let headers = std::collections::BTreeMap::from([("retry-after".to_owned(), "60".to_owned())]);
    let limited = Action::Status { status: 429, headers, body: None };
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, limited).times(1));
    rotate_with(&mount, "2h").await.error();
    assert_eq!(role(&mount, "app").await["rotation_failures"], 0);
    tokio::time::pause();
    tokio::time::advance(MINUTE * 2).await;
    tokio::time::resume();
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert_was_rotated_with_its_grace(&mount, &old).await;
    mount.finish().await;
}
