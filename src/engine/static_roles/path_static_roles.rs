//! `static-roles/:name`: fields, answers, handlers.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::creation::{self, Given};
use super::record::{Current, Ending, STATIC_ROLES, StaticRole};
use super::rotate::{MAX_WAIT, Work};
use super::settings::{self, ACCOUNT, Settings};
use super::stored::{all, lock};
use super::{deletion, stored};
use crate::engine::config::clients::Configured;
use crate::engine::config::{checks, clients, named_projects, project_fields};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField, show};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};
use crate::openai::ServiceAccountId;

static NAME: Field<Name> = Field::new("name", "Name of the static role.");
static FORCE: Field<bool> = Field::new(
    "force",
    "Delete the static role even if its keys cannot be deleted at OpenAI. The answer names the keys and \
    accounts that are left.",
)
.default(false)
.query()
.only_on(Operation::Delete);
const HELP: Help = Help {
    synopsis: "Manage the key of a service account that stays, and rotate it.",
    description: "\
The first write creates a key on the account and deletes nothing there. static-creds/<role> answers the key, which is \
rotated by period, by schedule or by hand. With rotation_method=key (the default) the account stays. With \
rotation_method=account each rotation creates a new account. An account is in one static role or library set only.

Deletion deletes the role's keys. It also deletes the account, if a rotation created it and nobody else has a key on it. If \
OpenAI fails, the answer is an error and Vault retries by itself. force=true removes the role even if its keys cannot be \
deleted; the answer names the keys and accounts that are left at OpenAI.

With key_ttl each key expires at OpenAI by itself; some organizations demand it. Vault cannot rotate during an outage. An \
outage longer than key_ttl minus the time between rotations leaves readers with a dead key.

A replaced key works for grace_period longer, 10m by default, so that readers have time to read again. A rotation by \
hand ends it at once, unless grace_period was sent.

    $ vault write openai/static-roles/app service_account_id=svc_acct_123 project=research rotation_period=24h
    $ vault delete openai/static-roles/app",
};

const LIST_HELP: Help = Help {
    synopsis: "List the static roles.",
    description: "\
Answers each name with its project, account, times and number of failed rotations.

    $ vault list -detailed openai/static-roles",
};

/// The fields of a read's answer besides the settings.
const ANSWER: &[ResponseField] = &[
    ResponseField::new::<Duration>(
        "grace_period",
        "Time for which a key still works after a rotation by the timetable, in seconds.",
    ),
    ResponseField::new::<String>(
        "service_account_id",
        "OpenAI's id of the account that the role was written with.",
    ),
    ResponseField::new::<String>(
        "current_service_account_id",
        "OpenAI's id of the present account. It changes with a rotation if rotation_method=account.",
    ),
    ResponseField::new::<String>("service_account", "Name of the present account."),
    ResponseField::new::<String>("last_vault_rotation", "Time at which the key was created."),
    ResponseField::new::<String>(
        "last_used_at",
        "Time at which OpenAI last saw the key, as of the last list of keys that the plugin read; empty without one.",
    ),
    ResponseField::new::<String>(
        "next_vault_rotation",
        "Time of the next rotation, or since which it is due; empty if the key is rotated by hand only.",
    ),
    ResponseField::new::<i64>("rotation_failures", "Number of failed rotations since the last success."),
    ResponseField::new::<String>("last_rotation_error", "Reason of the last failed rotation."),
    ResponseField::new::<Data>(
        "grace_keys",
        "Replaced keys that are not deleted yet, by id: service_account_id, ends, last_error.",
    ),
    ResponseField::new::<bool>(
        "deleting",
        "True if the role was deleted and its keys still have to be deleted at OpenAI.",
    ),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        settings::fields(Path::new("static-roles/:name", HELP).field(&NAME).field(&ACCOUNT).field(&FORCE))
            .also("static-role/:name")
            .noun("a static role")
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("static-roles/", LIST_HELP).also("static-role/").on(Operation::List, list),
    ]
}

