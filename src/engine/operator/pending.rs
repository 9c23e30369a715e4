//! Everything that waits for its end at OpenAI besides the credentials of the ledger: keys of check-outs, replaced keys and
//! deleted roles, accounts that left a library set, replaced admin keys, creations that were cut off. Each is found where
//! its owner keeps it; this file only tells and retries it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::config::admin_reconcile;
use crate::engine::config::configuration::ONLY;
use crate::engine::library::loans::Loan;
use crate::engine::library::{reconcile, returns};
use crate::engine::operator::creations;
use crate::engine::time::backoff;
use crate::engine::{Engine, Error, static_roles};
use crate::logical::Storage;
use crate::openai::ApiKeyId;

/// Something that waits.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Waiting {
    /// By which it is listed.
    pub(in crate::engine) name: String,
    pub(in crate::engine) owner: Owner,
    pub(in crate::engine) service_account_id: String,
    pub(in crate::engine) api_key_id: String,
    pub(in crate::engine) since: DateTime<Utc>,
    pub(in crate::engine) key_dead: bool,
    pub(in crate::engine) failures: u32,
    pub(in crate::engine) last_error: String,
    /// Not tried again before; none if it may be tried.
    pub(in crate::engine) retry_at: Option<DateTime<Utc>>,
}

/// Who has it ended.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Owner {
    /// A check-out of this library set.
    Loan(String, Box<Loan>),
    /// A static role.
    StaticRole(String),
    /// A library set that has, or had, the account.
    LibrarySet(String),
    /// The configuration.
    AdminKey,
    /// The sweep of what was cut off.
    Creation(String),
}

impl Waiting {
    /// Whether it is not known to have been made.
    pub(in crate::engine) fn is_creation(&self) -> bool {
        matches!(self.owner, Owner::Creation(_))
    }
}

impl Owner {
    /// What a list shows as the role.
    pub(in crate::engine) fn told(&self) -> &str {
        match self {
            Self::Loan(name, _) | Self::StaticRole(name) | Self::LibrarySet(name) | Self::Creation(name) => {
                name
            }
            Self::AdminKey => "config",
        }
    }
}

