//! The keys that live on accounts at OpenAI. A deleted account takes all its keys along, whoever uses them, so this is
//! asked before one is deleted. It changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// OpenAI's clock may be behind ours by this much: an expired key counts as live for as long.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// As long as a project's keys may be listed.
pub(in crate::engine) const PATIENCE: Duration = Duration::from_secs(30);

/// A key that has not ended.
#[derive(Debug)]
pub(in crate::engine) struct LiveKey {
    /// The account that it belongs to.
    pub(in crate::engine) account: ServiceAccountId,
    /// OpenAI's id of it.
    pub(in crate::engine) id: ApiKeyId,
}

/// The live keys of these accounts: those that are listed, and that OpenAI still knows. `now` is asked after each page,
/// as an answer tells OpenAI's time.
pub(in crate::engine) async fn of_accounts(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: impl Fn() -> DateTime<Utc> + Send + Sync,
) -> Result<Vec<LiveKey>, openai::Error> {
    let mut live = Vec::new();
    for key in listed(client, project, accounts, PATIENCE, now).await? {
        if is_known(client, project, &key).await? {
            live.push(key);
        }
    }
    Ok(live)
}

/// Whether OpenAI knows a key that it listed. A list may still show a key that was deleted a moment ago.
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

/// The keys of these accounts that are listed and have not expired, as they are read within this time. OpenAI lists keys
/// by project only.
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
        let page = match client.next_keys(project, &mut pages).await {
            // The project is gone, and all keys with it.
            Err(error) if error.is_gone() && pages.is_at_start() => return Ok(found),
            page => page?,
        };
        let Some(page) = page else { return Ok(found) };
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
