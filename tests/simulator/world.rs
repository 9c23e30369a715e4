//! The simulated organization: projects, service accounts, keys, admin keys, policy and spending.
//!
//! Plain data behind one short lock. The resource files read and change it; this file knows no HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::clock::Clock;
use super::federation::Federated;
use super::id;
use super::lag::{Lag, Operation, RecentlyDeleted};
use super::refusal::Refusal;

/// Prefix of service account ids.
pub const ACCOUNT: &str = "svc_acct";
/// Prefix of key ids, including admin keys.
pub const KEY: &str = "key";

/// All simulated objects.
#[derive(Debug)]
pub struct World {
    /// The clock.
    pub clock: Arc<Clock>,
    /// The organization.
    pub organization: String,
    /// Projects in the order of their creation.
    pub projects: Vec<Project>,
    /// Service accounts by serial number.
    pub accounts: BTreeMap<u64, Account>,
    /// Keys of service accounts by serial number.
    pub keys: BTreeMap<u64, Key>,
    /// Admin keys by serial number.
    pub admin_keys: BTreeMap<u64, AdminKey>,
    /// Serial numbers of service account keys by key value.
    pub by_value: HashMap<String, u64>,
    /// The organization's policy for new keys.
    pub policy: Policy,
    /// Spending.
    pub spending: Vec<Spending>,
    /// Propagation delays.
    pub lag: Option<Lag>,
    /// Accounts deleted a moment ago.
    pub recently_deleted_accounts: RecentlyDeleted<Account>,
    /// Keys deleted a moment ago.
    pub recently_deleted_keys: RecentlyDeleted<Key>,
    /// Admin keys deleted a moment ago.
    pub recently_deleted_admin_keys: RecentlyDeleted<AdminKey>,
    /// Providers, rules and access tokens.
    pub federated: Federated,
    /// Number of objects created so far.
    pub created: Tally,
    /// Number of objects deleted by calls. Expiry is no deletion.
    pub deleted: Tally,
    last_serial: u64,
}

/// A project.
#[derive(Debug, Clone)]
pub struct Project {
    /// `proj_...`
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// Creation time.
    pub created_at: u64,
    /// Archive time, if the project is archived.
    pub archived_at: Option<u64>,
    /// Data residency.
    pub residency: Option<String>,
    /// Id of the external encryption key.
    pub external_key_id: Option<String>,
    /// The organization's default project, to which no service account can be added.
    pub is_default: bool,
    /// The project has data residency and is asked at the wrong host.
    pub is_elsewhere: bool,
    /// Exact creation time; `None` if the object existed from the start.
    pub made: Option<Duration>,
}

/// A service account.
#[derive(Debug, Clone)]
pub struct Account {
    /// `svc_acct_...`
    pub id: String,
    /// Id of the project.
    pub project: String,
    /// Name; not necessarily unique.
    pub name: String,
    /// `owner`, `member` or `none`.
    pub role: String,
    /// Creation time.
    pub created_at: u64,
    /// Serial numbers of the account's keys.
    pub keys: Vec<u64>,
    /// Exact creation time; `None` if the object existed from the start.
    pub made: Option<Duration>,
}

/// A key of a service account.
#[derive(Debug, Clone)]
pub struct Key {
    /// `key_...`
    pub id: String,
    /// Serial number of the account.
    pub account: u64,
    /// Id of the account's project.
    pub project: String,
    /// Name.
    pub name: String,
    /// `sk-svcacct-...`
    pub value: String,
    /// Scopes; an empty list grants all permissions.
    pub scopes: Vec<String>,
    /// Creation time.
    pub created_at: u64,
    /// Expiry time, in Unix seconds.
    pub expires_at: Option<u64>,
    /// Time of the last use.
    pub last_used_at: Option<u64>,
    /// Exact creation time; `None` if the object existed from the start.
    pub made: Option<Duration>,
}

/// An admin key.
#[derive(Debug, Clone)]
pub struct AdminKey {
    /// `key_...`
    pub id: String,
    /// Name.
    pub name: String,
    /// `sk-admin-...`
    pub value: String,
    /// Creation time.
    pub created_at: u64,
    /// Expiry time, in Unix seconds.
    pub expires_at: Option<u64>,
    /// Time of the last use.
    pub last_used_at: Option<u64>,
    /// Id of the service account that owns the key; `None` if a user owns the key.
    pub owner: Option<String>,
    /// The key was restricted to reading the organization's administration.
    pub reads_only: bool,
    /// Exact creation time; `None` if the object existed from the start.
    pub made: Option<Duration>,
}

