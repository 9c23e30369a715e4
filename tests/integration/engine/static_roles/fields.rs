//! Writing, reading, patching and listing: what is taken, what is refused, what is answered.

use openai_secrets::logical::Kind;
use serde_json::{Value, json};

use super::*;
use crate::simulator::endpoint;

#[tokio::test]
async fn a_new_role_makes_a_key_on_the_account_and_ends_nothing_of_it() {
    let (mount, account) = with_app(json!({})).await;
    assert!(is_untouched(&mount, &account));
    let keys = live_keys(&mount, &account.id);
    assert_eq!(keys.len(), 2);
    assert!(keys[1].name.starts_with("vault-static-key-"), "{}", keys[1].name);
    assert_eq!(keys[1].expires_at, None);
    let creds = mount.read("static-creds/app").await.json();
    assert_eq!((&creds["api_key"], &creds["api_key_id"]), (&json!(keys[1].value), &json!(keys[1].id)));
}

#[tokio::test]
async fn reads_answer_the_documented_fields_and_no_others() {
    let (mount, account) = with_app(json!({"rotation_period": "48h"})).await;
    let mut read = role(&mount, "app").await;
    let (last, next) = (read["last_vault_rotation"].take(), read["next_vault_rotation"].take());
    let next: chrono::DateTime<chrono::Utc> = next.as_str().unwrap().parse().unwrap();
    let last: chrono::DateTime<chrono::Utc> = last.as_str().unwrap().parse().unwrap();
    let planned = (next - last).num_seconds();
    assert!((172_800..=172_820).contains(&planned), "{planned}");
    assert_eq!(
        read,
        json!({
            "project": PROJECT, "project_id": "", "service_account_id": account.id,
            "current_service_account_id": account.id, "service_account": "account-of-app",
            "api_key_name": "vault-static-key",
            "rotation_period": 172_800, "rotation_schedule": "", "rotation_window": 0,
            "rotation_method": "key", "grace_period": 600, "ttl": 86_400, "key_ttl": 0, "metadata": {},
            "rotation_failures": 0, "last_rotation_error": "", "grace_keys": {}, "deleting": false,
            "last_vault_rotation": null, "next_vault_rotation": null, "last_used_at": "",
        })
    );
    let mut creds = mount.read("static-creds/app").await.json();
    assert_eq!(creds["last_rotation"], creds["last_vault_rotation"]);
    for field in ["api_key", "api_key_id", "last_rotation", "last_vault_rotation"] {
        assert!(creds.as_object_mut().unwrap().remove(field).unwrap().is_string());
    }
    assert_eq!(
        creds,
        json!({
            "service_account_id": account.id, "service_account": "account-of-app",
            "rotation_period": 172_800, "ttl": 86_400, "role": "app",
            "project_id": mount.sim.project(), "custom_metadata": {},
        })
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let mount = mount().await;
    mount.read("static-roles/app").await.nothing();
    mount.read("static-creds/app").await.refused("static role \"app\" not found");
    mount.delete("static-roles/app").await.nothing();
    mount
        .patch("static-roles/app", json!({"ttl": 60}))
        .await
        .failed(Kind::Status(404), "static role \"app\" not found");
    mount.write("static-creds/app/rotate", json!({})).await.refused("static role \"app\" not found");
    assert!(mount.list("static-roles").await.keys().is_empty());
}

#[tokio::test]
async fn bad_fields_are_refused_in_a_sentence_and_nothing_is_made() {
    let mount = mount().await;
    let account = mount.seed("mine", false).id;
    for (change, says) in [
        (json!({"service_account_id": null}), "missing required field \"service_account_id\""),
        (json!({"service_account_id": "a/b"}), "service_account_id: an id must be made of"),
        (json!({"service_account_id": "svc_acct_9"}), "service_account_id must name an account of project"),
        (json!({"project": ""}), "project (a name) or project_id (OpenAI's id) is required"),
        (json!({"project": "nowhere"}), "project not found: nowhere"),
        (json!({"project_id": "proj_other"}), "project and project_id must agree"),
        (json!({"rotation_period": 59}), "rotation_period must be 0 (rotation by hand only) or at least 1m"),
        (json!({"rotation_period": "1h", "rotation_schedule": "0 3 * * *"}), "mutually exclusive fields"),
        (json!({"rotation_schedule": "0 3 * *"}), "failed to parse provided rotation_schedule: expected 5"),
        (json!({"rotation_window": "1h"}), "rotation_window does not apply to period"),
        (json!({"rotation_schedule": "0 3 * * *", "rotation_window": 60}), "rotation_window must be 0"),
        (json!({"rotation_method": "both"}), "rotation_method must be key or account, not \"both\""),
        (json!({"grace_period": "25h"}), "grace_period must not be above the time between rotations: 25h"),
        (json!({"rotation_period": 0, "grace_period": "9000h"}), "grace_period must not be above one year"),
        (json!({"grace_period": -1}), "grace_period"),
        (json!({"ttl": 0}), "ttl must be at least 1s"),
        (json!({"api_key_name": " "}), "api_key_name must not be empty"),
    ] {
        let mut body = json!({"service_account_id": account, "project": PROJECT});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        mount.write("static-roles/app", body).await.refused(says);
    }
    assert!(live_keys(&mount, &account).is_empty());
    assert!(mount.stored("static-").is_empty() && mount.stored("wal/").is_empty());
}

#[tokio::test]
async fn an_account_belongs_to_one_static_role_and_may_go_to_another_when_that_is_deleted() {
    let (mount, account) = with_app(json!({})).await;
    let body = json!({"service_account_id": account.id, "project": PROJECT});
    let other = mount.write("static-roles/other", body.clone()).await;
    other.refused(&format!("service account {} already belongs to static role app", account.id));
    assert_eq!(live_keys(&mount, &account.id).len(), 2);
    mount.delete("static-roles/app").await.nothing();
    mount.write("static-roles/other", body).await.nothing();
}

#[tokio::test]
async fn the_account_that_owns_the_admin_key_is_refused() {
    let mount = mount().await;
    let account = mount.seed("automation", true);
    mount.sim.own_admin_keys(&account.id);
    let body = json!({"service_account_id": account.id, "project": PROJECT});
    mount.write("static-roles/app", body).await.refused("it is the account that owns the admin key");
    assert_eq!(live_keys(&mount, &account.id).len(), 1);
}

#[tokio::test]
async fn a_write_that_openai_fails_leaves_no_role_no_claim_and_no_key() {
    let mount = mount().await;
    let account = mount.seed("mine", false);
    mount.sim.policy(crate::simulator::Policy { expiry_required: true, ..Default::default() });
    let body = json!({"service_account_id": account.id, "project": PROJECT});
    let refused = mount.write("static-roles/app", body.clone()).await;
    refused.refused("API key creation failed: Your organization's policy requires API keys to expire");
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
    mount.sim.policy(crate::simulator::Policy::default());
    mount.write("static-roles/other", body).await.nothing();
}

#[tokio::test]
async fn an_update_and_a_patch_change_only_what_they_send_and_make_no_call() {
    let (mount, _) = with_app(json!({"grace_period": "1h", "ttl": "2h"})).await;
    let (before, calls) = (role(&mount, "app").await, mount.sim.state().all_calls());
    let creds = mount.read("static-creds/app").await.json();
    mount.patch("static-roles/app", json!({"ttl": "1h"})).await.nothing();
    mount.write("static-roles/app", json!({"rotation_schedule": "0 3 * * *"})).await.nothing();
    let mut after = role(&mount, "app").await;
    assert_ne!(after["next_vault_rotation"].take(), before["next_vault_rotation"]);
    let mut expected = before;
    expected["next_vault_rotation"] = Value::Null;
    (expected["ttl"], expected["rotation_period"]) = (json!(3600), json!(0));
    expected["rotation_schedule"] = json!("0 3 * * *");
    assert_eq!(after, expected);
    assert_eq!(mount.read("static-creds/app").await.text("api_key"), creds["api_key"]);
    assert_eq!(mount.sim.state().all_calls(), calls);
}

#[tokio::test]
async fn writing_what_was_read_changes_nothing() {
    for settings in [
        json!({}),
        json!({"rotation_schedule": "*/5 * * * *", "rotation_window": "2m", "grace_period": 30}),
        json!({"rotation_period": 0, "rotation_method": "account", "grace_period": "48h", "api_key_name": "x"}),
        json!({"metadata": {"team": "search"}}),
    ] {
        let (mount, _) = with_app(settings).await;
        let before = role(&mount, "app").await;
        let mut body = before.clone();
        for shown in
            ["last_vault_rotation", "next_vault_rotation", "rotation_failures", "last_rotation_error"]
        {
            body.as_object_mut().unwrap().remove(shown);
        }
        mount.write("static-roles/app", body).await.done();
        assert_eq!(role(&mount, "app").await, before);
    }
}

#[tokio::test]
async fn account_and_project_of_a_role_cannot_be_changed_and_it_stays_as_it_was() {
    let (mount, account) = with_app(json!({})).await;
    let before = (role(&mount, "app").await, key(&mount, "app").await);
    let other = mount.seed("other", false);
    mount
        .write("static-roles/app", json!({"service_account_id": other.id, "ttl": 60}))
        .await
        .refused(&format!("service_account_id cannot be changed from {} to {}", account.id, other.id));
    mount
        .write("static-roles/app", json!({"project_id": "proj_elsewhere"}))
        .await
        .refused("the project of a static role cannot be changed");
    mount.write("static-roles/app", json!({"project": "nowhere"})).await.refused("project not found");
    assert_eq!((role(&mount, "app").await, key(&mount, "app").await), before);
    // The same project by its id is the same project.
    let id = mount.sim.project().to_owned();
    mount.write("static-roles/app", json!({"project_id": id})).await.nothing();
    assert_eq!(role(&mount, "app").await["project"], "");
}

#[tokio::test]
async fn a_project_cannot_go_while_a_static_role_uses_it() {
    let (mount, _) = with_app(json!({})).await;
    let path = format!("project/{PROJECT}");
    mount.delete(&path).await.refused("cannot delete: it is used by static role app");
    mount.delete("static-roles/app").await.nothing();
    mount.delete(&path).await.nothing();
}

#[tokio::test]
async fn a_list_tells_names_and_what_they_are() {
    let (mount, account) = with_app(json!({})).await;
    write_role(&mount, "batch", json!({"rotation_schedule": "0 3 * * *"})).await;
    let list = mount.list("static-roles").await;
    assert_eq!(list.keys(), ["app", "batch"]);
    let info = &list.json()["key_info"];
    assert_eq!(info["app"]["service_account_id"], account.id.as_str());
    assert_eq!(info["batch"]["rotation_schedule"], "0 3 * * *");
    assert_eq!(info["app"]["api_key"], Value::Null);
}

#[tokio::test]
async fn reading_a_key_is_one_read_of_storage_and_no_call_on_a_standby_too() {
    let (mount, _) = with_app(json!({})).await;
    mount.host.set_performance_standby(true);
    mount.storage.set_read_only(true);
    let (calls, gets) = (mount.sim.state().all_calls(), mount.storage.calls().gets);
    key(&mount, "app").await;
    assert_eq!((mount.sim.state().all_calls(), mount.storage.calls().gets), (calls, gets + 1));
    for refused in [
        mount.write("static-creds/app/rotate", json!({})).await,
        mount.write("static-roles/app", json!({"ttl": 60})).await,
        mount.delete("static-roles/app").await,
    ] {
        refused.failed(Kind::ReadOnly, "cannot write to readonly storage");
    }
    mount.advance(DAY * 2);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls);
}

