//! `library-sets/:name/status`: the states of a set's accounts and their borrowers, without keys and tokens. Also counts
//! the accounts for the metrics.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::NAME;
use super::loans::{Loan, State};
use super::sets::{self, LibrarySet};
use super::{lending, missing};
use crate::engine::telemetry::metrics::MAX_LABELS;
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField, Tick};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};

const HELP: Help = Help {
    synopsis: "Read the states and borrowers of a library set's accounts.",
    description: "\
account_status has the state of each account: available, checked-out, returning while its last key is being deleted, or \
missing if OpenAI did not know it at its last check-out. check_outs has the borrower, start and end of each check-out. \
made_accounts has the names of the accounts that Vault created; they are deleted when they leave the set.

    $ vault read openai/library-sets/research/status",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<i64>("available_accounts", "Number of free accounts."),
    ResponseField::new::<i64>("checked_out_accounts", "Number of accounts that are checked out."),
    ResponseField::new::<i64>(
        "returning_accounts",
        "Number of accounts whose last key is still being deleted.",
    ),
    ResponseField::new::<i64>(
        "missing_accounts",
        "Number of accounts that OpenAI did not know at their last check-out.",
    ),
    ResponseField::new::<Data>(
        "account_status",
        "State by account: available, checked-out, returning or missing.",
    ),
    ResponseField::new::<Vec<String>>("made_accounts", "Names of the accounts that Vault created."),
    ResponseField::new::<Data>("check_outs", "Borrower, start and end of each check-out, by account."),
    ResponseField::new::<i64>("max_ttl", "Longest duration of a check-out with its renewals, in seconds."),
    ResponseField::new::<String>("project", "Name of the project, if the set gives it."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project."),
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("library-sets/:name/status", HELP)
            .also("library/:name/status")
            .field(&NAME)
            .on(Operation::Read, read)
            .responds(Operation::Read, ANSWER),
    ]
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let Some(set) = engine.library_sets.get(storage, &name).await? else { return Ok(None) };
    let loans = lending::of_set(storage, &name).await?;
    let missing = missing::of_set(storage, &name).await?;
    Ok(Some(Response::new(view(&set, &loans, &missing))))
}

fn view(set: &LibrarySet, loans: &[Loan], missing: &BTreeSet<String>) -> Data {
    let loans: HashMap<_, _> = loans.iter().map(|loan| (&loan.account.id, loan)).collect();
    let (mut status, mut check_outs) = (Data::new(), Data::new());
    for member in &set.members {
        let loan = loans.get(&member.id).copied();
        let free = if missing.contains(member.id.as_str()) { "missing" } else { "available" };
        status.insert(member.name.clone(), Value::from(loan.map_or(free, word)));
        check_outs.extend(loan.map(|loan| (member.name.clone(), who(loan))));
    }
    let count = |word: &str| Value::from(status.values().filter(|value| *value == word).count());
    data([
        ("available_accounts", count("available")),
        ("checked_out_accounts", count("checked-out")),
        ("returning_accounts", count("returning")),
        ("missing_accounts", count("missing")),
        ("made_accounts", set.made_accounts().into()),
        ("max_ttl", set.max_ttl.as_secs().into()),
        ("project", set.project.as_str().into()),
        ("project_id", project_id(set).into()),
        ("check_outs", check_outs.into()),
        ("account_status", status.into()),
    ])
}

/// The project of the accounts. The project's name may point to another project by now.
fn project_id(set: &LibrarySet) -> &str {
    set.members.first().map_or("", |member| member.project_id.as_str())
}

pub(super) fn word(loan: &Loan) -> &'static str {
    match loan.state {
        State::Reserved | State::Lent => "checked-out",
        State::Returning => "returning",
    }
}

fn who(loan: &Loan) -> Value {
    let mut said = json!({
        "service_account_id": loan.account.id.as_str(),
        "entity_id": loan.borrower.entity_id,
        "display_name": loan.borrower.display_name,
        "since": rfc3339::text(loan.since),
        "until": rfc3339::text(loan.ends),
    });
    if let (State::Returning, Some(reason)) = (loan.state, &loan.retry.last_error) {
        said["last_error"] = Value::from(reason.as_str());
        said["next_try"] = Value::from(rfc3339::text(loan.next_look()));
    }
    said
}

/// Updates the metrics of a set's accounts.
pub(super) async fn count(engine: &Engine, storage: &dyn Storage, name: &str) -> Result<(), StorageError> {
    let set = engine.library_sets.get(storage, name).await?;
    let members = set.as_ref().map_or(&[][..], |set| &set.members);
    let (out, missing) = (lending::taken(storage, name).await?, missing::of_set(storage, name).await?);
    let count_of = |is: &dyn Fn(&str) -> bool| members.iter().filter(|it| is(it.id.as_str())).count();
    // A deleted set of this name may still lend accounts that are no members.
    let missing = count_of(&|id| missing.contains(id) && !out.contains(id));
    let out = count_of(&|id| out.contains(id));
    let free = members.len().saturating_sub(out + missing);
    engine.metrics.library_accounts(name, free as u32, out as u32, missing as u32);
    Ok(())
}

/// Part of the tick: updates the metrics of all sets, as they are empty after a failover. An unreadable set, which other
/// parts of the tick report, hides no other.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let names = sets::SETS.names(&*tick.storage).await?;
    for name in names.into_iter().take(MAX_LABELS).take_while(|_| !tick.is_over()) {
        StorageError::readable(count(engine, &*tick.storage, &name).await)?;
    }
    Ok(())
}
