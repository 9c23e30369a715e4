//! The lease of a check-out. A renewal does not call OpenAI. A revocation deletes the key; in queue mode it stores the
//! return, and the deletion follows. The revocation of a lease whose check-out is over succeeds without work.

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

/// Maximum time of a revocation. Vault cancels a request after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(45);

/// Revokes the lease.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let (ticket, storage): (Ticket, _) = (call.internal()?, &call.request.storage);
    let returned = match credential_end::queues_revocations(&engine, &**storage).await {
        Ok(true) => returns::begin(&engine, storage, ticket).await,
        Ok(false) => returns::give_back(&engine, &**storage, &ticket, MAX_WAIT).await,
        Err(error) => Err(error),
    };
    returned.map_err(for_lease)
}

/// Renews the lease. Vault grants the requested increment, or else the answered one, up to the maximum since the
/// lease began (PROTOCOL 8.8). The loan's end follows the same rule. A lower `max_ttl` of the set limits the loan, too; a
/// higher one does not, because the key expires at its original `max_ttl`.
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
    if engine.times.latest_known().is_none() {
        // The clock may be behind, and the lease lives longer than its time says.
        loan.ends = loan.ends.max(ended);
    }
    if loan.ends <= engine.certain_time() {
        return Err(Error::LoanOver("it has lasted for max_ttl"));
    }
    // An early look finds the new end. An earlier end needs an earlier marker.
    if loan.ends < ended {
        lending::mark(storage, &ticket.set, &loan, loan.next_look()).await?;
    }
    lending::keep(storage, &ticket.set, &loan).await?;
    Ok(call.extend(loan.ttl, max_ttl))
}
