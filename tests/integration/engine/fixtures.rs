//! What releases have stored, kept as they wrote it: every later release reads it, and what a newer one wrote is refused
//! and kept.
//!
//! A release that stores something in a new way gets a folder of its own beside `v1`; none is ever changed.

use std::collections::BTreeMap;

use openai_secrets::logical::{Entry, Kind, Storage as _};
use serde_json::{Value, json};

use crate::support::Mount;

/// Write-ahead entries of both kinds as they were before creation windows, and the record of one credential.
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

/// Storage of the version before creation windows: entries that name several credentials, and entries of other owners.
#[tokio::test]
async fn write_ahead_entries_of_the_second_version_are_worked_off() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let names = |front: &str, ends: &[&str]| -> Vec<String> {
        ends.iter().map(|end| format!("vault-{front}-{end}-tgdps6")).collect()
    };
    let accounts = [
        names("app", &["recorded", "unrecord", "wasused0"]),
        names("role", &["cutshort"]),
        names("sets", &["cutshort"]),
    ];
    for name in accounts.concat() {
        let (_, value) = mount.seed(&name, true).key.unwrap();
        if name.contains("wasused0") {
            mount.sim.use_key(&value);
        }
    }
    let worker = mount.seed("worker", false).id;
    let keys = ["unrecord", "wasused0"].map(|end| mount.seed_key(&worker, &names("key", &[end])[0]));
    mount.sim.use_key(&keys[1].1);
    let text = V2
        .replace("org-fixture", mount.sim.organization())
        .replace("proj_fixture", mount.sim.project())
        .replace("svc_acct_fixture", &worker)
        .replace("2026-11-24T18:30:18.469006488Z", &mount.now().to_rfc3339());
    store(&mount, &serde_json::from_str(&text).unwrap()).await;
    mount.tick_now().await.done();
    let mut left: Vec<_> = mount.sim.state().accounts.into_iter().map(|account| account.name).collect();
    left.sort_unstable();
    assert_eq!(left, [names("app", &["recorded", "wasused0"]), vec!["worker".to_owned()]].concat());
    assert_eq!(keys.map(|(_, value)| mount.sim.state().is_live(&value)), [false, true]);
    let recorded =
        mount.stored("ledger/").into_iter().filter_map(|key| Some(key.rsplit_once('/')?.1.to_owned()));
    assert_eq!(
        recorded.collect::<Vec<_>>(),
        [names("app", &["recorded", "wasused0"]), names("key", &["wasused0"])].concat()
    );
    assert_eq!(mount.stored("wal/").len(), 0);
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

#[tokio::test]
async fn storage_of_a_newer_version_refuses_every_request_and_stays_as_it_is() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let lease = mount.read("creds/app").await.lease().clone();
    mark(&mount, 3).await;
    mount.restart_anyway().await;
    let (before, calls) = (mount.storage.snapshot(), mount.sim.log().len());
    for refused in [
        mount.read("config").await,
        mount.read("creds/app").await,
        mount.write("roles/other", json!({"project": "research"})).await,
        mount.delete("roles/app").await,
        mount.list("roles").await,
        mount.revoke(&lease).await,
        mount.tick_now().await,
    ] {
        refused.failed(
            Kind::Internal,
            "the storage of this mount is of version 3, which a newer release of this plugin wrote",
        );
    }
    mount.help("config").await.done();
    assert_eq!((mount.storage.snapshot(), mount.sim.log().len()), (before, calls));
    // The newer release is there again.
    mark(&mount, 2).await;
    mount.restart().await;
    mount.revoke(&lease).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn storage_of_an_earlier_version_is_marked_by_a_node_that_may_write_it() {
    let mount = Mount::start().await;
    let marked = mount.storage_text("storage-version");
    assert_eq!(marked, "{\"version\":2}\n");
    mark(&mount, 1).await;
    mount.set_secondary(true);
    mount.restart().await;
    assert_eq!(mount.storage_text("storage-version"), "{\"version\":1}\n");
    mount.set_secondary(false);
    mount.restart().await;
    assert_eq!(mount.storage_text("storage-version"), marked);
}

async fn mark(mount: &Mount, version: u32) {
    let (key, value) = ("storage-version".to_owned(), json!({"version": version}).to_string().into_bytes());
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
}
