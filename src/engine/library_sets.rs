//! `library-sets/:name`: accounts that are lent out, one borrower each. This file is the set itself; `library_writes`
//! changes it, `checkouts` and `checkins` lend and return.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::library_members::Member;
use super::names::{self, ServiceAccountName};
use super::template::{Template, Values};
use super::{Engine, Error, checks, library_changes, library_writes};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Collection, Data, Operation, Record, Response, Storage};
use crate::openai::{ProjectId, ServiceAccountId};

/// A set of accounts that are lent out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LibrarySet {
    /// The project's name in Vault; empty if the set gives the raw id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the set gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The accounts, in the order of their names in the write.
    pub members: Vec<Member>,
    /// How long a check-out lasts if the borrower does not say.
    #[serde(with = "super::seconds")]
    pub ttl: Duration,
    /// How long it may last in all.
    #[serde(with = "super::seconds")]
    pub max_ttl: Duration,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether anybody may check in what another checked out.
    #[serde(default)]
    pub disable_check_in_enforcement: bool,
}

impl Record for LibrarySet {
    const VERSION: u32 = 1;
}

pub(super) static SETS: Collection<LibrarySet> = Collection::new("library-set/");

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);

pub(super) static NAME: Field<Name> = Field::new("name", "Name of the library set.");
static PROJECT: Field<String> =
    Field::new("project", "Name of the project, as written to project/. This or project_id is required.")
        .default("");
static PROJECT_ID: Field<String> =
    Field::new("project_id", "OpenAI's id of the project, where it has no name in Vault.").default("");
pub(super) static ACCOUNTS: Field<Vec<String>> = Field::new(
    "service_account_names",
    "Names of the accounts to lend. Those that the project has are adopted, the others are made.",
)
.required();
static TTL: Field<Duration> =
    Field::new("ttl", "How long a check-out lasts if the borrower does not say: 1h, or max_ttl if shorter.");
static MAX_TTL: Field<Duration> =
    Field::new("max_ttl", "How long a check-out may last in all, with its renewals.").default(86_400);
static DESCRIPTION: Field<String> = Field::new("description", "What the set is for.").default("");
static UNENFORCED: Field<bool> = Field::new(
    "disable_check_in_enforcement",
    "Let anybody check in what another checked out; else only the same entity or token may.",
)
.default(false);

const HELP: Help = Help {
    synopsis: "Manage a set of service accounts, each of which is lent to one borrower at a time.",
    description: "\
An account that exists in the project is adopted; one that does not is made, and goes with its place in the set. An \
account belongs to one set or static role at most. Names can be added, and removed while they are checked in. A set \
can be deleted when all its accounts are.

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
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("library-sets/:name", HELP)
            .field(&NAME)
            .field(&PROJECT)
            .field(&PROJECT_ID)
            .field(&ACCOUNTS)
            .field(&TTL)
            .field(&MAX_TTL)
            .field(&DESCRIPTION)
            .field(&UNENFORCED)
            .on(Operation::Read, read)
            .on_write(library_writes::write)
            .on(Operation::Delete, library_writes::delete)
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
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        )
    }

    fn info(&self) -> Data {
        let mut info = self.view();
        info.retain(|name, _| matches!(name.as_str(), "project" | "project_id" | "ttl" | "max_ttl"));
        info
    }

    /// A set that does not exist yet: what is required must be there, the rest has its default.
    pub(super) fn first(call: &Call) -> Result<Self, Error> {
        let max_ttl = call.get(&MAX_TTL)?;
        Ok(Self {
            project: String::new(),
            project_id: None,
            members: Vec::new(),
            ttl: DEFAULT_TTL.min(max_ttl),
            max_ttl,
            description: String::new(),
            disable_check_in_enforcement: false,
        })
    }

    /// Puts what the call sends over what is there; the accounts are not settled yet.
    pub(super) fn change(&mut self, call: &Call) -> Result<(), Error> {
        self.project = call.sent(&PROJECT)?.unwrap_or_else(|| self.project.clone());
        if let Some(id) = call.sent(&PROJECT_ID)? {
            self.project_id = checks::optional(&id, PROJECT_ID.name())?;
        }
        self.ttl = call.sent(&TTL)?.unwrap_or(self.ttl);
        self.max_ttl = call.sent(&MAX_TTL)?.unwrap_or(self.max_ttl);
        self.description = call.sent(&DESCRIPTION)?.unwrap_or_else(|| self.description.clone());
        self.disable_check_in_enforcement =
            call.sent(&UNENFORCED)?.unwrap_or(self.disable_check_in_enforcement);
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        checks::one_project(&self.project, self.project_id.as_ref())?;
        if self.ttl.is_zero() {
            return Err(Error::field("ttl and max_ttl must be at least 1s"));
        }
        checks::ttls(self.ttl, self.max_ttl)
    }

    /// A set stays where its accounts are.
    pub(super) fn check_move(&self, old: Option<&Self>, project_id: &ProjectId) -> Result<(), Error> {
        let moved = |old: &Self| (&old.project, &old.project_id) != (&self.project, &self.project_id);
        let away = |old: &Self| old.members.iter().any(|member| member.project_id != *project_id);
        if old.is_some_and(|old| moved(old) && away(old)) {
            return Err(Error::field(
                "project and project_id must stay the set's own, as its accounts live there: make another set",
            ));
        }
        Ok(())
    }
}

