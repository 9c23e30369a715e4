//! `library-sets/:name/check-out` (and `checkout`): lends one free account to one borrower, with a new key, until the
//! end of its lease.
//!
//! *Guarantees:* the account is reserved in storage, under the lock of the set's loans, before OpenAI creates the key.
//! So two borrowers never get the same account, and a node that may not write forwards the request. A check-out calls
//! OpenAI once.
//!
//! If the plugin or the server dies, the last completed step decides:
//! 1. *The marker is stored.* No loan exists, and the account is free. The worker deletes the marker in its minute.
//! 2. *The loan is stored as `Reserved`*, and OpenAI may have created the key. Nobody has the key. Five minutes after
//!    the reservation, the tick looks the key up by the loan's id, deletes the key, and frees the account. Storage may be
//!    outdated, so a key that was ever used stays lent until it expires.
//! 3. *The loan is stored as `Lent`.* Perhaps nobody has the key, but no process can know that. The tick takes the
//!    account back two minutes after the end of the loan's `ttl`. An operator can check the account in earlier.
//! 4. *The response is sent.* If the server dies before it stores the lease, step 3 applies. Otherwise the lease ends
//!    the check-out.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use super::choice::{ACCOUNT, CheckOutRequest, TTL, Unavailable};
use super::fields::NAME;
use super::leases::CHECK_OUT;
use super::loans::{Loan, State, Ticket};
use super::members::Member;
use super::{lending, missing, returns, sets, status};
use crate::engine::config::{clients, metadata};
use crate::engine::creds::issuer;
use crate::engine::failpoint::failpoint;
use crate::engine::telemetry::events::EventKind;
use crate::engine::telemetry::metrics::CheckOutResult;
use crate::engine::time::{key_lifetime, rfc3339, seconds};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField};
use crate::logical::{Operation, Response, Storage};
use crate::openai::{Client, CreatedKey, Urgency};

/// Maximum wait of a check-out for OpenAI. Vault cancels a request after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(45);

const HELP: Help = Help {
    synopsis: "Check out a service account of a library set.",
    description: "\
Lends one free account to one borrower until it is checked in or its lease ends. The answer has a key that ends with the \
check-out. The lease can be renewed up to the set's max_ttl in all. An account that OpenAI no longer has is skipped.

    $ vault write -f openai/library-sets/research/check-out
    $ vault write openai/library-sets/research/check-out ttl=4h service_account=research-sa-1",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("api_key", "The key.").sensitive(),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<String>("service_account", "Name of the account."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the account, which check-in takes."),
    ResponseField::new::<DateTime<Utc>>("checkout_time", "Time of the check-out."),
    ResponseField::new::<String>("library_set", "Name of the library set."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project."),
    metadata::ECHO_ANSWER,
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("library-sets/:name/check-out", HELP)
            .also("library-sets/:name/checkout")
            .also("library/:name/check-out")
            .field(&NAME)
            .field(&TTL)
            .field(&ACCOUNT)
            .on(Operation::Update, check_out)
            .responds(Operation::Update, ANSWER),
    ]
}

async fn check_out(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let name = call.get(&NAME)?;
    let set = sets::find(&engine, storage, &name).await?;
    let request = CheckOutRequest::of(&engine, &call, &name, &set).await?;
    let outcome = lend(&engine, storage, &request).await;
    let result = counted(&outcome);
    engine.metrics.checked_out(&name, result);
    emit_check_out(&engine, &request, result);
    // Best effort; the next tick counts again.
    let _ = status::count(&engine, storage, &name).await;
    outcome.map(Some)
}

/// A refusal because no account is free is no event.
fn emit_check_out(engine: &Engine, request: &CheckOutRequest, result: CheckOutResult) {
    let event_kind = match result {
        CheckOutResult::Lent => EventKind::CheckOut,
        CheckOutResult::Failed => EventKind::CheckOutFail,
        CheckOutResult::Refused => return,
    };
    engine.events.emit_with(event_kind, &format!("library-sets/{}/status", request.set), &request.metadata);
}

