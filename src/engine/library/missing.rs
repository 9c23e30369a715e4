//! Missing accounts: accounts of a set for which OpenAI answered 404 at a check-out. They stay in the set, and are lent
//! only if no other account is free. A new account may be missing for a moment, so the tick looks again. A write of the
//! set's names adopts or creates the accounts again.
//!
//! A record stands at `library-missing/<set>/<account id>`. Nothing at OpenAI is changed because of it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::members::Member;
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{ServiceAccountId, Urgency};

/// Maximum number of looks in one tick, and the maximum wait of each for its turn at OpenAI.
const MOST_PER_TICK: usize = 20;
const MAX_TICK_WAIT: Duration = Duration::from_secs(5);
/// Maximum number of sets that `health` names.
const MAX_SETS: usize = 20;

/// A missing account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Missing {
    /// The looks that did not find the account.
    #[serde(flatten)]
    looks: RetryState,
}

impl Record for Missing {
    const VERSION: u32 = 1;
}

static MISSING: Collection<Missing> = Collection::new("library-missing/");

fn name(set: &str, account: &str) -> String {
    format!("{set}/{account}")
}

/// The ids of a set's missing accounts.
pub(super) async fn of_set(storage: &dyn Storage, set: &str) -> Result<BTreeSet<String>, StorageError> {
    Ok(storage.list(&MISSING.key(&name(set, ""))).await?.into_iter().collect())
}

/// Records the account as missing.
pub(super) async fn note(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    account: &ServiceAccountId,
    error: &Error,
) -> Result<(), StorageError> {
    let name = name(set, account.as_str());
    if MISSING.contains(storage, &name).await? {
        return Ok(());
    }
    let mut missing = Missing::default();
    missing.looks.failed(&name, error, engine.now(), Duration::ZERO);
    MISSING.put(storage, &name, &missing).await
}

/// Deletes the record of a missing account: OpenAI has the account, or the set no longer names it.
pub(super) async fn forget(storage: &dyn Storage, set: &str, account: &str) -> Result<(), StorageError> {
    MISSING.delete(storage, &name(set, account)).await
}

/// After a write or deletion of a set: deletes the records of accounts that are not members. If the write checked all
/// members at OpenAI, it deletes all records.
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

/// The first sets with missing accounts, and the number of these accounts.
pub(in crate::engine) async fn counts(storage: &dyn Storage) -> Result<Vec<(String, usize)>, StorageError> {
    let mut counts = Vec::new();
    for set in in_sets(storage).await?.into_iter().take(MAX_SETS) {
        let count = of_set(storage, &set).await?.len();
        counts.push((set, count));
    }
    Ok(counts)
}

async fn in_sets(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    let mut sets = storage.list_sorted(MISSING.prefix()).await?;
    for set in &mut sets {
        set.truncate(set.trim_end_matches('/').len());
    }
    Ok(sets)
}

/// Part of the tick: looks for missing accounts again. One failure does not stop the others.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let (storage, mut looks, mut outcome) = (&*tick.storage, 0, Ok(()));
    for set in in_sets(storage).await? {
        let members = match engine.library_sets.get(storage, &set).await {
            Ok(set) => set.map(|set| set.members.clone()).unwrap_or_default(),
            Err(error) => {
                outcome = outcome.and(Err(error.into()));
                continue;
            }
        };
        for account in of_set(storage, &set).await? {
            if tick.is_over() || looks >= MOST_PER_TICK {
                return outcome;
            }
            match members.iter().find(|member| member.id.as_str() == account) {
                None => forget(storage, &set, &account).await?,
                Some(member) => match look(engine, tick, &set, member).await {
                    Ok(looked) => looks += usize::from(looked),
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

/// Looks for one account if its look is due. Returns true if OpenAI was called.
async fn look(engine: &Engine, tick: &Tick, set: &str, member: &Member) -> Result<bool, Error> {
    let (storage, now, name) = (&*tick.storage, engine.now(), name(set, member.id.as_str()));
    let missing = MISSING.get(storage, &name).await?;
    let Some(mut missing) = missing.filter(|missing| !missing.looks.waits(now)) else { return Ok(false) };
    let Some(client) = clients::client_in_reach(engine, storage, &member.organization_id).await? else {
        return Ok(false);
    };
    let max_wait = MAX_TICK_WAIT.min(tick.deadline.saturating_duration_since(Instant::now()));
    let client = client.for_work(Urgency::Check, max_wait);
    match client.service_account(&member.project_id, &member.id).await {
        Ok(_) => MISSING.delete(storage, &name).await?,
        Err(error) if error.is_gone() => {
            missing.looks.failed(&name, &error, now, Duration::ZERO);
            MISSING.put(storage, &name, &missing).await?;
        }
        // A rate limit or an outage says nothing about the account; the next tick looks again.
        Err(error) if error.is_transient() || error.is_limited() => {}
        Err(error) => return Err(Error::call("looking for a service account of a library set")(error)),
    }
    Ok(true)
}
