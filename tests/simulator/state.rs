//! A snapshot of the simulator: `GET /_sim/state`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::federation::{Provider, Rule};
use super::traffic::Traffic;
use super::world::{Account, AdminKey, Key, Tally, World, live};

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Unix seconds.
    pub now: u64,
    /// The organization.
    pub organization: String,
    /// Projects by id; the value is true for an archived project.
    pub projects: BTreeMap<String, bool>,
    /// Service accounts, oldest first.
    pub accounts: Vec<AccountState>,
    /// Admin keys, oldest first.
    pub admin_keys: Vec<AdminKeyState>,
    /// Workload identity providers, oldest first.
    #[serde(default)]
    pub providers: Vec<ProviderState>,
    /// Federation rules, oldest first.
    #[serde(default)]
    pub rules: Vec<RuleState>,
    /// Number of access tokens that work now.
    #[serde(default)]
    pub access_tokens: usize,
    /// Number of objects created by calls or by tests.
    pub created: Tally,
    /// Number of objects deleted by calls.
    pub deleted: Tally,
    /// Calls by endpoint and status; status 0 means a closed connection.
    pub calls: BTreeMap<String, BTreeMap<u16, u64>>,
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    /// Id of the project.
    pub project: String,
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Role.
    pub role: String,
    /// Creation time.
    pub created_at: u64,
    /// Keys, oldest first, including expired keys.
    pub keys: Vec<KeyState>,
}

/// A key of a service account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyState {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// The simulated key value.
    pub value: String,
    /// Scopes.
    pub scopes: Vec<String>,
    /// End time.
    pub expires_at: Option<u64>,
    /// The key works now.
    pub live: bool,
}

/// An admin key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdminKeyState {
    /// Id.
    pub id: String,
    /// The simulated key value.
    pub name: String,
    /// The key itself: this is no real one.
    pub value: String,
    /// End time.
    pub expires_at: Option<u64>,
    /// The key works now.
    pub live: bool,
}

/// A workload identity provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderState {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Issuer.
    pub issuer: String,
    /// Audience.
    pub audience: String,
    /// Tokens are taken.
    pub enabled: bool,
    /// The `kid` of each uploaded key.
    pub kids: Vec<String>,
}

/// A federation rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleState {
    /// Id.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// Tokens are taken.
    pub enabled: bool,
    /// Id of the project.
    pub project: String,
    /// Id of the service account.
    pub account: String,
    /// Required attributes of a token.
    pub matchers: serde_json::Map<String, serde_json::Value>,
    /// The permissions; `None` for the account's own.
    pub scopes: Option<Vec<String>>,
}

impl State {
    /// Takes a snapshot.
    pub fn of(world: &World, traffic: &Traffic) -> Self {
        let named =
            |(endpoint, calls): (&&'static str, &BTreeMap<u16, u64>)| ((*endpoint).to_owned(), calls.clone());
        Self {
            now: world.now(),
            organization: world.organization.clone(),
            projects: world.projects.iter().map(|one| (one.id.clone(), one.archived_at.is_some())).collect(),
            accounts: world.accounts.values().map(|account| AccountState::of(world, account)).collect(),
            admin_keys: world.admin_keys.values().map(|key| AdminKeyState::of(key, world.now())).collect(),
            providers: world
                .federated
                .providers
                .values()
                .map(|one| ProviderState::of(one.latest()))
                .collect(),
            rules: world.federated.rules.values().map(|one| RuleState::of(one.latest())).collect(),
            access_tokens: world.federated.tokens.values().filter(|one| one.expires_at > world.now()).count(),
            created: world.created,
            deleted: world.deleted,
            calls: traffic.calls().iter().map(named).collect(),
        }
    }

    /// The account with this id.
    pub fn account(&self, id: &str) -> Option<&AccountState> {
        self.accounts.iter().find(|account| account.id == id)
    }

    /// The keys that work now.
    pub fn live_keys(&self) -> impl Iterator<Item = &KeyState> {
        self.accounts.iter().flat_map(|account| &account.keys).filter(|key| key.live)
    }

    /// True if the key with this value works now.
    pub fn is_live(&self, value: &str) -> bool {
        self.live_keys().any(|key| key.value == value)
    }

    /// Number of calls to an endpoint.
    pub fn calls(&self, endpoint: &str) -> u64 {
        self.calls.get(endpoint).map_or(0, |calls| calls.values().sum())
    }

    /// Number of calls to an endpoint with this status.
    pub fn answered(&self, endpoint: &str, status: u16) -> u64 {
        self.calls.get(endpoint).and_then(|calls| calls.get(&status)).copied().unwrap_or(0)
    }

    /// Number of all calls.
    pub fn all_calls(&self) -> u64 {
        self.calls.values().flat_map(BTreeMap::values).sum()
    }
}

impl AccountState {
    fn of(world: &World, account: &Account) -> Self {
        let now = world.now();
        let keys = account.keys.iter().filter_map(|serial| world.keys.get(serial));
        Self {
            project: account.project.clone(),
            id: account.id.clone(),
            name: account.name.clone(),
            role: account.role.clone(),
            created_at: account.created_at,
            keys: keys.map(|key| KeyState::of(key, now)).collect(),
        }
    }
}

impl KeyState {
    fn of(key: &Key, now: u64) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            value: key.value.clone(),
            scopes: key.scopes.clone(),
            expires_at: key.expires_at,
            live: live(key.expires_at, now),
        }
    }
}

impl AdminKeyState {
    fn of(key: &AdminKey, now: u64) -> Self {
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            value: key.value.clone(),
            expires_at: key.expires_at,
            live: live(key.expires_at, now),
        }
    }
}

impl ProviderState {
    fn of(provider: &Provider) -> Self {
        let kids = provider.keys.keys.iter().filter_map(|key| key.common.key_id.clone());
        Self {
            id: provider.id.clone(),
            name: provider.name.clone(),
            issuer: provider.issuer.clone(),
            audience: provider.audience.clone(),
            enabled: provider.enabled,
            kids: kids.collect(),
        }
    }
}

impl RuleState {
    fn of(rule: &Rule) -> Self {
        Self {
            id: rule.id.clone(),
            name: rule.name.clone(),
            enabled: rule.enabled,
            project: rule.project.clone(),
            account: rule.account.clone(),
            matchers: rule.matchers.clone(),
            scopes: rule.scopes.clone(),
        }
    }
}
