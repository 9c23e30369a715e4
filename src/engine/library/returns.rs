//! How an account that was lent becomes free again: by check-in, by the end of its lease, or by the tick.
//!
//! *Guarantees:* the account is free only when its key is dead: deleted, expired, or certain never to have been made.
//! Each way back may be gone again, at once or twice at the same time, and ends only the check-out it is about. What
//! fails stays `returning` and is tried again by the tick, later each time; so is a loan whose lease should have ended
//! it and did not, because the lease was lost, and a reservation whose check-out died.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use super::lending;
use super::loans::{Loan, State, Ticket};
use super::sets::SETS;
use crate::engine::accounts::due;
use crate::engine::accounts::owner::Owner;
use crate::engine::creds::deletion;
use crate::engine::creds::deletion::Undone;
use crate::engine::creds::removal;
use crate::engine::failpoint::failpoint;
use crate::engine::telemetry::events::Happening;
use crate::engine::time::backoff;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::Urgency;

/// So many returns are under way at once.
const ABREAST: usize = 4;
/// As long as a return for which nobody waits does; then it is the tick's.
const QUEUE_PATIENCE: Duration = Duration::from_secs(60);
/// As long as the end of a lease waits for OpenAI where it cannot be put on record; Vault gives up after 90 s.
const UNRECORDED_PATIENCE: Duration = Duration::from_secs(45);
/// As long as the tick waits for its turn at OpenAI.
const TICK_PATIENCE: Duration = Duration::from_secs(10);

/// Ends the check-out's key and frees its account. That the check-out is over already is success.
pub(in crate::engine) async fn give_back(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    patience: Duration,
) -> Result<(), Error> {
    // Of two returns at once the second finds the check-out over.
    let alone = timeout(patience, engine.locks.lock(&format!("library-return/{}", ticket.loan))).await;
    let _alone = alone.map_err(|_| Error::ReturnUnderWay)?;
    let loan = match lending::begin_return(engine, storage, ticket).await {
        Ok(Some(loan)) => loan,
        Ok(None) => return end_unrecorded(engine, storage, ticket, patience).await,
        Err(StorageError::ReadOnly) => return end_without_record(engine, storage, ticket, patience).await,
        Err(error) => return Err(error.into()),
    };
    failpoint!("return.begun");
    match end_key(engine, storage, &loan, patience).await {
        Err(error) if loan.expires > engine.certain_time() => {
            tracing::warn!(set = ticket.set, key = ticket.loan, "a lent key is not ended yet: {error}");
            let due = matches!(error, Error::KeyInDoubt).then(|| loan.doubt_ends());
            lending::put_off_return(engine, storage, ticket, &error, due).await?;
            return Err(error);
        }
        // What has expired is dead, whatever OpenAI says.
        Ok(()) | Err(_) => {
            failpoint!("return.ended");
            lending::finish_return(engine, storage, ticket).await?;
        }
    }
    engine.tell(Happening::CheckIn, &format!("library-sets/{}/status", ticket.set));
    Ok(())
}

