//! The live keys of accounts at OpenAI. OpenAI deletes an account with all its keys, so each deletion of an account asks
//! here first. This file changes nothing at OpenAI.
//!
//! *Limitation:* a key that somebody creates while the list is read may be missed. A long list takes several ticks.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::engine::{Engine, Error};
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// Longest time by which OpenAI's clock may be behind ours. An expired key counts as live for this time.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// Maximum time of one part of a project's listing.
pub(in crate::engine) const MAX_WAIT: Duration = Duration::from_secs(30);

/// A key that has not expired.
#[derive(Debug)]
pub(in crate::engine) struct LiveKey {
    /// The key's account.
    pub(in crate::engine) account: ServiceAccountId,
    /// OpenAI's id of the key.
    pub(in crate::engine) id: ApiKeyId,
    created_at: DateTime<Utc>,
}

/// The live keys of these accounts, for a request: OpenAI lists them and still finds each by id. `now` is called after each
/// page, because each response contains OpenAI's time.
pub(in crate::engine) async fn of_accounts(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<Vec<LiveKey>, openai::Error> {
    let mut live = Vec::new();
    for key in listed(client, project, accounts, &now).await? {
        if is_known(client, project, &key.id, now() - key.created_at).await? {
            live.push(key);
        }
    }
    Ok(live)
}

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
    match other_key(engine, client, project, account, ours, within).await? {
        Some(key) => Err(Error::AccountHasKeys { account: account.clone(), key }),
        None => Ok(()),
    }
}

/// A live key of the account that is none of `ours`.
async fn other_key(
    engine: &Engine,
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    ours: &[ApiKeyId],
    within: Duration,
) -> Result<Option<ApiKeyId>, Error> {
    let listed = engine.accounts.listings.keys_of(client, project, account, within).await;
    let listed = listed.map_err(Error::Revocation)?.ok_or(Error::KeysUnlisted)?;
    let over = engine.certain_time() - CLOCK_SKEW;
    let live = listed.into_iter().filter(|key| key.expires_at.is_none_or(|end| end > over));
    let live = live.filter_map(|key| Some((key.key?, key.created_at)));
    for (key, created_at) in live.filter(|(key, _)| !ours.contains(key)) {
        let known = is_known(client, project, &key, engine.now() - created_at).await;
        if known.map_err(Error::Revocation)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
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

/// The unexpired keys of these accounts in the project's list. OpenAI lists keys by project only; the listing fails if
/// it takes longer than [`MAX_WAIT`].
async fn listed(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: &(impl Fn() -> DateTime<Utc> + Send + Sync),
) -> Result<Vec<LiveKey>, openai::Error> {
    let (mut found, mut pages) = (Vec::new(), Pages::within(MAX_WAIT));
    if accounts.is_empty() {
        return Ok(found);
    }
    loop {
        let Some(page) = client.next_keys(project, &mut pages).await? else { return Ok(found) };
        let over = now() - CLOCK_SKEW;
        for key in page {
            let is_live = key.expires_at.is_none_or(|end| end > over);
            let account = key.service_account().filter(|account| is_live && accounts.contains(account));
            if let Some(account) = account.cloned() {
                found.push(LiveKey { account, id: key.id, created_at: key.created_at });
            }
        }
    }
}
