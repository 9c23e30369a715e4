//! `roles/:name`: how dynamic credentials are made.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::events::Happening;
use super::names::{MountTag, ServiceAccountName};
use super::template::{Template, Values};
use super::{Engine, Error, checks, named_projects, names, predecessor};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Collection, Data, Operation, Record, Response, Storage};
use crate::openai::{ProjectId, ServiceAccountId};

/// How dynamic credentials of one role are made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    /// The project's name in Vault; empty if the role gives the raw id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the role gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The template of the account's name.
    pub service_account_name_template: String,
    /// For people; OpenAI has no place for it.
    #[serde(default)]
    pub service_account_description: String,
    /// How long a credential lives if the reader does not say.
    #[serde(with = "super::seconds")]
    pub ttl: Duration,
    /// The longest a reader may ask for.
    #[serde(with = "super::seconds")]
    pub max_ttl: Duration,
    /// What the key is narrowed to; empty leaves it as OpenAI makes it.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The account that keys are made on, instead of a new account each.
    #[serde(default)]
    pub service_account_id: Option<ServiceAccountId>,
    /// The template as it was read, made at first use.
    #[serde(skip)]
    template: OnceLock<Arc<Template>>,
}

impl Record for Role {
    const VERSION: u32 = 1;
    fn adopt(entry: Value) -> Result<Value, serde_json::Error> {
        predecessor::role(entry)
    }
}

pub(super) static ROLES: Collection<Role> = Collection::new("role/").formerly(predecessor::ROLES);

static NAME: Field<Name> = Field::new("name", "Name of the role.");
static PROJECT: Field<String> =
    Field::new("project", "Name of the project, as written to project/. This or project_id is required.")
        .default("");
static PROJECT_ID: Field<String> =
    Field::new("project_id", "OpenAI's id of the project, where it has no name in Vault.").default("");
static TEMPLATE: Field<String> = Field::new(
    "service_account_name_template",
    "Template of the service account's name. Knows {{.RoleName}}, {{.RandomSuffix}} and {{.ProjectName}}, and the \
     functions of Vault's username templates.",
)
.default(names::DEFAULT_TEMPLATE)
.longest(Template::MAX_LENGTH);
static DESCRIPTION: Field<String> =
    Field::new("service_account_description", "What the accounts are for. It stays in Vault.")
        .default("Service account created by Vault");
static TTL: Field<Duration> = Field::new("ttl", "How long a credential lives.").default(3_600);
static MAX_TTL: Field<Duration> =
    Field::new("max_ttl", "The longest ttl a reader may ask for.").default(86_400);
const NO_SCOPES: &[&str] = &[];
static SCOPES: Field<Vec<String>> = Field::new(
    "scopes",
    "What the key may do, such as api.model.read. Empty: all that OpenAI gives an account.",
)
.default(NO_SCOPES)
.distinct();
static ACCOUNT: Field<String> = Field::new(
    "service_account_id",
    "Make keys on this account of the project instead of a new account each; only the key goes when it ends.",
)
.default("");

const HELP: Help = Help {
    synopsis: "Manage a role: how dynamic credentials are made, and how long they live.",
    description: "\
Each read of creds/<role> makes a service account with a key in the role's project, or, with service_account_id, \
a key on that account. The key ends with its lease, and by itself at OpenAI soon after.

    $ vault write openai/roles/app project=research ttl=1h max_ttl=24h",
};

const LIST_HELP: Help = Help {
    synopsis: "List the roles by their names.",
    description: "\
Answers the names, and of each its project and times.

    $ vault list -detailed openai/roles",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("project", "Name of the project."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project, if the role gives it."),
    ResponseField::new::<String>("service_account_name_template", "Template of the account's name."),
    ResponseField::new::<String>("service_account_description", "What the accounts are for."),
    ResponseField::new::<Duration>("ttl", "How long a credential lives, in seconds."),
    ResponseField::new::<Duration>("max_ttl", "The longest it may be asked to live, in seconds."),
    ResponseField::new::<Vec<String>>("scopes", "What keys are narrowed to."),
    ResponseField::new::<String>("service_account_id", "The account that keys are made on."),
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("roles/:name", HELP)
            .noun("a role")
            .field(&NAME)
            .field(&PROJECT)
            .field(&PROJECT_ID)
            .field(&TEMPLATE)
            .field(&DESCRIPTION)
            .field(&TTL)
            .field(&MAX_TTL)
            .field(&SCOPES)
            .field(&ACCOUNT)
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("roles/", LIST_HELP).on(Operation::List, list),
    ]
}

impl Role {
    fn view(&self) -> Data {
        Data::from_iter([
            ("project".to_owned(), Value::from(self.project.as_str())),
            ("project_id".to_owned(), Value::from(self.project_id.as_ref().map_or("", ProjectId::as_str))),
            ("service_account_name_template".to_owned(), self.service_account_name_template.as_str().into()),
            ("service_account_description".to_owned(), self.service_account_description.as_str().into()),
            ("ttl".to_owned(), self.ttl.as_secs().into()),
            ("max_ttl".to_owned(), self.max_ttl.as_secs().into()),
            ("scopes".to_owned(), self.scopes.clone().into()),
            (
                "service_account_id".to_owned(),
                self.service_account_id.as_ref().map_or("", ServiceAccountId::as_str).into(),
            ),
        ])
    }

    fn info(&self) -> Data {
        let mut info = self.view();
        info.retain(|name, _| matches!(name.as_str(), "project" | "project_id" | "ttl" | "max_ttl"));
        info
    }

