//! The stored record of a static role: its settings, its current key, the keys that are being made, and those that end.
//!
//! A record without a current key is a tombstone, or the beginning of a role: readers get no key, and the record goes
//! once nothing is being made or ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
use crate::engine::Error;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making::{Making, MakingList};
use crate::engine::accounts::retry::RetryState;
use crate::logical::{Collection, Record};
use crate::openai::{ApiKey, ApiKeyId, OrganizationId, ProjectId, ServiceAccountId};

/// A static role with its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StaticRole {
    /// What it was told.
    #[serde(flatten)]
    pub settings: Settings,
    /// The organization its account lives in: another one's 404 proves nothing.
    pub organization_id: OrganizationId,
    /// The project its account lives in, whatever the project's name in Vault is pointed at later.
    pub account_project_id: ProjectId,
    /// The account it was last written with; with `rotation_method=account` a rotation leaves it behind.
    pub given_account_id: ServiceAccountId,
    /// Random: a late step for an earlier role of this name touches nothing of this one. Empty before it makes a key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The key that readers get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// Keys, or accounts with their keys, that OpenAI was asked for and whose outcome is not known.
    #[serde(default, skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Earlier keys that are not ended yet.
    #[serde(default, alias = "retiring", skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// How the present attempt to rotate fares.
    #[serde(flatten)]
    pub retry: RetryState,
    /// A rotation by hand that failed: the tick makes up for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Earlier releases wrote this of a deleted role, whose key stayed current.
    #[serde(default, skip_serializing)]
    pub deleting: bool,
}

/// The key that readers get.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Current {
    /// Its account.
    pub service_account_id: ServiceAccountId,
    /// The account's name.
    pub service_account: String,
    /// Whether a rotation made the account, which then goes with its key.
    pub made_account: bool,
    /// The key's id.
    pub api_key_id: ApiKeyId,
    /// The unique name under which the key, or the account with it, was made.
    pub unique_name: String,
    /// The key.
    pub api_key: ApiKey,
    /// When it was made, to the second.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub last_rotation: DateTime<Utc>,
    /// How long after that it expires at OpenAI, by the `key_ttl` of that time; zero is never. Releases before did not
    /// keep that.
    #[serde(default, with = "crate::engine::time::seconds", skip_serializing_if = "Duration::is_zero")]
    pub key_ttl: Duration,
}

/// An earlier key: it lives until its grace is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    /// Its account.
    pub service_account_id: ServiceAccountId,
    /// The key's id.
    pub api_key_id: ApiKeyId,
    /// The unique name under which it was made.
    pub unique_name: String,
    /// Whether the account goes with it.
    pub with_account: bool,
    /// When it was made; releases before did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
    /// When its grace is over, to the second.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub ends: DateTime<Utc>,
    /// How long the grace is; releases before did not keep that.
    #[serde(default, with = "crate::engine::time::seconds::option", skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
    /// Whether OpenAI ends it by itself then.
    #[serde(default)]
    pub limited: bool,
    /// How the attempts to limit or end it fare.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// A rotation that somebody asked for by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// When it was asked for, to the second.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub at: DateTime<Utc>,
    /// How long the replaced key shall still work.
    #[serde(with = "crate::engine::time::seconds")]
    pub grace: Duration,
}

impl Record for StaticRole {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
}

pub(in crate::engine) static STATIC_ROLES: Collection<StaticRole> = Collection::new("static-role/");

impl StaticRole {
    /// The key that readers get.
    pub fn current(&self, name: &str) -> Result<&Current, Error> {
        let name = name.to_owned();
        match &self.current {
            Some(current) => Ok(current),
            None if self.ending.is_empty() => Err(Error::NoKeyYet(name)),
            None => Err(Error::BeingDeleted(name)),
        }
    }

    /// Tells if readers see the role: a role that never had a key is none yet.
    pub fn is_shown(&self) -> bool {
        self.current.is_some() || !self.ending.is_empty()
    }

    /// Tells if nothing is left of a role that was deleted, or of a creation that failed.
    pub fn is_over(&self) -> bool {
        self.current.is_none() && self.making.is_empty() && self.ending.is_empty()
    }

    /// Tells if the account is its own, is asked for a key, or still has to be ended.
    pub fn names_account(&self, account: &ServiceAccountId) -> bool {
        let current = self.current.iter().map(|current| &current.service_account_id);
        let making = self.making.iter().filter_map(|making| making.service_account_id.as_ref());
        current.chain(making).any(|id| id == account) || self.ends_account(account)
    }

    fn ends_account(&self, account: &ServiceAccountId) -> bool {
        self.ending.iter().any(|old| old.with_account && old.service_account_id == *account)
    }

