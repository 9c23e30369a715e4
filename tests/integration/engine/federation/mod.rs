//! Roles with access tokens over in-memory storage and a simulated OpenAI.

mod bad_input;
mod by_hand;
mod crashes;
mod half_way;
mod managed;
mod metrics;
mod rotation;
mod tokens;
mod told;
mod trouble;
mod unknowns;

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::{ProviderState, RuleState};
use crate::support::Mount;
use crate::support::api::{self, Answer};
use crate::support::mount::PROJECT;

const HOUR: Duration = Duration::from_secs(3_600);

/// A configured mount with a project.
async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount that manages its provider.
async fn managed() -> Mount {
    let mount = mount().await;
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount
}

/// A mount that manages its provider, with the role `app` on an account that was made for it.
async fn with_app() -> Mount {
    let mount = managed().await;
    mount.write("roles/app", role()).await.done();
    mount
}

fn role() -> Value {
    json!({"project": PROJECT, "credential_type": "access_token"})
}

fn role_with(more: Value) -> Value {
    let mut role = role();
    role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    role
}

/// A token of the role `app`, which opens something at OpenAI.
async fn token(mount: &Mount) -> String {
    let token = mount.read("creds/app").await.text("access_token");
    assert!(opens(mount, &token).await);
    token
}

/// True if OpenAI takes the token.
async fn opens(mount: &Mount, token: &str) -> bool {
    let bearer = format!("Bearer {token}");
    send(mount, "GET", "/v1/models", &[("Authorization", bearer.as_str())], None).await.status == 200
}

/// Calls the Admin API as an operator.
async fn administer(mount: &Mount, method: &str, path: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {}", mount.sim.admin_key());
    let headers = [
        ("Authorization", bearer.as_str()),
        ("OpenAI-Organization", mount.sim.organization()),
        ("Content-Type", "application/json"),
    ];
    let path = format!("/v1/organization{path}");
    mount.direct_call(send(mount, method, &path, &headers, body)).await
}

async fn send(
    mount: &Mount,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Answer {
    let address = mount.sim.origin().trim_start_matches("http://").parse().unwrap();
    api::exchange(address, method, path, headers, body).await.unwrap()
}

/// Changes the only rule of the only provider, without the mount.
async fn change_rule(mount: &Mount, change: Value) {
    let path =
        format!("/workload_identity_providers/{}/federation_rules/{}", provider(mount).id, rule(mount).id);
    administer(mount, "POST", &path, Some(change)).await.ok();
}

/// The only provider at OpenAI.
fn provider(mount: &Mount) -> ProviderState {
    let mut providers = mount.sim.state().providers;
    assert_eq!(providers.len(), 1, "{providers:?}");
    providers.remove(0)
}

fn rules(mount: &Mount) -> Vec<RuleState> {
    mount.sim.state().rules
}

/// The only rule at OpenAI.
fn rule(mount: &Mount) -> RuleState {
    let mut rules = rules(mount);
    assert_eq!(rules.len(), 1, "{rules:?}");
    rules.remove(0)
}

/// Ids of the accounts at OpenAI.
fn accounts(mount: &Mount) -> Vec<String> {
    mount.sim.state().accounts.into_iter().map(|account| account.id).collect()
}

/// Nothing of the mount is left at OpenAI, and no record of a federated role.
async fn assert_gone(mount: Mount) {
    assert!(rules(&mount).is_empty());
    assert_eq!(mount.stored("federated-role/"), Vec::<String>::new());
    mount.finish().await;
}

/// An application's SDK exchanges the identity token by itself.
async fn exchange_elsewhere(mount: &Mount, identity: &Value) -> Value {
    let body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": identity["identity_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "identity_provider_id": identity["identity_provider_id"], "service_account_id": identity["service_account_id"],
    });
    let headers = [("Content-Type", "application/json")];
    send(mount, "POST", "/oauth/token", &headers, Some(body)).await.ok().body
}
