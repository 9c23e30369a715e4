//! The rotation of the admin key.
//!
//! *Guarantees:* the stored key always works. Only a proven key replaces it, in one write that also lists the old key for
//! deletion. Only then is the old key deleted, with the new one. A crash
//! - before the write leaves the new key's unique name in `making`. The tick finds and deletes the key by that name;
//! - after the write leaves the old key's id in `ending`. The tick deletes the key (`admin_reconcile`).
//!
//! After a write with an unknown outcome nothing is undone at OpenAI: the next read of storage decides. The
//! configuration's lock excludes concurrent rotations, and calls in the rate limiter's queue use the new key.
//!
//! *Assumptions:* OpenAI stores the given name with a key. A rotation takes less time than the age from which the tick
//! looks for interrupted creations.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};

use crate::engine::accounts::making::Making;
use crate::engine::config::admin_reconcile::Which;
use crate::engine::config::check::{self, MayWrite};
use crate::engine::config::clients::Configured;
use crate::engine::config::configuration::Config;
use crate::engine::config::{admin_keys, admin_reconcile, clients, configuration, key_records};
use crate::engine::failpoint::failpoint;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::telemetry::events::EventKind;
use crate::engine::telemetry::metrics::{RotationKind, RotationResult};
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::{self, AdminKey, AdminKeyId, Client, CreatedAdminKey, Urgency};

/// Maximum time until a new key works everywhere at OpenAI.
const MAX_PROOF_WAIT: Duration = Duration::from_secs(20);
const FIRST_PROOF_DELAY: Duration = Duration::from_millis(250);

/// Prefix of the names of new keys, which distinguishes them from other admin keys.
const PREFIX: &str = "vault-admin";

/// The fields for an operator's key.
pub(in crate::engine) const NEW_KEY: &str = "new_admin_api_key";
pub(in crate::engine) const NEW_KEY_ID: &str = "new_admin_api_key_id";

/// One rotation, under the configuration's lock.
pub(in crate::engine) struct Rotation<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    deadline: Instant,
}

/// A tried key, which may be stored.
struct Proven {
    key: AdminKey,
    id: Option<AdminKeyId>,
    /// The key's name, if rotation made the key.
    name: Option<String>,
    /// Time at which the key expires at OpenAI; `None` for never.
    expires_at: Option<DateTime<Utc>>,
}

/// The result: the new configuration.
pub(in crate::engine) struct Rotated {
    pub(in crate::engine) config: Config,
    pub(in crate::engine) warnings: Vec<String>,
}

impl<'a> Rotation<'a> {
    /// A rotation. The caller holds the configuration's lock.
    pub(in crate::engine) fn new(engine: &'a Engine, storage: &'a dyn Storage, deadline: Instant) -> Self {
        Self { engine, storage, deadline }
    }

    /// The current configuration and its client.
    async fn configured(&self) -> Result<(Config, Client), Error> {
        configuration::stored_config(self.engine, self.storage).await?.ok_or(Error::NotConfigured)?;
        let Configured { config, client } = clients::configured(self.engine, self.storage).await?;
        Ok(((*config).clone(), client))
    }

    fn in_time(&self, client: &Client) -> Client {
        client.for_work(Urgency::Rotation, self.deadline.saturating_duration_since(Instant::now()))
    }

    /// Notes that the current key may be young, even if another process made it.
    fn note_made(&self, config: &Config) {
        let id = config.admin_api_key_id.as_ref().map(AdminKeyId::as_str);
        clients::note_made(self.engine, id.as_slice(), config.last_rotated);
    }

    /// Makes a new key and replaces the current one. A failure is stored in the configuration.
    pub(in crate::engine) async fn rotate(&self) -> Result<Rotated, Error> {
        let (mut config, client) = self.configured().await?;
        let outcome = self.make_and_store(&mut config, &client).await;
        let result = if outcome.is_ok() { RotationResult::Done } else { RotationResult::Failed };
        self.engine.metrics.rotated(RotationKind::AdminKey, result);
        let event_kind = if outcome.is_ok() { EventKind::RootRotate } else { EventKind::RootRotateFail };
        self.engine.events.emit(event_kind, "config");
        if let Err(error) = &outcome {
            self.note_failure(config, error).await;
        }
        outcome
    }

