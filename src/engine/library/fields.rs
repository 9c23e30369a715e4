//! The fields of a library set: their declarations, their checks, and the changes by a write.

use std::collections::HashSet;
use std::time::Duration;

use super::sets::LibrarySet;
use crate::engine::config::project_fields::{NamedProject, PROJECT, PROJECT_ID};
use crate::engine::config::{checks, metadata, project_fields};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Name, Path, ResponseField, Shown};
use crate::logical::Operation;
use crate::openai::ProjectId;

const DEFAULT_TTL: Duration = Duration::from_secs(3_600);
/// Longest name of an adopted account. OpenAI's names are shorter.
const LONGEST_NAME: usize = 256;
/// Longest name of an account that Vault creates.
const LONGEST_MADE: usize = 64;

pub(super) static NAME: Field<Name> = Field::new("name", "Name of the library set.");
pub(super) static ACCOUNTS: Field<Vec<String>> = Field::new(
    "service_account_names",
    "Names of the accounts to lend, at most 1000. Accounts that the project has are adopted; the others \
    are created.",
)
.required();
static CREATE_MISSING: Field<bool> = Field::new(
    "create_missing",
    "Create an account for each name that the project does not have. If false, such a name is refused.",
)
.default(true);
pub(super) static FORCE: Field<bool> = Field::new(
    "force",
    "Delete the set even if some accounts cannot be deleted, because they belong to another organization \
    or have keys of others.",
)
.default(false)
.query()
.only_on(Operation::Delete);
static TTL: Field<Duration> =
    Field::new("ttl", "Default duration of a check-out: 1h, or max_ttl if shorter.");
static MAX_TTL: Field<Duration> =
    Field::new("max_ttl", "Longest duration of a check-out with its renewals.").default(86_400);
static DESCRIPTION: Field<String> = Field::new("description", "Description of the set.").default("");
static UNENFORCED: Field<bool> = Field::new(
    "disable_check_in_enforcement",
    "Let any caller check an account in. Otherwise only the entity or token that checked it out may.",
)
.default(false);

/// The settings in the answer of a read.
pub(super) const SHOWN: [Shown<LibrarySet>; 9] = [
    (ResponseField::of(&PROJECT), |set| set.project.as_str().into()),
    (ResponseField::of(&PROJECT_ID), |set| set.project_id.as_ref().map_or("", ProjectId::as_str).into()),
    (ResponseField::of(&ACCOUNTS), |set| set.members.iter().map(|member| member.name.as_str()).collect()),
    (ResponseField::of(&TTL), |set| set.ttl.as_secs().into()),
    (ResponseField::of(&MAX_TTL), |set| set.max_ttl.as_secs().into()),
    (ResponseField::of(&DESCRIPTION), |set| set.description.as_str().into()),
    (metadata::ANSWER, |set| metadata::shown(&set.metadata)),
    (ResponseField::of(&UNENFORCED), |set| set.disable_check_in_enforcement.into()),
    (ResponseField::of(&CREATE_MISSING), |set| set.create_missing.into()),
];

/// Adds the fields to the path.
pub(super) fn all(path: Path<Engine>) -> Path<Engine> {
    metadata::all(project_fields::all(path.field(&NAME)))
        .fields(&[&ACCOUNTS, &TTL, &MAX_TTL, &DESCRIPTION, &UNENFORCED, &CREATE_MISSING, &FORCE])
        .responds(Operation::Read, &SHOWN.map(|(field, _)| field))
}

/// The account names that a call sends. The framework refuses lists of more than 1000 elements.
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

/// Refuses a name that is not fit for a new account. Existing accounts with such names can be adopted.
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
    /// A new set with default settings. Readers do not see it yet.
    pub(super) fn first(call: &Call) -> Result<Self, Error> {
        let max_ttl = call.get(&MAX_TTL)?;
        Ok(Self { ttl: DEFAULT_TTL.min(max_ttl), max_ttl, ..Self::tombstone() })
    }

    /// Applies the sent settings. The accounts are not changed.
    pub(super) fn change(&mut self, call: &Call) -> Result<(), Error> {
        let NamedProject { project, project_id } = project_fields::named(call, Some(&self.named_project()))?;
        (self.project, self.project_id) = (project, project_id);
        self.ttl = call.sent(&TTL)?.unwrap_or(self.ttl);
        self.max_ttl = call.sent(&MAX_TTL)?.unwrap_or(self.max_ttl);
        self.description = call.sent(&DESCRIPTION)?.unwrap_or_else(|| self.description.clone());
        self.metadata = metadata::changed_by(call, Some(&self.metadata))?;
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