    /// The role as the call leaves it; what the call does not send stays.
    fn changed_by(call: &Call, old: Option<&Self>) -> Result<Self, Error> {
        let (project, project_id) = projects_named(call, old)?;
        let account = match call.sent(&ACCOUNT)? {
            Some(sent) => checks::optional(&sent, ACCOUNT.name())?,
            None => old.and_then(|old| old.service_account_id.clone()),
        };
        Ok(Self {
            project,
            project_id: checks::optional(&project_id, PROJECT_ID.name())?,
            service_account_name_template: call
                .updated(&TEMPLATE, old.map(|old| &old.service_account_name_template))?,
            service_account_description: call
                .updated(&DESCRIPTION, old.map(|old| &old.service_account_description))?,
            ttl: call.updated(&TTL, old.map(|old| &old.ttl))?,
            max_ttl: call.updated(&MAX_TTL, old.map(|old| &old.max_ttl))?,
            scopes: call.sent(&SCOPES)?.or_else(|| old.map(|old| old.scopes.clone())).unwrap_or_default(),
            service_account_id: account,
            template: OnceLock::new(),
        })
    }

    /// Whether both are of one project, as far as the roles tell.
    fn is_in_project_of(&self, other: &Self) -> bool {
        (&self.project, &self.project_id) == (&other.project, &other.project_id)
    }

    /// A new unique name for what the role makes.
    pub(super) fn new_name(&self, tag: &MountTag, role_name: &str) -> Result<String, Error> {
        let refused = |error: &dyn Display| Error::field(format!("service_account_name_template: {error}"));
        let template = if let Some(template) = self.template.get() {
            template
        } else {
            let read =
                Template::parse(&self.service_account_name_template).map_err(|error| refused(&error))?;
            self.template.get_or_init(|| Arc::new(read))
        };
        let values = Values { role_name, project_name: &self.project };
        let name = ServiceAccountName::new(template, &values, tag, Utc::now(), &mut rand::rng());
        Ok(name.map_err(|error| refused(&error))?.into())
    }

    fn check(&self) -> Result<(), Error> {
        checks::one_project(&self.project, self.project_id.as_ref())?;
        if self.ttl.is_zero() {
            return Err(Error::field("ttl must be at least 1s"));
        }
        checks::ttls(self.ttl, self.max_ttl)
    }
}

/// The project's name and id as the call leaves them: sending one of them alone puts it in the other's place.
fn projects_named(call: &Call, old: Option<&Role>) -> Result<(String, String), Error> {
    match (call.sent(&PROJECT)?, call.sent(&PROJECT_ID)?) {
        (None, None) => {
            let id = old.and_then(|old| old.project_id.as_ref()).map_or("", ProjectId::as_str);
            Ok((old.map_or_else(String::new, |old| old.project.clone()), id.to_owned()))
        }
        (project, id) => Ok((project.unwrap_or_default(), id.unwrap_or_default())),
    }
}

/// The roles that name this project.
pub(super) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let named = engine.roles.all(storage).await?.into_iter().filter(|(_, role)| role.project == project);
    Ok(named.map(|(name, _)| format!("role {name}")).collect())
}

/// OpenAI's ids of the projects that roles give without a name.
pub(super) async fn raw_projects(engine: &Engine, storage: &dyn Storage) -> Result<Vec<ProjectId>, Error> {
    let roles = engine.roles.all(storage).await?;
    Ok(roles.into_iter().filter_map(|(_, role)| role.project_id.clone()).collect())
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.roles.get(&**call.storage(), &call.get(&NAME)?).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let role = engine.roles.get(&**call.storage(), &call.get(&NAME)?).await?;
    Ok(role.map(|role| Response::new(role.view())))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = engine.locks.lock(&format!("role/{name}")).await;
    let old = engine.roles.get(storage, &name).await?;
    call.patches(old.is_some(), || format!("role {:?}", &*name))?;
    let role = Role::changed_by(&call, old.as_deref())?;
    role.check()?;
    role.new_name(&engine.tag, &name)?;
    check_account(&engine, storage, &role, old.as_deref()).await?;

    let _no_deletion = engine.locks.lock(&named_projects::users_lock(&role.project)).await;
    engine.project_id(storage, &role.project, role.project_id.as_ref()).await?;
    engine.roles.put(storage, &name, &role).await?;
    engine.tell(Happening::RoleWrite, &format!("roles/{name}"));
    Ok(None)
}

/// An account that keys shall be made on must be there.
async fn check_account(
    engine: &Engine,
    storage: &dyn Storage,
    role: &Role,
    old: Option<&Role>,
) -> Result<(), Error> {
    let Some(account) = &role.service_account_id else { return Ok(()) };
    if old.is_some_and(|old| old.service_account_id.as_ref() == Some(account) && old.is_in_project_of(role)) {
        return Ok(());
    }
    let project = engine.project_id(storage, &role.project, role.project_id.as_ref()).await?;
    let client = engine.configured(storage).await?.client;
    match client.expecting_recent().service_account(&project, account).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_gone() => Err(Error::field(format!(
            "service_account_id must name an account of project {project}: {error}"
        ))),
        Err(error) => Err(Error::call("checking the service account at OpenAI")(error)),
    }
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let name = call.get(&NAME)?;
    engine.roles.delete(&**call.storage(), &name).await?;
    engine.tell(Happening::RoleDelete, &format!("roles/{name}"));
    Ok(None)
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    Ok(Some(engine.roles.list(&**call.storage(), Role::info).await?))
}