    async fn make_and_store(&self, config: &mut Config, client: &Client) -> Result<Rotated, Error> {
        self.note_made(config);
        let old = key_records::own_id(&self.in_time(client), config).await;
        let old = old.map_err(Error::call("looking up the admin key"))?.ok_or_else(id_unknown)?;
        // As configured, or else as long as the present one, if that expires.
        let lifetime = Some(config.admin_key_ttl).filter(|ttl| !ttl.is_zero()).or(old.lifetime);
        let old_id = old.id;
        let (made, name) = self.make(config, client, lifetime).await?;
        let proven = Proven {
            key: made.value,
            id: Some(made.id),
            name: Some(name),
            expires_at: made.expires_at.or_else(|| Some(self.engine.now() + lifetime?)),
        };
        // A failed write may have succeeded, so nothing is undone here. The tick reads storage and decides.
        let stored = self.store(config.clone(), proven, Some(old_id)).await;
        let config = stored.map_err(|error| Error::LeftBehind(Box::new(error)))?;
        failpoint!("admin.stored");
        Ok(self.delete_old(config).await)
    }

    /// Makes a key and tries it. A key that fails the trial is deleted here or by the tick.
    async fn make(
        &self,
        config: &mut Config,
        client: &Client,
        lifetime: Option<Duration>,
    ) -> Result<(CreatedAdminKey, String), Error> {
        let making = self.begin(config).await?;
        failpoint!("admin.announced");
        let made = match self.in_time(client).create_admin_key(&making.name, lifetime).await {
            Ok(made) => made,
            Err(error) => return Err(self.not_made(config, client, &making, error).await),
        };
        failpoint!("admin.made");
        match self.prove(client, &made).await {
            Ok(()) => Ok((made, making.name)),
            Err(error) => Err(self.not_proven(config, client, &made, &making, error).await),
        }
    }

    /// Stores the name of the new key before the call to OpenAI.
    async fn begin(&self, config: &mut Config) -> Result<Making, Error> {
        let name = ServiceAccountName::beginning(PREFIX, &self.engine.tag, &mut rand::rng());
        let (organization, now) = (&config.organization_id, self.engine.now());
        let making = config.keys.making.begin(name.into(), organization, None, None, now)?;
        configuration::store_config(self.engine, self.storage, config).await?;
        self.engine.accounts.first_seen.begin(&making.name);
        Ok(making)
    }

    /// Handles a failed creation. [`Rotation::note_failure`] stores the failure and the changed `making`.
    async fn not_made(
        &self,
        config: &mut Config,
        client: &Client,
        making: &Making,
        error: openai::Error,
    ) -> Error {
        let (unknown, refused) = (error.is_unknown_outcome(), error.status().is_some());
        let error = Error::call("making a new admin key")(error);
        if !unknown {
            // OpenAI did not make a refused key, and the tick verifies that. A request that was not sent needs no check.
            if !refused {
                config.keys.making.end(&making.name);
            }
            return error;
        }
        let undone =
            admin_reconcile::undo_found(self.engine, &self.in_time(client), config, making, self.deadline)
                .await;
        if matches!(undone, Ok(true)) {
            config.keys.making.end(&making.name);
            return error;
        }
        // The creation may still be running at OpenAI, so the tick looks again.
        Error::LeftBehind(Box::new(error))
    }

    async fn not_proven(
        &self,
        config: &mut Config,
        client: &Client,
        made: &CreatedAdminKey,
        making: &Making,
        error: Error,
    ) -> Error {
        if admin_reconcile::end(&self.in_time(client), &made.id).await.is_err() {
            return Error::LeftBehind(Box::new(error));
        }
        config.keys.making.end(&making.name);
        error
    }

    /// Tries the new key: it reads its own record.
    async fn prove(&self, client: &Client, made: &CreatedAdminKey) -> Result<(), Error> {
        let deadline = self.deadline.min(Instant::now() + MAX_PROOF_WAIT);
        let client = self.engine.config.clients.with_key_on_trial(client, &made.value)?;
        let mut wait = FIRST_PROOF_DELAY;
        loop {
            let time_left = deadline.saturating_duration_since(Instant::now());
            let tried = client.for_work(Urgency::Rotation, time_left).admin_key(&made.id).await;
            match tried {
                Err(error) if is_young(&error) && Instant::now() + wait < deadline => sleep(wait).await,
                tried => return tried.map(drop).map_err(Error::call("trying the new admin key")),
            }
            wait *= 2;
        }
    }