/// The set, which must be there.
pub(super) async fn find(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Arc<LibrarySet>, Error> {
    let set = engine.library_sets.get(storage, name).await?;
    set.ok_or_else(|| Error::NotFound { kind: "library set", name: name.to_owned() })
}

/// A new unique name for what is made at OpenAI for the set.
pub(super) fn unique_name(engine: &Engine, set: &str) -> Result<String, Error> {
    let template =
        Template::parse(names::DEFAULT_TEMPLATE).map_err(|error| Error::field(error.to_string()))?;
    let values = Values { role_name: set, project_name: "" };
    let name = ServiceAccountName::new(&template, &values, &engine.tag, engine.now(), &mut rand::rng());
    Ok(name.map_err(|error| Error::field(error.to_string()))?.into())
}

/// Whether the library set `name`, or a change of it under way, is stored and names this account.
pub(super) async fn names_account(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    account: &ServiceAccountId,
) -> Result<bool, Error> {
    let set = engine.library_sets.get(storage, name).await?;
    if set.is_some_and(|set| set.members.iter().any(|member| member.id == *account)) {
        return Ok(true);
    }
    Ok(library_changes::touches(storage, name, account).await?)
}

/// Whether the set, or a change of it under way, has the account that was made under this unique name.
pub(super) async fn made(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    made_as: &str,
) -> Result<bool, Error> {
    let is_it = |member: &Member| member.made_as.as_deref() == Some(made_as);
    let set = engine.library_sets.get(storage, name).await?;
    if set.is_some_and(|set| set.members.iter().any(is_it)) {
        return Ok(true);
    }
    Ok(library_changes::touched(storage, name).await?.iter().any(is_it))
}

/// The library sets that name this project.
pub(super) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for name in engine.library_sets.names(storage).await? {
        if engine.library_sets.get(storage, &name).await?.is_some_and(|set| set.project == project) {
            found.push(format!("library set {name}"));
        }
    }
    Ok(found)
}

/// OpenAI's ids of the projects that library sets give, or that their accounts are in: what a project's name points at
/// may have changed.
pub(super) async fn raw_projects(engine: &Engine, storage: &dyn Storage) -> Result<Vec<ProjectId>, Error> {
    let mut found = Vec::new();
    for name in engine.library_sets.names(storage).await? {
        let Some(set) = engine.library_sets.get(storage, &name).await? else { continue };
        found.extend(set.project_id.clone());
        found.extend(set.members.iter().map(|member| member.project_id.clone()));
    }
    Ok(found)
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.library_sets.get(&**call.storage(), &call.get(&NAME)?).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let set = engine.library_sets.get(&**call.storage(), &call.get(&NAME)?).await?;
    Ok(set.map(|set| Response::new(set.view())))
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let mut entries = Vec::new();
    for name in engine.library_sets.names(storage).await? {
        let set = engine.library_sets.get_readable(storage, &name).await?;
        entries.push((name, set.map(|set| set.info()).unwrap_or_default()));
    }
    Ok(Some(Response::list(entries)))
}
