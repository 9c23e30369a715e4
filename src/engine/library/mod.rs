//! `library-sets/:name`: accounts that are lent out, one borrower each.
//!
//! This file is the path of the set itself. `fields` declares what a write may send, `sets` is the stored record; `writes`
//! changes it, with accounts that `members` finds or makes; `deletion` ends it, `reconcile` lets accounts go, and `in_use`
//! is what keeps an account in a set. `choice`, `checkouts`, `checkins` and `leases` are how an account goes out and comes
//! back, `loans` and `lending` the record of that, `returns` the end of its key; `missing` notes accounts that OpenAI no
//! longer has; `status` shows it all. `work` is the tick's part; `legacy` moves records of the releases before.

mod checkins;
mod checkouts;
mod choice;
mod deletion;
mod fields;
mod in_use;
pub(super) mod leases;
mod legacy;
pub(super) mod lending;
pub(super) mod loans;
mod members;
pub(super) mod missing;
pub(super) mod reconcile;
pub(super) mod returns;
pub(super) mod sets;
pub(super) mod status;
pub(super) mod work;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use self::fields::NAME;
use self::sets::LibrarySet;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField};
use crate::logical::{Data, Operation, Response};
use crate::openai::ProjectId;

const HELP: Help = Help {
    synopsis: "Manage a set of service accounts, each of which is lent to one borrower at a time.",
    description: "\
An account that exists in the project is adopted; one that does not is made, and is deleted when it leaves the set. The \
answer warns of the accounts that were made, made_accounts lists them, and create_missing=false makes none. An account \
belongs to one set or static role at most. Names can be added, and removed while their accounts are checked in. Sending \
the names again makes or adopts accounts anew that were deleted at OpenAI.

A set can be deleted when all its accounts are checked in. An account that Vault made is not deleted while somebody else \
has a key on it. force=true deletes the set all the same: such an account is deleted when those keys have ended, and \
accounts in an organization that the configuration does not name are left there.

    $ vault write openai/library-sets/research project=research-team max_ttl=48h \\
        service_account_names=research-sa-1,research-sa-2",
};

const LIST_HELP: Help = Help {
    synopsis: "List the library sets.",
    description: "\
Answers the names, and of each its project and times.

    $ vault list -detailed openai/library-sets",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("project", "Name of the project."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project, if the set gives it."),
    ResponseField::new::<Vec<String>>("service_account_names", "Names of the accounts."),
    ResponseField::new::<Duration>("ttl", "How long a check-out lasts by default, in seconds."),
    ResponseField::new::<Duration>("max_ttl", "How long it may last in all, in seconds."),
    ResponseField::new::<String>("description", "What the set is for."),
    ResponseField::new::<bool>("disable_check_in_enforcement", "Whether anybody may check in."),
    ResponseField::new::<bool>(
        "create_missing",
        "Whether accounts are made for names that the project has none of.",
    ),
    ResponseField::new::<Vec<String>>(
        "made_accounts",
        "Names of the accounts that Vault made; the others were adopted.",
    ),
];

/// The paths of the set and of all that is done with it.
pub(super) fn paths() -> Vec<Path<Engine>> {
    [set_paths(), checkouts::paths(), checkins::paths(), status::paths()].into_iter().flatten().collect()
}

fn set_paths() -> Vec<Path<Engine>> {
    vec![
        fields::all(Path::new("library-sets/:name", HELP))
            .noun("a library set")
            .on(Operation::Read, read)
            .on_write(writes::write)
            .on(Operation::Delete, deletion::delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("library-sets/", LIST_HELP).on(Operation::List, list),
    ]
}

impl LibrarySet {
    fn view(&self) -> Data {
        let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        Data::from_iter(
            [
                ("project", Value::from(self.project.as_str())),
                ("project_id", self.project_id.as_ref().map_or("", ProjectId::as_str).into()),
                ("service_account_names", names.into()),
                ("ttl", self.ttl.as_secs().into()),
                ("max_ttl", self.max_ttl.as_secs().into()),
                ("description", self.description.as_str().into()),
                ("disable_check_in_enforcement", self.disable_check_in_enforcement.into()),
                ("create_missing", self.create_missing.into()),
                ("made_accounts", self.made_accounts().into()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
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
    Ok(Some(engine.library_sets.list(&**call.storage(), LibrarySet::info).await?))
}