/// All that waits, by name.
pub(in crate::engine) async fn all(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Waiting>, Error> {
    let loans = returns::waiting(storage).await?;
    with_loans(engine, storage, loans, usize::MAX).await
}

/// The same, found by what is due alone: cheap enough for every scrape. Of each kind at most `most`.
pub(in crate::engine) async fn known(
    engine: &Engine,
    storage: &dyn Storage,
    most: usize,
) -> Result<Vec<Waiting>, Error> {
    let loans = returns::waiting_soon(storage, engine.now(), most).await?;
    with_loans(engine, storage, loans, most).await
}

async fn with_loans(
    engine: &Engine,
    storage: &dyn Storage,
    loans: Vec<(String, Loan)>,
    most: usize,
) -> Result<Vec<Waiting>, Error> {
    let mut waiting: Vec<Waiting> = loans.into_iter().map(|(set, loan)| of_loan(engine, set, loan)).collect();
    waiting.extend(of_static_roles(engine, storage, most).await?);
    waiting.extend(of_sets(engine, storage).await?);
    waiting.extend(of_admin_key(engine, storage).await?);
    waiting.extend(of_creations(engine, storage).await?);
    waiting.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(waiting)
}

fn of_loan(engine: &Engine, set: String, loan: Loan) -> Waiting {
    Waiting {
        name: loan.id.clone(),
        service_account_id: loan.account.id.to_string(),
        api_key_id: loan.api_key_id.as_ref().map_or("", ApiKeyId::as_str).to_owned(),
        since: loan.returning_since.unwrap_or(loan.ends),
        key_dead: loan.expires <= engine.certain_time(),
        failures: loan.retry.failures,
        last_error: loan.retry.last_error.clone().unwrap_or_default(),
        retry_at: loan.retry.waits_until(engine.now()),
        owner: Owner::Loan(set, Box::new(loan)),
    }
}

/// Keys whose grace is over, and the keys of roles that were deleted.
async fn of_static_roles(engine: &Engine, storage: &dyn Storage, most: usize) -> Result<Vec<Waiting>, Error> {
    let (mut waiting, now) = (Vec::new(), engine.now());
    for (name, role) in static_roles::due_soon(storage, now, most).await? {
        let is_deleted = role.current.is_none();
        for old in role.ending.iter().filter(|old| is_deleted || old.ends <= now) {
            waiting.push(Waiting {
                name: old.unique_name.clone(),
                owner: Owner::StaticRole(name.clone()),
                service_account_id: old.service_account_id.to_string(),
                api_key_id: old.api_key_id.to_string(),
                since: old.ends.min(now),
                // OpenAI was told of its end, and that has come by both clocks.
                key_dead: old.limited && old.ends < engine.certain_time(),
                failures: old.retry.failures,
                last_error: old.retry.last_error.clone().unwrap_or_default(),
                retry_at: old.retry.waits_until(now),
            });
        }
    }
    Ok(waiting)
}

/// Accounts that Vault made for a set, and that are no members.
async fn of_sets(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Waiting>, Error> {
    let (now, mut waiting) = (engine.now(), Vec::new());
    for (set, record) in reconcile::waiting(engine, storage).await? {
        let ending = record.ending.iter().filter(|ending| !backoff::is_wait(ending.not_before, now));
        waiting.extend(ending.filter(|ending| ending.member.is_made()).map(|ending| Waiting {
            name: ending.member.made_as.as_ref().unwrap_or(&ending.member.name).clone(),
            owner: Owner::LibrarySet(set.clone()),
            service_account_id: ending.member.id.to_string(),
            api_key_id: String::new(),
            since: ending.since.min(now),
            // A free account has no key.
            key_dead: true,
            failures: record.retry.failures,
            last_error: record.retry.last_error.clone().unwrap_or_default(),
            retry_at: record.retry.waits_until(now),
        }));
    }
    Ok(waiting)
}

async fn of_admin_key(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Waiting>, Error> {
    // One that cannot be read hides nothing else.
    let (config, now) = (engine.config.get_readable(storage, ONLY).await?, engine.now());
    let retiring = config.iter().flat_map(|config| {
        config.keys.ending.iter().map(|old| Waiting {
            name: old.id.to_string(),
            owner: Owner::AdminKey,
            service_account_id: String::new(),
            api_key_id: old.id.to_string(),
            since: config.last_rotated.min(now),
            key_dead: false,
            failures: old.retry.failures,
            last_error: old.retry.last_error.clone().unwrap_or_default(),
            retry_at: old.retry.waits_until(now),
        })
    });
    Ok(retiring.collect())
}

async fn of_creations(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Waiting>, Error> {
    let now = engine.now();
    let unfinished = creations::unfinished(engine, storage).await?.into_iter();
    Ok(unfinished
        .map(|creation| Waiting {
            name: creation.name,
            owner: Owner::Creation(creation.owner),
            service_account_id: String::new(),
            api_key_id: String::new(),
            since: now - creation.age,
            key_dead: false,
            failures: 0,
            last_error: format!(
                "its creation in organization {} was cut off: if it was made, the tick removes it",
                creation.organization
            ),
            retry_at: None,
        })
        .collect())
}

/// Tries now to end one of them, for somebody who waits for it.
pub(in crate::engine) async fn retry(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    owner: &Owner,
    patience: Duration,
) -> Result<(), Error> {
    match owner {
        Owner::Loan(set, loan) => returns::give_back(engine, &**storage, &loan.ticket(set), patience).await,
        Owner::StaticRole(name) => static_roles::end_what_waits(engine, storage, name, patience).await,
        Owner::LibrarySet(name) => reconcile::retry(engine, &**storage, name).await,
        Owner::AdminKey => admin_reconcile::retry(engine, &**storage, patience).await,
        Owner::Creation(_) => Err(Error::field(
            "name: what a creation that was cut off has made is looked for by the tick, once a minute",
        )),
    }
}
