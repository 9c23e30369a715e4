//! Accounts of a set for which OpenAI answered 404 at a check-out. They stay in the set, and are lent only where no other
//! account is free. The tick looks again, as the account may only have been new; writing the set's names again has them
//! made or adopted anew.
//!
//! A record stands at `library-missing/<set>/<account id>`. Nothing at OpenAI is changed because of it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::members::Member;
use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{ServiceAccountId, Urgency};

/// The first look comes after this time; the time doubles with each look, up to [`LONGEST_WAIT`].
const FIRST_WAIT: TimeDelta = TimeDelta::minutes(1);
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);
/// Looks of one tick, and time for which each waits for its turn at OpenAI.
const MOST_PER_TICK: usize = 20;
const MAX_TICK_WAIT: Duration = Duration::from_secs(5);
/// Sets that `health` names.
const MOST_TOLD: usize = 20;

/// An account that OpenAI did not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Missing {
    since: DateTime<Utc>,
    next_look: DateTime<Utc>,
    #[serde(default)]
    looks: u32,
}

impl Record for Missing {
    const VERSION: u32 = 1;
}

static MISSING: Collection<Missing> = Collection::new("library-missing/");

impl Missing {
    fn after(self, now: DateTime<Utc>) -> Self {
        let wait = FIRST_WAIT * 2_i32.saturating_pow(self.looks.min(10));
        Self { next_look: now + wait.min(LONGEST_WAIT), looks: self.looks.saturating_add(1), ..self }
    }

    /// Whether to look now. A time further ahead than any wait is a clock that was put back.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.next_look <= now || self.next_look > now + LONGEST_WAIT
    }
}

fn name(set: &str, account: &str) -> String {
    format!("{set}/{account}")
}

/// Ids of the accounts of a set that are missing at OpenAI.
pub(super) async fn of_set(storage: &dyn Storage, set: &str) -> Result<BTreeSet<String>, StorageError> {
    Ok(storage.list(&MISSING.key(&name(set, ""))).await?.into_iter().collect())
}

/// Notes that OpenAI did not know the account.
pub(super) async fn note(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    account: &ServiceAccountId,
) -> Result<(), StorageError> {
    let (now, name) = (engine.now(), name(set, account.as_str()));
    if MISSING.contains(storage, &name).await? {
        return Ok(());
    }
    let missing = Missing { since: now, next_look: now, looks: 0 }.after(now);
    MISSING.put(storage, &name, &missing).await
}

/// Forgets that an account was missing: OpenAI has it, or the set does not name it any more.
pub(super) async fn forget(storage: &dyn Storage, set: &str, account: &str) -> Result<(), StorageError> {
    MISSING.delete(storage, &name(set, account)).await
}

/// After a write or deletion of a set: forgets those that are not `members`, and those that were just asked for and that
/// OpenAI has.
pub(super) async fn settle(
    storage: &dyn Storage,
    set: &str,
    members: &[Member],
    were_checked: bool,
) -> Result<(), StorageError> {
    let members: HashSet<&str> = members.iter().map(|member| member.id.as_str()).collect();
    for account in of_set(storage, set).await? {
        if were_checked || !members.contains(account.as_str()) {
            forget(storage, set, &account).await?;
        }
    }
    Ok(())
}

/// Sets with missing accounts, and how many each has: at most so many sets.
pub(in crate::engine) async fn told(storage: &dyn Storage) -> Result<Vec<(String, usize)>, StorageError> {
    let mut told = Vec::new();
    for set in in_sets(storage).await?.into_iter().take(MOST_TOLD) {
        let count = of_set(storage, &set).await?.len();
        told.push((set, count));
    }
    Ok(told)
}

async fn in_sets(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    let mut sets = storage.list_sorted(MISSING.prefix()).await?;
    for set in &mut sets {
        set.truncate(set.trim_end_matches('/').len());
    }
    Ok(sets)
}

/// Part of the tick: looks again for what is missing. A failure of one stops no other.
pub(in crate::engine) async fn tend(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let (storage, mut looks, mut outcome) = (&*tick.storage, 0, Ok(()));
    for set in in_sets(storage).await? {
        let members = engine.library_sets.get(storage, &set).await;
        let members = members?.map(|set| set.members.clone()).unwrap_or_default();
        for account in of_set(storage, &set).await? {
            if tick.is_over() || looks >= MOST_PER_TICK {
                return outcome;
            }
            match members.iter().find(|member| member.id.as_str() == account) {
                None => forget(storage, &set, &account).await?,
                Some(member) => match look(engine, tick, &set, member).await {
                    Ok(looked) => looks += usize::from(looked),
                    // A limit or an outage is no failure of this account, and the others would fare alike.
                    Err(error) => {
                        outcome = outcome.and(Err(error));
                        looks += 1;
                    }
                },
            }
        }
    }
    outcome
}

/// Looks for one account if it is time; answers whether OpenAI was asked.
async fn look(engine: &Engine, tick: &Tick, set: &str, member: &Member) -> Result<bool, Error> {
    let (storage, now, name) = (&*tick.storage, engine.now(), name(set, member.id.as_str()));
    let Some(missing) = MISSING.get(storage, &name).await?.filter(|missing| missing.is_due(now)) else {
        return Ok(false);
    };
    let Some(client) = clients::client_in_reach(engine, storage, &member.organization_id).await? else {
        return Ok(false);
    };
    let max_wait = MAX_TICK_WAIT.min(tick.deadline.saturating_duration_since(Instant::now()));
    let client = client.for_work(Urgency::Check, max_wait);
    match client.service_account(&member.project_id, &member.id).await {
        Ok(_) => MISSING.delete(storage, &name).await?,
        Err(error) if error.is_gone() => MISSING.put(storage, &name, &missing.after(now)).await?,
        // It is asked for again in the next tick.
        Err(error) if error.is_transient() || error.is_limited() => {}
        Err(error) => return Err(Error::call("looking for a service account of a library set")(error)),
    }
    Ok(true)
}
