//! When rotation fails: the role waits and says why, the others go on.

use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

#[tokio::test]
async fn a_failed_rotation_is_told_waits_longer_each_time_and_keeps_the_key() {
    let (mount, _) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(403)));
    mount.advance(DAY + MINUTE);
    for failures in 1..=3 {
        mount.tick().await.done();
        let read = role(&mount, "app").await;
        assert_eq!(read["rotation_failures"], failures);
        assert!(read["last_rotation_error"].as_str().unwrap().contains("API key creation failed"));
        let ttl = mount.read("static-creds/app").await.json()["ttl"].as_u64().unwrap();
        assert!(ttl > 1 && ttl <= 30 << (failures - 1), "{ttl}");
        mount.tick().await.done();
        assert_eq!(mount.sim.calls(endpoint::CREATE_KEY), 1 + failures, "it is left alone until then");
        mount.advance(Duration::from_secs(ttl));
    }
    assert!(mount.sim.state().is_live(&old));
    mount.sim.clear_faults();
    mount.tick().await.done();
    let read = role(&mount, "app").await;
    assert_eq!((&read["rotation_failures"], &read["last_rotation_error"]), (&json!(0), &json!("")));
    assert_ne!(key(&mount, "app").await, old);
}

#[tokio::test]
async fn a_write_of_the_role_has_the_next_tick_try_again() {
    let (mount, _) = with_app(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(403)).times(1));
    mount.advance(DAY + MINUTE);
    let old = key(&mount, "app").await;
    mount.tick().await.done();
    mount.write("static-roles/app", json!({"ttl": "1h"})).await.nothing();
    mount.tick().await.done();
    assert_ne!(key(&mount, "app").await, old);
}

#[tokio::test]
async fn an_account_deleted_behind_our_back_is_told_and_the_others_go_on() {
    let (mount, account) = with_app(json!({})).await;
    write_role(&mount, "other", json!({})).await;
    delete_account(&mount, &account.id).await;
    let other = key(&mount, "other").await;
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    let read = role(&mount, "app").await;
    let said = read["last_rotation_error"].as_str().unwrap();
    assert!(said.starts_with(&format!("service account {} is gone at OpenAI", account.id)), "{said}");
    assert_eq!(read["rotation_failures"], 1);
    assert_ne!(key(&mount, "other").await, other);
    mount.write("static-creds/app/rotate", json!({})).await.refused("is gone at OpenAI");

    mount.write("static-roles/app", json!({"rotation_method": "account"})).await.nothing();
    mount.tick().await.done();
    assert_eq!(role(&mount, "app").await["rotation_failures"], 0);
    assert!(mount.sim.state().is_live(&key(&mount, "app").await));
    mount.finish().await;
}

#[tokio::test]
async fn an_outage_is_made_up_for_afterwards_and_reads_go_on() {
    let mount = mount().await;
    for n in 0..4 {
        write_role(&mount, &format!("r{n}"), json!({"rotation_period": "1h", "grace_period": 0})).await;
    }
    mount.advance(HOUR + MINUTE);
    let outage = mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(503)));
    mount.tick().await.done();
    for n in 0..4 {
        assert!(mount.sim.state().is_live(&key(&mount, &format!("r{n}")).await));
    }
    mount.sim.remove_fault(outage);
    mount.advance(MINUTE * 15);
    let calls = mount.sim.calls(endpoint::DELETE_KEY);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::DELETE_KEY) - calls, 4);
    mount.finish().await;
}

/// As a newer release would store them.
fn make_unreadable(mount: &Mount, roles: &[&str]) {
    let mut entries = mount.storage.snapshot();
    for entry in &mut entries {
        if roles.iter().any(|role| entry.key == format!("static-role/{role}")) {
            entry.value = br#"{"version": 99}"#.to_vec();
        }
    }
    mount.storage.restore(entries);
}

