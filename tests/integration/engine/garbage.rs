//! Storage entries that are not what they should be: a clear error for the request that needs them, and for no other.

use std::time::Duration;

use openai_secrets::logical::{Entry, Kind, Operation, Storage as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;

/// Where entries of each kind stand.
const PREFIXES: [&str; 15] = [
    "config",
    "project/",
    "role/",
    "ledger/",
    "static-role/",
    "due/",
    "account-owner/",
    "library-set/",
    "library-loan/",
    "library-due/",
    "library-change/",
    "tick-seen",
    "quota",
    CREATION,
    ADMIN_KEY_CREATION,
];
/// The names of write-ahead entries are random: these two are put under names of their own.
const CREATION: &str = "wal/creation";
const ADMIN_KEY_CREATION: &str = "wal/admin";

/// A mount with the record of a credential whose lease was lost, and a write-ahead entry of another.
async fn with_a_credential() -> Mount {
    let mount =
        Mount::start().await.configured().await.with_project().await.with_role(json!({"ttl": 60})).await;
    let made = mount.read("creds/app").await;
    mount.lose(made.lease());
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
    mount.read("creds/app").await.error();
    mount
}

/// A mount with an entry of every kind that its life leaves.
async fn lived_in() -> Mount {
    let mount =
        Mount::start().await.configured().await.with_project().await.with_role(json!({"ttl": 60})).await;
    mount.write("config", json!({"quota_tracking": true, "key_expiry_margin": 60})).await.done();
    let made = mount.read("creds/app").await;
    mount.lose(made.lease());

    let account = mount.seed("automation", false).id;
    let role = json!({"project": "research", "service_account_id": account, "grace_period": "1h"});
    mount.write("static-roles/app", role).await.done();
    mount.write("static-creds/app/rotate", json!({})).await.done();

    let set = |names: &str| json!({"project": "research", "service_account_names": names});
    mount.write("library-sets/pool", set("a,b,c")).await.done();
    let lent = mount.write("library-sets/pool/check-out", json!({})).await;
    mount.lose(lent.lease());
    let fault = mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)));
    mount.write("library-sets/pool", set("a,b")).await.done();
    mount.sim.remove_fault(fault);

    mount.tick().await.done();
    cut_off(&mount).await;
    for prefix in PREFIXES {
        assert!(!mount.stored(prefix).is_empty(), "{prefix}");
    }
    mount
}

/// Write-ahead entries of a credential and of an admin key that nobody heard of again.
async fn cut_off(mount: &Mount) {
    let (organization, project) = (mount.sim.organization(), mount.sim.project());
    let creation = json!({"organization_id": organization, "project_id": project, "name": "vault-app-cut",
        "service_account_id": null, "owner": {"ledger": "00000001/00/vault-app-cut"}});
    let admin = json!({"organization_id": organization, "name": "vault-admin-cut"});
    for (key, kind, data) in
        [(CREATION, "creation", creation), (ADMIN_KEY_CREATION, "admin_key_creation", admin)]
    {
        put(mount, key, json!({"type": kind, "data": data, "created_at": 1_700_000_000}).to_string()).await;
    }
    // What the release before kept of a library set.
    let gone =
        json!({"name": "x", "id": "svc_acct_x", "organization_id": organization, "project_id": project});
    let change = json!({"version": 1, "touched": [gone], "due": "2026-03-01T12:00:00Z", "failures": 1});
    put(mount, "library-change/former", change.to_string()).await;
    let marker = json!({"version": 1, "set": "pool", "service_account_id": "svc_acct_x"});
    put(mount, "library-due/00000001/00/vault-pool-x", marker.to_string()).await;
}

async fn put(mount: &Mount, key: &str, value: impl Into<Vec<u8>>) {
    let entry = Entry { key: key.to_owned(), value: value.into(), seal_wrap: false };
    mount.storage.put(entry).await.unwrap();
}

/// What an entry may have become, made from what it was.
fn odd_values(good: &[u8]) -> Vec<Vec<u8>> {
    let mut odd: Vec<Vec<u8>> = ["", "null", "{}", "[]", "7", "\"x\"", "{", "\u{0}", "{\"version\":1}"]
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    odd.push(vec![0xff, 0xfe, 0x00]);
    odd.push(good[..good.len() / 2].to_vec());
    odd.push(b"[".repeat(100_000));
    let Ok(Value::Object(object)) = serde_json::from_slice(good) else { return odd };
    for name in object.keys() {
        for wrong in [json!(null), json!(-1), json!({"a": []}), json!("\u{0}../"), json!(u64::MAX)] {
            let mut changed = object.clone();
            changed[name] = wrong;
            odd.push(Value::Object(changed).to_string().into_bytes());
        }
    }
    odd
}

