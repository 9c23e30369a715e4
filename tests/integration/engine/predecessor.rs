//! A mount that the Go plugin had before, from what it stored on a real Vault. With the plugin itself it is
//! `host/predecessor`'s story.

use std::time::Duration;

use openai_secrets::logical::{Entry, Kind, Operation, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Simulator, endpoint};
use crate::support::go_plugin_storage::{ROLE, stored};
use crate::support::{Granted, Mount};

const HOUR: Duration = Duration::from_secs(3_600);

/// What the Go plugin left, with this OpenAI's names in place of those that it was recorded with.
async fn mount() -> Mount {
    let mount = Mount::start().await;
    let Value::Object(mut left) = stored() else { panic!("an object") };
    let config = mount.config();
    for field in ["admin_api_key", "organization_id", "api_endpoint"] {
        left["config"][field] = config[field].clone();
    }
    left["role"]["project_id"] = mount.sim.project().into();
    for (key, part) in [("config".to_owned(), "config"), (format!("roles/{ROLE}"), "role")] {
        let value = left.remove(part).unwrap().to_string().into_bytes();
        let seal_wrap = key == "config";
        mount.storage.put(Entry { key, value, seal_wrap }).await.unwrap();
    }
    mount.restart().await;
    mount
}

/// A lease of the Go plugin that began so long ago, on an account that stands.
fn lease(mount: &Mount, age: Duration) -> Granted {
    let (held, account) = (&stored()["lease"], mount.seed("go-team-0a1b2c3d", true));
    let Value::Object(mut internal) = held["internal_data"].clone() else { panic!("an object") };
    let (key_id, api_key) = account.key.unwrap();
    internal["project_id"] = mount.sim.project().into();
    internal["service_account_id"] = account.id.into();
    internal["api_key_id"] = key_id.into();
    let ttl = Duration::from_nanos(held["lease"].as_u64().unwrap());
    Granted {
        id: format!("openai/creds/{ROLE}/x"),
        internal,
        ttl,
        max_ttl: ttl,
        renewable: false,
        issued: mount.now() - age,
        api_key,
    }
}

#[tokio::test]
async fn its_configuration_and_roles_are_read_and_left_as_they_are() {
    let mount = mount().await;
    let before = (mount.storage_text("config"), mount.storage_text("roles/"));
    let config = mount.read("config").await;
    assert_eq!(config.text("api_endpoint"), mount.sim.url());
    assert_eq!(config.text("admin_api_key_id"), stored()["config"]["admin_api_key_id"]);
    assert_eq!(config.json()["automatic_rotation_period"], 0);
    let role = mount.read(&format!("roles/{ROLE}")).await;
    assert_eq!(role.text("project_id"), mount.sim.project());
    assert_eq!((&role.json()["ttl"], &role.json()["max_ttl"]), (&json!(7_200), &json!(43_200)));
    assert_eq!(mount.list("roles").await.keys(), [ROLE]);
    assert_eq!(mount.exists(&format!("roles/{ROLE}")).await.unwrap(), Some(true));

    let made = mount.read(&format!("creds/{ROLE}")).await;
    assert_eq!(made.lease().ttl, 2 * HOUR);
    mount.revoke(made.lease()).await.done();
    assert_eq!((mount.storage_text("config"), mount.storage_text("roles/")), before);
    mount.finish().await;
}

