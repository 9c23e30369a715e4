//! Storage of loans, and the steps from one state to the next. Each step holds the lock of the set's loans
//! ([`lock_loans`]). This file does not call OpenAI, so the lock is never held during a call.
//!
//! *Layout:* a loan stands at `library-loan/<set>/<account>/<loan id>` until its key is dead. An account is free when
//! its folder is empty. So a late write of a former leader can delete only its own loan.
//!
//! *Guarantees:* a loan's record has the key's name before OpenAI creates the key, so no key is without a record. A
//! marker is written before the record that needs the marker. So after a crash, the tick finds the loan.
//!
//! *Assumption:* one node at a time writes the mount's storage.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::loans::{Loan, State, Ticket};
use super::members::Member;
use crate::engine::accounts::due;
use crate::engine::accounts::owner::Owner;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::LockGuard;
use crate::logical::{Collection, Storage, StorageError};
use crate::openai::ApiKeyId;

static LOANS: Collection<Loan> = Collection::new("library-loan/");

/// Locks the set's loans. The lock is never held during a call to OpenAI.
pub(super) async fn lock_loans(engine: &Engine, set: &str) -> LockGuard {
    engine.locks.lock(&format!("library-loans/{set}")).await
}

fn name(set: &str, loan: &Loan) -> String {
    let account = &loan.account.id;
    if loan.is_at_old_place { format!("{set}/{account}") } else { format!("{set}/{account}/{}", loan.id) }
}

/// The names in a folder of storage, without the slashes of subfolders.
async fn names_in(storage: &dyn Storage, folder: &str) -> Result<BTreeSet<String>, StorageError> {
    let names = storage.list(&LOANS.key(folder)).await?.into_iter();
    Ok(names.map(|name| name.trim_end_matches('/').to_owned()).collect())
}

/// The ids of the set's accounts that are not free.
pub(super) async fn taken(storage: &dyn Storage, set: &str) -> Result<BTreeSet<String>, StorageError> {
    names_in(storage, &format!("{set}/")).await
}

async fn at_old_place(storage: &dyn Storage, set: &str, account: &str) -> Result<Option<Loan>, StorageError> {
    let loan = LOANS.get(storage, &format!("{set}/{account}")).await?;
    Ok(loan.map(|loan| Loan { is_at_old_place: true, ..loan }))
}

/// The loan of this id; `None` if it is over.
pub(super) async fn by_id(
    storage: &dyn Storage,
    set: &str,
    account: &str,
    id: &str,
) -> Result<Option<Loan>, StorageError> {
    match LOANS.get(storage, &format!("{set}/{account}/{id}")).await? {
        Some(loan) => Ok(Some(loan)),
        None => Ok(at_old_place(storage, set, account).await?.filter(|loan| loan.id == id)),
    }
}

/// The loans of an account: none if the account is free, usually one, or several after a time with two leaders.
pub(super) async fn of_account(
    storage: &dyn Storage,
    set: &str,
    account: &str,
) -> Result<Vec<Loan>, StorageError> {
    let mut loans = Vec::new();
    for id in names_in(storage, &format!("{set}/{account}/")).await? {
        loans.extend(LOANS.get(storage, &format!("{set}/{account}/{id}")).await?);
    }
    if loans.is_empty() {
        loans.extend(at_old_place(storage, set, account).await?);
    }
    Ok(loans)
}

/// All loans of a set.
pub(super) async fn of_set(storage: &dyn Storage, set: &str) -> Result<Vec<Loan>, StorageError> {
    let mut loans = Vec::new();
    for account in taken(storage, set).await? {
        loans.extend(of_account(storage, set, &account).await?);
    }
    Ok(loans)
}

/// An account of these that another set still lends, perhaps a deleted one, and that set. `set` is the set of the caller.
pub(super) async fn lent_by_another<'a>(
    storage: &dyn Storage,
    set: &str,
    members: &'a [Member],
) -> Result<Option<(&'a Member, String)>, StorageError> {
    for other in names_in(storage, "").await?.into_iter().filter(|other| other != set) {
        let taken = taken(storage, &other).await?;
        if let Some(member) = members.iter().find(|member| taken.contains(member.id.as_str())) {
            return Ok(Some((member, other)));
        }
    }
    Ok(None)
}

/// The loan of a ticket; `None` if it is over.
pub(super) async fn of_ticket(storage: &dyn Storage, ticket: &Ticket) -> Result<Option<Loan>, StorageError> {
    by_id(storage, &ticket.set, ticket.service_account_id.as_str(), &ticket.loan).await
}

/// All loans, as owners. Only the record of a loan at the old place has the loan's id.
pub(super) async fn owners(storage: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
    let mut owners = Vec::new();
    // Also the deleted sets.
    for set in names_in(storage, "").await? {
        for account in taken(storage, &set).await? {
            let mut ids = names_in(storage, &format!("{set}/{account}/")).await?;
            if ids.is_empty() {
                let id = match at_old_place(storage, &set, &account).await {
                    Err(StorageError::Malformed { .. }) => Some(String::new()),
                    loan => loan?.map(|loan| loan.id),
                };
                ids.extend(id);
            }
            let owner = |loan| Owner::Loan { set: set.clone(), account: account.clone(), loan };
            owners.extend(ids.into_iter().map(owner));
        }
    }
    Ok(owners)
}

/// The loan of this owner.
pub(super) async fn of_owner(storage: &dyn Storage, owner: &Owner) -> Result<Option<Loan>, StorageError> {
    match owner {
        Owner::Loan { set, account, loan } => by_id(storage, set, account, loan).await,
        _ => Ok(None),
    }
}

