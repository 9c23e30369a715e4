//! Admin keys that were replaced, or never came into use: they are deleted at OpenAI, sooner or later.
//!
//! *Guarantees:* the present key is never deleted, whatever a list or an entry says. A key is forgotten only when
//! OpenAI says that it is gone, under the key's own organization. A crash at any point repeats what was done last.
//!
//! *Assumptions:* the caller holds the configuration's lock, and the configuration is what storage says.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::configuration::{Config, LOCK};
use super::failpoint::{failpoint, shortened};
use super::key_history::Retiring;
use super::{Engine, Error, issuer};
use crate::framework::{Swept, WalKind};
use crate::logical::Storage;
use crate::openai::{self, AdminKeyId, Client, OrganizationId, PROPAGATION_TIME, Pages, Urgency};

/// As long as a sweep or a deletion of the configuration waits for its turn at OpenAI.
const PATIENCE: Duration = Duration::from_secs(10);
/// As long as a look through the organization's admin keys may take, as it holds the configuration's lock.
const LISTING: Duration = Duration::from_secs(30);
/// An entry younger than this may belong to a rotation still under way elsewhere, on a node that lost its leadership.
const SWEEP_AGE: Duration = Duration::from_secs(300);

/// The write-ahead entry of an admin key about to be made.
pub(super) static CREATION: WalKind<Creation> =
    WalKind::new("admin_key_creation", SWEEP_AGE).forgotten_after(issuer::FORGOTTEN_AFTER);

/// What is swept, and when.
pub(super) fn swept() -> WalKind<Creation> {
    CREATION.swept_from(shortened!("OPENAI_SWEEP_AGE", SWEEP_AGE))
}

/// An admin key about to be made. The configuration owns it once it names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Creation {
    /// The organization it is made in.
    pub organization_id: OrganizationId,
    /// Its unique name.
    pub name: String,
    /// When this was written; releases before did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<DateTime<Utc>>,
}

/// Deletes the old keys whose time to be tried has come. The error is the last of those that stay.
pub(super) async fn end_due(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
    deadline: Instant,
) -> Result<(), Error> {
    let now = engine.now();
    end_where(engine, storage, config, deadline, |old| !old.retry.waits(now)).await
}

/// Tries now to delete all old keys, for somebody who waits for it.
pub(super) async fn retry(engine: &Engine, storage: &dyn Storage, patience: Duration) -> Result<(), Error> {
    let _alone = engine.locks.lock(LOCK).await;
    let Some(config) = engine.stored_config(storage).await? else { return Err(Error::NotConfigured) };
    end_where(engine, storage, &config, Instant::now() + patience, |_| true).await
}

async fn end_where(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
    deadline: Instant,
    is_due: impl Fn(&Retiring) -> bool + Send,
) -> Result<(), Error> {
    if !config.history.retiring.iter().any(&is_due) {
        return Ok(());
    }
    let client = engine.configured(storage).await?.client;
    let (mut left, mut failure) = (Vec::new(), None);
    for old in &config.history.retiring {
        if !is_due(old) || Instant::now() >= deadline {
            left.push(old.clone());
            continue;
        }
        let patience = deadline.saturating_duration_since(Instant::now());
        let client = client.for_work(Urgency::Revocation, patience);
        engine.note_made(&[old.id.as_str()], old.made);
        if let Err(error) = end_one(&client, config, old).await {
            let mut old = old.clone();
            old.retry.failed(old.id.as_str(), &error, engine.now(), Duration::ZERO);
            left.push(old);
            failure = Some(error);
        }
    }
    let mut config = config.clone();
    config.history.retiring = left;
    failpoint!("admin.old_ended");
    engine.store_config(storage, &mut config).await?;
    failure.map_or(Ok(()), Err)
}

