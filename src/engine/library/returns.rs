//! The return of a lent account: by check-in, by the end of its lease, or by the tick.
//!
//! *Guarantees:* the account is free only when its key is dead: deleted, expired, or certainly never created. A return
//! may be repeated, also concurrently, and concerns only its own check-out. A failed return stays in state `Returning`,
//! and the tick retries it with a growing wait. The tick also returns loans whose lease was lost, and reservations of
//! interrupted check-outs. In the mount's last tick, a key of unknown outcome is looked up when OpenAI surely lists it.
//!
//! If the plugin or the server dies, the last completed step decides:
//! 1. *The marker is stored.* The loan is lent as before. The borrower repeats the check-in, or the lease ends the loan.
//! 2. *The loan is stored as `Returning`*, and OpenAI may have deleted the key. The account is not free. Within three
//!    minutes the tick deletes the key; a key that is gone counts as deleted.
//! 3. *The loan's record is deleted.* The account is free. A repeated check-in is refused, as nothing is checked out.
//!    The revocation of the lease succeeds without work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::lending;
use super::loans::{Loan, State, Ticket};
use super::sets::SETS;
use crate::engine::accounts::deletion;
use crate::engine::accounts::deletion::Undone;
use crate::engine::accounts::kind::{Holding, Kind, Mount, Pending, Turn};
use crate::engine::accounts::listing::Found;
use crate::engine::accounts::lookup::{Look, UniqueName};
use crate::engine::accounts::lost;
use crate::engine::accounts::owner::Owner;
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::telemetry::events::EventKind;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, Client, Urgency};

/// Maximum time of a return in the background. Then the tick continues.
const MAX_QUEUE_WAIT: Duration = Duration::from_secs(60);
/// Maximum time of a revocation on a node that may not store the return. Vault cancels a request after 90 s.
const MAX_UNRECORDED_WAIT: Duration = Duration::from_secs(45);
/// Maximum wait of the tick for its turn at OpenAI.
const MAX_TICK_WAIT: Duration = Duration::from_secs(10);

/// Deletes the check-out's key and frees its account. If the check-out is over already, this succeeds.
pub(in crate::engine) async fn give_back(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    max_wait: Duration,
) -> Result<(), Error> {
    let alone = timeout(max_wait, engine.locks.lock(&lock(&ticket.loan))).await;
    let _alone = alone.map_err(|_| Error::ReturnUnderWay)?;
    give_back_locked(engine, storage, ticket, max_wait).await
}

/// Ends the key of a check-out that failed after OpenAI made the key. The tick may have ended the reservation meanwhile.
pub(super) async fn take_back(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    ticket: &Ticket,
    max_wait: Duration,
) -> Result<(), Error> {
    let _alone = engine.locks.lock(&lock(&ticket.loan)).await;
    if lending::reopen(engine, storage, loan, ticket).await.is_err() {
        // Only this process knows the key.
        let loan = Loan { api_key_id: ticket.api_key_id.clone(), ..loan.clone() };
        return end_key(engine, storage, &loan, max_wait).await;
    }
    give_back_locked(engine, storage, ticket, max_wait).await
}

/// Begins the return of a check-out whose key may exist, for the tick. The tick may have ended the reservation meanwhile.
pub(super) async fn look_later(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    ticket: &Ticket,
    error: &Error,
) -> Result<(), Error> {
    let _alone = engine.locks.lock(&lock(&ticket.loan)).await;
    lending::reopen(engine, storage, loan, ticket).await?;
    lending::begin_return(engine, storage, ticket).await?;
    Ok(lending::put_off_return(engine, storage, ticket, error).await?)
}

/// The key of the lock for the return of a check-out. The second of two concurrent returns finds the check-out over.
fn lock(loan: &str) -> String {
    format!("library-return/{loan}")
}

