//! Reconciles the admin keys at OpenAI with the configuration: deletes replaced keys, and finds and deletes keys of
//! interrupted creations by name. Each tick reads the configuration, so it needs no marker in the due index.
//!
//! *Guarantees:* the current key is never deleted. A key is forgotten only when OpenAI confirms, under the key's own
//! organization, that the key is gone. A crash at any point repeats the last step.
//!
//! *Assumptions:* the caller holds the configuration's lock and has read the configuration from storage.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::accounts::making::Making;
use crate::engine::accounts::{deletion, lost};
use crate::engine::config::admin_keys::Ending;
use crate::engine::config::configuration::Config;
use crate::engine::config::{clients, configuration};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{self, AdminKeyId, Client, Pages, Urgency};

/// Maximum time that a deletion of the configuration waits for OpenAI.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Maximum duration of a listing of the organization's admin keys, which holds the configuration's lock.
const MAX_LISTING: Duration = Duration::from_secs(30);

/// The selection of remaining steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Which {
    /// The due steps.
    Due,
    /// All steps, for a waiting caller.
    All,
}

/// Does the remaining steps and stores the configuration once. The error is that of the last failed step.
pub(in crate::engine) async fn reconcile(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
    deadline: Instant,
    which: Which,
) -> Result<(), Error> {
    let now = engine.now();
    let is_last = engine.system.tainted().await?;
    let is_due = |waits: bool| which == Which::All || !waits;
    let mut making = config.keys.making.clone();
    making.try_now(|_| is_last);
    let sought = match which {
        Which::All => making.iter().cloned().collect(),
        Which::Due => making.sought(engine, is_last),
    };
    let going: Vec<&Ending> = config.keys.ending.iter().filter(|old| is_due(old.retry.waits(now))).collect();
    if sought.is_empty() && going.is_empty() {
        return Ok(());
    }
    let (mut after, mut failure) = (config.clone(), None);
    for making in sought {
        if Instant::now() >= deadline {
            break;
        }
        let looked_up = undo(engine, storage, config, &making, deadline).await;
        after.keys.making.note(engine, &making.name, &looked_up);
        failure = looked_up.err().or(failure);
    }
    for old in going {
        if Instant::now() >= deadline {
            break;
        }
        let Err(error) = delete_replaced(engine, storage, config, old, deadline).await else {
            after.keys.ending.retain(|left| left.id != old.id);
            continue;
        };
        for left in after.keys.ending.iter_mut().filter(|left| left.id == old.id) {
            left.retry.failed_by(old.id.as_str(), &error, now, Duration::ZERO);
        }
        failure = Some(error);
    }
    failpoint!("admin.old_ended");
    if after != *config {
        configuration::store_config(engine, storage, &mut after).await?;
    }
    failure.map_or(Ok(()), Err)
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

async fn delete_replaced(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
    old: &Ending,
    deadline: Instant,
) -> Result<(), Error> {
    if config.admin_api_key_id.as_ref() == Some(&old.id) {
        return Ok(());
    }
    if config.organization_id != old.organization_id {
        return Err(Error::field(format!(
            "admin key {} belongs to organization {}, but config names {}, whose admin key cannot delete it",
            old.id, old.organization_id, config.organization_id
        )));
    }
    let client = clients::configured(engine, storage).await?.client;
    let client = client.for_work(Urgency::Revocation, time_left(deadline));
    clients::note_made(engine, &[old.id.as_str()], old.made);
    end(&client, &old.id).await.map_err(Error::call("deleting a replaced admin key"))
}

/// Deletes an admin key. A missing key is success.
pub(in crate::engine) async fn end(client: &Client, id: &AdminKeyId) -> Result<(), openai::Error> {
    deletion::done_or_gone(client.delete_admin_key(id).await)
}

/// Finds the key of an interrupted creation and deletes it, unless it is in use. True if the outcome is now known. The
/// outcome stays unknown while an absent key may still appear, and while the organization cannot be reached, however long
/// that is: an admin key may live for ever.
async fn undo(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
    making: &Making,
    deadline: Instant,
) -> Result<bool, Error> {
    if config.keys.name.as_ref() == Some(&making.name) {
        return Ok(true);
    }
    let Some(client) = clients::client_in_reach(engine, storage, &making.organization_id).await? else {
        return Ok(false);
    };
    lost::wait_until_listed(engine, &making.name, Some(making.since)).await;
    let client = client.for_work(Urgency::Revocation, time_left(deadline));
    let found = undo_found(engine, &client, config, making, deadline).await.map_err(Error::Revocation)?;
    failpoint!("sweep.admin_undone");
    Ok(found || engine.accounts.first_seen.has_settled(&making.name, false))
}

/// Deletes the key of this name, unless it is in use. True if a key was found.
pub(in crate::engine) async fn undo_found(
    engine: &Engine,
    client: &Client,
    config: &Config,
    making: &Making,
    deadline: Instant,
) -> Result<bool, openai::Error> {
    let (mut pages, mut found) = (Pages::within(MAX_LISTING.min(time_left(deadline))), false);
    while let Some(page) = client.next_admin_keys(&mut pages).await? {
        for record in page.iter().filter(|record| record.name.as_ref() == Some(&making.name)) {
            let in_use = match &config.admin_api_key_id {
                Some(id) => *id == record.id,
                None => config.admin_api_key.fits(&record.redacted_value),
            };
            if !in_use {
                clients::note_made(engine, &[record.id.as_str()], making.since);
                end(client, &record.id).await?;
            }
            found = true;
        }
    }
    Ok(found)
}

/// Deletes all replaced keys before the configuration is deleted. Without a configuration nothing could delete them.
pub(in crate::engine) async fn delete_all(
    engine: &Engine,
    storage: &dyn Storage,
    config: &Config,
) -> Result<(), Error> {
    let ended = reconcile(engine, storage, config, Instant::now() + MAX_WAIT, Which::All).await;
    let keys = configuration::stored_config(engine, storage)
        .await?
        .map(|config| config.keys.clone())
        .unwrap_or_default();
    if keys.ending.is_empty() && keys.making.is_empty() {
        return ended;
    }
    let ids = keys.ending_ids();
    let which = if ids.is_empty() { "one whose creation was interrupted".to_owned() } else { ids.join(", ") };
    let why = ended.err().map(|error| format!(": {error}")).unwrap_or_default();
    Err(Error::field(format!(
        "replaced admin keys are not deleted at OpenAI yet ({which}){why}. Vault cannot delete them without the \
         configuration: delete the configuration later, or with force=true, and then delete these keys by hand"
    )))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::engine::Engines;
    use crate::logical::{FixedSystem, InMemory, Setup};

    /// A configuration with a lost creation and a replaced key, at an address without a listener.
    fn config() -> Value {
        json!({
            "admin_api_key": "sk-admin-x", "organization_id": "org-1", "api_endpoint": "http://127.0.0.1:1/v1",
            "last_rotated": "2025-06-01T12:00:00Z", "ending": [{"id": "key_1", "organization_id": "org-1"}],
            "making": [{"name": "vault-admin-1", "organization_id": "org-1", "since": "2025-06-01T12:00:00Z"}],
        })
    }

    #[tokio::test]
    async fn no_step_begins_after_the_deadline() {
        for other in ["ending", "making"] {
            let storage = Arc::new(InMemory::new());
            let setup = Setup {
                config: std::collections::HashMap::new(),
                backend_uuid: "7e5f".to_owned(),
                storage: Arc::<InMemory>::clone(&storage),
                system: Arc::new(FixedSystem::default()),
            };
            let (engine, mut config) = (Engine::new(&Engines::default(), &setup), config());
            config.as_object_mut().unwrap().remove(other);
            let mut config: Config = serde_json::from_value(config).unwrap();
            configuration::store_config(&engine, &*storage, &mut config).await.unwrap();
            let within =
                async |time| reconcile(&engine, &*storage, &config, Instant::now() + time, Which::All).await;
            within(Duration::ZERO).await.unwrap();
            within(Duration::from_secs(5)).await.unwrap_err();
        }
    }
}