/// Every request that there is. None may panic; what cannot be read is an error without its content.
async fn asks_everything(mount: &Mount) {
    for path in READS {
        let answered = mount.read(path).await;
        if let (Some(lease), true) = (&answered.lease, answered.answer.is_ok()) {
            let _ = mount.revoke(lease).await;
        }
    }
    for (path, prefix) in [
        ("project", "project/"),
        ("roles", "role/"),
        ("static-roles", "static-role/"),
        ("library-sets", "library-set/"),
    ] {
        assert_eq!(
            mount.list(path).await.keys().len(),
            mount.stored(prefix).len(),
            "a list tells every name of {path}"
        );
    }
    mount.list("revocations").await.done();
    for (path, body) in [
        ("roles/app", json!({"ttl": 61})),
        ("project/research", json!({"description": "x"})),
        ("config", json!({"key_expiry_margin": 61})),
        ("static-roles/app", json!({"ttl": 61})),
        ("static-creds/app/rotate", json!({})),
        ("library-sets/pool", json!({"description": "x"})),
        ("library-sets/pool/check-out", json!({})),
        ("library-sets/pool/admin-check-in", json!({"service_account": "a"})),
        ("revocations/retry", json!({})),
        ("config/rotate", json!({})),
        ("tidy", json!({})),
    ] {
        let answered = mount.write(path, body).await;
        if let (Some(lease), true) = (&answered.lease, answered.answer.is_ok()) {
            let _ = mount.revoke(lease).await;
        }
    }
    mount.help("").await.done();
    if mount.read("config").await.answer.is_ok() {
        mount.read("health").await.done();
        mount.read("metrics").await.done();
    }
    let _ = mount.tick_now().await;
    let _ = mount.delete("static-roles/app").await;
    let _ = mount.delete("library-sets/pool").await;
}

/// What is only read.
const READS: [&str; 11] = [
    "config",
    "project/research",
    "roles/app",
    "creds/app",
    "static-roles/app",
    "static-creds/app",
    "library-sets/pool",
    "library-sets/pool/status",
    "health",
    "metrics",
    "tidy/status",
];

#[tokio::test]
async fn no_entry_of_any_content_breaks_more_than_what_needs_it() {
    for prefix in PREFIXES {
        let mount = lived_in().await;
        let saved = mount.storage.snapshot();
        let key = mount.stored(prefix).remove(0);
        let good = saved.iter().find(|entry| entry.key == key).unwrap().value.clone();
        for odd in odd_values(&good) {
            mount.storage.restore(saved.clone());
            put(&mount, &key, odd).await;
            mount.restart_anyway().await;
            asks_everything(&mount).await;
        }
        mount.abandon();
    }
}

#[tokio::test]
async fn an_unreadable_entry_is_named_without_its_content_and_can_be_replaced() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    for key in ["role/app", "project/research", "config"] {
        put(&mount, key, r#"{"version":1,"ttl":"confidential","project_id":["confidential"]}"#).await;
    }
    mount.restart().await;
    for (path, key) in
        [("roles/app", "role/app"), ("project/research", "project/research"), ("config", "config")]
    {
        let answered = mount.read(path).await;
        let error = answered.failed(Kind::Internal, &format!("storage entry {key:?} cannot be read"));
        assert!(!error.message().contains("confidential"), "{error}");
        let _ = mount.delete(path).await;
    }
    mount.delete("roles/app").await.done();
    mount.delete("project/research").await.done();
    let forced = mount.request(Operation::Delete, "config", json!({"force": true}));
    mount.ask(forced).await.done();
    let mount = mount.configured().await.with_project().await.with_role(json!({})).await;
    mount.read("roles/app").await.done();
}

#[tokio::test]
async fn an_entry_of_a_newer_version_is_refused_and_not_misread() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    for (key, path) in
        [("config", "config"), ("role/app", "roles/app"), ("project/research", "project/research")]
    {
        let text = mount.storage_text(key).replace(r#""version":1"#, r#""version":2"#);
        put(&mount, key, text.trim()).await;
        mount.backend().invalidate(key);
        mount.read(path).await.failed(Kind::Internal, "a newer release of this plugin");
        mount.write(path, json!({"description": "x"})).await.failed(Kind::Internal, "newer release");
    }
}

