//! `roles/:name`: the settings of dynamic credentials, and the fields of roles with access tokens, which `federation/`
//! stores.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::engine::accounts::claims;
use crate::engine::config::clients::Configured;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::config::{checks, clients, key_records, metadata, named_projects, project_fields};
use crate::engine::creds::caller::Caller;
use crate::engine::creds::live::OfRole;
use crate::engine::creds::role::Role;
use crate::engine::creds::{inventory, live, scopes};
use crate::engine::federation::role;
use crate::engine::federation::role::{FederatedRole, Settings};
use crate::engine::federation::role_writes;
use crate::engine::federation::role_writes::{RoleWrite, SentAccount};
use crate::engine::naming::names;
use crate::engine::naming::template::Template;
use crate::engine::telemetry::events::EventKind;
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Kind, Name, Path, ResponseField};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};
use crate::openai::{FederationRuleId, ProjectId, ServiceAccountId};

/// The type of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CredentialType {
    ApiKey,
    AccessToken,
}

impl CredentialType {
    /// The value of `credential_type`.
    const fn word(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::AccessToken => "access_token",
        }
    }
}

static NAME: Field<Name> = Field::new("name", "Name of the role.");
static TEMPLATE: Field<String> = Field::new(
    "service_account_name_template",
    "Template of the service account's name, with {{.RoleName}}, {{.RandomSuffix}}, {{.ProjectName}}, \
    {{.DisplayName}} of the reader's token, {{.EntityName}} and the functions of Vault's username templates.",
)
.default(names::DEFAULT_TEMPLATE)
.longest(Template::MAX_LENGTH);
static DESCRIPTION: Field<String> =
    Field::new("service_account_description", "Description of the accounts. It stays in Vault.")
        .default("Service account created by Vault");
static TTL: Field<Duration> =
    Field::new(
        "ttl",
        "Lifetime of a credential; 0 for the mount's default. With credential_type=access_token: 15m by default, at most 1h.",
    )
    .default(3_600)
    .nullable();
static MAX_TTL: Field<Duration> =
    Field::new("max_ttl", "Longest ttl that a reader may ask for; 0 for the mount's maximum.")
        .default(86_400);
const NO_SCOPES: &[&str] = &[];
static SCOPES: Field<Vec<String>> = Field::new(
    "scopes",
    "OpenAI permissions that keys are restricted to, such as api.model.read,api.responses.write; see \
    https://help.openai.com/en/articles/8867743-assign-api-key-permissions. A write warns of scopes that \
    OpenAI's documents do not name. OpenAI refuses unknown scopes when a credential is read. Empty: all \
    permissions of a service account.",
)
.default(NO_SCOPES)
.distinct();
static ACCOUNT: Field<String> = Field::new(
    "service_account_id",
    "Existing account of the project on which keys are created, instead of a new account for each. The end \
    of a lease deletes only the key. The admin key's owner, accounts of library sets, and accounts that a \
    static role created are refused. With credential_type=access_token: the account that tokens act as, which nothing \
    else here may use; without it Vault creates one for the role.",
)
.default("");
static CREDENTIAL_TYPE: Field<String> = Field::new(
    "credential_type",
    "api_key: each read creates a key. access_token: each read answers a token that OpenAI gives for a signed identity \
    token; no key exists. It cannot be changed.",
)
.default(CredentialType::ApiKey.word())
.allowed(&[CredentialType::ApiKey.word(), CredentialType::AccessToken.word()]);
static ENABLED: Field<bool> = Field::new(
    "enabled",
    "With credential_type=access_token: false stops the role here and disables its federation rule at OpenAI.",
)
.default(true);

static FORCE: Field<bool> = Field::new(
    "force",
    "With credential_type=access_token: delete the role even if its rule or its account cannot be deleted at OpenAI. The \
    answer names what is left.",
)
.default(false)
.query()
.only_on(Operation::Delete);