    /// Everything at OpenAI that the role was given, has, asks for, or had and may still have.
    pub fn holdings(&self) -> Vec<Holding> {
        let place = Holding::in_project(&self.organization_id, Some(&self.account_project_id));
        let given = Holding { service_account_id: Some(self.given_account_id.clone()), ..place.clone() };
        let key = |account: &ServiceAccountId, key: &ApiKeyId, name: &str| Holding {
            service_account_id: Some(account.clone()),
            api_key_id: Some(key.clone()),
            name: Some(name.to_owned()),
            ..place.clone()
        };
        let current = self.current.iter().map(|current| Holding {
            is_claimed: true,
            is_made_account: current.made_account,
            ..key(&current.service_account_id, &current.api_key_id, &current.unique_name)
        });
        let ending = self.ending.iter().map(|old| Holding {
            is_claimed: old.with_account,
            is_made_account: old.with_account,
            ..key(&old.service_account_id, &old.api_key_id, &old.unique_name)
        });
        let making = self.making.iter().map(Holding::making);
        std::iter::once(given).chain(current).chain(ending).chain(making).collect()
    }

    /// What failed may be tried again at once, where `is_tried` says so.
    pub fn try_now(&mut self, is_tried: impl Fn(&RetryState) -> bool) {
        let retries = self.ending.iter_mut().map(|old| &mut old.retry).chain([&mut self.retry]);
        for retry in retries.filter(|retry| is_tried(retry)) {
            retry.next_try = None;
        }
    }

    /// Why a replaced key is still to be ended or limited, if that was tried.
    pub fn trouble_with_replaced(&self) -> Option<String> {
        self.ending.iter().rev().find_map(|old| old.retry.last_error.clone())
    }

    /// Every account that it was given, has, asks for a key, or had and may still have a key on.
    pub fn accounts(&self) -> impl Iterator<Item = &ServiceAccountId> {
        let current = self.current.iter().map(|current| &current.service_account_id);
        let making = self.making.iter().filter_map(|making| making.service_account_id.as_ref());
        let old = self.ending.iter().map(|old| &old.service_account_id);
        std::iter::once(&self.given_account_id).chain(current).chain(making).chain(old)
    }

    /// Its keys, the current one and those that are not ended yet: their ids, and the names they were made under.
    pub fn keys(&self) -> impl Iterator<Item = (&ApiKeyId, &str)> {
        let current = self.current.iter().map(|key| (&key.api_key_id, key.unique_name.as_str()));
        current.chain(self.ending.iter().map(|old| (&old.api_key_id, old.unique_name.as_str())))
    }

    /// How long the next replaced key works: the grace of a rotation that was asked for, else the role's own.
    pub fn next_grace(&self) -> Result<Duration, Error> {
        self.asked.map_or_else(|| self.settings.grace(), |asked| Ok(asked.grace))
    }

    /// Puts a name on the record under which OpenAI is about to be asked for a key, on this account or with a new one.
    pub fn begin_making(
        &mut self,
        name: String,
        account: Option<&ServiceAccountId>,
        now: DateTime<Utc>,
    ) -> Result<Making, Error> {
        if self.id.is_empty() {
            self.id = uuid::Uuid::new_v4().to_string();
        }
        let making = Making {
            name,
            organization_id: self.organization_id.clone(),
            project_id: Some(self.account_project_id.clone()),
            service_account_id: account.cloned(),
            since: now,
        };
        self.making.begin(making.clone())?;
        Ok(making)
    }

    /// Puts a new key in the place of the current one, whose grace is over at `ends`.
    pub fn replace_current(&mut self, new: Current, grace: Duration, ends: DateTime<Utc>) {
        self.making.end(&new.unique_name);
        let account = new.service_account_id.clone();
        if let Some(old) = self.current.replace(new) {
            let with_account = old.made_account && old.service_account_id != account;
            self.ending.push(old.ending(with_account, grace, ends));
        }
        self.retry.succeeded();
        self.asked = None;
    }

    /// The role is deleted: all of its keys end now, the current one first.
    pub fn delete(&mut self, now: DateTime<Utc>) {
        for old in &mut self.ending {
            old.ends = old.ends.min(now);
            old.retry.retry_now();
        }
        if let Some(current) = self.current.take() {
            let with_account = current.made_account;
            self.ending.insert(0, current.ending(with_account, Duration::ZERO, now));
        }
        self.retry.succeeded();
        self.asked = None;
    }
}

impl Current {
    fn ending(self, with_account: bool, grace: Duration, ends: DateTime<Utc>) -> Ending {
        Ending {
            with_account,
            service_account_id: self.service_account_id,
            api_key_id: self.api_key_id,
            unique_name: self.unique_name,
            made: Some(self.last_rotation),
            ends,
            grace: Some(grace),
            limited: false,
            retry: RetryState::default(),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { service_account_id: account, api_key_id: key, with_account, .. } = self;
        if *with_account {
            write!(f, "service account {account}, which Vault made, with key {key}")
        } else {
            write!(f, "key {key} of service account {account}")
        }
    }
}