impl StaticRole {
    fn view(&self, name: &str, now: DateTime<Utc>) -> Result<Data, Error> {
        let next = self.next_rotation(name, now)?.map(rfc3339::text).unwrap_or_default();
        let shown =
            |what: fn(&Current) -> String| Value::from(self.current.as_ref().map(what).unwrap_or_default());
        let mut view = show(&settings::SHOWN, &self.settings);
        view.extend(data([
            ("grace_period", Value::from(self.settings.grace()?.as_secs())),
            ("service_account_id", self.given_account_id.as_str().into()),
            ("current_service_account_id", shown(|current| current.service_account_id.to_string())),
            ("service_account", shown(|current| current.service_account.clone())),
            ("last_vault_rotation", shown(|current| rfc3339::text(current.last_rotation))),
            ("next_vault_rotation", next.into()),
            ("rotation_failures", self.retry.failures.into()),
            ("last_rotation_error", self.retry.last_error.clone().unwrap_or_default().into()),
            ("grace_keys", data(self.ending.iter().map(Ending::view)).into()),
            ("deleting", (self.current.is_none() && !self.ending.is_empty()).into()),
        ]));
        Ok(view)
    }

    fn info(&self, name: &str, now: DateTime<Utc>) -> Result<Data, Error> {
        const SHOWN: [&str; 9] = [
            "project",
            "project_id",
            "service_account_id",
            "current_service_account_id",
            "rotation_period",
            "rotation_schedule",
            "last_vault_rotation",
            "next_vault_rotation",
            "rotation_failures",
        ];
        let mut info = self.view(name, now)?;
        info.retain(|name, _| SHOWN.contains(&name.as_str()));
        Ok(info)
    }
}

impl Ending {
    fn view(&self) -> (String, Value) {
        let view = json!({
            "service_account_id": self.service_account_id.as_str(),
            "ends": rfc3339::text(self.ends),
            "last_error": self.retry.last_error.as_deref().unwrap_or_default(),
        });
        (self.api_key_id.to_string(), view)
    }
}

