//! Write-ahead entries of early version-1 releases: one entry for each creation. Their sweep ends accounts and keys
//! without an owner. Today, records of owners and creation windows hold creations in progress.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::accounts::deletion::end_found;
use crate::engine::accounts::kind::Pending;
use crate::engine::accounts::lookup::{Look, UniqueName};
use crate::engine::accounts::making::{FORGOTTEN_AFTER, LONGEST_REQUEST, longest_request};
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{holdings, kind};
use crate::engine::config::clients;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::{Engine, Error};
use crate::framework::{Swept, WalKind, WalLog};
use crate::logical::{Storage, StorageError};
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId, Urgency};

/// The kind of these entries.
pub(in crate::engine) static CREATION: WalKind<Creation> =
    WalKind::new("creation", LONGEST_REQUEST).forgotten_after(FORGOTTEN_AFTER);

/// Maximum wait of a sweep for its turn at OpenAI. The next tick handles the rest.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// A creation with its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Creation {
    /// Id of the organization.
    pub organization_id: OrganizationId,
    /// Id of the project.
    pub project_id: ProjectId,
    /// Unique name of the account, or of the key on an existing account.
    pub name: String,
    /// The account of the key; `None` if an account was created.
    pub service_account_id: Option<ServiceAccountId>,
    /// The owner's record, which names the account or key after a complete creation.
    pub owner: CreationOwner,
    /// Time of the entry's write.
    #[serde(default = "Utc::now")]
    pub announced: DateTime<Utc>,
}

/// The owner's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreationOwner {
    /// The ledger record at this place.
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

/// The sweep of an entry. Ends an account or key that the owner's record does not name. Waits while another
/// organization is configured.
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
    let client = client.for_work(Urgency::Revocation, MAX_WAIT);
    let (project, account) = (&creation.project_id, creation.service_account_id.as_ref());
    let unique_name = UniqueName { project, account, name: &creation.name };
    let age = (engine.now() - creation.announced).to_std().unwrap_or_default();
    let looked = engine.accounts.listings.find(&client, &unique_name, age).await;
    let Look::Done(found) = looked.map_err(Error::Revocation)? else { return Ok(Swept::Waits) };
    if let Some(found) = &found {
        clients::note_made(&engine, &found.ids().collect::<Vec<_>>(), creation.announced);
        end_found(&client, project, found).await.map_err(Error::Revocation)?;
    }
    Ok(Swept::Done)
}

/// True if the owner's record names the created account or key.
async fn is_owned(engine: &Engine, storage: &dyn Storage, creation: &Creation) -> Result<bool, StorageError> {
    if let CreationOwner::Ledger(place) = &creation.owner {
        return LEDGER.contains(storage, place).await;
    }
    let Some(owner) = creation.owner.owner() else { return Ok(false) };
    let holdings = holdings::of(engine, storage, &owner).await?;
    Ok(holdings.iter().any(|holding| holding.name.as_ref() == Some(&creation.name)))
}

/// Entries that a sweep should have deleted by now.
pub(in crate::engine) fn overdue(log: &WalLog, now: DateTime<Utc>) -> Vec<Pending> {
    let overdue = CREATION.overdue(log).into_iter();
    overdue
        .map(|(creation, age)| {
            let owner = creation.owner.owner();
            Pending::look_up(owner, creation.name, creation.organization_id, now - age)
        })
        .collect()
}

/// The kind, as it is swept.
pub(in crate::engine) fn swept() -> WalKind<Creation> {
    CREATION.swept_from(longest_request())
}
