//! The keys that live on accounts at OpenAI. A deleted account takes all its keys along, whoever uses them, so this is
//! asked before one is deleted. It changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// OpenAI's clock may be behind ours by this much: an expired key counts as live for as long.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// As long as a project's keys may be listed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A key that has not ended.
#[derive(Debug)]
pub(super) struct LiveKey {
    /// The account that it belongs to.
    pub(super) account: ServiceAccountId,
    /// OpenAI's id of it.
    pub(super) id: ApiKeyId,
}

/// The live keys of these accounts. OpenAI lists keys by project only. Its list may still show a key that was deleted a
/// moment ago, so each key that is found is asked for by itself.
pub(super) async fn of_accounts(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: DateTime<Utc>,
) -> Result<Vec<LiveKey>, openai::Error> {
    let mut live = Vec::new();
    if accounts.is_empty() {
        return Ok(live);
    }
    for key in listed(client, project, accounts, now).await? {
        match client.key(project, &key.id).await {
            Ok(_) => live.push(key),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(live)
}

async fn listed(
    client: &Client,
    project: &ProjectId,
    accounts: &HashSet<&ServiceAccountId>,
    now: DateTime<Utc>,
) -> Result<Vec<LiveKey>, openai::Error> {
    let (mut found, mut pages) = (Vec::new(), Pages::within(PATIENCE));
    loop {
        let page = match client.next_keys(project, &mut pages).await {
            // The project is gone, and all keys with it.
            Err(error) if error.is_gone() && pages.is_at_start() => return Ok(found),
            page => page?,
        };
        let Some(page) = page else { return Ok(found) };
        for key in page {
            let is_live = key.expires_at.is_none_or(|end| end > now - CLOCK_SKEW);
            let account = key.service_account().filter(|account| is_live && accounts.contains(account));
            if let Some(account) = account.cloned() {
                found.push(LiveKey { account, id: key.id });
            }
        }
    }
}