/// The loan's owner for the worker.
fn owner(set: &str, loan: &Loan) -> Owner {
    Owner::Loan { set: set.to_owned(), account: loan.account.id.to_string(), loan: loan.id.clone() }
}

/// Stores a marker: the tick looks at the loan at this time.
pub(super) async fn mark(
    storage: &dyn Storage,
    set: &str,
    loan: &Loan,
    at: DateTime<Utc>,
) -> Result<(), StorageError> {
    due::mark(storage, &owner(set, loan), at).await
}

/// Moves the loan of an account to the place under its id, and adds its marker to the due index.
pub(super) async fn move_from_old_place(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    account: &str,
) -> Result<(), StorageError> {
    let _alone = lock_loans(engine, set).await;
    let Some(old) = at_old_place(storage, set, account).await? else { return Ok(()) };
    mark(storage, set, &old, old.next_look()).await?;
    LOANS.put(storage, &name(set, &Loan { is_at_old_place: false, ..old.clone() }), &old).await?;
    LOANS.delete(storage, &name(set, &old)).await
}

/// Stores a new loan.
pub(super) async fn open(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    mark(storage, set, loan, loan.next_look()).await?;
    failpoint!("loan.marked");
    LOANS.put(storage, &name(set, loan), loan).await
}

/// Marks the next look of a changed loan, and stores the loan.
async fn keep_marked(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    mark(storage, set, loan, loan.next_look()).await?;
    keep(storage, set, loan).await
}

/// Stores a changed loan.
pub(super) async fn keep(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    LOANS.put(storage, &name(set, loan), loan).await
}

/// Deletes the record of a loan that is over.
async fn close(storage: &dyn Storage, set: &str, loan: &Loan) -> Result<(), StorageError> {
    LOANS.delete(storage, &name(set, loan)).await?;
    failpoint!("loan.closed");
    Ok(())
}

/// Begins the return of a check-out. Returns `None` if the check-out is over.
pub(super) async fn begin_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
) -> Result<Option<Loan>, StorageError> {
    let _alone = lock_loans(engine, &ticket.set).await;
    let Some(mut loan) = of_ticket(storage, ticket).await? else { return Ok(None) };
    if loan.api_key_id.is_none() {
        loan.api_key_id.clone_from(&ticket.api_key_id);
    }
    if loan.state != State::Returning {
        loan.begin_return(engine.now());
        keep_marked(storage, &ticket.set, &loan).await?;
    }
    Ok(Some(loan))
}

/// Stores the loan of a check-out that comes back, if the tick has ended its reservation: OpenAI may have made the key after
/// that.
pub(super) async fn reopen(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    ticket: &Ticket,
) -> Result<(), StorageError> {
    let _alone = lock_loans(engine, &ticket.set).await;
    if of_ticket(storage, ticket).await?.is_some() {
        return Ok(());
    }
    let (now, times) = (engine.now(), (loan.ttl, loan.max_ttl));
    let mut loan = Loan::reserved(loan.id.clone(), loan.account.clone(), loan.borrower.clone(), times, now);
    loan.api_key_id.clone_from(&ticket.api_key_id);
    loan.begin_return(now);
    open(storage, &ticket.set, &loan).await
}

/// Ends the loan, whose key is dead.
pub(super) async fn finish_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
) -> Result<(), StorageError> {
    let _alone = lock_loans(engine, &ticket.set).await;
    match of_ticket(storage, ticket).await? {
        Some(loan) => close(storage, &ticket.set, &loan).await,
        None => Ok(()),
    }
}

/// Records a failed deletion of the key. The tick retries with a growing wait, at the latest when the key has expired. If
/// it is unknown whether the key was created, the tick looks again when the outcome is certain. After a failed check-out
/// that time counts from now.
pub(super) async fn put_off_return(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    error: &Error,
) -> Result<(), StorageError> {
    let _alone = lock_loans(engine, &ticket.set).await;
    let Some(mut loan) = of_ticket(storage, ticket).await? else { return Ok(()) };
    let now = engine.now();
    if matches!(error, Error::LeftBehind(_)) {
        loan.since = now;
        loan.expires = loan.expires.max(now + loan.max_ttl);
    }
    loan.retry.failed_by(&ticket.loan, error, now, Duration::ZERO);
    let is_in_doubt = matches!(error, Error::KeyInDoubt | Error::LeftBehind(_));
    loan.retry.next_try = if is_in_doubt {
        Some(loan.doubt_ends())
    } else {
        loan.retry.next_try.map(|next_try| next_try.min(loan.expires))
    };
    keep_marked(storage, &ticket.set, &loan).await
}

/// Notes the key of a loan, which somebody uses although the loan does not know it. The loan lasts until the key expires, or
/// until somebody checks the account in.
pub(super) async fn lend_again(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    key: &ApiKeyId,
) -> Result<(), StorageError> {
    let _alone = lock_loans(engine, &ticket.set).await;
    let Some(mut loan) = of_ticket(storage, ticket).await? else { return Ok(()) };
    loan.lend_again(key.clone());
    keep_marked(storage, &ticket.set, &loan).await
}

/// The loan of this owner. Times that were stored while the clock was ahead are corrected, once OpenAI's time is known.
pub(super) async fn corrected(
    engine: &Engine,
    storage: &dyn Storage,
    owner: &Owner,
) -> Result<Option<Loan>, StorageError> {
    let set = owner.name();
    let _alone = lock_loans(engine, set).await;
    let Some(mut loan) = of_owner(storage, owner).await? else { return Ok(None) };
    if engine.times.latest_known().is_some_and(|now| loan.correct_times(now)) {
        keep_marked(storage, set, &loan).await?;
    }
    Ok(Some(loan))
}
