//! The triggers of an admin key rotation: `config/rotate`, `config/rotate-admin-key`, `admin-key-rotation`, Vault's
//! rotation manager and the tick. `admin_rotation` does the rotation, `admin_schedule` plans automatic ones.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::Instant;

use crate::engine::accounts::kind::{Kind, Mount, Pending, Turn};
use crate::engine::accounts::owner::Owner;
use crate::engine::config::admin_reconcile::Which;
use crate::engine::config::admin_rotation::{NEW_KEY, NEW_KEY_ID, Rotated, Rotation};
use crate::engine::config::configuration::{Config, LOCK, ONLY};
use crate::engine::config::{admin_reconcile, admin_schedule, checks, configuration};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Operation, Request, Response, Storage, StorageError};
use crate::openai::{AdminKey, AdminKeyId};

/// Maximum duration of a request. Vault gives up after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Maximum duration of a rotation by the tick, which has other calls to OpenAI to make.
const MAX_TICK_WAIT: Duration = Duration::from_secs(25);
const ROTATION_OFF: &str = "automated rotation of the admin key is off: config has disable_automated_rotation set, or \
                            neither automatic_rotation_period nor rotation_schedule";
const DONE: &str = "Admin API key has been rotated.";

static KEY: Field<String> =
    Field::new(NEW_KEY, "The key to use from now on. Default: a new key is created.").sensitive();
static KEY_ID: Field<String> =
    Field::new(NEW_KEY_ID, "OpenAI's id of that key. Default: found by the key's redacted value.");

const ROTATE_HELP: Help = Help {
    synopsis: "Rotate the admin key.",
    description: "\
Creates a new admin key with the current one, tries it, stores it, and deletes the old one. Nobody ever sees the new key.

    $ vault write -f openai/config/rotate",
};

const REPLACE_HELP: Help = Help {
    synopsis: "Replace the admin key by a given key, or rotate it.",
    description: "\
With new_admin_api_key: tries that key, stores it, and deletes the old key at OpenAI if its id is known. Without: the \
same as config/rotate.

    $ vault write openai/config/rotate-admin-key new_admin_api_key=sk-admin-...",
};

const RUN_HELP: Help = Help {
    synopsis: "Run the automatic rotation of the admin key now.",
    description: "\
Runs the automatic rotation, also if none is set or if it is disabled.

    $ vault write -f openai/admin-key-rotation",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("message", "A sentence that says what was done."),
    ResponseField::new::<String>("admin_api_key_id", "OpenAI's id of the new key, where it is known."),
    ResponseField::new::<String>("last_rotated", "Time of the rotation."),
];
const RUN_ANSWER: &[ResponseField] = &[ResponseField::new::<bool>("success", "true: the key was rotated.")];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("config/rotate", ROTATE_HELP)
            .also("config/rotate-root")
            .on(Operation::Update, rotate)
            .responds(Operation::Update, ANSWER),
        Path::new("config/rotate-admin-key", REPLACE_HELP)
            .field(&KEY)
            .field(&KEY_ID)
            .on(Operation::Update, rotate_or_replace)
            .responds(Operation::Update, ANSWER),
        Path::new("admin-key-rotation", RUN_HELP)
            .on(Operation::Update, run)
            .responds(Operation::Update, RUN_ANSWER),
    ]
}

async fn rotate(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    Ok(Some(rotate_now(&engine, &**call.storage()).await?.answer()))
}

async fn rotate_or_replace(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let Some(key) = call.sent(&KEY)?.filter(|key| !key.is_empty()) else {
        return rotate(engine, call).await;
    };
    let key = AdminKey::parse(key).map_err(|error| Error::field(format!("{NEW_KEY}: {error}")))?;
    let id = checks::optional(&call.sent(&KEY_ID)?.unwrap_or_default(), NEW_KEY_ID)?;
    let _alone = engine.locks.lock(LOCK).await;
    let rotation = Rotation::new(&engine, &**call.storage(), Instant::now() + MAX_WAIT);
    Ok(Some(rotation.replace(key, id).await?.answer()))
}

async fn run(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let warnings = rotate_now(&engine, &**call.storage()).await?.warnings;
    Ok(Some(Response { warnings, ..Response::of([("success", Value::from(true))]) }))
}

