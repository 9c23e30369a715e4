//! A new admin key takes the place of the present one, step by step.
//!
//! *Guarantees:* at every moment the stored key works. It is replaced only by one that was proven, in one write that
//! also names the old key as still to be deleted; only then is the old key deleted, with the new one. A crash
//! - before the write leaves a write-ahead entry with the new key's unique name, by which the sweep deletes it;
//! - after the write leaves the old key's id in `retiring`, which the tick works off (`retiring_keys`).
//!
//! A write whose outcome is not known undoes nothing: what storage then says decides. No two of these run at once
//! (the configuration's lock), and whoever waits for a turn at OpenAI meanwhile takes the new key.
//!
//! *Assumptions:* what OpenAI makes carries the name it was given; a rotation does not outlive the age from which its entry is swept.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::{Instant, sleep};

use super::clients::Configured;
use super::configuration::Config;
use super::events::Happening;
use super::failpoint::failpoint;
use super::metrics::{RotationKind, RotationResult};
use super::names::ServiceAccountName;
use super::retiring_keys::{self, CREATION, Creation};
use super::{Engine, Error, issuer, key_records};
use crate::framework::Pending;
use crate::logical::Storage;
use crate::openai::{self, AdminKey, AdminKeyId, Client, CreatedAdminKey, Urgency};

/// A new key may take a moment to work everywhere at OpenAI.
const PROOF_PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PROOF_WAIT: Duration = Duration::from_millis(250);

/// The names of what is made begin with this, so that it is told from other people's admin keys.
const FRONT: &str = "vault-admin";

/// The fields that an operator's key comes in.
pub(super) const NEW_KEY: &str = "new_admin_api_key";
pub(super) const NEW_KEY_ID: &str = "new_admin_api_key_id";

/// One rotation, under the configuration's lock.
pub(super) struct Rotation<'a> {
    engine: &'a Engine,
    storage: &'a Arc<dyn Storage>,
    deadline: Instant,
}

/// A key that was tried and may be stored.
struct Proven {
    key: AdminKey,
    id: Option<AdminKeyId>,
    /// The name we gave it, if we made it.
    name: Option<String>,
}

/// The outcome: the configuration as it now is.
pub(super) struct Rotated {
    pub(super) config: Config,
    pub(super) warnings: Vec<String>,
}

/// A key about to be made, and its write-ahead entry.
struct Begun {
    creation: Creation,
    pending: Pending,
}

impl<'a> Rotation<'a> {
    /// A rotation by whoever holds the configuration's lock.
    pub(super) fn new(engine: &'a Engine, storage: &'a Arc<dyn Storage>, deadline: Instant) -> Self {
        Self { engine, storage, deadline }
    }

    /// The present configuration, and a client that has patience for as long as the rotation may take.
    async fn configured(&self) -> Result<(Config, Client), Error> {
        self.engine.stored_config(&**self.storage).await?.ok_or(Error::NotConfigured)?;
        let Configured { config, client } = self.engine.configured(&**self.storage).await?;
        Ok(((*config).clone(), client))
    }

    fn in_time(&self, client: &Client) -> Client {
        client.for_work(Urgency::Rotation, self.deadline.saturating_duration_since(Instant::now()))
    }

    /// The present key may have been made a moment ago, by another process as well.
    fn note_made(&self, config: &Config) {
        let id = config.admin_api_key_id.as_ref().map(AdminKeyId::as_str);
        self.engine.note_made(id.as_slice(), config.last_rotated);
    }

    /// Makes a new key and puts it in the place of the present one. A failure shows in the configuration.
    pub(super) async fn rotate(&self) -> Result<Rotated, Error> {
        let (config, client) = self.configured().await?;
        let outcome = self.make_and_store(config.clone(), &client).await;
        let result = if outcome.is_ok() { RotationResult::Done } else { RotationResult::Failed };
        self.engine.metrics.rotated(RotationKind::AdminKey, result);
        let happening = if outcome.is_ok() { Happening::RootRotate } else { Happening::RootRotateFail };
        self.engine.tell(happening, "config");
        if let Err(error) = &outcome {
            self.note_failure(config, error).await;
        }
        outcome
    }

    async fn make_and_store(&self, config: Config, client: &Client) -> Result<Rotated, Error> {
        self.note_made(&config);
        let old_id = key_records::own_id(&self.in_time(client), &config).await;
        let old_id = old_id.map_err(Error::call("looking up the admin key"))?.ok_or_else(id_unknown)?;
        let (made, pending) = self.make(&config, client).await?;
        let proven = Proven { key: made.value, id: Some(made.id), name: Some(pending.creation.name) };
        // If this fails the entry stays: whether the write came through is not known, and the sweep will see.
        let stored = self.store(config, proven, Some(old_id)).await;
        let config = stored.map_err(|error| Error::LeftBehind(Box::new(error)))?;
        failpoint!("admin.stored");
        issuer::forget(pending.pending).await;
        failpoint!("admin.committed");
        Ok(self.end_old(config).await)
    }

    /// Makes a key and tries it. What is no good is deleted again, or left to the sweep.
    async fn make(&self, config: &Config, client: &Client) -> Result<(CreatedAdminKey, Begun), Error> {
        let begun = self.begin(config).await?;
        failpoint!("admin.announced");
        let made = match self.in_time(client).create_admin_key(&begun.creation.name, None).await {
            Ok(made) => made,
            Err(error) => return Err(self.not_made(config, client, begun, error).await),
        };
        failpoint!("admin.made");
        match self.prove(client, &made).await {
            Ok(()) => Ok((made, begun)),
            Err(error) => Err(self.not_proven(client, &made, begun, error).await),
        }
    }

