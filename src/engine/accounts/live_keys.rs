//! The live keys of accounts at OpenAI. OpenAI deletes an account with all its keys, so each deletion of an account asks
//! here first. This file changes nothing at OpenAI.
//!
//! *Limitation:* a key that somebody creates while the list is read may be missed. A long list takes several ticks.

use std::time::Duration;

use chrono::TimeDelta;

use crate::engine::{Engine, Error};
use crate::openai::{self, ApiKeyId, Client, ProjectId, ServiceAccountId};

/// Longest time by which OpenAI's clock may be behind ours. An expired key counts as live for this time.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// Maximum time of one part of a project's listing.
pub(in crate::engine) const MAX_WAIT: Duration = Duration::from_secs(30);

/// Refuses an account with a live key that is none of `ours`. A deleted project has no accounts with keys. The listing may
/// take up to `within`. After [`Error::KeysUnlisted`] the next tick continues it.
pub(in crate::engine) async fn refuse_used(
    engine: &Engine,
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    ours: &[ApiKeyId],
    within: Duration,
) -> Result<(), Error> {
    let others = others(engine, client, project, account, ours, within, 1).await;
    match others.map_err(Error::Revocation)?.ok_or(Error::KeysUnlisted)?.pop() {
        Some(key) => Err(Error::AccountHasKeys { account: account.clone(), key }),
        None => Ok(()),
    }
}

/// Live keys of the account that are none of `ours`, at most `most`: OpenAI lists them and finds each by id. `None` if the
/// listing takes longer than `within`. Then the same question continues it.
pub(in crate::engine) async fn others(
    engine: &Engine,
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    ours: &[ApiKeyId],
    within: Duration,
    most: usize,
) -> Result<Option<Vec<ApiKeyId>>, openai::Error> {
    let listed = engine.accounts.listings.keys_of(client, project, account, within).await?;
    let Some(listed) = listed else { return Ok(None) };
    let over = engine.certain_time() - CLOCK_SKEW;
    let live = listed.into_iter().filter(|key| key.expires_at.is_none_or(|end| end > over));
    let live = live.filter_map(|key| Some((key.key?, key.created_at)));
    let mut others = Vec::new();
    for (key, created_at) in live.filter(|(key, _)| !ours.contains(key)) {
        if others.len() == most {
            break;
        }
        if is_known(client, project, &key, engine.now() - created_at).await? {
            others.push(key);
        }
    }
    Ok(Some(others))
}

/// True if OpenAI finds the listed key of this age by id. A list may still contain a key that was deleted a moment ago.
/// Fails for a new key that OpenAI does not find, because the 404 proves nothing.
async fn is_known(
    client: &Client,
    project: &ProjectId,
    key: &ApiKeyId,
    age: TimeDelta,
) -> Result<bool, openai::Error> {
    client.recent_ids().insert(key.as_str(), age.to_std().unwrap_or_default());
    match client.key(project, key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
}
