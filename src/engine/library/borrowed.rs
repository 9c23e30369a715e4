//! `library-sets/:name/check-outs`: a list of the accounts that are checked out, with their borrowers and times.

use std::sync::Arc;

use serde_json::Value;

use super::fields::NAME;
use super::loans::Loan;
use super::{lending, status};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path};
use crate::logical::{Data, Operation, Response, data};

const HELP: Help = Help {
    synopsis: "List the check-outs of a library set.",
    description: "\
Answers the name of each account that is checked out, with its borrower, start, end and state. It is the list form of \
check_outs in status, which reads better in a terminal.

    $ vault list -detailed openai/library-sets/research/check-outs",
};

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("library-sets/:name/check-outs/", HELP)
            .also("library/:name/check-outs/")
            .field(&NAME)
            .on(Operation::List, list),
    ]
}

async fn list(_: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let mut loans = lending::of_set(&**call.storage(), &call.get(&NAME)?).await?;
    loans.sort_by(|one, other| one.account.name.cmp(&other.account.name));
    let entries = loans.iter().map(|loan| (loan.account.name.clone(), info(loan)));
    Ok(Some(Response::list(entries.collect())))
}

fn info(loan: &Loan) -> Data {
    data([
        ("borrower", Value::from(loan.borrower.display_name.as_str())),
        ("entity_id", loan.borrower.entity_id.as_str().into()),
        ("service_account_id", loan.account.id.as_str().into()),
        ("since", rfc3339::text(loan.since).into()),
        ("until", rfc3339::text(loan.ends).into()),
        ("state", status::word(loan).into()),
    ])
}
