//! The path `config`. `config_fields` has the fields, `configuration` the record, and `admin_key` the rotation.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::accounts::kind::Mount;
use crate::engine::config::check::{self, MayWrite};
use crate::engine::config::config_fields::FORCE;
use crate::engine::config::configuration::{Config, LOCK, ONLY};
use crate::engine::config::{admin_reconcile, admin_schedule, config_fields, configuration, key_records};
use crate::engine::telemetry::events::EventKind;
use crate::engine::time::rfc3339;
use crate::engine::{DEPENDENTS, Engine, Error, fingerprint};
use crate::framework::{Call, Help, Path, ResponseField, show};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};
use crate::openai::{AdminKeyRecord, Urgency};

/// Maximum time that a write waits for OpenAI.
const MAX_WAIT: Duration = Duration::from_secs(30);

const HELP: Help = Help {
    synopsis: "Configure the admin key, the organization, rotation and the call rate.",
    description: "\
The first write needs admin_api_key and organization_id. A later write changes only the fields that it sends. The key and \
the organization are tried at OpenAI before they are stored. A key that is sent unchanged is tried again, unless the \
plugin has seen OpenAI accept it. A key that a rotation has replaced is refused. A read shows every field except the key.

api_endpoint, ca_cert and client_cert decide who receives the key, so they change only together with admin_api_key. A period and a \
schedule exclude each other: the one that is sent switches the other off.

Deletion is refused while static roles, library sets with created accounts, credentials or check-outs still need an end at \
OpenAI: nothing could end them without the configuration. Replaced admin keys are deleted first. With force=true the \
configuration is deleted nevertheless. Keys of static roles then live for ever, and other keys until their own end. \
Afterwards the mount can be disabled only after `vault lease revoke -force -prefix openai/`.

    $ vault write openai/config admin_api_key=sk-admin-... organization_id=org-123456
    $ vault write openai/config automatic_rotation_period=30d
    $ vault read openai/config",
};

/// The fields of a read's answer besides the settings.
const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>(
        "admin_api_key_fingerprint",
        "First 16 hexadecimal digits of the admin key's SHA-256, by which two keys can be compared.",
    ),
    ResponseField::new::<String>(
        "admin_api_key_expires_at",
        "Time at which the admin key expires at OpenAI; empty for never, or where that is not known.",
    ),
    ResponseField::new::<String>("last_rotated", "Time at which the admin key was last set or rotated."),
    ResponseField::new::<String>("next_rotation", "Time of the admin key's next rotation; empty for never."),
    ResponseField::new::<i64>("rotation_failures", "Number of failed rotations since the last success."),
    ResponseField::new::<String>(
        "last_rotation_error",
        "Reason of the last failed rotation; empty without a failure.",
    ),
    ResponseField::new::<Vec<String>>(
        "retiring_admin_api_key_ids",
        "Replaced admin keys that still have to be deleted at OpenAI.",
    ),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        check::path(),
        config_fields::all(Path::new("config", HELP))
            .noun("the configuration")
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
    ]
}

