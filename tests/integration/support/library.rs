//! Library sets under test: a mount with a set, and the invariants of a set at rest.

use std::sync::Arc;
use std::time::Duration;

use openai_secrets::openai::{AdminKey, Client, Endpoint, NewKey, NoopObserver, ProjectId, Role, Settings};
use serde_json::{Value, json};

use super::{Answered, Mount};

/// Path of the set.
pub const SET: &str = "library-sets/pool";
/// Time after which a tick finishes all interrupted work. Retries wait at most 15 minutes.
pub const SETTLED: Duration = Duration::from_secs(16 * 60);

/// A key that the mount did not create.
pub struct ForeignKey {
    pub id: String,
    pub value: String,
}

/// A mount with a project.
pub async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount with a set of these accounts. The mount creates the accounts.
pub async fn mount_with(names: &str) -> Mount {
    let mount = mount().await;
    mount.write(SET, json!({"project": "research", "service_account_names": names})).await.done();
    mount
}

/// Checks out any account.
pub async fn check_out(mount: &Mount) -> Answered {
    let answer = mount.write(&format!("{SET}/check-out"), json!({})).await;
    answer.done();
    answer
}

/// Checks in an account by its id.
pub async fn check_in(mount: &Mount, lent: &Answered) -> Answered {
    let id = lent.text("service_account_id");
    mount.write(&format!("{SET}/check-in"), json!({"service_account_id": id})).await
}

/// Status of each account.
pub async fn status(mount: &Mount) -> Value {
    mount.read(&format!("{SET}/status")).await.json()["account_status"].clone()
}

/// Names of the accounts at OpenAI, oldest first.
pub fn names(mount: &Mount) -> Vec<String> {
    mount.sim.state().accounts.into_iter().map(|account| account.name).collect()
}

/// Renames an account at OpenAI without the mount.
pub async fn rename(mount: &Mount, id: &str, name: &str) {
    let (client, project) = admin(mount);
    let id = id.parse().unwrap();
    let renamed = client.rename_service_account(&project, &id, name, Role::Member);
    mount.direct_call(renamed).await.unwrap();
}

/// Deletes an account at OpenAI without the mount.
pub async fn delete_account(mount: &Mount, id: &str) {
    let (client, project) = admin(mount);
    mount.direct_call(client.delete_service_account(&project, &id.parse().unwrap())).await.unwrap();
}

/// Creates a key on an account without the mount.
pub async fn foreign_key(mount: &Mount, id: &str, name: &str) -> ForeignKey {
    make_key(mount, id, NewKey { name: Some(name.to_owned()), ..NewKey::default() }).await
}

/// Creates a key with an expiry on an account without the mount.
pub async fn expiring_key(mount: &Mount, id: &str, expires_in: Duration) -> ForeignKey {
    make_key(mount, id, NewKey { expires_in: Some(expires_in), ..NewKey::default() }).await
}

async fn make_key(mount: &Mount, id: &str, new: NewKey) -> ForeignKey {
    let (client, project) = admin(mount);
    let made = mount.direct_call(client.create_key(&project, &id.parse().unwrap(), &new)).await.unwrap();
    ForeignKey { id: made.id.to_string(), value: made.value.expose().to_owned() }
}

/// Deletes a key at OpenAI without the mount.
pub async fn end_key(mount: &Mount, id: &str) {
    let (client, project) = admin(mount);
    mount.direct_call(client.delete_key(&project, &id.parse().unwrap())).await.unwrap();
}

/// A client of OpenAI beside the mount, and the project.
pub fn admin(mount: &Mount) -> (Client, ProjectId) {
    admin_with(mount, mount.sim.admin_key())
}

/// The same with this admin key.
pub fn admin_with(mount: &Mount, admin_key: &str) -> (Client, ProjectId) {
    let settings = Settings {
        endpoint: Endpoint::parse(&mount.sim.url()).unwrap(),
        admin_key: AdminKey::parse(admin_key).unwrap(),
        organization: mount.sim.organization().parse().unwrap(),
        ca_cert: None,
        client_certificate: None,
        max_requests_per_minute: 0,
        observer: Arc::new(NoopObserver),
    };
    (Client::new(settings).unwrap(), mount.sim.project().parse().unwrap())
}

/// Advances time until interrupted work is finished or undone, and loans of one hour without a lease are returned.
pub async fn settle(mount: &Mount) {
    for _ in 0..6 {
        assert_free_have_no_key(mount).await;
        mount.advance(SETTLED);
        mount.tick_immediately().await.done();
    }
    assert_free_have_no_key(mount).await;
}

/// Asserts that no available account has a live key.
pub async fn assert_free_have_no_key(mount: &Mount) {
    let set = mount.read(&format!("{SET}/status")).await;
    let Ok(Some(response)) = &set.answer else { return };
    let state = mount.sim.state();
    for account in state.accounts.iter().filter(|account| account.keys.iter().any(|key| key.live)) {
        let status = &response.data["account_status"][&account.name];
        assert_ne!(status, "available", "{} is free and has a key", account.name);
    }
}

/// Asserts the state at rest: every account is available and has no key, and the set owns every account at OpenAI.
pub async fn assert_at_rest(mount: &Mount, names: &[&str]) {
    assert_eq!(self::names(mount), names);
    assert_eq!(mount.sim.state().live_keys().count(), 0, "a free account has a key");
    for prefix in ["library-loan/", "wal/"] {
        assert_eq!(mount.stored(prefix), Vec::<String>::new());
    }
    let stored = mount.read(SET).await;
    let members = match &stored.done().answer {
        Ok(Some(response)) => response.data["service_account_names"].as_array().unwrap().len(),
        _ => 0,
    };
    assert_eq!(members, names.len());
    assert_eq!(mount.stored("account-owner/").len(), members, "claims are those of the set's accounts");
}
