//! `library-sets/:name`: sets of accounts that are lent, each account to one borrower at a time.
//!
//! This file has the path of the set itself. The other files:
//! - `sets` is the stored record of a set, and `fields` declares its fields. `writes` and `deletion` are the two changes
//!   of a set. `members` finds and creates accounts. `in_use` refuses the removal of accounts that are in use, and
//!   `reconcile` deletes or releases accounts that left their set.
//! - `loans` is the record of a check-out, and `lending` stores it. `choice` and `checkouts` lend an account, `checkins`
//!   and `leases` take it back, and `returns` deletes the lent key.
//! - `missing` records accounts that OpenAI no longer has. `status` shows the states of all accounts, and `borrowed`
//!   lists the check-outs. `legacy` moves the records of earlier releases.

mod borrowed;
mod checkins;
mod checkouts;
mod choice;
mod deletion;
mod fields;
mod in_use;
pub(super) mod leases;
pub(super) mod legacy;
pub(super) mod lending;
pub(super) mod loans;
mod members;
pub(super) mod missing;
pub(super) mod reconcile;
pub(super) mod returns;
pub(super) mod sets;
pub(super) mod status;
mod writes;

use std::sync::Arc;

use self::fields::NAME;
use self::sets::LibrarySet;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField, show};
use crate::logical::{Data, Operation, Response};

const HELP: Help = Help {
    synopsis: "Manage a set of service accounts that are lent, each to one borrower at a time.",
    description: "\
A write adopts the accounts that the project has, and creates the others. It warns of each created account, and \
made_accounts lists them; create_missing=false refuses unknown names. A created account is deleted when it leaves the set. \
An account belongs to at most one set or static role. Names can be added, and removed while their accounts are checked in. \
Writing the names again adopts or creates accounts that were deleted at OpenAI.

A set can be deleted when all its accounts are checked in. A created account with a key of somebody else is not deleted. \
With force=true the set is deleted, and such an account follows when those keys have ended. Accounts in an organization \
that the configuration does not name are left there.

    $ vault write openai/library-sets/research project=research-team max_ttl=48h \\
        service_account_names=research-sa-1,research-sa-2",
};

const LIST_HELP: Help = Help {
    synopsis: "List the library sets.",
    description: "\
Answers each name with its project and times.

    $ vault list -detailed openai/library-sets",
};

/// The fields of a read's answer besides the settings.
const ANSWER: &[ResponseField] = &[ResponseField::new::<Vec<String>>(
    "made_accounts",
    "Names of the accounts that Vault created; the others were adopted.",
)];

/// The paths of sets, check-outs, check-ins and status.
pub(super) fn paths() -> Vec<Path<Engine>> {
    [set_paths(), checkouts::paths(), checkins::paths(), status::paths(), borrowed::paths()]
        .into_iter()
        .flatten()
        .collect()
}

fn set_paths() -> Vec<Path<Engine>> {
    vec![
        fields::all(Path::new("library-sets/:name", HELP))
            .also("library/:name")
            .noun("a library set")
            .on(Operation::Read, read)
            .on_write(writes::write)
            .on(Operation::Delete, deletion::delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("library-sets/", LIST_HELP).also("library/").on(Operation::List, list),
    ]
}

impl LibrarySet {
    fn view(&self) -> Data {
        let mut view = show(&fields::SHOWN, self);
        view.insert("made_accounts".to_owned(), self.made_accounts().into());
        view
    }

    fn info(&self) -> Data {
        let mut info = self.view();
        info.retain(|name, _| matches!(name.as_str(), "project" | "project_id" | "ttl" | "max_ttl"));
        info
    }
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.library_sets.get(&**call.storage(), &call.get(&NAME)?).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let set = engine.library_sets.get(&**call.storage(), &call.get(&NAME)?).await?;
    Ok(set.map(|set| Response::new(set.view())))
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    Ok(Some(Response::list(engine.library_sets.listed(&**call.storage(), LibrarySet::info).await?)))
}
