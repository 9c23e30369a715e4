//! The lease of a check-out: renewed without a call to OpenAI, and ended with its key; in queue mode its end is put on
//! record and the key's follows. A lease whose check-out is over, because it was checked in or its set is gone, has
//! nothing left to end.

use std::sync::Arc;
use std::time::Duration;

use super::loans::{State, Ticket};
use super::{lending, returns};
use crate::engine::creds::credential_end;
use crate::engine::creds::credential_end::for_lease;
use crate::engine::{Engine, Error};
use crate::framework::{LeaseCall, LeaseType};
use crate::logical::{self, Response};

pub(in crate::engine) static CHECK_OUT: LeaseType = LeaseType::new("library_check_out");

/// As long as the end of a lease waits for OpenAI; Vault gives up after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(45);

/// Vault ends the lease.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let (ticket, storage): (Ticket, _) = (call.internal()?, &call.request.storage);
    let returned = match credential_end::queues_revocations(&engine, &**storage).await {
        Ok(true) => returns::begin(&engine, storage, ticket).await,
        Ok(false) => returns::give_back(&engine, &**storage, &ticket, MAX_WAIT).await,
        Err(error) => Err(error),
    };
    returned.map_err(for_lease)
}

/// The borrower keeps the account for longer. Vault takes what the borrower asks for, else what is answered here, both
/// up to the longest life since the lease began (PROTOCOL 8.8); the loan's end follows the same rule. A
/// `max_ttl` of the set that was lowered since binds the loan, too; its key lives no longer than `max_ttl` was when it was made.
pub(in crate::engine) async fn renew(engine: Arc<Engine>, call: LeaseCall) -> Result<Response, Error> {
    let (ticket, storage): (Ticket, _) = (call.internal()?, &*call.request.storage);
    let set = engine.library_sets.get(storage, &ticket.set).await?;
    let set_limit = set.map_or(Duration::MAX, |set| set.max_ttl);
    let limit = engine.system.max_lease_ttl().await?.min(set_limit);
    let _alone = lending::lock_loans(&engine, &ticket.set).await;
    let loan = lending::of_ticket(storage, &ticket).await?.filter(|loan| loan.state == State::Lent);
    let mut loan = loan.ok_or(Error::LoanOver("the account was checked in"))?;
    let secret = call.request.secret.as_ref();
    let began = secret.and_then(|secret| secret.issue_time).unwrap_or(loan.since);
    let max_ttl = loan.max_ttl.min(limit);
    let asked = secret.map(|secret| secret.increment).filter(|increment| !increment.is_zero());
    let ended = loan.ends;
    loan.ends = (engine.latest_time() + asked.unwrap_or(loan.ttl)).min(began + max_ttl);
    if loan.ends <= engine.certain_time() {
        return Err(Error::LoanOver("it has lasted for max_ttl"));
    }
    // A look that comes too early finds the new end; an earlier end needs a marker of its own.
    if loan.ends < ended {
        lending::mark(storage, &ticket.set, &loan, loan.next_look()).await?;
    }
    lending::keep(storage, &ticket.set, &loan).await?;
    Ok(call.extend(loan.ttl, max_ttl))
}
