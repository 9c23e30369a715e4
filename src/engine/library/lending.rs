//! Where loans are stored, and the steps from one state to the next. Whoever takes one holds the set's lock
//! ([`Engine::lock_loans`]), which is never held over a call to OpenAI; this file makes none.
//!
//! *Guarantees:* a loan's record names the key before OpenAI is asked to make it, so it is the creation's write-ahead
//! entry, too. A record is never without its entry in the index of what is due, which is written before it and deleted
//! after it: whatever dies, the tick finds the loan. An index entry without its loan is stale and means nothing.
//!
//! *Assumption:* one node at a time writes the mount's storage.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::loans::{Loan, State, Ticket};
use crate::engine::Engine;
use crate::engine::failpoint::failpoint;
use crate::framework::LockGuard;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{ApiKeyId, ServiceAccountId};

/// Where an index entry points to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Due {
    /// The set.
    pub set: String,
    /// The account.
    pub service_account_id: ServiceAccountId,
}

impl Record for Due {
    const VERSION: u32 = 1;
}

static LOANS: Collection<Loan> = Collection::new("library-loan/");
pub(super) static DUE: Collection<Due> = Collection::new("library-due/");

/// A return that was begun is taken up by the tick after this, if it was not heard of again.
const RETURN_AGE: TimeDelta = TimeDelta::minutes(2);

impl Engine {
    /// Holds off every other change of the set's loans. Never held over a call to OpenAI.
    pub(super) async fn lock_loans(&self, set: &str) -> LockGuard {
        self.locks.lock(&format!("library-loans/{set}")).await
    }
}

fn name(set: &str, account: &ServiceAccountId) -> String {
    format!("{set}/{account}")
}

/// The ids of the set's accounts that are not free.
pub(super) async fn taken(storage: &dyn Storage, set: &str) -> Result<BTreeSet<String>, StorageError> {
    Ok(storage.list(&LOANS.key(&format!("{set}/"))).await?.into_iter().collect())
}

/// The sets that have loans, also those that were deleted by force.
pub(in crate::engine) async fn sets(storage: &dyn Storage) -> Result<Vec<String>, StorageError> {
    let mut sets = storage.list_sorted(LOANS.prefix()).await?;
    for set in &mut sets {
        set.truncate(set.trim_end_matches('/').len());
    }
    Ok(sets)
}

/// The loan of an account, if it is not free.
pub(super) async fn of_account(
    storage: &dyn Storage,
    set: &str,
    account: &ServiceAccountId,
) -> Result<Option<Loan>, StorageError> {
    LOANS.get(storage, &name(set, account)).await
}

/// All loans of a set.
pub(super) async fn of_set(storage: &dyn Storage, set: &str) -> Result<Vec<Loan>, StorageError> {
    let mut loans = Vec::new();
    for account in taken(storage, set).await? {
        loans.extend(LOANS.get(storage, &format!("{set}/{account}")).await?);
    }
    Ok(loans)
}

/// The names of all keys that were lent or are being made, with their ids where they are known. It reads all there is:
/// not for a request.
pub(in crate::engine) async fn keys(
    storage: &dyn Storage,
) -> Result<Vec<(String, Option<ApiKeyId>)>, StorageError> {
    let mut keys = Vec::new();
    for set in storage.list(&LOANS.key("")).await? {
        let loans = of_set(storage, set.trim_end_matches('/')).await?;
        keys.extend(loans.into_iter().map(|loan| (loan.id, loan.api_key_id)));
    }
    Ok(keys)
}

/// All loans of a set that can be read: one that cannot hides no other.
pub(in crate::engine) async fn readable_of_set(
    storage: &dyn Storage,
    set: &str,
) -> Result<Vec<Loan>, StorageError> {
    let mut loans = Vec::new();
    for account in taken(storage, set).await? {
        match LOANS.get(storage, &format!("{set}/{account}")).await {
            Err(StorageError::Malformed { .. }) => {}
            loan => loans.extend(loan?),
        }
    }
    Ok(loans)
}

/// The check-out that a ticket points to, if it is not over.
pub(super) async fn of_ticket(storage: &dyn Storage, ticket: &Ticket) -> Result<Option<Loan>, StorageError> {
    let loan = of_account(storage, &ticket.set, &ticket.service_account_id).await?;
    Ok(loan.filter(|loan| loan.id == ticket.loan))
}

/// Stores a new loan.
pub(super) async fn open(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    DUE.put(storage, &loan.place(), &entry(set, loan)).await?;
    failpoint!("loan.marked");
    LOANS.put(storage, &name(set, &loan.account.id), loan).await
}

/// Stores a loan that changed, and when the tick looks at it next.
pub(super) async fn keep(
    storage: &dyn Storage,
    set: &str,
    loan: &mut Loan,
    due: DateTime<Utc>,
) -> Result<(), StorageError> {
    let old = loan.place();
    loan.due = due;
    let moved = loan.place() != old;
    if moved {
        DUE.put(storage, &loan.place(), &entry(set, loan)).await?;
    }
    LOANS.put(storage, &name(set, &loan.account.id), loan).await?;
    if moved {
        // A stale entry costs the tick one look.
        let _ = DUE.delete(storage, &old).await;
    }
    Ok(())
}

/// The account is free.
pub(super) async fn close(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    LOANS.delete(storage, &name(set, &loan.account.id)).await?;
    failpoint!("loan.closed");
    let _ = DUE.delete(storage, &loan.place()).await;
    Ok(())
}

/// Begins the return of a check-out; `None` if it is over. From now on nobody but a return touches it.
pub(super) async fn begin_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
) -> Result<Option<Loan>, StorageError> {
    let _alone = engine.lock_loans(&ticket.set).await;
    let Some(mut loan) = of_ticket(storage, ticket).await? else { return Ok(None) };
    if loan.api_key_id.is_none() {
        loan.api_key_id.clone_from(&ticket.api_key_id);
    }
    if loan.state != State::Returning {
        loan.state = State::Returning;
        loan.returning_since = Some(engine.now());
        keep(storage, &ticket.set, &mut loan, engine.now() + RETURN_AGE).await?;
    }
    Ok(Some(loan))
}

/// The check-out's key is dead: the account is free.
pub(super) async fn finish_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
) -> Result<(), StorageError> {
    let _alone = engine.lock_loans(&ticket.set).await;
    match of_ticket(storage, ticket).await? {
        Some(loan) => close(storage, &ticket.set, &loan).await,
        None => Ok(()),
    }
}

/// The check-out's key could not be ended, which is tried again at `due`.
pub(super) async fn put_off_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    reason: String,
    due: impl FnOnce(&Loan) -> DateTime<Utc>,
) -> Result<(), StorageError> {
    let _alone = engine.lock_loans(&ticket.set).await;
    let Some(mut loan) = of_ticket(storage, ticket).await? else { return Ok(()) };
    loan.failures = loan.failures.saturating_add(1);
    loan.last_error = Some(reason);
    let due = due(&loan);
    keep(storage, &ticket.set, &mut loan, due).await
}

/// Puts the times of an account's loan right: none lies further ahead of now than it can.
pub(super) async fn put_right(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    account: &str,
) -> Result<(), StorageError> {
    let _alone = engine.lock_loans(set).await;
    let Some(mut loan) = LOANS.get(storage, &format!("{set}/{account}")).await? else { return Ok(()) };
    match loan.put_right(engine.latest_time()) {
        Some(due) => keep(storage, set, &mut loan, due).await,
        None => Ok(()),
    }
}

fn entry(set: &str, loan: &Loan) -> Due {
    Due { set: set.to_owned(), service_account_id: loan.account.id.clone() }
}
