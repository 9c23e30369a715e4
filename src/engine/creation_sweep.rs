//! The sweep of creations: undoes what was made and has no owner.

use std::sync::Arc;
use std::time::Duration;

use super::announcements::Announcement;
use super::endings::{end_found, retire};
use super::failpoint::failpoint;
use super::issuer::{Creation, Owner};
use super::ledger::LEDGER;
use super::listing::Look;
use super::removal::concerns_all;
use super::{Engine, Error};
use crate::framework::Swept;
use crate::logical::{Storage, Writable};
use crate::openai::Urgency;

/// As long as a sweep waits for its turn at OpenAI; what is left waits for the next tick.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// The sweep of a write-ahead entry: what its owner's record names stays, anything else goes; so does a credential that
/// was recorded and surely never answered with. Under another organization's key it waits.
pub(super) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<Swept, Error> {
    let swept = judge(&engine, &storage, &creation).await?;
    if swept == Swept::Done {
        engine.answers.forget(&creation.name);
    }
    Ok(swept)
}

async fn judge(engine: &Engine, storage: &Arc<dyn Storage>, creation: &Creation) -> Result<Swept, Error> {
    if engine.owns(&**storage, creation).await? {
        return match &creation.owner {
            Owner::Ledger(place) if engine.answers.was_never_given(creation.told, &creation.name) => {
                sweep_recorded(engine, &**storage, place).await
            }
            _ => Ok(Swept::Done),
        };
    }
    if !matches!(creation.owner, Owner::Ledger(_)) && engine.leaves_owners_alone().await? {
        return Ok(Swept::Waits);
    }
    let Some(client) = engine.client_in_reach(&**storage, &creation.organization_id).await? else {
        return Ok(Swept::Waits);
    };
    let client = client.for_work(Urgency::Revocation, SWEEP_PATIENCE);
    engine.let_appear(Some(creation.announced)).await;
    let found = match engine.listings.find(&client, &creation.sought(), creation.announced).await {
        Ok(Look::Later) => return Ok(Swept::Waits),
        Ok(Look::Done(found)) => Ok(found),
        Err(error) => Err(error),
    };
    if let Ok(Some(found)) = &found {
        engine.note_made(&found.ids().collect::<Vec<_>>(), creation.announced);
    }
    end_found(&client, &creation.project_id, found).await.map_err(Error::Revocation)?;
    failpoint!("sweep.undone");
    Ok(Swept::Done)
}

impl Engine {
    /// Whether another cluster decides about all that is replicated: static roles, library sets, the configuration. What
    /// this one reads of them may be older than the write-ahead entry, so nothing is undone by it.
    pub(super) async fn leaves_owners_alone(&self) -> Result<bool, Error> {
        Ok(self.system.writable().await? < Writable::Everything)
    }
}

/// The same for each credential that the entry names. One that fails stops no other, unless all would fail alike.
pub(super) async fn sweep_announcement(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    announcement: Announcement,
) -> Result<Swept, Error> {
    let mut failure = None;
    for creation in announcement.creations() {
        match sweep(Arc::clone(&engine), Arc::clone(&storage), creation).await {
            Ok(Swept::Done) => {}
            Ok(Swept::Waits) => return Ok(Swept::Waits),
            Err(error) if concerns_all(&error) => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(Swept::Done), Err)
}

/// Nobody has it.
async fn sweep_recorded(engine: &Engine, storage: &dyn Storage, place: &str) -> Result<Swept, Error> {
    let Some(entry) = LEDGER.get(storage, place).await? else { return Ok(Swept::Done) };
    let Some(client) = engine.client_in_reach(storage, &entry.handed.organization_id).await? else {
        return Ok(Swept::Waits);
    };
    let client = client.for_work(Urgency::Revocation, SWEEP_PATIENCE);
    engine.note_made(&entry.handed.ids(), entry.handed.made);
    retire(&client, &entry.handed).await.map_err(Error::Revocation)?;
    failpoint!("sweep.unanswered");
    LEDGER.delete(storage, place).await?;
    Ok(Swept::Done)
}