#[tokio::test]
async fn a_role_is_made_with_three_calls_and_rotated_with_two() {
    let (mount, _) = with_app(json!({})).await;
    let mount = mount.without_lag();
    let state = mount.sim.state();
    assert_eq!(state.calls(endpoint::READ_ACCOUNT), 1);
    assert_eq!(state.calls(endpoint::READ_ADMIN_KEY), 1);
    assert_eq!(state.calls(endpoint::CREATE_KEY), 1);
    rotate(&mount, "app").await;
    assert_eq!(mount.sim.state().all_calls(), state.all_calls() + 2);
}

#[tokio::test]
async fn a_grace_is_held_against_the_shortest_time_between_rotations_whenever_it_is_written() {
    for (schedule, longest) in [
        ("57,59 * * * *", "2m"),
        ("0 3 * * *", "24h"),
        ("0 3 1 * *", "672h"),
        ("0 3 * * 1,2", "24h"),
        ("0 0,23 * * *", "1h"),
        ("30 4 29 2 *", "8760h"),
        ("0 12 1 * 1", "24h"),
        ("*/7 * * * *", "4m"),
    ] {
        let mount = mount().await;
        let account = mount.seed("mine", false).id;
        let body = |grace: &str| {
            json!({
                "service_account_id": account, "project": PROJECT, "rotation_schedule": schedule,
                "grace_period": grace,
            })
        };
        for hours in [1, 24 * 40] {
            let above = format!("{}s", seconds(longest) + 1);
            let says = if longest == "8760h" { "one year" } else { "grace_period must not be above" };
            mount.write("static-roles/app", body(&above)).await.refused(says);
            mount.write("static-roles/app", body(longest)).await.done();
            mount.delete("static-roles/app").await.done();
            mount.advance(HOUR * hours + MINUTE * 2);
        }
    }
}