async fn give_back_locked(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    max_wait: Duration,
) -> Result<(), Error> {
    let loan = match lending::begin_return(engine, storage, ticket).await {
        Ok(Some(loan)) => loan,
        Ok(None) => return end_unrecorded(engine, storage, ticket, max_wait).await,
        Err(StorageError::ReadOnly) => return end_without_record(engine, storage, ticket, max_wait).await,
        Err(error) => return Err(error.into()),
    };
    failpoint!("return.begun");
    match end_key(engine, storage, &loan, max_wait).await {
        Err(Error::KeyUsed(key)) if loan.expires > engine.certain_time() => {
            lending::lend_again(engine, storage, ticket, &key).await?;
            let error = Error::KeyUsed(key);
            tracing::warn!(set = ticket.set, "{error}");
            return Err(error);
        }
        Err(error) if loan.expires > engine.certain_time() => {
            tracing::warn!(set = ticket.set, key = ticket.loan, "a lent key is not ended yet: {error}");
            lending::put_off_return(engine, storage, ticket, &error).await?;
            return Err(error);
        }
        // An expired key is dead, even if its deletion fails.
        Ok(()) | Err(_) => {
            failpoint!("return.ended");
            lending::finish_return(engine, storage, ticket).await?;
        }
    }
    emit_check_in(engine, storage, ticket).await;
    Ok(())
}

async fn emit_check_in(engine: &Engine, storage: &dyn Storage, ticket: &Ticket) {
    // If the set cannot be read, the event has no labels.
    let set = engine.library_sets.get(storage, &ticket.set).await.ok().flatten();
    let labels = set.map(|set| set.metadata.clone()).unwrap_or_default();
    engine.events.emit_with(EventKind::CheckIn, &format!("library-sets/{}/status", ticket.set), &labels);
}