#[tokio::test]
async fn an_entry_of_an_older_version_without_later_fields_is_read() {
    let mount = Mount::start().await;
    let config = json!({
        "admin_api_key": mount.sim.admin_key(), "organization_id": mount.sim.organization(),
        "api_endpoint": mount.sim.url(), "last_rotated": "2025-06-01T12:00:00Z",
    });
    put(&mount, "config", config.to_string()).await;
    put(&mount, "project/research", json!({"project_id": mount.sim.project()}).to_string()).await;
    let role = json!({"project": "research", "service_account_name_template": "x", "ttl": 60, "max_ttl": 60});
    put(&mount, "role/app", role.to_string()).await;
    assert_eq!(mount.read("config").await.json()["key_expiry_margin"], 60);
    let made = mount.read("creds/app").await;
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn an_unreadable_mark_of_time_stops_no_rotation_and_is_replaced() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("automation", false).id;
    mount
        .write("static-roles/app", json!({"project": "research", "service_account_id": account}))
        .await
        .done();
    let first = mount.read("static-creds/app").await.text("api_key");
    put(&mount, "tick-seen", "garbage").await;
    mount.restart().await;
    mount.advance(Duration::from_secs(2 * 86_400));
    mount.tick().await.done();
    assert_ne!(mount.read("static-creds/app").await.text("api_key"), first);
    assert!(mount.storage_text("tick-seen").contains("\"at\""));
}

#[tokio::test]
async fn a_part_of_the_tick_that_panics_holds_up_no_other() {
    let mount = with_a_credential().await;
    mount.advance(Duration::from_secs(7200));
    for entries in ["library-change/", "library-set/"] {
        mount.watched.panic_at_list(entries);
        let said = mount.tick().await;
        assert!(said.error().message().contains("panicked"), "{}", said.error());
        assert!(mount.sim.state().accounts.is_empty(), "{entries}");
    }
    mount.tick().await.done();
}

#[tokio::test]
async fn one_unreadable_record_holds_up_no_other_removal() {
    let mount = with_a_credential().await;
    let oldest = "ledger/00000001/00/old";
    put(&mount, oldest, "garbage").await;
    put(&mount, "ledger/not-a-number/x", "garbage").await;
    put(&mount, "ledger/00000001/x/y", "garbage").await;
    put(&mount, "wal/garbage", "garbage").await;
    put(&mount, "wal/unknown", r#"{"type":"unheard of","data":{},"created_at":1}"#).await;
    mount.advance(Duration::from_secs(3600));
    let answered = mount.tick_now().await;
    let message = answered.error().message();
    for told in [oldest, "wal/garbage", "unheard of"] {
        assert!(message.contains(told), "{told} is not in {message}");
    }
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!(mount.stored("wal/").len(), 2, "what cannot be read is left for an operator");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes at any place of any entry.
    #[test]
    fn no_bytes_in_storage_make_a_request_panic(
        which in 0..PREFIXES.len(),
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mount = lived_in().await;
            let key = mount.stored(PREFIXES[which]).remove(0);
            let mut value = mount.storage.get(&key).await.unwrap().unwrap().value;
            let at = at.index(value.len());
            value.splice(at..(at + bytes.len() / 2).min(value.len()), bytes);
            put(&mount, &key, value).await;
            mount.restart_anyway().await;
            asks_everything(&mount).await;
            mount.abandon();
        });
    }

    /// Bytes in a lease's internal data are Vault's to keep, and ours to doubt.
    #[test]
    fn no_lease_makes_a_revocation_panic(field in "[a-z_]{1,20}", text in ".{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mount = lived_in().await;
            let made = mount.read("creds/app").await;
            let mut lease = made.lease().clone();
            let names: Vec<String> = lease.internal.keys().cloned().collect();
            for name in names {
                let mut odd = lease.clone();
                odd.internal.insert(name, Value::from(text.as_str()));
                let mut request = mount.request(Operation::Revoke, "creds/app", json!({}));
                request.secret = Some(odd.secret(Duration::ZERO));
                let _ = mount.ask(request).await;
            }
            lease.internal.insert(field, Value::from(text.as_str()));
            let _ = mount.revoke(&lease).await;
            mount.abandon();
        });
    }
}