fn counted(outcome: &Result<Response, Error>) -> CheckOutResult {
    match outcome {
        Ok(_) => CheckOutResult::Lent,
        Err(Error::NoneAvailable | Error::AlreadyCheckedOut | Error::NotInSet { .. }) => {
            CheckOutResult::Refused
        }
        Err(_) => CheckOutResult::Failed,
    }
}

/// Lends an account. An account that OpenAI does not know is recorded as missing. Then the next account is tried, unless
/// the caller asked for this one.
async fn lend(engine: &Engine, storage: &dyn Storage, request: &CheckOutRequest) -> Result<Response, Error> {
    // Without a configuration, nothing is reserved.
    clients::configured(engine, storage).await?;
    let deadline = Instant::now() + MAX_WAIT;
    let mut gone: Vec<Member> = Vec::new();
    let mut refusal = None;
    loop {
        let (loan, was_missing) = match reserve(engine, storage, request, &gone).await {
            Err(Error::NoneAvailable) if refusal.is_some() => {
                return Err(refusal.unwrap_or(Error::NoneAvailable));
            }
            reserved => reserved?,
        };
        let account = loan.account.clone();
        match lend_reserved(engine, storage, request, loan).await {
            Err(error @ Error::AccountMissing { .. }) => {
                // Best effort: without the record, the next check-out is slower.
                let _ = missing::note(engine, storage, &request.set, &account.id, &error).await;
                if !request.account.is_empty() || Instant::now() >= deadline {
                    return Err(error);
                }
                refusal = Some(error);
                gone.push(account);
            }
            Ok(answer) => {
                if was_missing {
                    let _ = missing::forget(storage, &request.set, account.id.as_str()).await;
                }
                let answer = gone.iter().fold(answer, warn);
                return Ok(request.cut.iter().fold(answer, Response::with_warning));
            }
            Err(error) => return Err(error),
        }
    }
}

fn warn(answer: Response, gone: &Member) -> Response {
    answer.with_warning(format!(
        "OpenAI no longer has service account {} of this library set: write service_account_names again to have it \
         adopted or made anew",
        gone.name
    ))
}

/// Reserves an account in storage. Also returns true if the account was recorded as missing.
async fn reserve(
    engine: &Engine,
    storage: &dyn Storage,
    request: &CheckOutRequest,
    gone: &[Member],
) -> Result<(Loan, bool), Error> {
    let id = sets::new_name_for_set(engine, &request.set);
    let _alone = lending::lock_loans(engine, &request.set).await;
    let set = sets::find(engine, storage, &request.set).await?;
    if !sets::SETS.contains(storage, &request.set).await? {
        // OpenBao moved the mount to another namespace: a loan that is stored here would be lost.
        return Err(Error::field(format!(
            "library set {} is not in the mount's storage any more: if the mount was moved to another namespace, reload the \
             plugin for it (bao plugin reload -mounts)",
            request.set
        )));
    }
    let unavailable = Unavailable {
        taken: lending::taken(storage, &request.set).await?,
        missing: missing::of_set(storage, &request.set).await?,
        gone: gone.iter().map(|member| member.id.to_string()).collect(),
    };
    let account = request.choose(&set.members, &unavailable)?.clone();
    let was_missing = unavailable.missing.contains(account.id.as_str());
    let loan =
        Loan::reserved(id, account, request.borrower.clone(), (request.ttl, request.max_ttl), engine.now());
    lending::open(storage, &request.set, &loan).await?;
    Ok((loan, was_missing))
}

/// Creates the key of a reserved account, or frees the account.
async fn lend_reserved(
    engine: &Engine,
    storage: &dyn Storage,
    request: &CheckOutRequest,
    loan: Loan,
) -> Result<Response, Error> {
    let ticket = loan.ticket(&request.set);
    failpoint!("loan.reserved");
    let made = match clients::client_of(engine, storage, &loan.account.organization_id).await {
        Ok(client) => {
            clients::note_made(engine, &[loan.account.id.as_str()], loan.account.joined);
            make_key(&client.for_work(Urgency::Issue, MAX_WAIT), &loan).await
        }
        Err(error) => Err(error),
    };
    let key = match made {
        Ok(key) => key,
        Err(error) => {
            return Err(explain(cancel(engine, storage, &loan, &ticket, error).await, request, &loan));
        }
    };
    let ticket = Ticket { api_key_id: Some(key.id.clone()), ..ticket };
    match record(engine, storage, &ticket, &key).await {
        Ok(loan) => {
            failpoint!("loan.recorded");
            answer(request, &loan, &ticket, &key)
        }
        Err(error) => Err(take_back(engine, storage, &loan, &ticket, error).await),
    }
}

