//! The user of an account at OpenAI. This file makes no calls.

use crate::engine::accounts::claims;
use crate::engine::accounts::owner::Owner;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::ServiceAccountId;

/// The user of the account: its static role, library set or federated role, or a role that creates keys on the account.
pub(in crate::engine) async fn user_of(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<Option<String>, Error> {
    if let Some(owner) = claimant_of(engine, storage, account).await? {
        return Ok(Some(owner.described()));
    }
    let mut roles = engine.creds.roles.all(storage).await?.into_iter();
    let role = roles.find(|(_, role)| role.service_account_id.as_ref() == Some(account));
    Ok(role.map(|(name, _)| format!("role {name}")))
}

/// True if another owner claims the account of a credential. Somebody may have renamed the account at OpenAI, so that a
/// static role, a library set or a federated role could take it. An unreadable record does not keep a credential from its
/// end. Roles that create keys on the account have no claim: each end of a credential would read all roles.
pub(in crate::engine) async fn is_taken(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<bool, StorageError> {
    // Each end of a credential runs this check, so the common case reads one folder.
    if !claims::has_claims(storage, account).await? {
        return Ok(false);
    }
    match claimant_of(engine, storage, account).await {
        Err(StorageError::Malformed { .. }) => Ok(false),
        owner => Ok(owner?.is_some()),
    }
}

/// The owner whose record names the account as its own.
async fn claimant_of(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<Option<Owner>, StorageError> {
    for owner in claims::claimants(storage, account).await? {
        if claims::names_account(engine, storage, &owner, account).await? {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}