/// Ends the key where this node may not write the loan, as on a performance secondary, whose expired leases nobody
/// forwards. The loan stays with the primary: its tick frees the account when the lease would have ended.
async fn end_without_record(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    patience: Duration,
) -> Result<(), Error> {
    let Some(mut loan) = lending::of_ticket(storage, ticket).await? else { return Ok(()) };
    if loan.api_key_id.is_none() {
        loan.api_key_id.clone_from(&ticket.api_key_id);
    }
    match end_key(engine, storage, &loan, patience).await {
        Err(error) if loan.expires > engine.certain_time() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A loan that is not on record is over: its key is dead. But where storage no longer knows a set that this process
/// remembers, it may be another place's, as after a move between namespaces of OpenBao: then nothing is proven, and the
/// key is ended.
async fn end_unrecorded(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    patience: Duration,
) -> Result<(), Error> {
    let (Some(key), Some((organization, project))) = (&ticket.api_key_id, &ticket.home) else {
        return Ok(());
    };
    let is_remembered = engine.library_sets.get(storage, &ticket.set).await?.is_some();
    if !is_remembered || SETS.contains(storage, &ticket.set).await? {
        return Ok(());
    }
    let client = match engine.client_of(storage, organization).await {
        // The set was deleted, and then the configuration: this storage is the mount's own.
        Err(Error::NotConfigured) => return Ok(()),
        client => client?.for_work(Urgency::Revocation, patience),
    };
    deletion::end_key(&client, project, key).await.map_err(Error::Revocation)
}

/// Puts on record that the check-out is over and begins to end its key, for which nobody waits: what this does not come
/// to is the tick's.
pub(super) async fn begin(
    engine: &Arc<Engine>,
    storage: &Arc<dyn Storage>,
    ticket: Ticket,
) -> Result<(), Error> {
    match lending::begin_return(engine, &**storage, &ticket).await {
        Ok(Some(_)) => {}
        Ok(None) => return end_unrecorded(engine, &**storage, &ticket, QUEUE_PATIENCE).await,
        // What cannot be put on record is ended before the answer.
        Err(StorageError::ReadOnly) => {
            return end_without_record(engine, &**storage, &ticket, UNRECORDED_PATIENCE).await;
        }
        Err(error) => return Err(error.into()),
    }
    let (engine, storage) = (Arc::clone(engine), Arc::clone(storage));
    tokio::spawn(async move {
        tokio::select! {
            // That it failed is on record with the loan.
            _ = give_back(&engine, &*storage, &ticket, QUEUE_PATIENCE) => {}
            () = engine.gone.cancelled() => {}
        }
    });
    Ok(())
}

/// The check-outs whose keys are to be ended, by the keys' names, with their sets.
pub(in crate::engine) async fn waiting(storage: &dyn Storage) -> Result<Vec<(String, Loan)>, Error> {
    let mut waiting = Vec::new();
    for set in lending::sets(storage).await? {
        let loans = lending::readable_of_set(storage, &set).await?.into_iter();
        let returning = loans.filter(|loan| loan.state == State::Returning);
        waiting.extend(returning.map(|loan| (set.clone(), loan)));
    }
    waiting.sort_by(|(_, one), (_, other)| one.id.cmp(&other.id));
    Ok(waiting)
}

/// Those of them that the due index leads to, at most `most`: a return is looked at again within the longest back-off.
pub(in crate::engine) async fn waiting_soon(
    storage: &dyn Storage,
    now: DateTime<Utc>,
    most: usize,
) -> Result<Vec<(String, Loan)>, Error> {
    let (mut waiting, mut seen) = (Vec::new(), HashSet::new());
    for marker in due::come(storage, now + backoff::LONGEST, most).await? {
        let Owner::Loan { set, account, loan } = marker.owner else { continue };
        match lending::by_id(storage, &set, &account, &loan).await {
            Ok(Some(loan)) if loan.state == State::Returning && seen.insert(loan.id.clone()) => {
                waiting.push((set, loan));
            }
            // It hides no other.
            Ok(_) | Err(StorageError::Malformed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(waiting)
}

/// Tries to end the keys of all that wait, for somebody who waits for it.
pub(in crate::engine) async fn run_now(
    engine: &Engine,
    storage: &dyn Storage,
    patience: Duration,
) -> Result<removal::Outcome, Error> {
    if engine.leaves_owners_alone().await? {
        // The primary's: nothing that came of it could be put on record here.
        return Ok(removal::Outcome::default());
    }
    let deadline = Instant::now() + patience;
    let attempts = waiting(storage).await?.into_iter().map(|(set, loan)| {
        async move {
            let patience = deadline.saturating_duration_since(Instant::now());
            give_back(engine, storage, &loan.ticket(&set), patience).await
        }
        .boxed()
    });
    let mut attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(ABREAST);
    let mut outcome = removal::Outcome::default();
    while let Some(ended) = attempts.next().await {
        outcome.count(ended.map_or_else(removal::Step::Failed, |()| removal::Step::Removed));
    }
    drop(attempts);
    Ok(outcome)
}

async fn end_key(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    patience: Duration,
) -> Result<(), Error> {
    let account = &loan.account;
    let client = engine.client_of(storage, &account.organization_id).await?;
    let client = client.for_work(Urgency::Revocation, patience);
    if let Some(key) = &loan.api_key_id {
        engine.note_made(&[key.as_str()], loan.since);
        return deletion::end_key(&client, &account.project_id, key).await.map_err(Error::Revocation);
    }
    let found = deletion::end_key_named(&client, &account.project_id, &account.id, &loan.id).await;
    match found.map_err(Error::Revocation)? {
        Undone::NothingFound if engine.certain_time() < loan.doubt_ends() => Err(Error::KeyInDoubt),
        Undone::NothingFound | Undone::Ended => Ok(()),
    }
}

/// Takes up the loan that a marker led to. Answers when to look again, if ever.
pub(super) async fn attend(
    engine: &Engine,
    storage: &dyn Storage,
    (set, account, id): (&str, &str, &str),
) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(loan) = lending::by_id(storage, set, account, id).await? else { return Ok(None) };
    let next_look = loan.next_look();
    // What ends by time ends by both clocks.
    let waits = loan.state != State::Returning && next_look > engine.certain_time();
    if waits || next_look > engine.now() {
        return Ok(Some(next_look));
    }
    // Any other failure is on record with the loan.
    if let Err(Error::Storage(error)) = give_back(engine, storage, &loan.ticket(set), TICK_PATIENCE).await {
        return Err(error.into());
    }
    Ok(lending::by_id(storage, set, account, id).await?.map(|loan| loan.next_look()))
}
