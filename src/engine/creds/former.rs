//! The write-ahead entry of a creation as the version before wrote it, and its sweep, which undoes what was made and has no
//! owner. Today the owners' own records and creation windows say what is being made.

use crate::engine::accounts::kind;
use crate::engine::config::clients;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::accounts::holdings;
use crate::engine::accounts::kind::Waiting;
use crate::engine::accounts::lookup::{Look, Sought};
use crate::engine::accounts::making::{FORGOTTEN_AFTER, SWEEP_AGE, sweep_age};
use crate::engine::accounts::owner::Owner;
use crate::engine::creds::deletion::end_found;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::{Engine, Error};
use crate::framework::{Swept, WalKind, WalLog};
use crate::logical::{Storage, StorageError};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId, Urgency};

/// The kind of the entry.
pub(in crate::engine) static CREATION: WalKind<Creation> =
    WalKind::new("creation", SWEEP_AGE).forgotten_after(FORGOTTEN_AFTER);

/// As long as a sweep waits for its turn at OpenAI; what is left waits for the next tick.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// What was about to be made, and who was to own it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Creation {
    /// The organization it was made in.
    pub organization_id: OrganizationId,
    /// The project it was made in.
    pub project_id: ProjectId,
    /// Its unique name: the account's, or the key's if the account stays.
    pub name: String,
    /// The account that a key was made on; none if an account was made.
    pub service_account_id: Option<ServiceAccountId>,
    /// The record that owns it once it names it.
    pub owner: CreationOwner,
    /// When this was written.
    #[serde(default = "Utc::now")]
    pub announced: DateTime<Utc>,
}

/// Which record owns what was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreationOwner {
    /// A record of the ledger, by its place.
    Ledger(String),
    /// The static role of this name.
    StaticRole(String),
    /// The library set of this name: an account of it.
    LibrarySet(String),
}

impl CreationOwner {
    fn owner(&self) -> Option<Owner> {
        match self {
            Self::Ledger(_) => None,
            Self::StaticRole(name) => Some(Owner::StaticRole(name.clone())),
            Self::LibrarySet(name) => Some(Owner::LibrarySet(name.clone())),
        }
    }
}

/// The sweep of an entry: what its owner's record names stays, anything else goes. Under another organization's key it
/// waits.
pub(in crate::engine) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<Swept, Error> {
    if is_owned(&engine, &*storage, &creation).await? {
        return Ok(Swept::Done);
    }
    if creation.owner.owner().is_some() && kind::leaves_owners_alone(&engine).await? {
        return Ok(Swept::Waits);
    }
    let Some(client) = clients::client_in_reach(&engine, &*storage, &creation.organization_id).await? else {
        return Ok(Swept::Waits);
    };
    let client = client.for_work(Urgency::Revocation, SWEEP_PATIENCE);
    clients::let_appear(&engine, Some(creation.announced)).await;
    let (project, account) = (&creation.project_id, creation.service_account_id.as_ref());
    let sought = Sought { project, account, name: &creation.name };
    let found = match engine.listings.find(&client, &sought, creation.announced).await {
        Ok(Look::Later) => return Ok(Swept::Waits),
        Ok(Look::Done(found)) => Ok(found),
        Err(error) => Err(error),
    };
    if let Ok(Some(found)) = &found {
        clients::note_made(&engine, &found.ids().collect::<Vec<_>>(), creation.announced);
    }
    end_found(&client, project, found).await.map_err(Error::Revocation)?;
    Ok(Swept::Done)
}

/// Whether the owner's record names what was made.
async fn is_owned(engine: &Engine, storage: &dyn Storage, creation: &Creation) -> Result<bool, StorageError> {
    if let CreationOwner::Ledger(place) = &creation.owner {
        return LEDGER.contains(storage, place).await;
    }
    let Some(owner) = creation.owner.owner() else { return Ok(false) };
    let holdings = holdings::of(engine, storage, &owner).await?;
    Ok(holdings.iter().any(|holding| holding.name.as_ref() == Some(&creation.name)))
}

/// Entries that the sweep should have removed.
pub(in crate::engine) fn overdue(log: &WalLog, now: DateTime<Utc>) -> Vec<Waiting> {
    let overdue = CREATION.overdue(log).into_iter();
    overdue
        .map(|(creation, age)| {
            let owner = creation.owner.owner();
            Waiting::look_up(owner, creation.name, creation.organization_id, now - age)
        })
        .collect()
}

/// The kind, as it is swept.
pub(in crate::engine) fn swept() -> WalKind<Creation> {
    CREATION.swept_from(sweep_age())
}