/// A duration of the table above.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    number.parse::<u64>().unwrap() * if unit == "h" { 3_600 } else { 60 }
}

#[tokio::test]
async fn a_stored_grace_that_is_too_long_stops_no_other_write() {
    let (mount, _) = with_app(json!({"rotation_schedule": "57,59 * * * *", "grace_period": "1m"})).await;
    let mut entries = mount.storage.snapshot();
    let entry = entries.iter_mut().find(|entry| entry.key == "static-role/app").unwrap();
    let mut stored: Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!(stored["grace_period"], 60);
    stored["grace_period"] = json!(600);
    entry.value = stored.to_string().into_bytes();
    mount.storage.restore(entries);
    for _ in 0..60 {
        mount.write("static-roles/app", json!({"ttl": "1h"})).await.nothing();
        mount.advance(MINUTE);
    }
    mount
        .write("static-roles/app", json!({"grace_period": "11m"}))
        .await
        .refused("grace_period must not be above");
    let schedule = json!({"rotation_schedule": "56,59 * * * *"});
    mount.write("static-roles/app", schedule).await.refused("grace_period must not be above");
    // What is read may be written again.
    let read = role(&mount, "app").await;
    let same = json!({"grace_period": read["grace_period"], "rotation_schedule": read["rotation_schedule"]});
    mount.write("static-roles/app", same).await.nothing();
}