    /// Stores the new key as the current one, in one write.
    async fn store(
        &self,
        mut config: Config,
        new: Proven,
        old_id: Option<AdminKeyId>,
    ) -> Result<Config, Error> {
        let old = std::mem::replace(&mut config.admin_api_key, new.key);
        let old_id = old_id.filter(|old| Some(old) != new.id.as_ref());
        let now = self.engine.now();
        config.keys.retire(&old, old_id, &config.organization_id, config.last_rotated, now);
        if let Some(name) = &new.name {
            config.keys.making.end(name);
        }
        config.keys.name = new.name;
        config.admin_api_key_id = new.id;
        config.admin_key_expires_at = new.expires_at;
        config.last_rotated = now;
        configuration::store_config(self.engine, self.storage, &mut config).await?;
        self.engine.config.clients.openai_status().key_stored(true);
        Ok(config)
    }

    /// Deletes the old key with the new one. A failure is only a warning, because the old key is replaced already.
    async fn delete_old(&self, config: Config) -> Rotated {
        let storage = self.storage;
        let ended =
            admin_reconcile::reconcile(self.engine, storage, &config, self.deadline, Which::Due).await;
        let warnings = ended.err().map(|error| {
            format!("the old admin key could not be deleted yet, which Vault repeats at growing intervals: {error}")
        });
        Rotated { config, warnings: warnings.into_iter().collect() }
    }

    /// Replaces the current key by an operator's key.
    pub(in crate::engine) async fn replace(
        &self,
        key: AdminKey,
        id: Option<AdminKeyId>,
    ) -> Result<Rotated, Error> {
        let (config, client) = self.configured().await?;
        if key == config.admin_api_key {
            let warning = "this is the current admin key; nothing was changed".to_owned();
            return Ok(Rotated { config, warnings: vec![warning] });
        }
        config.refuse_retired(NEW_KEY, &key)?;
        let client = self.in_time(&self.engine.config.clients.with_key_on_trial(&client, &key)?);
        let record = match id {
            Some(id) => Some(key_records::check_id(&client, NEW_KEY_ID, &id, &key).await?),
            None => client.find_admin_key(&key).await.map_err(Error::Validation)?,
        };
        if let MayWrite::No(error) = check::may_write(&client).await {
            return Err(Error::ReadOnlyKey(error));
        }
        let managed = key_records::warn_of_managed_owner(self.engine, self.storage, record.as_ref()).await;
        let (id, expires_at) = record.map_or((None, None), |record| (Some(record.id), record.expires_at));
        self.note_made(&config);
        let old_id =
            key_records::own_id(&client, &config).await.map_err(Error::Validation)?.map(|old| old.id);
        let warnings = warn_of_unknown(old_id.as_ref(), id.as_ref());
        let config = self.store(config, Proven { key, id, name: None, expires_at }, old_id).await?;
        self.engine.metrics.rotated(RotationKind::AdminKey, RotationResult::Done);
        self.engine.events.emit(EventKind::RootRotate, "config");
        let mut rotated = self.delete_old(config).await;
        rotated.warnings.extend(warnings.into_iter().chain(managed));
        Ok(rotated)
    }

    /// Stores a failure. A failed storage write is not followed by another write, because the first may still succeed and
    /// must then not be overwritten.
    async fn note_failure(&self, mut config: Config, error: &Error) {
        if is_of_storage(error) {
            return;
        }
        let (now, period) = (self.engine.now(), config.automatic_rotation_period);
        config.keys.retry.failed(admin_keys::NAME, error, now, period);
        let _ = configuration::store_config(self.engine, self.storage, &mut config).await;
    }
}

fn is_of_storage(error: &Error) -> bool {
    match error {
        Error::LeftBehind(error) => is_of_storage(error),
        Error::Storage(StorageError::ReadOnly | StorageError::Failed(_)) => true,
        _ => false,
    }
}

fn id_unknown() -> Error {
    Error::field(
        "OpenAI's list of admin keys does not show which one is in use, so it could not be deleted after a rotation: \
         write its id to config as admin_api_key_id first",
    )
}

fn warn_of_unknown(old: Option<&AdminKeyId>, new: Option<&AdminKeyId>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() {
        let warning = "the old admin key was not found in OpenAI's list, so it was not deleted: delete it there if it \
                       still exists";
        warnings.push(warning.to_owned());
    }
    if new.is_none() {
        let warning = "OpenAI's list of admin keys does not show which one the new key is; give \
                       new_admin_api_key_id, or a later rotation cannot delete the key";
        warnings.push(warning.to_owned());
    }
    warnings
}

/// True if the error may mean that the key does not work everywhere at OpenAI yet.
fn is_young(error: &openai::Error) -> bool {
    error.is_unauthorized() || error.is_gone()
}