const HELP: Help = Help {
    synopsis: "Manage a role for dynamic credentials.",
    description: "\
Each read of creds/<role> creates a service account with a key in the role's project. With service_account_id it creates a \
key on that account. The key ends with its lease, and expires at OpenAI soon after.

A read shows in live_credentials how many credentials of the role are live. Deletion of the role ends none of them, and \
warns how many there are.

With credential_type=access_token a read answers an access token instead, and no key exists. It needs config/federation. \
The role has its own service account and its own federation rule at OpenAI. enabled=false stops the role at once.

    $ vault write openai/roles/app project=research ttl=1h max_ttl=24h
    $ vault write openai/roles/agent project=research credential_type=access_token ttl=15m",
};

const LIST_HELP: Help = Help {
    synopsis: "List the roles by their names.",
    description: "\
Answers each name with its project, times and number of live credentials.

    $ vault list -detailed openai/roles",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("project", "Name of the project."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project, if the role gives it."),
    ResponseField::new::<String>("service_account_name_template", "Template of the account's name."),
    ResponseField::new::<String>("service_account_description", "Description of the accounts."),
    ResponseField::new::<Duration>("ttl", "Lifetime of a credential, in seconds."),
    ResponseField::new::<Duration>("max_ttl", "Longest lifetime that a reader may ask for, in seconds."),
    ResponseField::new::<Vec<String>>("scopes", "OpenAI permissions that keys are restricted to."),
    ResponseField::new::<String>("service_account_id", "Existing account on which keys are created."),
    metadata::ANSWER,
    ResponseField::new::<i64>("live_credentials", "Number of credentials that have not ended."),
    ResponseField::new::<String>("credential_type", "api_key or access_token."),
    ResponseField::new::<bool>("enabled", "With access_token: false if the role is stopped."),
    ResponseField::new::<String>(
        "current_service_account_id",
        "With access_token: OpenAI's id of the account that tokens act as, given or created.",
    ),
    ResponseField::new::<String>("subject", "With access_token: the sub that the rule at OpenAI demands."),
    ResponseField::new::<String>(
        "federation_rule_id",
        "With access_token: OpenAI's id of the federation rule; empty by hand, or before OpenAI has it.",
    ),
    ResponseField::new::<String>(
        "last_error",
        "With access_token: reason of the last failed change at OpenAI; empty without one.",
    ),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        metadata::all(project_fields::all(Path::new("roles/:name", HELP).field(&NAME)))
            .noun("a role")
            .field(&TEMPLATE)
            .field(&DESCRIPTION)
            .field(&TTL)
            .field(&MAX_TTL)
            .field(&SCOPES)
            .field(&ACCOUNT)
            .field(&CREDENTIAL_TYPE)
            .field(&ENABLED)
            .field(&FORCE)
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
        data([
            ("project", self.project.as_str().into()),
            ("project_id", self.project_id.as_ref().map_or("", ProjectId::as_str).into()),
            ("service_account_name_template", self.service_account_name_template.as_str().into()),
            ("service_account_description", self.service_account_description.as_str().into()),
            ("ttl", self.ttl.as_secs().into()),
            ("max_ttl", self.max_ttl.as_secs().into()),
            ("scopes", self.scopes.clone().into()),
            (
                "service_account_id",
                self.service_account_id.as_ref().map_or("", ServiceAccountId::as_str).into(),
            ),
            ("metadata", metadata::shown(&self.metadata)),
            ("credential_type", CredentialType::ApiKey.word().into()),
        ])
    }

    fn info(&self) -> Data {
        let mut info = self.view();
        info.retain(|name, _| {
            matches!(name.as_str(), "project" | "project_id" | "ttl" | "max_ttl" | "credential_type")
        });
        info
    }

    /// The role after the call. Fields that the call does not send keep their values.
    fn changed_by(call: &Call, old: Option<&Self>) -> Result<Self, Error> {
        let before = old.map(Self::named_project);
        let NamedProject { project, project_id } = project_fields::named(call, before.as_ref())?;
        let account = match call.sent(&ACCOUNT)? {
            Some(sent) => checks::optional(&sent, ACCOUNT.name())?,
            None => old.and_then(|old| old.service_account_id.clone()),
        };
        Ok(Self {
            project,
            project_id,
            service_account_name_template: call
                .updated(&TEMPLATE, old.map(|old| &old.service_account_name_template))?,
            service_account_description: call
                .updated(&DESCRIPTION, old.map(|old| &old.service_account_description))?,
            ttl: call.updated(&TTL, old.map(|old| &old.ttl).filter(|_| !call.takes_away(&TTL)))?,
            max_ttl: call.updated(&MAX_TTL, old.map(|old| &old.max_ttl))?,
            scopes: match call.sent(&SCOPES)? {
                Some(sent) => scopes::check(sent)?,
                None => old.map(|old| old.scopes.clone()).unwrap_or_default(),
            },
            metadata: metadata::changed_by(call, old.map(|old| &old.metadata))?,
            service_account_id: account,
            account_name: None,
            template: OnceLock::new(),
        })
    }

    /// Warnings about times that exceed the mount's maximum.
    fn mount_warnings(&self, limit: Duration) -> Vec<String> {
        let times = [("ttl", self.ttl), ("max_ttl", self.max_ttl)];
        times
            .into_iter()
            .filter_map(|(field, time)| checks::warn_above_mount_limit(field, time, limit))
            .collect()
    }
}

