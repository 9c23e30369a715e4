//! `library-sets/:name/check-in` (and `checkin`) for the borrower, and `admin-check-in` for an operator. The answer comes
//! when the lent key is dead, and only then is the account free.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::fields::NAME;
use super::loans::{Borrower, Loan, State};
use super::members::{self, Member};
use super::sets::LibrarySet;
use super::{lending, returns, sets, status};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Operation, Response, Storage};

/// Maximum time of a check-in. Vault cancels a request after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(45);

static ACCOUNT_ID: Field<String> = Field::new(
    "service_account_id",
    "OpenAI's id of the account to check in. Not needed if the caller has one account of the set.",
)
.default("");
static ACCOUNT: Field<String> =
    Field::new("service_account", "Name of the account to check in, instead of service_account_id.")
        .default("");
static FORCED_ID: Field<String> = Field::new(
    "service_account_id",
    "OpenAI's id of the account to check in. This or service_account is always needed.",
)
.default("");

const HELP: Help = Help {
    synopsis: "Check in a service account of a library set.",
    description: "\
Deletes the key of the check-out at OpenAI and makes the account free for others; the next check-out gets a new key. \
Only the borrower may check in: the same entity, or the same token where there is no entity. A set with \
disable_check_in_enforcement=true lets any caller check in.

    $ vault write openai/library-sets/research/check-in service_account_id=svc_234567890",
};

const ADMIN_HELP: Help = Help {
    synopsis: "Check in a service account of a library set for any borrower.",
    description: "\
For operators: deletes the key of the check-out at OpenAI and makes the account free, as check-in does for the \
borrower. It always needs an account.

    $ vault write openai/library-sets/research/admin-check-in service_account_id=svc_234567890",
};

const ANSWER: &[ResponseField] =
    &[ResponseField::new::<String>("message", "A sentence that says what was done.")];

const CHECKED_IN: &str = "Service account checked in and API key rotated.";
const FORCED: &str = "Service account forcibly checked in and API key rotated.";

pub(super) fn paths() -> Vec<Path<Engine>> {
    let path = |pattern, help, id| {
        Path::new(pattern, help).field(&NAME).field(id).field(&ACCOUNT).responds(Operation::Update, ANSWER)
    };
    vec![
        path("library-sets/:name/check-in", HELP, &ACCOUNT_ID)
            .also("library-sets/:name/checkin")
            .also("library/:name/check-in")
            .on(Operation::Update, check_in),
        path("library-sets/:name/admin-check-in", ADMIN_HELP, &FORCED_ID)
            .also("library-sets/:name/admin-checkin")
            .also("library/:name/admin-check-in")
            .also("library/manage/:name/check-in")
            .on(Operation::Update, admin_check_in),
    ]
}

async fn check_in(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let set = sets::find(&engine, storage, &name).await?;
    let caller = Borrower::of(&call.request);
    let loans = match asked_for(&call, &name, &set)? {
        Some(member) => lent(storage, &name, member).await?,
        None => vec![only_one_of(storage, &name, &caller).await?],
    };
    let is_theirs = |loan: &Loan| set.disable_check_in_enforcement || loan.borrower.is(&caller);
    if let Some(other) = loans.iter().find(|loan| !is_theirs(loan)) {
        return Err(Error::NotBorrower(other.account.name.clone()));
    }
    give_back(&engine, storage, &name, &loans).await?;
    Ok(Some(Response::of([("message", Value::from(CHECKED_IN))])))
}

async fn admin_check_in(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let set = sets::find(&engine, storage, &name).await?;
    let member = asked_for(&call, &name, &set)?.ok_or_else(|| {
        Error::field("service_account_id (or service_account) must say which account to check in")
    })?;
    let loans = lent(storage, &name, member).await?;
    give_back(&engine, storage, &name, &loans).await?;
    Ok(Some(Response::of([("message", Value::from(FORCED))])))
}

/// The account that the call names, by id or name.
fn asked_for<'a>(call: &Call, set_name: &str, set: &'a LibrarySet) -> Result<Option<&'a Member>, Error> {
    let (id, name) = (call.get(&ACCOUNT_ID)?, call.get(&ACCOUNT)?);
    let (asked, member) = match (id.is_empty(), name.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => (&name, members::by_name(&set.members, &name)),
        (false, _) => (&id, members::by_id(&set.members, &id)),
    };
    let member =
        member.ok_or_else(|| Error::NotInSet { set: set_name.to_owned(), account: asked.clone() })?;
    if !name.is_empty() && !member.answers_to(&name) {
        return Err(Error::field(format!(
            "service_account_id and service_account must name the same account: {id} is {}",
            member.name
        )));
    }
    Ok(Some(member))
}

/// The loans of an account, usually one. A reservation is refused: its borrower has no key yet.
async fn lent(storage: &dyn Storage, set: &str, member: &Member) -> Result<Vec<Loan>, Error> {
    let loans = lending::of_account(storage, set, member.id.as_str()).await?;
    if loans.is_empty() {
        return Err(Error::NotCheckedOut(member.name.clone()));
    }
    if loans.iter().any(|loan| loan.state == State::Reserved) {
        return Err(Error::field(format!(
            "service account {} is being checked out at this moment: try again later",
            member.name
        )));
    }
    Ok(loans)
}

/// The caller's only loan of the set. Loans in state `Returning` count only if the caller has no other.
async fn only_one_of(storage: &dyn Storage, set: &str, caller: &Borrower) -> Result<Loan, Error> {
    let mut theirs = lending::of_set(storage, set).await?;
    theirs.retain(|loan| loan.state != State::Reserved && loan.borrower.is(caller));
    if theirs.iter().any(|loan| loan.state == State::Lent) {
        theirs.retain(|loan| loan.state == State::Lent);
    }
    match theirs.len() {
        1 => Ok(theirs.swap_remove(0)),
        0 => Err(Error::field(format!("you have no service account of library set {set} checked out"))),
        _ => {
            let names: Vec<String> = theirs.into_iter().map(|loan| loan.account.name).collect();
            Err(Error::field(format!(
                "service_account_id (or service_account) must say which account to check in; you have {}",
                names.join(", ")
            )))
        }
    }
}

async fn give_back(engine: &Engine, storage: &dyn Storage, set: &str, loans: &[Loan]) -> Result<(), Error> {
    for loan in loans {
        let returned = returns::give_back(engine, storage, &loan.ticket(set), MAX_WAIT).await;
        // Best effort; the next tick counts again.
        let _ = status::count(engine, storage, set).await;
        returned.map_err(|error| match error {
            Error::Storage(_) => error,
            Error::KeyUsed(key) => Error::KeyUsed(key),
            reason => Error::NotFreeYet { account: loan.account.name.clone(), reason: Box::new(reason) },
        })?;
    }
    Ok(())
}
