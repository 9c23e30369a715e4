//! Library sets under test: a mount with one, and what is true of every set once nothing is under way.

use std::sync::Arc;
use std::time::Duration;

use openai_secrets::openai::{AdminKey, Client, Endpoint, NewKey, NoopObserver, ProjectId, Role, Settings};
use serde_json::{Value, json};

use super::{Answered, Mount};

/// The path of the set.
pub const SET: &str = "library-sets/pool";
/// After this much time the tick takes up all that was left half way: a retry waits no longer than 15 minutes.
pub const SETTLED: Duration = Duration::from_secs(16 * 60);

/// A key that the mount did not make.
pub struct ForeignKey {
    pub id: String,
    pub value: String,
}

/// A mount with a project.
pub async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount with a set of these accounts, all made by it.
pub async fn mount_with(names: &str) -> Mount {
    let mount = mount().await;
    mount.write(SET, json!({"project": "research", "service_account_names": names})).await.done();
    mount
}

/// Checks any account out.
pub async fn check_out(mount: &Mount) -> Answered {
    let answer = mount.write(&format!("{SET}/check-out"), json!({})).await;
    answer.done();
    answer
}

/// Checks an account in by its id.
pub async fn check_in(mount: &Mount, lent: &Answered) -> Answered {
    let id = lent.text("service_account_id");
    mount.write(&format!("{SET}/check-in"), json!({"service_account_id": id})).await
}

/// What the status says of each account.
pub async fn status(mount: &Mount) -> Value {
    mount.read(&format!("{SET}/status")).await.json()["account_status"].clone()
}

/// The names of the accounts at OpenAI, oldest first.
pub fn names(mount: &Mount) -> Vec<String> {
    mount.sim.state().accounts.into_iter().map(|account| account.name).collect()
}

/// Gives an account another name at OpenAI, behind the mount's back.
pub async fn rename(mount: &Mount, id: &str, name: &str) {
    let (client, project) = admin(mount);
    client.rename_service_account(&project, &id.parse().unwrap(), name, Role::Member).await.unwrap();
}

/// Deletes an account at OpenAI, behind the mount's back.
pub async fn delete_account(mount: &Mount, id: &str) {
    let (client, project) = admin(mount);
    client.delete_service_account(&project, &id.parse().unwrap()).await.unwrap();
}

/// Makes a key on an account behind the mount's back, as another mount would.
pub async fn foreign_key(mount: &Mount, id: &str, name: &str) -> ForeignKey {
    make_key(mount, id, NewKey { name: Some(name.to_owned()), ..NewKey::default() }).await
}

/// The same, a key that ends by itself.
pub async fn expiring_key(mount: &Mount, id: &str, expires_in: Duration) -> ForeignKey {
    make_key(mount, id, NewKey { expires_in: Some(expires_in), ..NewKey::default() }).await
}

async fn make_key(mount: &Mount, id: &str, new: NewKey) -> ForeignKey {
    let (client, project) = admin(mount);
    let made = client.create_key(&project, &id.parse().unwrap(), &new).await.unwrap();
    ForeignKey { id: made.id.to_string(), value: made.value.expose().to_owned() }
}

/// Ends a key at OpenAI, behind the mount's back.
pub async fn end_key(mount: &Mount, id: &str) {
    let (client, project) = admin(mount);
    client.delete_key(&project, &id.parse().unwrap()).await.unwrap();
}

/// OpenAI as somebody else uses it beside the mount, and the project.
pub fn admin(mount: &Mount) -> (Client, ProjectId) {
    let settings = Settings {
        endpoint: Endpoint::parse(&mount.sim.url()).unwrap(),
        admin_key: AdminKey::parse(mount.sim.admin_key()).unwrap(),
        organization: mount.sim.organization().parse().unwrap(),
        ca_cert: None,
        max_requests_per_minute: 0,
        observer: Arc::new(NoopObserver),
    };
    (Client::new(settings).unwrap(), mount.sim.project().parse().unwrap())
}

/// Lets time pass until all that was left half way is finished or undone, and what was lent for an hour, without a
/// lease that Vault knows of, is returned.
pub async fn settle(mount: &Mount) {
    for _ in 0..6 {
        assert_free_have_no_key(mount).await;
        mount.advance(SETTLED);
        mount.tick_now().await.done();
    }
    assert_free_have_no_key(mount).await;
}

/// An account that could be lent now has no key.
pub async fn assert_free_have_no_key(mount: &Mount) {
    let set = mount.read(&format!("{SET}/status")).await;
    let Ok(Some(response)) = &set.answer else { return };
    let state = mount.sim.state();
    for account in state.accounts.iter().filter(|account| account.keys.iter().any(|key| key.live)) {
        let status = &response.data["account_status"][&account.name];
        assert_ne!(status, "available", "{} is free and has a key", account.name);
    }
}

/// Nothing is under way: every account is free and has no key, every account at OpenAI is the set's.
pub async fn assert_at_rest(mount: &Mount, names: &[&str]) {
    assert_eq!(self::names(mount), names);
    assert_eq!(mount.sim.state().live_keys().count(), 0, "a free account has a key");
    for prefix in ["library-loan/", "library-change/", "wal/"] {
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