async fn make_key(client: &Client, loan: &Loan) -> Result<CreatedKey, Error> {
    let account = &loan.account;
    issuer::issue_recorded_key(client, &account.project_id, &account.id, &loan.id, loan.max_ttl).await
}

/// Adds advice to a refusal.
fn explain(error: Error, request: &CheckOutRequest, loan: &Loan) -> Error {
    match error {
        Error::KeyCreation(error) if error.is_gone() => {
            Error::AccountMissing { set: request.set.clone(), account: loan.account.name.clone(), error }
        }
        error => key_lifetime::explained(error, || {
            let (max_ttl, lifetime) = (seconds::text(request.set_max_ttl), seconds::text(request.max_ttl));
            let cut = if request.max_ttl < request.set_max_ttl {
                format!(", cut to {lifetime} by the mount's maximum")
            } else {
                String::new()
            };
            format!(
                "a key of library set {} lives for its max_ttl, which is {max_ttl}{cut}: change that",
                request.set
            )
        }),
    }
}

/// Frees an account whose key was not created. If the key may exist, its return begins and looks it up. If storage fails
/// here, the tick finds the reservation.
async fn cancel(engine: &Engine, storage: &dyn Storage, loan: &Loan, ticket: &Ticket, error: Error) -> Error {
    if matches!(error, Error::LeftBehind(_)) {
        let _ = returns::look_later(engine, storage, loan, ticket, &error).await;
    } else {
        let _ = lending::finish_return(engine, storage, ticket).await;
    }
    error
}

/// Stores that the borrower has the key.
async fn record(
    engine: &Engine,
    storage: &dyn Storage,
    ticket: &Ticket,
    key: &CreatedKey,
) -> Result<Loan, Error> {
    let _alone = lending::lock_loans(engine, &ticket.set).await;
    let loan = lending::of_ticket(storage, ticket).await?.filter(|loan| loan.state == State::Reserved);
    let mut loan = loan.ok_or(Error::LoanOver("it took too long"))?;
    let marked = loan.next_look();
    // OpenAI's response with the key has just set our estimate of its clock.
    loan.lend(key, engine.now());
    // The reservation's marker usually comes first, and the tick then marks the next look. If the clock was ahead, that
    // marker lies too far in the future.
    if marked > loan.next_look() {
        lending::mark(storage, &ticket.set, &loan, loan.next_look()).await?;
    }
    lending::keep(storage, &ticket.set, &loan).await?;
    Ok(loan)
}

/// Deletes a key that could not be recorded. If the deletion fails too, the tick finds the loan and its key.
async fn take_back(
    engine: &Engine,
    storage: &dyn Storage,
    loan: &Loan,
    ticket: &Ticket,
    error: Error,
) -> Error {
    match returns::take_back(engine, storage, loan, ticket, MAX_WAIT).await {
        Ok(()) => error,
        Err(_) => Error::LeftBehind(Box::new(error)),
    }
}

fn answer(
    request: &CheckOutRequest,
    loan: &Loan,
    ticket: &Ticket,
    key: &CreatedKey,
) -> Result<Response, Error> {
    let lease = CHECK_OUT.grant(ticket, loan.ttl, loan.max_ttl, true)?;
    let response = Response::of([
        ("api_key", Value::from(key.value.expose())),
        ("api_key_id", Value::from(key.id.as_str())),
        ("service_account", Value::from(loan.account.name.as_str())),
        ("service_account_id", Value::from(loan.account.id.as_str())),
        ("checkout_time", Value::from(rfc3339::text(loan.since))),
        ("library_set", Value::from(request.set.as_str())),
        ("project_id", Value::from(loan.account.project_id.as_str())),
        (metadata::ECHO, metadata::shown(&request.metadata)),
    ]);
    Ok(response.with_lease(lease))
}
