//! The stored record of `config/federation`: its settings, the provider at OpenAI, and the signing keys.
//!
//! A deleted record stays as a tombstone, which readers do not see, until OpenAI has deleted the provider.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::signing::SigningKey;
use crate::engine::Error;
use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::retry::RetryState;
use crate::engine::time::schedule::Schedule;
use crate::logical::{Collection, Record};
use crate::openai::{IdentityProviderId, OrganizationId, PROPAGATION_TIME};

/// The issuer of this mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Federation {
    /// `iss` of the tokens.
    pub issuer: String,
    /// `aud` of the tokens.
    pub audience: String,
    /// URL of the token exchange.
    pub token_endpoint: String,
    /// Time between two rotations of the signing key; zero for by hand only.
    #[serde(default, with = "crate::engine::time::seconds")]
    pub key_rotation_period: Duration,
    /// Part of every `sub`: the tag of the mount that wrote the record first.
    pub tag: String,
    /// The provider at OpenAI.
    pub provider: Provider,
    /// The key that signs.
    pub current: Key,
    /// The key of a rotation under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextKey>,
    /// Replaced keys, whose tokens may still live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ending: Vec<EndingKey>,
    /// Keys of the provider that this mount did not upload, by their ids, as of the last change of its keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_kids: Vec<String>,
    /// Time of the last change of issuer or audience that found OpenAI up to date; none before such a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<DateTime<Utc>>,
    /// Time of the deletion; none if nobody deleted the record. The provider still has to be deleted at OpenAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DateTime<Utc>>,
    /// Retry state of the work at OpenAI.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// The workload identity provider at OpenAI.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Provider {
    /// An operator registered the provider.
    ByHand {
        /// OpenAI's id of it.
        id: IdentityProviderId,
    },
    /// Vault registers the provider.
    Managed {
        /// The organization it is in.
        organization_id: OrganizationId,
        /// Its name, unique in the organization.
        name: String,
        /// OpenAI's id of it; none before OpenAI has answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<IdentityProviderId>,
        /// OpenAI has the issuer and the audience of this record.
        is_applied: bool,
        /// Time of the registration at OpenAI; before that, of the first write.
        since: DateTime<Utc>,
    },
}

/// A signing key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// The key.
    pub key: SigningKey,
    /// Time since which the key signs, in whole seconds. Before that, the time of the key's creation.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub made: DateTime<Utc>,
}

/// The key of a rotation under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NextKey {
    /// The key.
    #[serde(flatten)]
    pub key: Key,
    /// Time at which OpenAI confirmed the upload. None by hand, as no call tells of the operator's upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<DateTime<Utc>>,
}

/// The public part of a replaced key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndingKey {
    /// Its id.
    pub kid: String,
    /// The public key.
    pub jwk: Value,
    /// Time from which on no token of the key is valid.
    #[serde(with = "crate::engine::time::rfc3339")]
    pub ends: DateTime<Utc>,
}

impl Record for Federation {
    const VERSION: u32 = 1;
    const SEAL_WRAP: bool = true;
    fn is_visible(&self) -> bool {
        self.deleted.is_none()
    }
}

pub(in crate::engine) static FEDERATION: Collection<Federation> = Collection::new("federation");
/// The name of the only record.
pub(in crate::engine) const ONLY: &str = "";
/// The lock for changes of the record.
pub(in crate::engine) const LOCK: &str = "federation";

impl Key {
    /// A new key.
    pub(super) fn new(now: DateTime<Utc>) -> Result<Self, Error> {
        let key = SigningKey::generate().map_err(|error| Error::field(error.to_string()))?;
        Ok(Self { key, made: now.trunc_subsecs(0) })
    }
}

impl Provider {
    /// OpenAI's id of the provider; none before OpenAI has answered its creation.
    pub fn id(&self) -> Option<&IdentityProviderId> {
        match self {
            Self::ByHand { id } => Some(id),
            Self::Managed { id, .. } => id.as_ref(),
        }
    }

    /// The organization of a provider that Vault manages.
    pub fn organization(&self) -> Option<&OrganizationId> {
        match self {
            Self::ByHand { .. } => None,
            Self::Managed { organization_id, .. } => Some(organization_id),
        }
    }

    /// True if Vault registers the provider and its rules.
    pub fn is_managed(&self) -> bool {
        matches!(self, Self::Managed { .. })
    }
}

impl Federation {
    /// The exact `sub` of a role's tokens. Names of roles contain neither `*` nor `:`.
    pub fn subject_of(&self, role: &str) -> String {
        format!("vault:{}:role:{role}", self.tag)
    }

    /// The public keys that OpenAI has to know.
    pub fn jwks(&self) -> Value {
        let next = self.next.iter().map(|next| next.key.key.public_jwk());
        let ending = self.ending.iter().map(|ending| ending.jwk.clone());
        let keys: Vec<Value> =
            std::iter::once(self.current.key.public_jwk()).chain(next).chain(ending).collect();
        json!({ "keys": keys })
    }

    /// True if this mount made the key of this id.
    pub fn has_kid(&self, kid: &str) -> bool {
        self.current.key.kid() == kid
            || self.next.as_ref().is_some_and(|next| next.key.key.kid() == kid)
            || self.ending.iter().any(|ending| ending.kid == kid)
    }

    /// The public keys that OpenAI has had for less than a minute. No rotation has taken them out since.
    pub fn young_keys(&self, now: DateTime<Utc>) -> Vec<Value> {
        let is_young =
            |since: DateTime<Utc>| (now - since).abs().to_std().is_ok_and(|age| age < PROPAGATION_TIME);
        let current = is_young(self.current.made).then_some(&self.current);
        let next =
            self.next.as_ref().filter(|next| next.uploaded.is_some_and(is_young)).map(|next| &next.key);
        current.into_iter().chain(next).map(|key| key.key.public_jwk()).collect()
    }

    /// The time of the next rotation; a time up to `now` means that the rotation is due. `None` for by hand only. A key
    /// that a wrong clock made in the future is due at once.
    pub fn next_rotation(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let period = Schedule::Period(self.key_rotation_period);
        (!self.key_rotation_period.is_zero()).then(|| period.next(now, self.current.made, Duration::ZERO))
    }

    /// True if OpenAI has what the record says, apart from keys that end.
    pub fn is_settled(&self) -> bool {
        let is_applied = match &self.provider {
            Provider::ByHand { .. } => true,
            Provider::Managed { id, is_applied, .. } => id.is_some() && *is_applied,
        };
        is_applied && self.next.is_none() && self.deleted.is_none()
    }

    /// The provider at OpenAI that Vault made.
    pub fn holdings(&self) -> Vec<Holding> {
        match &self.provider {
            Provider::ByHand { .. } => Vec::new(),
            Provider::Managed { organization_id, name, .. } => {
                vec![Holding { name: Some(name.clone()), ..Holding::in_project(organization_id, None) }]
            }
        }
    }
}
