//! What releases have stored, kept as they wrote it: every later release reads it, and what a newer one wrote is refused
//! and kept.
//!
//! A release that stores something in a new way gets a folder of its own beside `v1`; none is ever changed.

use std::collections::BTreeMap;

use openai_secrets::logical::{Entry, Kind, Storage as _};
use serde_json::{Value, json};

use crate::support::Mount;

/// The write-ahead entry that stands for several credentials, as it was before creation windows, and a record of one.
const V2: &str = include_str!("../fixtures/v2/storage.json");
/// The storage of a mount that has lived: entries of every kind there is.
const V1: &str = include_str!("../fixtures/v1/storage.json");

/// The entries, with this test's OpenAI in place of the real one.
fn entries(mount: &Mount) -> BTreeMap<String, Value> {
    let mut entries: BTreeMap<String, Value> = serde_json::from_str(V1).unwrap();
    entries.get_mut("config").unwrap()["api_endpoint"] = mount.sim.url().into();
    entries
}

async fn store(mount: &Mount, entries: &BTreeMap<String, Value>) {
    for (key, value) in entries {
        let value = value.to_string().into_bytes();
        mount.storage.put(Entry { key: key.clone(), value, seal_wrap: true }).await.unwrap();
    }
    mount.restart().await;
}

#[tokio::test]
async fn what_the_first_version_stored_is_read() {
    let mount = Mount::start().await;
    store(&mount, &entries(&mount)).await;
    let config = mount.read("config").await.json();
    assert_eq!(
        (&config["organization_id"], &config["quota_tracking"]),
        (&json!("org-fixture"), &json!(true))
    );
    assert_eq!(mount.read("project/research").await.text("project_id"), "proj_fixture");
    assert_eq!(mount.read("roles/app").await.json()["ttl"], 60);
    assert_eq!(
        mount.read("static-creds/app").await.text("api_key"),
        "sk-svcacct-of-the-fixture-00000000000000"
    );
    assert!(mount.read("static-roles/app").await.json()["grace_keys"]["key_5"].is_object());
    let status = mount.read("library-sets/pool/status").await.json();
    assert_eq!(status["account_status"], json!({"a": "checked-out", "b": "available"}));
    let claimed = json!({"project": "research", "service_account_names": "a"});
    mount.write("library-sets/other", claimed).await.error();
    let health = mount.read("health").await.json();
    // The entry of an admin key counts once its name has moved to the configuration.
    assert_eq!(health["unfinished_creations"], 1, "{health}");
    mount.delete("config").await.refused("1 credential and 1 check-out");
    mount.abandon();
}

#[tokio::test]
async fn what_a_newer_version_stored_is_refused_and_kept() {
    for (key, path) in [
        ("config", "config"),
        ("project/research", "project/research"),
        ("role/app", "roles/app"),
        ("static-role/app", "static-creds/app"),
        ("library-set/pool", "library-sets/pool"),
        ("library-loan/pool/svc_acct_2", "library-sets/pool/status"),
    ] {
        let mount = Mount::start().await;
        let mut entries = entries(&mount);
        entries.get_mut(key).unwrap()["version"] = 2.into();
        store(&mount, &entries).await;
        mount.read(path).await.failed(Kind::Internal, "a newer release of this plugin");
        mount.abandon();
    }
}

/// What the version stored that came before creation windows: one write-ahead entry names several credentials.
#[tokio::test]
async fn write_ahead_entries_of_credentials_of_the_second_version_are_worked_off() {
    let mount = Mount::start().await.configured().await.with_project().await;
    for name in ["vault-app-recorded-tgdps6", "vault-app-unrecord-tgdps6"] {
        mount.seed(name, true);
    }
    let text = V2
        .replace("org-fixture", mount.sim.organization())
        .replace("proj_fixture", mount.sim.project())
        .replace("2026-11-24T18:30:18.469006488Z", &mount.now().to_rfc3339());
    store(&mount, &serde_json::from_str(&text).unwrap()).await;
    mount.tick_now().await.done();
    let left: Vec<_> = mount.sim.state().accounts.into_iter().map(|account| account.name).collect();
    assert_eq!((left, mount.stored("wal/").len()), (vec!["vault-app-recorded-tgdps6".to_owned()], 0));
    mount.abandon();
}

#[tokio::test]
async fn no_tick_touches_what_a_newer_version_stored() {
    let mount = Mount::start().await;
    let mut entries = entries(&mount);
    for (_, entry) in entries.iter_mut().filter(|(key, _)| *key != "config") {
        entry["version"] = 2.into();
    }
    // The time of the last tick and markers are no loss; the name in a write-ahead entry moves to the configuration.
    entries.retain(|key, _| {
        let may_go = ["tick-seen", "due/", "static-due/", "library-due/", "wal/admin"];
        !may_go.iter().any(|it| key.starts_with(it))
    });
    store(&mount, &entries).await;
    for _ in 0..2 {
        let _said = mount.tick_now().await;
        mount.advance(std::time::Duration::from_secs(1000 * 86_400));
    }
    for (key, value) in entries.iter().filter(|(key, _)| *key != "config") {
        let stored = mount.storage.get(key).await.unwrap().unwrap_or_else(|| panic!("{key} is gone"));
        assert_eq!(serde_json::from_slice::<Value>(&stored.value).unwrap(), *value, "{key}");
    }
    mount.abandon();
}
