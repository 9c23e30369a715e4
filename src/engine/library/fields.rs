//! What a library set is told: its fields, how a write changes the set, and what is refused.

use std::time::Duration;

use super::sets::LibrarySet;
use crate::engine::{Engine, Error, checks};
use crate::framework::{Call, Field, Name, Path};

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

/// Has the path take the fields.
pub(super) fn all(path: Path<Engine>) -> Path<Engine> {
    path.field(&NAME)
        .field(&PROJECT)
        .field(&PROJECT_ID)
        .field(&ACCOUNTS)
        .field(&TTL)
        .field(&MAX_TTL)
        .field(&DESCRIPTION)
        .field(&UNENFORCED)
}

impl LibrarySet {
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
}
