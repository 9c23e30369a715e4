//! What a library set is told: its fields, how a write changes the set, and what is refused.

use std::collections::HashSet;
use std::time::Duration;

use super::sets::LibrarySet;
use crate::engine::config::checks;
use crate::engine::config::project_fields;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Name, Path};
use crate::logical::Operation;

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
/// No name at OpenAI comes near this.
const LONGEST_NAME: usize = 256;
/// The longest name that Vault gives.
const LONGEST_MADE: usize = 64;

pub(super) static NAME: Field<Name> = Field::new("name", "Name of the library set.");
pub(super) static ACCOUNTS: Field<Vec<String>> = Field::new(
    "service_account_names",
    "Names of the accounts to lend, at most 1000. Those that the project has are adopted, the others are made.",
)
.required();
static CREATE_MISSING: Field<bool> = Field::new(
    "create_missing",
    "Make an account for each name that the project has none of. If false, such a name is refused.",
)
.default(true);
pub(super) static FORCE: Field<bool> = Field::new(
    "force",
    "On deletion: leave accounts where they are that cannot be deleted, since the configuration names another \
     organization or somebody else has keys on them.",
)
.default(false)
.query()
.only_on(Operation::Delete);
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
    project_fields::all(path.field(&NAME))
        .field(&ACCOUNTS)
        .field(&TTL)
        .field(&MAX_TTL)
        .field(&DESCRIPTION)
        .field(&UNENFORCED)
        .field(&CREATE_MISSING)
        .field(&FORCE)
}

/// The account names that a call sends; lists of more than 1000 elements never come here. Each name is looked at once.
pub(super) fn names(call: &Call) -> Result<Option<Vec<String>>, Error> {
    let Some(names) = call.sent(&ACCOUNTS)? else { return Ok(None) };
    let refuse = |what: String| Err(Error::field(format!("service_account_names {what}")));
    if names.is_empty() {
        return refuse("must name at least one account; to end the set, delete it".to_owned());
    }
    let mut seen = HashSet::new();
    for name in &names {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return refuse(format!(
                "must be names of 1 to {LONGEST_NAME} printable characters, not {name:?}"
            ));
        }
        if !seen.insert(name) {
            return refuse(format!("must not repeat a name: {name:?}"));
        }
    }
    Ok(Some(names))
}

/// Refuses a name that Vault does not give: an account that has it can be adopted, but none is made.
pub(super) fn refuse_unfit(names: &[&str]) -> Result<(), Error> {
    let is_fit = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        name.len() <= LONGEST_MADE && name.bytes().all(fits)
    };
    match names.iter().find(|name| !is_fit(name)) {
        Some(name) => Err(Error::field(format!(
            "service_account_names: the project has no account of this name, and the name of an account that is made \
             must be up to {LONGEST_MADE} letters, digits, _ and -, not {name:?}"
        ))),
        None => Ok(()),
    }
}

impl LibrarySet {
    /// A set that does not exist yet, and that readers do not see: what is required must be there, the rest has its
    /// default.
    pub(super) fn first(call: &Call) -> Result<Self, Error> {
        let max_ttl = call.get(&MAX_TTL)?;
        Ok(Self { ttl: DEFAULT_TTL.min(max_ttl), max_ttl, ..Self::tombstone() })
    }

    /// Puts what the call sends over what is there; the accounts are not settled yet.
    pub(super) fn change(&mut self, call: &Call) -> Result<(), Error> {
        let NamedProject { project, project_id } = project_fields::named(call, Some(&self.named_project()))?;
        (self.project, self.project_id) = (project, project_id);
        self.ttl = call.sent(&TTL)?.unwrap_or(self.ttl);
        self.max_ttl = call.sent(&MAX_TTL)?.unwrap_or(self.max_ttl);
        self.description = call.sent(&DESCRIPTION)?.unwrap_or_else(|| self.description.clone());
        self.disable_check_in_enforcement =
            call.sent(&UNENFORCED)?.unwrap_or(self.disable_check_in_enforcement);
        self.create_missing = call.sent(&CREATE_MISSING)?.unwrap_or(self.create_missing);
        self.check()
    }

    fn check(&self) -> Result<(), Error> {
        if self.ttl.is_zero() {
            return Err(Error::field("ttl and max_ttl must be at least 1s"));
        }
        checks::ttls(self.ttl, self.max_ttl)
    }
}
