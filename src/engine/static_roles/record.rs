//! The stored record of a static role: its settings, its current key, its creations with an unknown outcome (`making`),
//! and its replaced keys (`ending`).
//!
//! A record without a current key belongs to a deleted role, or to an unfinished creation of a role. Readers get no key,
//! and the record is deleted when `making` and `ending` are empty.

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

/// Time within which the readers of a key surely come back: Vault's default maximum TTL. A longer rotation period counts
/// instead.
const READERS_COME_BACK: Duration = Duration::from_secs(32 * 86_400);

/// A static role with its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StaticRole {
    /// The settings from the user.
    #[serde(flatten)]
    pub settings: Settings,
    /// The organization of its account. A 404 of another organization proves nothing.
    pub organization_id: OrganizationId,
    /// The project of its account. The project's name in Vault may point elsewhere later.
    pub account_project_id: ProjectId,
    /// The account of the last write by the user. With `rotation_method=account`, the current account is another one.
    pub given_account_id: ServiceAccountId,
    /// Random id, so that a late step for an earlier role of this name does not change this role. Empty before the first
    /// creation of a key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The key that readers get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// Creations of keys or accounts with an unknown outcome.
    #[serde(default, skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// Replaced keys that are not deleted yet, in the order of their replacement.
    #[serde(default, alias = "retiring", skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<Ending>,
    /// Failed attempts to rotate.
    #[serde(flatten)]
    pub retry: RetryState,
    /// A rotation by hand that failed or found no room in the rate limit. The tick repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// True if the user deleted the role. In records of earlier releases its key stayed `current` then.
    #[serde(default, alias = "deleting", skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// The key that readers get.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Current {
    /// The key's account.
    pub service_account_id: ServiceAccountId,
    /// The account's name.
    pub service_account: String,
    /// True if a rotation created the account. Such an account is deleted with its key.
    pub made_account: bool,
    /// The key's id.
    pub api_key_id: ApiKeyId,
    /// The unique name of the key, or of the account that was created with the key.
    pub unique_name: String,
    /// The key.
    pub api_key: ApiKey,
    /// The time of the key's creation, in whole seconds.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub last_rotation: DateTime<Utc>,
    /// The key's lifetime at OpenAI, from the `key_ttl` at its creation; zero for no expiry. Records of earlier releases
    /// lack it.
    #[serde(default, with = "crate::engine::time::seconds", skip_serializing_if = "Duration::is_zero")]
    pub key_ttl: Duration,
}

/// A replaced key. It works until the end of its grace period.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ending {
    /// The key's account.
    pub service_account_id: ServiceAccountId,
    /// The key's id.
    pub api_key_id: ApiKeyId,
    /// The unique name of the key's creation.
    pub unique_name: String,
    /// True if the account is deleted with the key.
    pub with_account: bool,
    /// The time of the key's creation. Records of earlier releases lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
    /// The end of the grace period, in whole seconds.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub ends: DateTime<Utc>,
    /// The length of the grace period. Records of earlier releases lack it.
    #[serde(default, with = "crate::engine::time::seconds::option", skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
    /// True if OpenAI ends the key by itself at the end of its grace period.
    #[serde(default)]
    pub limited: bool,
    /// Failed attempts to set the key's end at OpenAI, or to delete the key.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// A rotation by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The time of the request, in whole seconds.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub at: DateTime<Utc>,
    /// The grace period of the replaced key.
    #[serde(with = "crate::engine::time::seconds")]
    pub grace: Duration,
}

impl Record for StaticRole {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
}

pub(in crate::engine) static STATIC_ROLES: Collection<StaticRole> = Collection::new("static-role/");

impl StaticRole {
    /// The key that readers get, or the reason why there is none. A role that was written anew may still have keys of a
    /// deleted role to end.
    pub fn current(&self, name: &str) -> Result<&Current, Error> {
        let name = name.to_owned();
        match &self.current {
            Some(current) => Ok(current),
            None if self.deleted => Err(Error::BeingDeleted(name)),
            None => Err(Error::NoKeyYet(name)),
        }
    }

    /// True if readers see the role: it has a current key, or keys of a deleted role that still have to be ended.
    pub fn is_shown(&self) -> bool {
        self.current.is_some() || !self.ending.is_empty()
    }

    /// True if the record can be deleted: the role was deleted, or its creation failed, and nothing is left at OpenAI.
    pub fn is_over(&self) -> bool {
        self.current.is_none() && self.making.is_empty() && self.ending.is_empty()
    }