#[tokio::test]
async fn the_tick_names_each_role_that_it_could_not_work_on_once() {
    let (mount, _) = with_app(json!({})).await;
    write_role(&mount, "zebra", json!({})).await;
    make_unreadable(&mount, &["app", "zebra"]);
    mount.advance(DAY + MINUTE);
    let tick = mount.tick().await;
    let message = tick.error().message();
    assert!(message.starts_with("2 failed: "), "{message}");
    for role in ["app", "zebra"] {
        assert_eq!(message.matches(&format!("static role {role}: ")).count(), 1, "{message}");
    }
    mount.abandon();
}

#[tokio::test]
async fn a_role_that_cannot_be_read_stops_no_other() {
    let (mount, _) = with_app(json!({})).await;
    write_role(&mount, "zebra", json!({})).await;
    make_unreadable(&mount, &["app"]);
    mount.advance(DAY + MINUTE);
    let zebra = key(&mount, "zebra").await;
    let tick = mount.tick().await;
    assert!(tick.error().message().contains("newer release"), "{}", tick.error());
    assert_ne!(key(&mount, "zebra").await, zebra);
    mount.read("static-creds/app").await.error();
    assert_eq!(mount.list("static-roles").await.keys(), ["app", "zebra"]);
    mount.delete(&format!("project/{PROJECT}")).await.error();
    mount.abandon();
}

#[tokio::test]
async fn under_another_organization_nothing_is_taken_for_gone() {
    let (mount, _) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    mount.configure_elsewhere().await;
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    let read = role(&mount, "app").await;
    assert!(read["last_rotation_error"].as_str().unwrap().contains("this belongs to organization"));
    mount.delete("static-roles/app").await.refused("this belongs to organization");
    assert_eq!(key(&mount, "app").await, old);
    assert!(mount.sim.state().is_live(&old));
}

#[tokio::test]
async fn a_rotation_that_fails_is_overdue_since_it_was_due() {
    let (mount, _) = with_app(json!({"rotation_period": "24h"})).await;
    assert_eq!(mount.read("health").await.json()["overdue_rotations"], 0);
    mount.advance(HOUR * 25);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Html));
    for _ in 0..8 {
        mount.tick_now().await.done();
        mount.advance(MINUTE * 16);
    }
    mount.tick_now().await.done();
    let health = mount.read("health").await.json();
    assert_eq!((&health["status"], &health["overdue_rotations"]), (&json!("degraded"), &json!(1)));
    assert!(health["overdue_rotation_age"].as_u64().unwrap() > 8_000, "{health}");

    mount.sim.clear_faults();
    mount.advance(MINUTE * 16);
    mount.tick_now().await.done();
    assert_eq!(mount.read("health").await.json()["overdue_rotations"], 0);
}

/// An organization's policy on the lifetime of keys, which OpenAI may tell with either status.
#[tokio::test]
async fn a_grace_beyond_the_organizations_policy_names_the_field_and_blames_no_admin_key() {
    for status in [400, 403] {
        let (mount, _) = with_app(json!({})).await;
        let old = key(&mount, "app").await;
        let policy = json!({"error": {"message": "API keys must expire sooner.", "type": "invalid_request_error",
            "param": "expires_in_seconds", "code": null}});
        mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::status_with(status, policy)));
        let said = mount.write("static-creds/app/rotate", json!({"grace_period": "2h"})).await;
        let warning = &said.warnings()[0];
        assert!(warning.contains("API keys must expire sooner"), "{warning}");
        assert!(warning.contains("lower grace_period of static role \"app\""), "{warning}");
        assert!(!warning.contains("admin key"), "{warning}");
        // The key that OpenAI does not limit lives for its grace all the same, and Vault ends it then.
        assert!(mount.sim.state().is_live(&old));
        mount.advance(HOUR * 3);
        mount.tick().await.done();
        assert!(!mount.sim.state().is_live(&old));
        assert!(!mount.read("health").await.json()["reasons"].to_string().contains("admin key"));
        mount.finish().await;
    }
}