    async fn begin(&self, config: &Config) -> Result<Begun, Error> {
        let name = ServiceAccountName::beginning(FRONT, &self.engine.tag, &mut rand::rng());
        let organization_id = config.organization_id.clone();
        let creation = Creation { organization_id, name: name.into(), announced: Some(Utc::now()) };
        let pending = CREATION.begin(self.storage, &creation).await?;
        Ok(Begun { creation, pending })
    }

    async fn not_made(&self, config: &Config, client: &Client, begun: Begun, error: openai::Error) -> Error {
        let (unknown, refused) = (error.is_unknown_outcome(), error.status().is_some());
        let error = Error::call("making a new admin key")(error);
        if !unknown {
            // What was refused was not made; for an admin key the sweep makes sure of it. What was not sent is clear.
            if !refused {
                issuer::forget(begun.pending).await;
            }
            return error;
        }
        match retiring_keys::undo(&self.in_time(client), config, &begun.creation).await {
            Ok(true) => {
                issuer::forget(begun.pending).await;
                error
            }
            // Not found is no proof yet: the creation may still be under way at OpenAI. The sweep looks again.
            Ok(false) | Err(_) => Error::LeftBehind(Box::new(error)),
        }
    }

    async fn not_proven(&self, client: &Client, made: &CreatedAdminKey, begun: Begun, error: Error) -> Error {
        if retiring_keys::end(&self.in_time(client), &made.id).await.is_err() {
            return Error::LeftBehind(Box::new(error));
        }
        issuer::forget(begun.pending).await;
        error
    }

    /// Has the new key read its own record.
    async fn prove(&self, client: &Client, made: &CreatedAdminKey) -> Result<(), Error> {
        let deadline = self.deadline.min(Instant::now() + PROOF_PATIENCE);
        let client = self.engine.clients.with_key_on_trial(client, &made.value)?;
        let mut wait = FIRST_PROOF_WAIT;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            let tried = client.for_work(Urgency::Rotation, patience).admin_key(&made.id).await;
            match tried {
                Err(error) if is_young(&error) && Instant::now() + wait < deadline => sleep(wait).await,
                tried => return tried.map(drop).map_err(Error::call("trying the new admin key")),
            }
            wait *= 2;
        }
    }

    /// The one write by which the new key becomes the present one.
    async fn store(
        &self,
        mut config: Config,
        new: Proven,
        old_id: Option<AdminKeyId>,
    ) -> Result<Config, Error> {
        let old = std::mem::replace(&mut config.admin_api_key, new.key);
        let old_id = old_id.filter(|old| Some(old) != new.id.as_ref());
        config.history.retire(&old, old_id, &config.organization_id, config.last_rotated);
        config.history.name = new.name;
        config.admin_api_key_id = new.id;
        config.last_rotated = self.engine.now();
        self.engine.store_config(&**self.storage, &mut config).await?;
        self.engine.clients.pulse().key_stored(true);
        Ok(config)
    }

    /// Deletes the old key with the new one. It is replaced already, so this is no longer the caller's failure.
    async fn end_old(&self, config: Config) -> Rotated {
        let ended = retiring_keys::end_due(self.engine, &**self.storage, &config, self.deadline).await;
        let warnings = ended.err().map(|error| {
            format!("the old admin key could not be deleted yet, which is tried again every minute: {error}")
        });
        Rotated { config, warnings: warnings.into_iter().collect() }
    }

    /// Puts an operator's key in the place of the present one.
    pub(super) async fn replace(&self, key: AdminKey, id: Option<AdminKeyId>) -> Result<Rotated, Error> {
        let (config, client) = self.configured().await?;
        if key.expose() == config.admin_api_key.expose() {
            let warning = "this is the present admin key; nothing was changed".to_owned();
            return Ok(Rotated { config, warnings: vec![warning] });
        }
        config.refuse_retired(NEW_KEY, &key)?;
        let client = self.in_time(&self.engine.clients.with_key_on_trial(&client, &key)?);
        let record = match id {
            Some(id) => Some(key_records::check_id(&client, NEW_KEY_ID, &id, &key).await?),
            None => client.find_admin_key(&key).await.map_err(Error::Validation)?,
        };
        let managed = key_records::warn_of_managed_owner(self.engine, &**self.storage, record.as_ref()).await;
        let id = record.map(|record| record.id);
        self.note_made(&config);
        let old_id = key_records::own_id(&client, &config).await.map_err(Error::Validation)?;
        let warnings = warn_of_unknown(old_id.as_ref(), id.as_ref());
        let config = self.store(config, Proven { key, id, name: None }, old_id).await?;
        self.engine.metrics.rotated(RotationKind::AdminKey, RotationResult::Done);
        self.engine.tell(Happening::RootRotate, "config");
        let mut rotated = self.end_old(config).await;
        rotated.warnings.extend(warnings.into_iter().chain(managed));
        Ok(rotated)
    }

    /// A failure that cannot be stored either is told by the answer alone.
    async fn note_failure(&self, mut config: Config, error: &Error) {
        config.history.failed(error.to_string(), self.engine.now());
        let _ = self.engine.store_config(&**self.storage, &mut config).await;
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
                       still stands";
        warnings.push(warning.to_owned());
    }
    if new.is_none() {
        let warning = "OpenAI's list of admin keys does not show which one the new key is; give \
                       new_admin_api_key_id, or rotation cannot delete it";
        warnings.push(warning.to_owned());
    }
    warnings
}

/// A key that OpenAI does not know everywhere yet.
fn is_young(error: &openai::Error) -> bool {
    error.is_unauthorized() || error.is_gone()
}