    /// True if the account has the current key or an unknown creation, or has to be deleted.
    pub fn names_account(&self, account: &ServiceAccountId) -> bool {
        let current = self.current.iter().map(|current| &current.service_account_id);
        let making = self.making.iter().filter_map(|making| making.service_account_id.as_ref());
        current.chain(making).any(|id| id == account) || self.ends_account(account)
    }

    /// True if the account has to be deleted.
    pub fn ends_account(&self, account: &ServiceAccountId) -> bool {
        self.ending.iter().any(|old| old.with_account && old.service_account_id == *account)
    }

    /// All accounts and keys at OpenAI that the record names.
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

    /// Allows failed work to be retried at once, where `is_tried` returns true.
    pub fn try_now(&mut self, is_tried: impl Fn(&RetryState) -> bool) {
        let retries = self.ending.iter_mut().map(|old| &mut old.retry).chain([&mut self.retry]);
        for retry in retries.filter(|retry| is_tried(retry)) {
            retry.next_try = None;
        }
        self.making.try_now(is_tried);
    }

    /// Leaves the deletion of an account to the last of its replaced keys, as OpenAI deletes an account with all its keys.
    pub fn leave_accounts_to_last_keys(&mut self) {
        for at in 0..self.ending.len() {
            let old = &self.ending[at];
            let its_account = |other: &&Ending| other.service_account_id == old.service_account_id;
            let last_end = self.ending.iter().filter(its_account).map(|other| other.ends).max();
            if !old.with_account || last_end == Some(old.ends) {
                continue;
            }
            let account = old.service_account_id.clone();
            for other in self.ending.iter_mut().filter(|other| other.service_account_id == account) {
                other.with_account = Some(other.ends) == last_end;
            }
        }
    }

    /// The last error of a replaced key's deletion or of setting its end at OpenAI.
    pub fn trouble_with_replaced(&self) -> Option<String> {
        self.ending.iter().rev().find_map(|old| old.retry.last_error.clone())
    }

    /// All accounts that the record names.
    pub fn accounts(&self) -> impl Iterator<Item = &ServiceAccountId> {
        let current = self.current.iter().map(|current| &current.service_account_id);
        let making = self.making.iter().filter_map(|making| making.service_account_id.as_ref());
        let old = self.ending.iter().map(|old| &old.service_account_id);
        std::iter::once(&self.given_account_id).chain(current).chain(making).chain(old)
    }

    /// The current and the replaced keys, with their unique names.
    pub fn keys(&self) -> impl Iterator<Item = (&ApiKeyId, &str)> {
        let current = self.current.iter().map(|key| (&key.api_key_id, key.unique_name.as_str()));
        current.chain(self.ending.iter().map(|old| (&old.api_key_id, old.unique_name.as_str())))
    }

    /// The grace period of the next rotation: of a rotation by hand, or else the role's own.
    pub fn next_grace(&self) -> Result<Duration, Error> {
        self.asked.map_or_else(|| self.settings.grace(), |asked| Ok(asked.grace))
    }

    /// Adds a creation to `making`: of a key on this account, or of an account with a key.
    pub fn begin_making(
        &mut self,
        name: String,
        account: Option<&ServiceAccountId>,
        now: DateTime<Utc>,
    ) -> Result<Making, Error> {
        if self.id.is_empty() {
            self.id = uuid::Uuid::new_v4().to_string();
        }
        self.making.begin(name, &self.organization_id, Some(&self.account_project_id), account, now)
    }

    /// Replaces the current key by a new one. The old key's grace period is over at `ends`.
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

    /// Ends the key of a creation with a lost outcome after its readers have come back: a backup lost the record of the key.
    pub fn end_later(
        &mut self,
        making: &Making,
        account: ServiceAccountId,
        key: ApiKeyId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let grace = self.longest_wait()?.max(READERS_COME_BACK) + self.settings.grace()?;
        self.ending.push(Ending {
            with_account: making.service_account_id.is_none(),
            service_account_id: account,
            api_key_id: key,
            unique_name: making.name.clone(),
            made: Some(making.since),
            ends: now + grace,
            grace: Some(grace),
            limited: false,
            retry: RetryState::default(),
        });
        Ok(())
    }

    /// Deletes the role: all its keys are due for deletion now, the current one first.
    pub fn delete(&mut self, now: DateTime<Utc>) {
        self.deleted = true;
        self.making.try_now(|_| true);
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