#[tokio::test]
async fn a_write_changes_what_it_sends_and_a_deletion_leaves_nothing() {
    let mount = mount().await;
    let rotated = mount.read("config").await.text("last_rotated");
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    assert_eq!(mount.read("config").await.text("last_rotated"), rotated);
    let role = format!("roles/{ROLE}");
    mount.write(&role, json!({"ttl": "1h"})).await.done();
    let written = mount.read(&role).await.json();
    assert_eq!((&written["ttl"], &written["max_ttl"]), (&json!(3_600), &json!(43_200)));

    mount.delete(&role).await.done();
    mount.read(&role).await.nothing();
    mount.restart().await;
    mount.read(&role).await.nothing();
    assert_eq!(mount.list("roles").await.keys(), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn its_lease_ends_with_the_account_and_twice_is_fine() {
    let mount = mount().await;
    let lease = lease(&mount, HOUR);
    mount.revoke(&lease).await.done();
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    let metrics = mount.read("metrics").await.text("http_raw_body");
    assert!(metrics.contains(&format!(r#"openai_creds_revoked{{role="{ROLE}"}} 1"#)), "{metrics}");
    mount.revoke(&lease).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn what_openai_does_not_end_is_on_record_whether_it_ran_out_or_was_revoked() {
    for age in [HOUR, 3 * HOUR] {
        let mount = mount().await;
        let lease = lease(&mount, age);
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html));
        for _ in 0..6 {
            mount.revoke(&lease).await.failed(Kind::Internal, "revocation failed");
        }
        assert_eq!(mount.stored("ledger/").len(), 1, "{age:?}");
        // Vault has given up.
        mount.sim.clear_faults();
        mount.advance(HOUR);
        mount.tick().await.done();
        assert!(mount.sim.state().accounts.is_empty(), "{age:?}");
        assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
        mount.finish().await;
    }
}

#[tokio::test]
async fn an_organization_without_its_project_proves_nothing_of_its_lease() {
    let mount = mount().await;
    let lease = lease(&mount, HOUR);
    let other = Simulator::start().await;
    let elsewhere = json!({"admin_api_key": other.admin_key(), "organization_id": other.organization(),
        "api_endpoint": other.url()});
    mount.write("config", elsewhere).await.done();
    mount.revoke(&lease).await.failed(Kind::Internal, "is not in organization");
    assert!(mount.sim.state().is_live(&lease.api_key));
    mount.write("config", mount.config()).await.done();
    mount.revoke(&lease).await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn without_a_configuration_its_lease_waits() {
    let mount = mount().await;
    let lease = lease(&mount, HOUR);
    mount.delete("config").await.done();
    mount.revoke(&lease).await.failed(Kind::Internal, "OpenAI client not configured");
    mount.write("config", mount.config()).await.done();
    mount.revoke(&lease).await.done();
    assert!(mount.sim.state().accounts.is_empty());
}

/// The rotation job that the Go plugin registered at Vault Enterprise's rotation manager.
fn its_job() -> Vec<(String, String)> {
    vec![("openai/".to_owned(), "config".to_owned())]
}

#[tokio::test]
async fn its_rotation_job_is_taken_away_once_the_configuration_is_ours() {
    let mount = mount().await;
    mount.read("config").await.done();
    mount.read(&format!("creds/{ROLE}")).await.done();
    assert_eq!(mount.host.take_deregistered(), [], "reading leaves everything as it was");
    mount.write("config", json!({"automatic_rotation_period": "1d"})).await.done();
    assert_eq!(mount.host.take_deregistered(), its_job());
    mount.write("config", json!({"automatic_rotation_period": "2d"})).await.done();
    assert_eq!(mount.host.take_deregistered(), [], "once is enough");
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
}

#[tokio::test]
async fn its_rotation_job_is_taken_away_by_whatever_writes_deletes_or_rotates() {
    for (what, body) in [
        ("config", json!({"disable_automated_rotation": true})),
        ("config/rotate", json!({})),
        ("admin-key-rotation", json!({})),
    ] {
        let mount = mount().await;
        mount.write(what, body).await.done();
        assert_eq!(mount.host.take_deregistered(), its_job(), "{what}");
    }
    let mount = mount().await;
    mount.delete("config").await.done();
    assert_eq!(mount.host.take_deregistered(), its_job());
}

#[tokio::test]
async fn a_rotation_manager_that_fails_is_told_and_asked_again_at_the_next_write() {
    let mount = mount().await;
    mount.host.fail_rotation_manager(true);
    let answer = mount.write("config", json!({"automatic_rotation_period": "1d"})).await;
    assert!(answer.warnings()[0].contains("rotation job"), "{:?}", answer.warnings());
    mount.restart().await;
    mount.delete("config").await.refused("rotation job");
    mount.host.fail_rotation_manager(false);
    mount.write("config", json!({"automatic_rotation_period": "2d"})).await.done();
    assert_eq!(mount.host.take_deregistered(), its_job());
    mount.delete("config").await.done();
    assert_eq!(mount.host.take_deregistered(), []);
}

#[tokio::test]
async fn a_configuration_is_deleted_by_force_whatever_the_rotation_manager_says() {
    let mount = mount().await;
    mount.host.fail_rotation_manager(true);
    let answer = mount.delete_by_force("config").await;
    assert!(answer.warnings()[0].contains("rotation job"), "{:?}", answer.warnings());
    mount.read("config").await.nothing();
}

#[tokio::test]
async fn a_job_that_outlived_its_configuration_is_taken_away_when_it_calls() {
    for is_off in [true, false] {
        let mount = mount().await;
        let config = mount.config();
        mount.host.fail_rotation_manager(true);
        mount.delete_by_force("config").await.done();
        mount.write("config", config).await.done();
        if !is_off {
            mount.write("config", json!({"automatic_rotation_period": "1d"})).await.done();
        }
        let calls = async || mount.ask(mount.request(Operation::Rotate, "config", json!({}))).await;
        let _said = calls().await;
        assert_eq!(mount.host.take_deregistered(), []);
        mount.host.fail_rotation_manager(false);
        let _said = calls().await;
        assert_eq!(mount.host.take_deregistered(), its_job(), "off: {is_off}");
    }
}

#[tokio::test]
async fn a_configuration_of_ours_never_asks_the_rotation_manager() {
    let mount = Mount::start().await.configured().await;
    mount.host.fail_rotation_manager(true);
    mount.write("config", json!({"automatic_rotation_period": "1d"})).await.done();
    mount.write("config/rotate", json!({})).await.done();
    mount.delete("config").await.done();
}