async fn exists(_: Arc<Engine>, call: Call) -> Result<bool, Error> {
    match stored::get(&**call.storage(), &call.get(&NAME)?).await {
        Ok(role) => Ok(role.is_some_and(|role| role.current.is_some())),
        Err(StorageError::Malformed { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let name = call.get(&NAME)?;
    let role = stored::get(&**call.storage(), &name).await?;
    let Some(role) = role.filter(StaticRole::is_shown) else { return Ok(None) };
    let mut view = role.view(&name, engine.now())?;
    view.insert("last_used_at".to_owned(), last_use(&engine, &**call.storage(), &role).await.into());
    Ok(Some(Response::new(view)))
}

/// The time of the key's last use, from the last list of keys; empty without one.
async fn last_use(engine: &Engine, storage: &dyn Storage, role: &StaticRole) -> String {
    let (Some(current), Ok(configured)) = (&role.current, clients::configured(engine, storage).await) else {
        return String::new();
    };
    configured.client.last_use(&current.api_key_id).map(rfc3339::text).unwrap_or_default()
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let _alone = engine.locks.lock(&lock(&name)).await;
    let old = stored::get(storage, &name).await?;
    call.patches(old.as_ref().is_some_and(|old| old.current.is_some()), || {
        format!("static role {:?}", &*name)
    })?;
    let settings = match old {
        Some(old) if old.current.is_some() => update(&engine, &call, &name, old).await?,
        earlier => create(&engine, &call, &name, earlier).await?,
    };
    Ok(settings.warn_of_outages()?.map(|warning| Response::default().with_warning(warning)))
}

async fn create(
    engine: &Engine,
    call: &Call,
    name: &str,
    earlier: Option<StaticRole>,
) -> Result<Settings, Error> {
    let storage = &**call.storage();
    let settings = Settings::first(call)?;
    let account = checks::parsed(&call.get(&ACCOUNT)?, ACCOUNT.name())?;
    let project = project_fields::agreed_project(engine, storage, &settings.named_project()).await?;
    let Configured { config, client } = clients::configured(engine, storage).await?;
    let work = Work { engine, storage, name, client, max_wait: MAX_WAIT };
    let given = Given { organization: config.organization_id.clone(), project, account };
    creation::create(&work, settings.clone(), given, earlier).await?;
    Ok(settings)
}

/// Changes what is sent. The account, and with it the project at OpenAI, stays.
async fn update(engine: &Engine, call: &Call, name: &str, mut role: StaticRole) -> Result<Settings, Error> {
    let storage = &**call.storage();
    if let Some(sent) = call.sent(&ACCOUNT)? {
        take_account(&mut role, name, checks::parsed(&sent, ACCOUNT.name())?)?;
    }
    let settings = role.settings.changed_by(call)?;
    let _no_deletion = engine.locks.lock(&named_projects::users_lock(&settings.project)).await;
    if settings.named_project() != role.settings.named_project() {
        let project_id = project_fields::agreed_project(engine, storage, &settings.named_project()).await?;
        if project_id != role.account_project_id {
            return Err(Error::field(format!(
                "the project of a static role cannot be changed: its account is in {}; delete the role and write it \
                 anew",
                role.account_project_id
            )));
        }
    }
    role.settings = settings;
    // The changed settings may end the failures, so the next tick retries.
    role.retry.retry_now();
    stored::store_marked(storage, name, &role, engine.now()).await?;
    Ok(role.settings)
}

/// Accepts the account of an earlier write, and the current account. A read answers the id that was sent last, so that a
/// repeated write changes nothing.
fn take_account(role: &mut StaticRole, name: &str, sent: ServiceAccountId) -> Result<(), Error> {
    let present = &role.current(name)?.service_account_id;
    if sent == *present || sent == role.given_account_id {
        role.given_account_id = sent;
        return Ok(());
    }
    Err(Error::field(format!(
        "service_account_id cannot be changed from {present} to {sent}: delete the static role and write \
        it anew"
    )))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name, force) = (&**call.storage(), call.get(&NAME)?, call.get(&FORCE)?);
    let _alone = engine.locks.lock(&lock(&name)).await;
    let role = match stored::get(storage, &name).await {
        Err(error @ StorageError::Malformed { .. }) if force => {
            return remove_unreadable(storage, &name, &error).await.map(Some);
        }
        role => role?,
    };
    let Some(mut role) = role else { return Ok(None) };
    let client = clients::client_of(&engine, storage, &role.organization_id).await;
    let work =
        client.map(|client| Work { engine: &engine, storage, name: &name, client, max_wait: MAX_WAIT });
    if !force {
        let work = work?;
        deletion::begin(&engine, storage, &name, &mut role).await?;
        let left = deletion::finish(&work, &mut role).await?;
        return Ok(left.map(|left| Response::default().with_warning(left)));
    }
    deletion::begin(&engine, storage, &name, &mut role).await?;
    let left = deletion::finish_by_force(&engine, storage, &name, &mut role, work).await?;
    Ok(left.map(|left| Response::default().with_warning(left)))
}

/// Deletes an unreadable record. Its keys and accounts are unknown.
async fn remove_unreadable(
    storage: &dyn Storage,
    name: &str,
    error: &StorageError,
) -> Result<Response, Error> {
    STATIC_ROLES.delete(storage, name).await?;
    Ok(Response::default()
        .with_warning(format!("{error}; the record is removed: look at OpenAI for the keys that it named")))
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let mut entries = Vec::new();
    for (name, role) in all(&**call.storage()).await? {
        // An unreadable record does not hide others.
        let info = match StorageError::readable(role)? {
            Some(role) if !role.is_shown() => continue,
            Some(role) => role.info(&name, engine.now()).unwrap_or_default(),
            None => Data::new(),
        };
        entries.push((name, info));
    }
    Ok(Some(Response::list(entries)))
}