#[tokio::test]
async fn a_role_by_hand_answers_no_period_that_looks_like_a_plan() {
    let (mount, _) = with_app(json!({"rotation_period": 0, "ttl": "1h"})).await;
    let creds = mount.read("static-creds/app").await.json();
    assert_eq!((&creds["rotation_period"], &creds["ttl"]), (&json!(31_536_000), &json!(3600)));
    assert_eq!(role(&mount, "app").await["rotation_period"], 0);
}

#[tokio::test]
async fn an_unset_grace_is_ten_minutes_or_a_tenth_of_the_period_and_stays_unset_when_read_and_written() {
    for (schedule, grace) in [
        (json!({}), 600),
        (json!({"rotation_period": "1h"}), 360),
        (json!({"rotation_period": 60}), 6),
        (json!({"rotation_schedule": "57,59 * * * *"}), 12),
        (json!({"rotation_period": 0}), 0),
    ] {
        let (mount, _) = with_app(schedule.clone()).await;
        assert_eq!(role(&mount, "app").await["grace_period"], grace, "{schedule}");
        let stored = mount.storage_text("static-role/");
        mount.write("static-roles/app", json!({"grace_period": grace})).await.nothing();
        assert_eq!(mount.storage_text("static-role/"), stored, "{schedule}");
        mount.write("static-roles/app", json!({"grace_period": 5, "rotation_period": "24h"})).await.nothing();
        assert_eq!(role(&mount, "app").await["grace_period"], 5);
        mount.patch("static-roles/app", json!({"grace_period": null})).await.nothing();
        assert_eq!(role(&mount, "app").await["grace_period"], 600);
    }
}

#[tokio::test]
async fn a_role_that_was_stored_without_a_grace_keeps_none() {
    let (mount, _) = with_app(json!({})).await;
    let mut entries = mount.storage.snapshot();
    let entry = entries.iter_mut().find(|entry| entry.key == "static-role/app").unwrap();
    let mut stored: Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!(stored["grace_period"], Value::Null);
    stored.as_object_mut().unwrap().remove("grace_period").unwrap();
    entry.value = stored.to_string().into_bytes();
    mount.storage.restore(entries);
    assert_eq!(role(&mount, "app").await["grace_period"], 0);
    let old = key(&mount, "app").await;
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old), "its key ends with the rotation, as before");
}
