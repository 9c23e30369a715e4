//! `key_ttl`: keys with an end of their own, as an organization's policy may demand it.

use serde_json::{Value, json};

use super::*;
use crate::simulator::Policy;

fn demands(max_lifetime: Option<u64>) -> Policy {
    Policy { expiry_required: true, max_lifetime, ..Policy::default() }
}

/// The seconds that the role's key has still to live at OpenAI.
async fn left(mount: &Mount) -> Option<u64> {
    let (value, state) = (key(mount, "app").await, mount.sim.state());
    let mut keys = state.accounts.iter().flat_map(|account| &account.keys);
    let key = keys.find(|key| key.value == value).expect("the key is there");
    key.expires_at.map(|at| at - state.now)
}

#[tokio::test]
async fn where_a_policy_demands_an_end_the_refusal_names_the_field_that_helps() {
    let mount = mount().await.without_lag();
    let account = mount.seed("mine", false);
    mount.sim.policy(demands(Some(86_400)));
    let mut body = json!({
        "service_account_id": account.id, "project": PROJECT, "rotation_period": "12h", "grace_period": "1h",
    });
    mount.write("static-roles/app", body.clone()).await.refused("key_ttl");
    body["key_ttl"] = json!("48h");
    let refused = mount.write("static-roles/app", body.clone()).await;
    refused.refused("lives for the role's key_ttl, which is 48h");
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
    body["key_ttl"] = json!("24h");
    mount.write("static-roles/app", body).await.done();
    assert_eq!(role(&mount, "app").await["key_ttl"], 86_400);
    assert!((86_390..=86_400).contains(&left(&mount).await.unwrap()));

    // By the timetable, by hand, and with a new account each time.
    mount.advance(HOUR * 12 + MINUTE);
    let old = key(&mount, "app").await;
    mount.tick().await.done();
    assert_ne!(key(&mount, "app").await, old);
    assert!(left(&mount).await.unwrap() > 86_390);
    rotate(&mount, "app").await;
    assert!(left(&mount).await.unwrap() > 86_390);
    mount.write("static-roles/app", json!({"rotation_method": "account"})).await.done();
    rotate(&mount, "app").await;
    assert!(left(&mount).await.unwrap() > 86_390);
    mount.advance(HOUR + MINUTE);
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&key(&mount, "app").await));
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn a_rotation_that_the_policy_refuses_names_the_field_too() {
    let (mount, _) = with_app(json!({})).await;
    mount.sim.policy(demands(None));
    mount.write("static-creds/app/rotate", json!({})).await.refused("key_ttl");
    let warned = mount.write("static-roles/app", json!({"key_ttl": "48h"})).await;
    assert!(warned.warnings()[0].contains("an outage of more than 24h"), "{:?}", warned.warnings());
    mount.write("static-creds/app/rotate", json!({})).await.done();
    assert!(left(&mount).await.is_some());
    mount.write("static-roles/app", json!({"key_ttl": 0})).await.nothing();
    mount.sim.policy(Policy::default());
    rotate(&mount, "app").await;
    assert_eq!(left(&mount).await, None, "off again");
}

#[tokio::test]
async fn a_key_must_not_end_before_its_rotation_is_due() {
    let mount = mount().await;
    let account = mount.seed("mine", false).id;
    for (settings, says) in [
        (json!({"key_ttl": "24h"}), "key_ttl must be at least 10m more than the time between rotations"),
        (json!({"key_ttl": 86_400 + 599}), "key_ttl must be at least 10m more"),
        (json!({"rotation_schedule": "0 3 * * 1", "key_ttl": "6d"}), "key_ttl must be at least 10m more"),
        (json!({"rotation_schedule": "0 3 1 * *", "key_ttl": "31d"}), "key_ttl must be at least 10m more"),
        (
            json!({"rotation_period": 0, "key_ttl": "24h"}),
            "key_ttl needs rotation_period or rotation_schedule",
        ),
        (json!({"key_ttl": "8761h"}), "key_ttl must not be above one year (8760h)"),
    ] {
        let mut body = json!({"service_account_id": account, "project": PROJECT});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        mount.write("static-roles/app", body).await.refused(says);
    }
    for settings in [
        json!({"key_ttl": 86_400 + 600}),
        json!({"rotation_schedule": "0 3 * * 1", "key_ttl": "8d"}),
        json!({"rotation_schedule": "0 3 1 * *", "key_ttl": "32d"}),
    ] {
        let mut body = json!({"service_account_id": account, "project": PROJECT});
        body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        mount.write("static-roles/app", body).await.done();
        mount.write("static-roles/app", json!({"rotation_period": "300d"})).await.refused("key_ttl must be");
        mount.delete("static-roles/app").await.nothing();
    }
}

#[tokio::test]
async fn a_key_is_replaced_before_it_expires_whatever_the_role_is_told_since() {
    for change in [
        json!({"rotation_period": "720h", "key_ttl": "768h"}),
        json!({"rotation_period": "720h", "key_ttl": 0}),
        json!({"rotation_period": 0, "key_ttl": 0}),
        json!({"rotation_schedule": "0 3 1 * *", "rotation_window": "2h", "key_ttl": 0}),
    ] {
        let (mount, _) = with_warned_app(json!({"rotation_period": "24h", "key_ttl": "48h"})).await;
        mount.write("static-roles/app", change.clone()).await.done();
        mount.restart().await;
        let first = key(&mount, "app").await;
        let told = role(&mount, "app").await["next_vault_rotation"].as_str().unwrap().to_owned();
        let told: chrono::DateTime<chrono::Utc> = told.parse().unwrap();
        assert!((told - mount.now()).num_minutes() <= 48 * 60 - 10, "{change}: {told}");
        for _ in 0..50 {
            mount.advance(MINUTE * 56);
            mount.tick().await.done();
            assert!(mount.sim.state().is_live(&key(&mount, "app").await), "{change}");
            mount.advance(MINUTE * 4);
        }
        assert_ne!(key(&mount, "app").await, first, "{change}");
        mount.delete("static-roles/app").await.nothing();
    }
}

#[tokio::test]
async fn a_key_that_would_expire_before_the_next_window_is_replaced_outside_of_it() {
    let settings =
        json!({"rotation_schedule": "0 3 * * *", "rotation_window": "2m", "key_ttl": 86_400 + 600});
    let (mount, _) = with_warned_app(settings).await;
    let old = key(&mount, "app").await;
    // Vault is away at the window, and back before the key expires.
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    let new = key(&mount, "app").await;
    assert_ne!(new, old);
    assert!(mount.sim.state().is_live(&new));
    mount.delete("static-roles/app").await.nothing();
}

/// Like [`with_app`], for a role whose writing warns of its `key_ttl`.
async fn with_warned_app(mut settings: Value) -> (Mount, Seeded) {
    let mount = mount().await;
    let account = mount.seed("account-of-app", true);
    settings["service_account_id"] = account.id.as_str().into();
    settings["project"] = PROJECT.into();
    let written = mount.write("static-roles/app", settings).await;
    assert!(written.warnings()[0].contains("an outage of more than"), "{:?}", written.warnings());
    (mount, account)
}