/// Rotates for Vault's rotation manager, which calls for a job that the Go plugin registered. Refused if the operator
/// disabled the automatic rotation.
pub(in crate::engine) async fn rotate_for_vault(engine: Arc<Engine>, request: Request) -> Result<(), Error> {
    let storage = &*request.storage;
    let _alone = engine.locks.lock(LOCK).await;
    let config = configuration::stored_config(&engine, storage).await?.ok_or(Error::NotConfigured)?;
    if !config.rotation_job {
        // The Go plugin's job outlived a configuration that was deleted by force.
        let mut with_job = Config { rotation_job: true, ..(*config).clone() };
        if let Err(error) = configuration::end_rotation_job(&engine, &mut with_job).await {
            tracing::warn!(%error, "the Go plugin's rotation job could not be removed from Vault");
        }
    }
    if config.disable_automated_rotation || config.schedule()?.is_none() {
        return Err(Error::field(ROTATION_OFF));
    }
    Rotation::new(&engine, storage, Instant::now() + MAX_WAIT).rotate().await.map(drop)
}

async fn rotate_now(engine: &Engine, storage: &dyn Storage) -> Result<Rotated, Error> {
    let _alone = engine.locks.lock(LOCK).await;
    Rotation::new(engine, storage, Instant::now() + MAX_WAIT).rotate().await
}

/// The configuration with its admin keys, as the worker knows it. Each tick reads the one record, so it needs no marker.
#[derive(Debug)]
pub(in crate::engine) struct Configuration;

#[async_trait]
impl Kind for Configuration {
    fn always(&self) -> Option<Owner> {
        Some(Owner::Config)
    }

    async fn all(&self, _: &dyn Storage) -> Result<Vec<Owner>, StorageError> {
        Ok(vec![Owner::Config])
    }

    fn lock(&self, _: &Owner) -> String {
        LOCK.to_owned()
    }

    /// Rotates what is due, except in the mount's last tick. Deletes old keys that still stand, and looks for keys that
    /// were being made.
    async fn reconcile(&self, turn: &Turn<'_>, _: &Owner) -> Result<Option<DateTime<Utc>>, Error> {
        let (engine, storage) = (turn.engine, turn.storage());
        let deadline = turn.deadline().min(Instant::now() + MAX_TICK_WAIT);
        let Some(config) = configuration::stored_config(engine, storage).await? else { return Ok(None) };
        let ended = admin_reconcile::reconcile(engine, storage, &config, deadline, Which::Due).await;
        if !turn.is_over() && !turn.is_last && admin_schedule::is_due(&config, &engine.times)? {
            Rotation::new(engine, storage, deadline).rotate().await?;
        }
        ended.map(|()| None)
    }

    async fn pending(&self, mount: Mount<'_>, owner: &Owner) -> Result<Vec<Pending>, Error> {
        let Mount { engine, storage } = mount;
        let Some(config) = engine.config.stored.get(storage, ONLY).await? else { return Ok(Vec::new()) };
        let now = engine.now();
        let replaced = config.keys.ending.iter().map(|old| {
            let since = old.replaced.unwrap_or(config.last_rotated).min(now);
            let deletion = Pending::deletion(old.id.as_str(), Some(owner), since, &old.retry);
            Pending { api_key_id: old.id.to_string(), ..deletion }
        });
        let mut pending: Vec<_> =
            replaced.chain(Pending::look_ups(owner, &config.keys.making, now)).collect();
        // A timetable that cannot be read hides nothing else.
        let overdue = admin_schedule::overdue_since(&config, now).ok().flatten();
        pending.extend(overdue.map(|since| Pending::rotation(owner, since, &config.keys.retry)));
        Ok(pending)
    }

    async fn end_now(&self, mount: Mount<'_>, _: &Owner, max_wait: Duration) -> Result<(), Error> {
        let Mount { engine, storage } = mount;
        let Some(config) = configuration::stored_config(engine, storage).await? else {
            return Err(Error::NotConfigured);
        };
        let deadline = Instant::now() + max_wait;
        admin_reconcile::reconcile(engine, storage, &config, deadline, Which::All).await
    }
}

impl Rotated {
    fn answer(self) -> Response {
        let id = self.config.admin_api_key_id.as_ref().map_or("", AdminKeyId::as_str);
        let answer = Response::of([
            ("message", Value::from(DONE)),
            ("admin_api_key_id", id.into()),
            ("last_rotated", rfc3339::text(self.config.last_rotated).into()),
        ]);
        Response { warnings: self.warnings, ..answer }
    }
}
