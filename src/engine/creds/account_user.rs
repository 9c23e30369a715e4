//! The user of an account at OpenAI. This file makes no calls.

use crate::engine::accounts::claims;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::ServiceAccountId;

/// The user of the account: its static role or library set, or a role that creates keys on the account.
pub(in crate::engine) async fn user_of(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<Option<String>, Error> {
    for owner in claims::claimants(storage, account).await? {
        if claims::names_account(engine, storage, &owner, account).await? {
            return Ok(Some(owner.described()));
        }
    }
    let mut roles = engine.creds.roles.all(storage).await?.into_iter();
    let role = roles.find(|(_, role)| role.service_account_id.as_ref() == Some(account));
    Ok(role.map(|(name, _)| format!("role {name}")))
}

/// True if the account of a credential has a user. Somebody may have renamed the account at OpenAI, so that a static role, a
/// library set or a role could take it. An unreadable record does not keep a credential from its end.
pub(in crate::engine) async fn has_user(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<bool, Error> {
    match user_of(engine, storage, account).await {
        Err(Error::Storage(StorageError::Malformed { .. })) => Ok(false),
        user => Ok(user?.is_some()),
    }
}