async fn end_one(client: &Client, config: &Config, old: &Retiring) -> Result<(), Error> {
    if config.admin_api_key_id.as_ref() == Some(&old.id) {
        return Ok(());
    }
    if config.organization_id != old.organization_id {
        return Err(Error::field(format!(
            "admin key {} belongs to organization {}, but config names {}: it cannot be deleted from there",
            old.id, old.organization_id, config.organization_id
        )));
    }
    end(client, &old.id).await.map_err(Error::call("deleting a replaced admin key"))
}

/// Deletes an admin key; that it is gone already is success.
pub(super) async fn end(client: &Client, id: &AdminKeyId) -> Result<(), openai::Error> {
    match client.delete_admin_key(id).await {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}

/// The configuration is to be deleted: nothing could delete what is left at OpenAI afterwards, so it goes first.
pub(super) async fn end_all(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    config: &Config,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    let ended = end_where(engine, &**storage, config, deadline, |_| true).await;
    let undone = undo_all(engine, storage, config).await;
    let Err(error) = ended.and(undone) else { return Ok(()) };
    let stored = engine.stored_config(&**storage).await?;
    let ids = stored.map(|config| config.history.retiring_ids()).unwrap_or_default();
    let which = if ids.is_empty() { "one that was being made".to_owned() } else { ids.join(", ") };
    Err(Error::field(format!(
        "admin keys that were replaced still stand at OpenAI ({which}): {error}. Nothing can delete them without the \
         configuration; delete it later, or with force=true and them by hand"
    )))
}

/// No creation goes on: its rotation would hold the lock.
async fn undo_all(engine: &Engine, storage: &Arc<dyn Storage>, config: &Config) -> Result<(), Error> {
    for (creation, pending) in CREATION.pending(storage).await? {
        let client = engine.client_of(&**storage, &creation.organization_id).await?;
        let client = client.for_work(Urgency::Revocation, PATIENCE);
        engine.let_appear(creation.announced).await;
        undo(&client, config, &creation).await.map_err(Error::Revocation)?;
        issuer::forget(pending).await;
    }
    Ok(())
}

/// The sweep of a write-ahead entry: the key that the configuration names stays, any other of that name goes.
pub(super) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<Swept, Error> {
    if engine.leaves_owners_alone().await? {
        return Ok(Swept::Waits);
    }
    let _alone = engine.locks.lock(LOCK).await;
    let Some(config) = engine.stored_config(&*storage).await? else { return Ok(Swept::Waits) };
    if config.history.name.as_ref() == Some(&creation.name) {
        return Ok(Swept::Done);
    }
    let Some(client) = engine.client_in_reach(&*storage, &creation.organization_id).await? else {
        return Ok(Swept::Waits);
    };
    let client = client.for_work(Urgency::Revocation, PATIENCE);
    engine.let_appear(creation.announced).await;
    undo(&client, &config, &creation).await.map_err(Error::Revocation)?;
    failpoint!("sweep.admin_undone");
    Ok(Swept::Done)
}

/// Its creation was announced a moment ago.
fn note_young(client: &Client, id: &AdminKeyId, announced: Option<DateTime<Utc>>) {
    let age = announced.and_then(|announced| (Utc::now() - announced).abs().to_std().ok());
    if let Some(age) = age.filter(|age| *age < PROPAGATION_TIME) {
        client.recent_ids().insert(id.as_str(), age);
    }
}

/// Finds the key that was made by its unique name and deletes it, unless it is in use. Answers whether there was one.
pub(super) async fn undo(
    client: &Client,
    config: &Config,
    creation: &Creation,
) -> Result<bool, openai::Error> {
    let (mut pages, mut found) = (Pages::within(LISTING), false);
    while let Some(page) = client.next_admin_keys(&mut pages).await? {
        for record in page.iter().filter(|record| record.name.as_ref() == Some(&creation.name)) {
            let in_use = match &config.admin_api_key_id {
                Some(id) => *id == record.id,
                None => config.admin_api_key.fits(&record.redacted_value),
            };
            if !in_use {
                note_young(client, &record.id, creation.announced);
                end(client, &record.id).await?;
            }
            found = true;
        }
    }
    Ok(found)
}