/// The organization's policy for keys of service accounts. The default allows everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Every key needs an expiry.
    pub expiry_required: bool,
    /// Maximum lifetime of a key in seconds. A maximum implies that every key needs an expiry.
    pub max_lifetime: Option<u64>,
    /// Refuses service account names outside `[A-Za-z0-9_-]{3,64}`.
    pub plain_names: bool,
}

/// Spending of a project.
#[derive(Debug, Clone)]
pub struct Spending {
    /// Id of the project.
    pub project: String,
    /// Time of the spending.
    pub at: u64,
    /// US dollars; without a value OpenAI sends null.
    pub amount: Option<f64>,
    /// Id of the key that was used.
    pub api_key: Option<String>,
    /// Id of the user or the service account.
    pub user: Option<String>,
}

/// Number of objects of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Service accounts.
    pub accounts: u64,
    /// Keys of service accounts.
    pub keys: u64,
    /// Admin keys.
    pub admin_keys: u64,
}

impl World {
    /// An organization with only these projects and one admin key.
    pub fn new(clock: Arc<Clock>, settings: &Settings) -> Self {
        let mut world = Self {
            clock,
            organization: settings.organization.clone(),
            projects: Vec::new(),
            accounts: BTreeMap::new(),
            keys: BTreeMap::new(),
            admin_keys: BTreeMap::new(),
            by_value: HashMap::new(),
            policy: Policy::default(),
            spending: Vec::new(),
            lag: settings.lag,
            recently_deleted_accounts: RecentlyDeleted::default(),
            recently_deleted_keys: RecentlyDeleted::default(),
            recently_deleted_admin_keys: RecentlyDeleted::default(),
            federated: Federated::default(),
            created: Tally::default(),
            deleted: Tally::default(),
            last_serial: 0,
        };
        for id in &settings.projects {
            world.add_project(id.clone(), Some(id.clone()));
        }
        world.add_admin_key("First admin key".to_owned(), settings.admin_key.clone(), None);
        world.mark_as_preexisting();
        world.created = Tally::default();
        world
    }