/// Deletes the key on a node that may not write the loan. It is a performance secondary, which does not forward the end
/// of its leases. The primary keeps the loan, and its tick frees the account after the end of the lease.
async fn end_without_record(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    max_wait: Duration,
) -> Result<(), Error> {
    let Some(mut loan) = lending::of_ticket(storage, ticket).await? else { return Ok(()) };
    if loan.api_key_id.is_none() {
        loan.api_key_id.clone_from(&ticket.api_key_id);
    }
    match end_key(engine, storage, &loan, max_wait).await {
        Err(error) if loan.expires > engine.certain_time() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Handles a check-out without a loan. Usually the loan is over, and its key is dead. If the cache has the set and
/// storage does not, OpenBao may have moved the mount to another namespace. Then a missing loan proves nothing, and the key
/// is deleted.
async fn end_unrecorded(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    max_wait: Duration,
) -> Result<(), Error> {
    let (Some(key), Some((organization, project))) = (&ticket.api_key_id, &ticket.home) else {
        return Ok(());
    };
    let is_remembered = engine.library_sets.get(storage, &ticket.set).await?.is_some();
    if !is_remembered || SETS.contains(storage, &ticket.set).await? {
        return Ok(());
    }
    let client = match clients::client_of(engine, storage, organization).await {
        // The set and then the configuration were deleted: storage is complete, and the loan is over.
        Err(Error::NotConfigured) => return Ok(()),
        client => client?.for_work(Urgency::Revocation, max_wait),
    };
    deletion::end_key(&client, project, key).await.map_err(Error::Revocation)
}

/// Stores the return, and deletes the key in the background. If the background task fails, the tick continues.
pub(super) async fn begin(
    engine: &Arc<Engine>,
    storage: &Arc<dyn Storage>,
    ticket: Ticket,
) -> Result<(), Error> {
    match lending::begin_return(engine, &**storage, &ticket).await {
        Ok(Some(_)) => {}
        Ok(None) => return end_unrecorded(engine, &**storage, &ticket, MAX_QUEUE_WAIT).await,
        // Without a stored return, the key is deleted before the answer.
        Err(StorageError::ReadOnly) => {
            return end_without_record(engine, &**storage, &ticket, MAX_UNRECORDED_WAIT).await;
        }
        Err(error) => return Err(error.into()),
    }
    let (engine, storage) = (Arc::clone(engine), Arc::clone(storage));
    tokio::spawn(async move {
        tokio::select! {
            // The loan's record keeps a failure.
            _ = give_back(&engine, &*storage, &ticket, MAX_QUEUE_WAIT) => {}
            () = engine.gone.cancelled() => {}
        }
    });
    Ok(())
}

async fn end_key(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    max_wait: Duration,
) -> Result<(), Error> {
    let account = &loan.account;
    let client = clients::client_of(engine, storage, &account.organization_id).await?;
    let client = client.for_work(Urgency::Revocation, max_wait);
    if let Some(key) = &loan.api_key_id {
        clients::note_made(engine, &[key.as_str()], loan.since);
        return deletion::end_key(&client, &account.project_id, key).await.map_err(Error::Revocation);
    }
    match end_unknown_key(engine, &client, loan).await? {
        Undone::NothingFound if engine.certain_time() < loan.doubt_ends() => Err(Error::KeyInDoubt),
        Undone::NothingFound | Undone::Ended => Ok(()),
    }
}

/// Looks up the key by the loan's id, and ends it. While the creation is in doubt, only a new listing counts.
async fn end_unknown_key(engine: &Engine, client: &Client, loan: &Loan) -> Result<Undone, Error> {
    let (project, account, name) = (&loan.account.project_id, Some(&loan.account.id), loan.id.as_str());
    let unique_name = UniqueName { project, account, name };
    let is_in_doubt = engine.certain_time() < loan.doubt_ends();
    let age = if is_in_doubt { Duration::ZERO } else { engine.accounts.first_seen.age(name) };
    let looked = engine.accounts.listings.find(client, &unique_name, age).await;
    let Look::Done(found) = looked.map_err(Error::Revocation)? else { return Err(Error::KeysUnlisted) };
    if let Some(Found { key: Some(key), was_used: true, .. }) = &found {
        return Err(Error::KeyUsed(key.clone()));
    }
    let undone = deletion::end_new(client, project, found.as_ref()).await.map_err(Error::Revocation)?;
    engine.accounts.first_seen.forget(name);
    Ok(undone)
}

/// Loans as a kind of owner.
#[derive(Debug)]
pub(in crate::engine) struct Loans;

#[async_trait]
impl Kind for Loans {
    async fn all(&self, storage: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        lending::owners(storage).await
    }

    fn lock(&self, owner: &Owner) -> String {
        if let Owner::Loan { loan, .. } = owner { lock(loan) } else { String::new() }
    }

    async fn reconcile(&self, turn: &Turn<'_>, owner: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage) = (turn.engine, turn.storage());
        let Some(loan) = lending::corrected(engine, storage, owner).await? else { return Ok(None) };
        let next_look = loan.next_look();
        // An end by time needs both clocks, ours and OpenAI's.
        let waits = if loan.state == State::Returning {
            !turn.is_tried_now(&loan.retry) && next_look > engine.now()
        } else {
            next_look > engine.certain_time() || next_look > engine.now()
        };
        if waits {
            return Ok(Some(next_look));
        }
        if turn.is_last && loan.api_key_id.is_none() {
            lost::wait_until_listed(engine, &loan.id, Some(loan.since)).await;
        }
        // The loan's record keeps any other failure.
        let max_wait = MAX_TICK_WAIT.min(turn.max_wait());
        if let Err(Error::Storage(error)) =
            give_back_locked(engine, storage, &loan.ticket(owner.name()), max_wait).await
        {
            return Err(error.into());
        }
        Ok(lending::of_owner(storage, owner).await?.map(|loan| loan.next_look()))
    }

    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let loan = lending::of_owner(storage, owner).await?;
        let returning = loan.filter(|loan| loan.state == State::Returning).map(|loan| Pending {
            service_account_id: loan.account.id.to_string(),
            api_key_id: loan.api_key_id.as_ref().map_or("", ApiKeyId::as_str).to_owned(),
            key_dead: loan.expires <= engine.certain_time(),
            ..Pending::deletion(&loan.id, Some(owner), loan.returning_since.unwrap_or(loan.ends), &loan.retry)
        });
        Ok(returning.into_iter().collect())
    }

    async fn end_now(&self, mount: Mount<'_>, owner: &Owner, max_wait: Duration) -> Result<(), Error> {
        let Mount { engine, storage } = mount;
        match lending::of_owner(storage, owner).await?.filter(|loan| loan.state == State::Returning) {
            Some(loan) => give_back_locked(engine, storage, &loan.ticket(owner.name()), max_wait).await,
            None => Ok(()),
        }
    }

    async fn holdings(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
        let storage = mount.storage;
        let loan = lending::of_owner(storage, owner).await?;
        Ok(loan.into_iter().map(|loan| loan.holding()).collect())
    }
}
