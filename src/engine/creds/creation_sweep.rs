//! The sweep of creations that the version before wrote ahead: it undoes what was made and has no owner. Today the owners'
//! own records and creation windows say what is being made.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::accounts::lookup::Look;
use crate::engine::creds::deletion::end_found;
use crate::engine::creds::issuer::{Creation, Owner};
use crate::engine::{Engine, Error};
use crate::framework::Swept;
use crate::logical::{Storage, Writable};
use crate::openai::Urgency;

/// As long as a sweep waits for its turn at OpenAI; what is left waits for the next tick.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// The sweep of a write-ahead entry: what its owner's record names stays, anything else goes. Under another organization's
/// key it waits.
pub(in crate::engine) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<Swept, Error> {
    if engine.owns(&*storage, &creation).await? {
        return Ok(Swept::Done);
    }
    if !matches!(creation.owner, Owner::Ledger(_)) && engine.leaves_owners_alone().await? {
        return Ok(Swept::Waits);
    }
    let Some(client) = engine.client_in_reach(&*storage, &creation.organization_id).await? else {
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
    Ok(Swept::Done)
}

impl Engine {
    /// Whether another cluster decides about all that is replicated: static roles, library sets, the configuration. What
    /// this one reads of them may be older than the write-ahead entry, so nothing is undone by it.
    pub(in crate::engine) async fn leaves_owners_alone(&self) -> Result<bool, Error> {
        Ok(self.system.writable().await? < Writable::Everything)
    }
}