    /// The next serial number.
    pub fn serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.clock.seconds()
    }

    /// Adds an active project.
    pub fn add_project(&mut self, id: String, name: Option<String>) -> &mut Project {
        let created_at = self.now();
        let (archived_at, residency, external_key_id, made) = (None, None, None, None);
        let (is_default, is_elsewhere) = (false, false);
        self.projects.push(Project {
            id,
            name,
            created_at,
            archived_at,
            residency,
            external_key_id,
            is_default,
            is_elsewhere,
            made,
        });
        let last = self.projects.len() - 1;
        &mut self.projects[last]
    }

    /// Adds a service account without a key.
    pub fn add_account(&mut self, project: &str, name: String, role: &str) -> u64 {
        let serial = self.serial();
        let account = Account {
            id: id::id(ACCOUNT, serial),
            project: project.to_owned(),
            name,
            role: role.to_owned(),
            created_at: self.now(),
            keys: Vec::new(),
            made: Some(self.clock.now()),
        };
        self.accounts.insert(serial, account);
        self.created.accounts += 1;
        serial
    }

    /// Adds a key to an account, if the account exists.
    pub fn add_key(
        &mut self,
        account: u64,
        name: String,
        scopes: Vec<String>,
        lifetime: Option<u64>,
    ) -> Option<&Key> {
        let (serial, created_at, made) = (self.serial(), self.now(), Some(self.clock.now()));
        let owner = self.accounts.get_mut(&account)?;
        owner.keys.push(serial);
        let key = Key {
            id: id::id(KEY, serial),
            account,
            project: owner.project.clone(),
            name,
            value: id::key_value("sk-svcacct"),
            scopes,
            created_at,
            expires_at: lifetime.map(|seconds| created_at + seconds),
            last_used_at: None,
            made,
        };
        self.by_value.insert(key.value.clone(), serial);
        self.created.keys += 1;
        Some(self.keys.entry(serial).or_insert(key))
    }

    /// Adds an admin key that a user owns.
    pub fn add_admin_key(&mut self, name: String, value: String, lifetime: Option<u64>) -> &AdminKey {
        let (serial, created_at, made) = (self.serial(), self.now(), Some(self.clock.now()));
        let expires_at = lifetime.map(|seconds| created_at + seconds);
        let id = id::id(KEY, serial);
        self.created.admin_keys += 1;
        let (last_used_at, owner, reads_only) = (None, None, false);
        let key = AdminKey { id, name, value, created_at, expires_at, last_used_at, owner, reads_only, made };
        self.admin_keys.entry(serial).or_insert(key)
    }

    /// Deletes a key.
    pub fn remove_key(&mut self, serial: u64) {
        let Some(key) = self.keys.remove(&serial) else { return };
        self.by_value.remove(&key.value);
        self.deleted.keys += 1;
        if let Some(owner) = self.accounts.get_mut(&key.account) {
            owner.keys.retain(|kept| *kept != serial);
        }
        let (now, until) = self.visible_until(&key.id);
        self.recently_deleted_keys.add(serial, key, now, until);
    }

    /// Deletes an admin key.
    pub fn remove_admin_key(&mut self, serial: u64) {
        let Some(key) = self.admin_keys.remove(&serial) else { return };
        self.deleted.admin_keys += 1;
        let (now, until) = self.visible_until(&key.id);
        self.recently_deleted_admin_keys.add(serial, key, now, until);
    }

    /// Deletes an account and its keys.
    pub fn remove_account(&mut self, serial: u64) {
        let Some(account) = self.accounts.remove(&serial) else { return };
        self.deleted.accounts += 1;
        for key in &account.keys {
            self.remove_key(*key);
        }
        let (now, until) = self.visible_until(&account.id);
        self.recently_deleted_accounts.add(serial, account, now, until);
    }

    /// Marks every object as existing from the start, so that lag does not apply.
    pub fn mark_as_preexisting(&mut self) {
        self.projects.iter_mut().for_each(|one| one.made = None);
        self.accounts.values_mut().for_each(|one| one.made = None);
        self.keys.values_mut().for_each(|one| one.made = None);
        self.admin_keys.values_mut().for_each(|one| one.made = None);
        self.federated.providers.values_mut().for_each(|one| one.made = None);
        self.federated.rules.values_mut().for_each(|one| one.made = None);
    }

    /// Ends the lag of all objects that exist or were deleted.
    pub fn catch_up(&mut self) {
        self.mark_as_preexisting();
        self.recently_deleted_accounts = RecentlyDeleted::default();
        self.recently_deleted_keys = RecentlyDeleted::default();
        self.recently_deleted_admin_keys = RecentlyDeleted::default();
    }

    /// True if this operation sees an object with this creation time.
    pub fn is_visible(&self, id: &str, made: Option<Duration>, operation: Operation) -> bool {
        match (self.lag, made) {
            (Some(lag), Some(made)) => made + lag.creation_lag(id, operation) <= self.clock.now(),
            _ => true,
        }
    }

    /// The current time, and the time at which a deletion is visible everywhere.
    fn visible_until(&self, id: &str) -> (Duration, Duration) {
        let now = self.clock.now();
        (now, now + self.lag.map_or(Duration::ZERO, |lag| lag.deletion_lag(id)))
    }

    /// The project, archived or not.
    pub fn project(&self, id: &str) -> Result<&Project, Refusal> {
        let found = self.projects.iter().find(|project| project.id == id);
        let project = found.ok_or_else(|| Refusal::not_found("Project", id))?;
        if project.is_elsewhere { Err(Refusal::wrong_host()) } else { Ok(project) }
    }

    /// The project, which must be active.
    pub fn active_project(&self, id: &str) -> Result<&Project, Refusal> {
        let project = self.project(id)?;
        if project.archived_at.is_some() {
            let message = format!("Project '{id}' is archived. You can only update an active project.");
            return Err(Refusal::forbidden_by_state(None, "project_archived", message));
        }
        Ok(project)
    }

    /// Serial number of an account of this project.
    pub fn account(&self, project: &str, id: &str, operation: Operation) -> Result<u64, Refusal> {
        let is_it = |one: &Account| {
            one.id == id && one.project == project && self.is_visible(id, one.made, operation)
        };
        id::serial(ACCOUNT, id)
            .filter(|serial| self.accounts.get(serial).is_some_and(is_it))
            .ok_or_else(|| Refusal::not_found("Service account", id))
    }

    /// Serial number of a key of this project.
    pub fn key(&self, project: &str, id: &str, operation: Operation) -> Result<u64, Refusal> {
        let is_it =
            |one: &Key| one.id == id && one.project == project && self.is_visible(id, one.made, operation);
        id::serial(KEY, id)
            .filter(|serial| self.keys.get(serial).is_some_and(is_it))
            .ok_or_else(|| Refusal::not_found("API key", id))
    }
}

/// True if an object with this expiry is valid at `now`.
pub fn live(expires_at: Option<u64>, now: u64) -> bool {
    expires_at.is_none_or(|end| now < end)
}
