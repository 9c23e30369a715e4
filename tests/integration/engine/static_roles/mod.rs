//! Static roles over in-memory storage and a simulated OpenAI.

mod account;
mod by_hand;
mod crashes;
mod deletion;
mod expiry;
mod fields;
mod load;
mod rotation;
mod tick;
mod trouble;

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::{KeyState, Seeded};
use crate::support::Mount;
use crate::support::library::delete_account;
use crate::support::mount::PROJECT;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A mount with a project.
async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount with the static role `app` on an account that has a key of its own.
async fn with_app(role: Value) -> (Mount, Seeded) {
    let mount = mount().await;
    let account = write_role(&mount, "app", role).await;
    (mount, account)
}

/// Writes a static role on an account of its own.
async fn write_role(mount: &Mount, name: &str, mut role: Value) -> Seeded {
    let account = mount.seed(&format!("account-of-{name}"), true);
    role["service_account_id"] = account.id.as_str().into();
    role["project"] = PROJECT.into();
    mount.write(&format!("static-roles/{name}"), role).await.nothing();
    account
}

/// The key that readers of the role get.
async fn key(mount: &Mount, name: &str) -> String {
    mount.read(&format!("static-creds/{name}")).await.text("api_key")
}

async fn rotate(mount: &Mount, name: &str) -> String {
    mount.write(&format!("static-creds/{name}/rotate"), json!({})).await.text("api_key")
}

/// What a read of the role answers.
async fn role(mount: &Mount, name: &str) -> Value {
    mount.read(&format!("static-roles/{name}")).await.json()
}

/// The keys of an account that open something.
fn live_keys(mount: &Mount, account: &str) -> Vec<KeyState> {
    let state = mount.sim.state();
    let keys = state.account(account).map(|account| account.keys.clone()).unwrap_or_default();
    keys.into_iter().filter(|key| key.live).collect()
}

/// The account's own key, which is none of ours, still works.
fn is_untouched(mount: &Mount, account: &Seeded) -> bool {
    account.key.as_ref().is_some_and(|(_, value)| mount.sim.state().is_live(value))
}
