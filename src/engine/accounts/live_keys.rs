//! The live keys of accounts at OpenAI. OpenAI deletes an account with all its keys, so each deletion of an account asks
//! here first. This file changes nothing at OpenAI.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::deletion;
use crate::engine::Error;
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// Longest time by which OpenAI's clock may be behind ours. An expired key counts as live for this time.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// Maximum time of a project's listing.
pub(in crate::engine) const MAX_WAIT: Duration = Duration::from_secs(30);

/// A key that has not expired.
#[derive(Debug)]
pub(in crate::engine) struct LiveKey {
    /// The key's account.
    pub(in crate::engine) account: ServiceAccountId,
    /// OpenAI's id of the key.
    pub(in crate::engine) id: ApiKeyId,
}

/// The live keys of these accounts: OpenAI lists them and still finds each by id. `now` is called after each page,
/// because each response contains OpenAI's time.
pub(in crate::engine) async fn of_accounts(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<Vec<LiveKey>, openai::Error> {
    let mut live = Vec::new();
    for key in listed(client, project, accounts, MAX_WAIT, now).await? {
        if is_known(client, project, &key).await? {
            live.push(key);
        }
    }
    Ok(live)
}

/// Refuses an account with a live key that is none of `ours`. A deleted project has no accounts with keys.
pub(in crate::engine) async fn refuse_used(
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    ours: &[ApiKeyId],
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<(), Error> {
    match of_accounts(client, project, &HashSet::from([account]), now).await {
        Ok(keys) => match keys.into_iter().find(|key| !ours.contains(&key.id)) {
            Some(key) => Err(Error::AccountHasKeys { account: account.clone(), key: key.id }),
            None => Ok(()),
        },
        Err(error) if deletion::went_with_project(client, project, &error).await => Ok(()),
        Err(error) => Err(Error::Revocation(error)),
    }
}

/// True if OpenAI finds the listed key by id. A list may still contain a key that was deleted a moment ago.
pub(in crate::engine) async fn is_known(
    client: &Client,
    project: &ProjectId,
    key: &LiveKey,
) -> Result<bool, openai::Error> {
    match client.key(project, &key.id).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The unexpired keys of these accounts in the project's list. OpenAI lists keys by project only; the listing fails if
/// it takes longer than `within`.
pub(in crate::engine) async fn listed(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    within: Duration,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<Vec<LiveKey>, openai::Error> {
    let (mut found, mut pages) = (Vec::new(), Pages::within(within));
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
                found.push(LiveKey { account, id: key.id });
            }
        }
    }
}