/// A warning that the ledger is not read yet, as after a start of the plugin.
fn warn_of_count(is_complete: bool) -> Option<String> {
    (!is_complete).then(|| {
        "live_credentials may be too low: after a start the active node counts the credentials within some minutes, and \
         a standby counts none"
            .to_owned()
    })
}

/// A warning that credentials of a deleted role go on living.
fn warn_of_live(live: &OfRole, name: &str, mount_point: &str) -> Option<String> {
    let until = live.until.map(rfc3339::text)?;
    Some(format!(
        "role {name} is deleted and has {} live credentials, which work until their leases end, the last at {until}; to \
         end them now, run `vault lease revoke -prefix {mount_point}creds/{name}`",
        live.count
    ))
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    Ok(engine.creds.roles.get(storage, &name).await?.is_some()
        || engine.federation.roles.get(storage, &name).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    if let Some(role) = engine.creds.roles.get(storage, &name).await? {
        let is_complete = live::is_complete(&engine, storage).await;
        let mut view = role.view();
        let live = engine.creds.live.of_role(&name, engine.now());
        view.insert("live_credentials".to_owned(), live.count.into());
        let warnings = warn_of_count(is_complete).into_iter().collect();
        return Ok(Some(Response { warnings, ..Response::new(view) }));
    }
    let role = engine.federation.roles.get(storage, &name).await?;
    Ok(role.map(|role| Response::new(view_federated(&role))))
}

fn view_federated(role: &FederatedRole) -> Data {
    let settings = &role.settings;
    let id = |id: Option<&str>| Value::from(id.unwrap_or_default());
    let rule = role.managed.as_ref().and_then(|managed| managed.rule_id.as_ref());
    data([
        ("credential_type", Value::from(CredentialType::AccessToken.word())),
        ("project", settings.project.as_str().into()),
        ("project_id", id(settings.project_id.as_ref().map(ProjectId::as_str))),
        ("ttl", settings.ttl.as_secs().into()),
        ("scopes", settings.scopes.clone().into()),
        ("enabled", settings.enabled.into()),
        ("service_account_id", id(role.given_account_id.as_ref().map(ServiceAccountId::as_str))),
        ("current_service_account_id", id(role.account().map(ServiceAccountId::as_str))),
        ("subject", role.subject.as_str().into()),
        ("federation_rule_id", id(rule.map(FederationRuleId::as_str))),
        ("metadata", metadata::shown(&settings.metadata)),
        ("last_error", id(role.retry.last_error.as_deref())),
    ])
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = engine.locks.lock(&role::lock(&name)).await;
    let old = engine.creds.roles.get(storage, &name).await?;
    // The storage of the other type is read only where the name may be of that type.
    let federated = match old {
        Some(_) => None,
        None => engine.federation.roles.latest(storage, &name).await?,
    };
    let stands = federated.as_ref().filter(|federated| federated.deleted.is_none());
    call.patches(old.is_some() || stands.is_some(), || format!("role {:?}", &*name))?;
    let before = match (&old, stands) {
        (Some(_), _) => Some(CredentialType::ApiKey),
        (None, Some(_)) => Some(CredentialType::AccessToken),
        (None, None) => None,
    };
    let wanted = credential_type(&call, before)?;
    let warnings = match wanted {
        CredentialType::ApiKey => {
            refuse_sent(&call, wanted, &ENABLED)?;
            if federated.is_some() {
                return Err(Error::field(format!(
                    "an earlier role {:?} with credential_type=access_token is being deleted: try again in some minutes",
                    &*name
                )));
            }
            write_role(&engine, &call, &name, old.as_deref()).await?
        }
        CredentialType::AccessToken => {
            refuse_sent(&call, wanted, &TEMPLATE)?;
            refuse_sent(&call, wanted, &DESCRIPTION)?;
            refuse_sent(&call, wanted, &MAX_TTL)?;
            let write = federated_write(&call, &name, stands.map(|role| &role.settings))?;
            let (metadata, path) = (write.metadata.clone(), format!("roles/{name}"));
            let warnings = role_writes::write(&engine, storage, write, federated).await?;
            engine.events.emit_with(EventKind::RoleWrite, &path, &metadata);
            warnings
        }
    };
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// The type of the role: as sent, else as before, else by default. It cannot be changed.
fn credential_type(call: &Call, before: Option<CredentialType>) -> Result<CredentialType, Error> {
    let Some(sent) = call.sent(&CREDENTIAL_TYPE)?.filter(|sent| !sent.is_empty()) else {
        return Ok(before.unwrap_or(CredentialType::ApiKey));
    };
    if let Some(before) = before.map(CredentialType::word).filter(|before| *before != sent) {
        return Err(Error::field(format!(
            "credential_type cannot be changed from {before} to {sent}: delete the role and write it anew"
        )));
    }
    checks::word(&sent, &CREDENTIAL_TYPE)
}

/// Refuses a field that the type of role does not have. Its default is no matter: a form sends every default.
fn refuse_sent<T: Kind + PartialEq>(
    call: &Call,
    kind: CredentialType,
    field: &Field<T>,
) -> Result<(), Error> {
    match call.sent(field)? {
        Some(sent) if field.default_typed().as_ref() != Some(&sent) => {
            let (name, kind) = (field.name(), kind.word());
            Err(Error::field(format!("{name} does not apply to a role with credential_type={kind}: omit it")))
        }
        _ => Ok(()),
    }
}

fn federated_write(call: &Call, name: &str, old: Option<&Settings>) -> Result<RoleWrite, Error> {
    let before = old.map(Settings::named_project);
    let account = match call.sent(&ACCOUNT)? {
        None => SentAccount::Not,
        Some(sent) => checks::optional(&sent, ACCOUNT.name())?.map_or(SentAccount::Empty, SentAccount::Given),
    };
    Ok(RoleWrite {
        name: name.to_owned(),
        project: project_fields::named(call, before.as_ref())?,
        account,
        scopes: call.sent(&SCOPES)?.map(scopes::check).transpose()?,
        // The field's own default is that of a role of keys.
        ttl: if call.takes_away(&TTL) { Some(role_writes::DEFAULT_TTL) } else { call.sent(&TTL)? },
        enabled: call.sent(&ENABLED)?,
        metadata: metadata::changed_by(call, old.map(|old| &old.metadata))?,
    })
}

/// Writes a role of dynamic credentials and answers warnings.
async fn write_role(
    engine: &Engine,
    call: &Call,
    name: &Name,
    old: Option<&Role>,
) -> Result<Vec<String>, Error> {
    let storage = &**call.storage();
    let mut role = Role::changed_by(call, old)?;
    checks::ttls(role.ttl, role.longest_ttl())?;
    // Checks the template.
    role.new_name(&engine.tag, name, &Caller::example(), "")?;
    role.account_name = check_at_openai(engine, storage, &role, old).await?;
    let mut warnings = role.mount_warnings(engine.system.max_lease_ttl().await?);
    warnings.extend(scopes::warn_of_unknown(&role.scopes));

    let _no_deletion = engine.locks.lock(&named_projects::users_lock(&role.project)).await;
    let before = old.map(Role::named_project);
    project_fields::written_project(engine, storage, &role.named_project(), before.as_ref()).await?;
    put(engine, storage, name, &role, old).await?;
    engine.events.emit_with(EventKind::RoleWrite, &format!("roles/{name}"), &role.metadata);
    Ok(warnings)
}

/// Stores the role, unless a library set or static role has claimed the account meanwhile.
async fn put(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &Role,
    old: Option<&Role>,
) -> Result<(), Error> {
    let new_account = role.service_account_id.as_ref();
    let new_account =
        new_account.filter(|id| old.and_then(|old| old.service_account_id.as_ref()) != Some(*id));
    let Some(account) = new_account else { return Ok(engine.creds.roles.put(storage, name, role).await?) };
    let _no_claim = claims::lock(&engine.locks, account).await;
    inventory::check_for_role(engine, storage, account).await?;
    Ok(engine.creds.roles.put(storage, name, role).await?)
}

/// Checks that a changed project and a changed account exist at OpenAI. Returns the account's name.
async fn check_at_openai(
    engine: &Engine,
    storage: &dyn Storage,
    role: &Role,
    old: Option<&Role>,
) -> Result<Option<String>, Error> {
    let (named, before) = (role.named_project(), old.map(Role::named_project));
    let project = project_fields::written_project(engine, storage, &named, before.as_ref()).await?;
    let is_moved = before.is_none_or(|before| before != named);
    // A named project was checked when it was written.
    if is_moved && named.project.is_empty() {
        named_projects::check(&clients::configured(engine, storage).await?.client, &project).await?;
    }
    let Some(account) = &role.service_account_id else { return Ok(None) };
    let same = old.filter(|old| !is_moved && old.service_account_id.as_ref() == Some(account));
    if let Some(name) = same.and_then(|old| old.account_name.clone()) {
        return Ok(Some(name));
    }
    let Configured { config, client } = clients::configured(engine, storage).await?;
    let found = key_records::check_account(&config, &client, ACCOUNT.name(), &project, account).await?;
    inventory::check_not_of_credentials(engine, storage, ACCOUNT.name(), &[&found.name]).await?;
    Ok(Some(found.name))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = engine.locks.lock(&role::lock(&name)).await;
    let federated = engine.federation.roles.latest(storage, &name).await;
    let (was_there, warnings): (bool, Vec<String>) = match federated {
        // Nobody can tell what a record that cannot be read was about.
        Err(error @ StorageError::Malformed { .. }) => {
            engine.federation.roles.delete(storage, &name).await?;
            (
                true,
                vec![format!(
                    "{error}; the record is removed: look at OpenAI for the role's rule and account"
                )],
            )
        }
        Err(error) => return Err(error.into()),
        Ok(Some(federated)) => {
            let force = call.get(&FORCE)?;
            let warning = role_writes::delete(&engine, storage, &name, &federated, force).await?;
            (federated.deleted.is_none(), warning.into_iter().collect())
        }
        Ok(None) => {
            let was_there = match engine.creds.roles.latest(storage, &name).await {
                Err(StorageError::Malformed { .. }) => true,
                role => role?.is_some(),
            };
            engine.creds.roles.delete(storage, &name).await?;
            let live = engine.creds.live.of_role(&name, engine.now());
            let warning = warn_of_live(&live, &name, &call.request.mount_point);
            let is_complete = !was_there || live::is_complete(&engine, storage).await;
            (was_there, warning.into_iter().chain(warn_of_count(is_complete)).collect())
        }
    };
    if was_there {
        engine.events.emit(EventKind::RoleDelete, &format!("roles/{name}"));
    }
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let is_complete = live::is_complete(&engine, storage).await;
    let mut roles = engine.creds.roles.listed(storage, Role::info).await?;
    for (name, info) in &mut roles {
        info.insert(
            "live_credentials".to_owned(),
            engine.creds.live.of_role(name, engine.now()).count.into(),
        );
    }
    let counted = !roles.is_empty();
    roles.extend(engine.federation.roles.listed(storage, info_federated).await?);
    roles.sort_by(|(one, _), (other, _)| one.cmp(other));
    let warnings = warn_of_count(is_complete).filter(|_| counted).into_iter().collect();
    Ok(Some(Response { warnings, ..Response::list(roles) }))
}

fn info_federated(role: &FederatedRole) -> Data {
    let mut info = view_federated(role);
    info.retain(|name, _| !matches!(name.as_str(), "scopes" | "subject" | "federation_rule_id"));
    info
}
