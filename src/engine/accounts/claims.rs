//! Claims: each account at OpenAI belongs to at most one static role, federated role or library set.
//!
//! *Guarantees:* a claim is stored before its owner's record, under the account's lock. So storage never has two owners
//! of one account. A crash or a failed write may leave a claim whose owner's record does not name the account. Such a
//! claim is void when no request that stored the claim can still run. The next claim replaces a void claim.
//!
//! *Layout:* a claim stands at `account-owner/<account>/<random id>`. So a late deletion by a former leader can remove
//! only a released claim, and never the later claim of an owner of the same name. Earlier releases stored one claim at
//! `account-owner/<account>`.
//!
//! *Assumption:* no request lives longer than [`making::longest_request`].

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::holdings;
use super::owner::Owner;
use crate::engine::accounts::making;
use crate::engine::{Engine, Error};
use crate::framework::{LockGuard, Locks};
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::ServiceAccountId;

/// The stored claim.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    owner: Owner,
    made: DateTime<Utc>,
}

impl Claim {
    /// True if the request that made the claim may still store its record. A time in the future means that the clock
    /// was set back.
    fn may_be_under_way(&self, now: DateTime<Utc>) -> bool {
        (now - self.made).abs().to_std().is_ok_and(|age| age < making::longest_request())
    }
}

impl Record for Claim {
    const VERSION: u32 = 1;
}

static CLAIMS: Collection<Claim> = Collection::new("account-owner/");

/// Locks the account against other claims and deletions.
pub(in crate::engine) async fn lock(locks: &Locks, account: &ServiceAccountId) -> LockGuard {
    locks.lock(&format!("account/{account}")).await
}

/// The claims of an account, by their names in [`CLAIMS`]: none, one, or more after a crash.
type Claims = Vec<(String, Claim)>;

async fn claims(storage: &dyn Storage, account: &ServiceAccountId) -> Result<Claims, StorageError> {
    let mut claims = Vec::new();
    let own = storage.list(&CLAIMS.key(&format!("{account}/"))).await?.into_iter();
    let former = std::iter::once(account.to_string());
    for name in own.map(|id| format!("{account}/{id}")).chain(former) {
        claims.extend(CLAIMS.get(storage, &name).await?.map(|claim| (name, claim)));
    }
    Ok(claims)
}

/// True if the account has a claim, even a void one: the owner's record may be written at this moment.
pub(in crate::engine) async fn is_claimed(
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    Ok(has_claims(storage, account).await? || CLAIMS.contains(storage, account.as_str()).await?)
}

/// The same by one read of storage, and without the claims of early version-1 releases.
pub(in crate::engine) async fn has_claims(
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    Ok(!storage.list(&CLAIMS.key(&format!("{account}/"))).await?.is_empty())
}

/// The owners with a claim on the account. A claim may be void.
pub(in crate::engine) async fn claimants(
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<BTreeSet<Owner>, StorageError> {
    Ok(claims(storage, account).await?.into_iter().map(|(_, claim)| claim.owner).collect())
}

/// True if the owner's record is stored and names the account as its own.
pub(in crate::engine) async fn names_account(
    engine: &Engine,
    storage: &dyn Storage,
    owner: &Owner,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    let holdings = holdings::of(engine, storage, owner).await?;
    Ok(holdings.iter().any(|it| it.is_claimed && it.service_account_id.as_ref() == Some(account)))
}

/// Claims the account for `owner`, unless another owner's record names the account. An owner may repeat its claim.
pub(in crate::engine) async fn claim(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
) -> Result<(), Error> {
    let _alone = lock(&engine.locks, account).await;
    claim_locked(engine, storage, account, owner).await
}

/// Like [`claim`], for a caller that holds the account's [`lock`].
pub(in crate::engine) async fn claim_locked(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
) -> Result<(), Error> {
    let held = claims(storage, account).await?;
    refuse_held(engine, storage, account, owner, &held).await?;
    let name = format!("{account}/{}", uuid::Uuid::new_v4());
    CLAIMS.put(storage, &name, &Claim { owner: owner.clone(), made: engine.now() }).await?;
    for (name, _) in held {
        CLAIMS.delete(storage, &name).await?;
    }
    Ok(())
}

/// Refuses an account that another owner's record names or may name soon. The caller holds the account's [`lock`].
pub(in crate::engine) async fn refuse_claimed(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
) -> Result<(), Error> {
    let held = claims(storage, account).await?;
    refuse_held(engine, storage, account, owner, &held).await
}

async fn refuse_held(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
    held: &Claims,
) -> Result<(), Error> {
    let now = engine.now();
    for (_, held) in held.iter().filter(|(_, held)| held.owner != *owner) {
        if held.may_be_under_way(now) || names_account(engine, storage, &held.owner, account).await? {
            return Err(Error::AccountInUse { account: account.clone(), owner: held.owner.described() });
        }
    }
    Ok(())
}

/// Deletes the claims of `owner` on the account.
pub(in crate::engine) async fn release(
    locks: &Locks,
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
) -> Result<(), StorageError> {
    let _alone = lock(locks, account).await;
    release_locked(storage, account, owner).await
}

/// Deletes the claims of `owner` on the account. The caller holds the account's [`lock`].
pub(in crate::engine) async fn release_locked(
    storage: &dyn Storage,
    account: &ServiceAccountId,
    owner: &Owner,
) -> Result<(), StorageError> {
    for (name, _) in claims(storage, account).await?.iter().filter(|(_, held)| held.owner == *owner) {
        CLAIMS.delete(storage, name).await?;
    }
    Ok(())
}
