//! Which static role or library set an account of OpenAI belongs to: one at most.
//!
//! *Guarantees:* a claim is made before the owner's record is stored, under the account's lock, so no two owners are
//! ever stored for one account. A claim whose owner's record does not name the account is void once no request that
//! made it can still run (a crash lay between the two, or a write that failed); the next one then takes its place.
//!
//! *Assumption:* no request lives longer than [`issuer::sweep_age`].

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::creds::issuer;
use crate::engine::{Engine, Error};
use crate::framework::LockGuard;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::ServiceAccountId;

/// Who an account belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountOwner {
    /// The static role of this name.
    StaticRole(String),
    /// The library set of this name.
    LibrarySet(String),
}

/// The stored claim.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    owner: AccountOwner,
    made: DateTime<Utc>,
}

impl Claim {
    /// Whether the request that made it may still be about to store its record. A time ahead of ours is a clock that
    /// was put back.
    fn may_be_under_way(&self, now: DateTime<Utc>) -> bool {
        (now - self.made).abs().to_std().is_ok_and(|age| age < issuer::sweep_age())
    }
}

impl Record for Claim {
    const VERSION: u32 = 1;
}

static CLAIMS: Collection<Claim> = Collection::new("account-owner/");

impl std::fmt::Display for AccountOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StaticRole(name) => write!(f, "static role {name}"),
            Self::LibrarySet(name) => write!(f, "library set {name}"),
        }
    }
}

/// Held by whoever claims an account, gives it up, or ends it because nobody has it.
pub(in crate::engine) fn lock(account: &ServiceAccountId) -> String {
    format!("account/{account}")
}

/// Whether there is a claim, even a void one: its owner's record may be just about to be stored.
pub(in crate::engine) async fn is_claimed(
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    CLAIMS.contains(storage, account.as_str()).await
}

/// Who claims the account, if anybody does; the claim may be void.
pub(in crate::engine) async fn claimant(
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<Option<AccountOwner>, StorageError> {
    Ok(CLAIMS.get(storage, account.as_str()).await?.map(|claim| claim.owner))
}

impl Engine {
    /// Claims the account for `owner`, unless another's record names it. Claiming what one owns already is fine.
    pub(in crate::engine) async fn claim(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
        owner: &AccountOwner,
    ) -> Result<(), Error> {
        let _alone = self.locks.lock(&lock(account)).await;
        let now = self.now();
        if let Some(held) = CLAIMS.get(storage, account.as_str()).await? {
            let is_young = held.may_be_under_way(now);
            let is_ours = held.owner == *owner;
            if is_young && is_ours {
                return Ok(());
            }
            if !is_ours && (is_young || self.names_account(storage, &held.owner, account).await?) {
                return Err(Error::AccountInUse { account: account.clone(), owner: held.owner });
            }
        }
        Ok(CLAIMS.put(storage, account.as_str(), &Claim { owner: owner.clone(), made: now }).await?)
    }

    /// Gives the account up, if `owner` holds it.
    pub(in crate::engine) async fn release(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
        owner: &AccountOwner,
    ) -> Result<(), Error> {
        Ok(self.lock_claim(account).await.release(storage, owner).await?)
    }

    /// Holds off every claim of the account, and everybody else who ends it.
    pub(in crate::engine) async fn lock_claim<'a>(&self, account: &'a ServiceAccountId) -> LockedClaim<'a> {
        LockedClaim { account, _alone: self.locks.lock(&lock(account)).await }
    }
}

/// The claim of an account that nobody else changes.
pub(in crate::engine) struct LockedClaim<'a> {
    account: &'a ServiceAccountId,
    _alone: LockGuard,
}

impl LockedClaim<'_> {
    /// Who claims the account, if anybody does; the claim may be void.
    pub(in crate::engine) async fn owner(
        &self,
        storage: &dyn Storage,
    ) -> Result<Option<AccountOwner>, StorageError> {
        claimant(storage, self.account).await
    }

    /// Deletes the claim, if `owner` holds it.
    pub(in crate::engine) async fn release(
        &self,
        storage: &dyn Storage,
        owner: &AccountOwner,
    ) -> Result<(), StorageError> {
        if self.owner(storage).await?.is_some_and(|held| held == *owner) {
            CLAIMS.delete(storage, self.account.as_str()).await?;
        }
        Ok(())
    }
}