impl Config {
    fn view(&self, now: DateTime<Utc>) -> Result<Data, Error> {
        let time = |time: Option<DateTime<Utc>>| time.map(rfc3339::text).unwrap_or_default();
        let keys = &self.keys;
        let mut view = show(&config_fields::SHOWN, self);
        view.extend(data([
            ("admin_api_key_fingerprint", fingerprint::text(self.admin_api_key.expose()).into()),
            ("admin_api_key_expires_at", time(self.admin_key_expires_at).into()),
            ("last_rotated", rfc3339::text(self.last_rotated).into()),
            ("next_rotation", time(admin_schedule::next(self, now)?).into()),
            ("rotation_failures", keys.retry.failures.into()),
            ("last_rotation_error", keys.retry.last_error.as_deref().unwrap_or_default().into()),
            ("retiring_admin_api_key_ids", keys.ending_ids().into()),
        ]));
        Ok(view)
    }
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.config.stored.get(&**call.storage(), ONLY).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let config = engine.config.stored.get(&**call.storage(), ONLY).await?;
    let Some(config) = config else { return Ok(None) };
    Ok(Some(Response::new(config.view(engine.now())?)))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, now) = (&**call.storage(), engine.now());
    let _alone = engine.locks.lock(LOCK).await;
    let old = configuration::stored_config(&engine, storage).await?;
    call.patches(old.is_some(), || "configuration".to_owned())?;
    let mut config = match old.as_deref() {
        Some(old) => old.clone(),
        None => Config::first(&call, now)?,
    };
    config.change(&call, now)?;
    config.check(&call, old.as_deref())?;
    let status = engine.config.clients.openai_status();
    let changed = old.as_deref().is_none_or(|old| !old.reaches_like(&config));
    // An unchanged key is tried again, unless the last calls show that OpenAI accepts it.
    let doubtful = config_fields::sends_key(&call)? && status.outcomes().is_key_doubtful();
    let (unknown, record) =
        if changed || doubtful { prove(&engine, &mut config).await? } else { (None, None) };
    if old.as_deref() != Some(&config) {
        configuration::store_config(&engine, storage, &mut config).await?;
        engine.events.emit(EventKind::ConfigWrite, "config");
    }
    if changed || (doubtful && config.verify_connection) {
        status.key_stored(config.verify_connection);
    }
    let left = match old.as_deref().filter(|old| old.organization_id != config.organization_id) {
        // The write has succeeded, so a failure of this check is ignored.
        Some(old) => DEPENDENTS
            .warn_of_leaving(Mount { engine: &engine, storage }, &old.organization_id)
            .await
            .unwrap_or_default(),
        None => None,
    };
    let managed = key_records::warn_of_managed_owner(&engine, storage, record.as_ref()).await;
    let warnings = [
        unknown,
        managed,
        left,
        warn_of_expiry(&config, now)?,
        config.warn_of_retiring(),
        config.warn_of_margin(),
        config.warn_of_rotation_job(),
    ];
    let warnings: Vec<String> = warnings.into_iter().flatten().collect();
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// Tries key and organization, and finds the key's id. Returns a warning if the id stays unknown, and the key's record.
async fn prove(
    engine: &Engine,
    config: &mut Config,
) -> Result<(Option<String>, Option<AdminKeyRecord>), Error> {
    // The client is made even without a trial, so that invalid certificates are refused now.
    let client = engine.config.clients.on_trial(config)?.for_work(Urgency::Check, MAX_WAIT);
    if !config.verify_connection {
        return Ok((None, None));
    }
    let found = match &config.admin_api_key_id {
        Some(id) => {
            Some(key_records::check_id(&client, "admin_api_key_id", id, &config.admin_api_key).await?)
        }
        None => client.find_admin_key(&config.admin_api_key).await.map_err(Error::Validation)?,
    };
    if let MayWrite::No(error) = check::may_write(&client).await {
        return Err(Error::ReadOnlyKey(error));
    }
    config.admin_api_key_id = found.as_ref().map(|record| record.id.clone());
    config.admin_key_expires_at = found.as_ref().and_then(|record| record.expires_at);
    let unknown = found.is_none().then(|| {
        "OpenAI's list of admin keys does not show which one this is; give admin_api_key_id, or rotation cannot \
         delete the key"
            .to_owned()
    });
    Ok((unknown, found))
}

/// A warning that no rotation replaces the admin key before it expires, which would lock Vault out.
fn warn_of_expiry(config: &Config, now: DateTime<Utc>) -> Result<Option<String>, Error> {
    let Some(end) = config.admin_key_expires_at else { return Ok(None) };
    let is_replaced = admin_schedule::next(config, now)?.is_some_and(|next| next < end);
    Ok((!is_replaced).then(|| {
        format!(
            "the admin key expires at OpenAI at {}, and no rotation replaces it before: set automatic_rotation_period or \
             rotation_schedule, or write another key in time",
            rfc3339::text(end)
        )
    }))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, force) = (call.storage(), call.get(&FORCE)?);
    let _alone = engine.locks.lock(LOCK).await;
    let left = match configuration::stored_config(&engine, &**storage).await {
        Ok(None) => return Ok(None),
        Ok(Some(config)) => {
            let left = delete_dependents(&engine, storage, &config).await;
            left.and(end_rotation_job(&engine, &config).await)
        }
        Err(error) => Err(error),
    };
    let warning = match left {
        Ok(()) => None,
        // An unreadable configuration can only be deleted.
        Err(error @ Error::Storage(StorageError::Malformed { .. })) => Some(error.to_string()),
        Err(error) if force => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    engine.config.stored.delete(&**storage, ONLY).await?;
    engine.config.clients.forget();
    engine.events.emit(EventKind::ConfigDelete, "config");
    let mount_point = &call.request.mount_point;
    let warning = warning.map(|warning| format!("{warning}. {}", disabling(mount_point)));
    Ok(warning.map(|warning| Response::default().with_warning(warning)))
}

/// Removes the Go plugin's rotation job, whose rotations would fail without a configuration.
async fn end_rotation_job(engine: &Engine, config: &Config) -> Result<(), Error> {
    configuration::end_rotation_job(engine, &mut config.clone()).await.map_err(|error| {
        Error::field(format!(
            "the rotation job that the Go plugin registered at Vault could not be removed: {error}; try again, or \
             delete with force=true"
        ))
    })
}

/// Instructions for disabling the mount without a configuration.
fn disabling(mount_point: &str) -> String {
    format!(
        "Without a configuration no lease of this mount can be revoked: write the configuration again, or, to disable the \
         mount, run `vault lease revoke -force -prefix {mount_point}` first and delete the remaining keys at OpenAI"
    )
}

/// Deletes replaced admin keys, and refuses if other keys or accounts remain. Nothing could delete them later.
async fn delete_dependents(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    config: &Config,
) -> Result<(), Error> {
    let unended = DEPENDENTS.refuse_deletion(Mount { engine, storage: &**storage }, config).await;
    admin_reconcile::delete_all(engine, &**storage, config).await.and(unended)
}
