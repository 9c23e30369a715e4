//! What is stored of a static role: what it was told, its key, and what is still to be ended of earlier keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::settings::Settings;
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
    /// The key that readers get.
    pub current: Current,
    /// Earlier keys that are not ended yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<Retiring>,
    /// How the present attempt to rotate, or to delete it, fares.
    #[serde(flatten)]
    pub retry: RetryState,
    /// A rotation by hand that failed: the tick makes up for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// It was deleted, but its key is not known to be dead yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
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
    #[serde(with = "crate::engine::rfc3339")]
    pub last_rotation: DateTime<Utc>,
}

/// An earlier key: it lives until its grace is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retiring {
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
    #[serde(with = "crate::engine::rfc3339")]
    pub ends: DateTime<Utc>,
    /// How long the grace is; releases before did not keep that.
    #[serde(default, with = "crate::engine::seconds::option", skip_serializing_if = "Option::is_none")]
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
    #[serde(with = "crate::engine::rfc3339")]
    pub at: DateTime<Utc>,
    /// How long the replaced key shall still work.
    #[serde(with = "crate::engine::seconds")]
    pub grace: Duration,
}

impl Record for StaticRole {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
}

pub(in crate::engine) static STATIC_ROLES: Collection<StaticRole> = Collection::new("static-role/");

impl StaticRole {
    /// Whether it has this account, or still has to end it.
    pub fn names_account(&self, account: &ServiceAccountId) -> bool {
        self.current.service_account_id == *account
            || self.retiring.iter().any(|old| old.with_account && old.service_account_id == *account)
    }

    /// Whether a rotation made this account, which then goes with its key.
    pub fn made_account(&self, account: &ServiceAccountId) -> bool {
        self.current.made_account && self.current.service_account_id == *account
            || self.retiring.iter().any(|old| old.with_account && old.service_account_id == *account)
    }

    /// Whether it owns what was made under this name.
    pub fn names_creation(&self, unique_name: &str) -> bool {
        self.current.unique_name == unique_name
            || self.retiring.iter().any(|old| old.unique_name == unique_name)
    }

    /// Every account that it was given, has, or had and may still have a key on.
    pub fn accounts(&self) -> impl Iterator<Item = &ServiceAccountId> {
        let old = self.retiring.iter().map(|old| &old.service_account_id);
        [&self.given_account_id, &self.current.service_account_id].into_iter().chain(old)
    }

    /// Its keys, the current one and those that are not ended yet: their ids, and the names they were made under.
    pub fn keys(&self) -> impl Iterator<Item = (&ApiKeyId, &str)> {
        let old = self.retiring.iter().map(|old| (&old.api_key_id, old.unique_name.as_str()));
        std::iter::once((&self.current.api_key_id, self.current.unique_name.as_str())).chain(old)
    }

    /// How long the next replaced key works: the grace of a rotation that was asked for, else the role's own.
    pub fn next_grace(&self) -> Duration {
        self.asked.map_or(self.settings.grace_period, |asked| asked.grace)
    }

    /// Puts a new key in the place of the current one, which retires at `ends`, when its grace is over.
    pub fn replace_current(&mut self, new: Current, grace: Duration, ends: DateTime<Utc>) {
        let old = std::mem::replace(&mut self.current, new);
        self.retiring.push(Retiring {
            with_account: old.made_account && old.service_account_id != self.current.service_account_id,
            service_account_id: old.service_account_id,
            api_key_id: old.api_key_id,
            unique_name: old.unique_name,
            made: Some(old.last_rotation),
            ends,
            grace: Some(grace),
            limited: false,
            retry: RetryState::default(),
        });
        self.retry.succeeded();
        self.asked = None;
    }
}
