//! The accounts and keys at OpenAI that the records of owners name. Except [`of`], each function reads all records, so
//! no frequent request may call it.

use super::kind::{Holding, Mount};
use super::owner::Owner;
use crate::engine::{Engine, KINDS, kind_of};
use crate::logical::{Storage, StorageError};

/// Everything that the record of this owner names. Empty if no record is stored.
pub async fn of(engine: &Engine, storage: &dyn Storage, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
    kind_of(owner).holdings(Mount { engine, storage }, owner).await
}

/// Everything that all records name. An unreadable record is an error, because its holdings are unknown.
pub async fn all(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Holding>, StorageError> {
    let mut found = Vec::new();
    for (_, holdings) in by_owner(engine, storage).await? {
        found.extend(holdings?);
    }
    Ok(found)
}

/// Everything that the readable records name, by owner.
pub async fn readable(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Vec<(Owner, Vec<Holding>)>, StorageError> {
    let mut found = Vec::new();
    for (owner, holdings) in by_owner(engine, storage).await? {
        match holdings {
            Err(StorageError::Malformed { .. }) => {}
            holdings => found.push((owner, holdings?)),
        }
    }
    Ok(found)
}

type OfOwner = (Owner, Result<Vec<Holding>, StorageError>);

async fn by_owner(engine: &Engine, storage: &dyn Storage) -> Result<Vec<OfOwner>, StorageError> {
    let mut found = Vec::new();
    for kind in KINDS {
        for owner in kind.all(storage).await? {
            let holdings = kind.holdings(Mount { engine, storage }, &owner).await;
            found.push((owner, holdings));
        }
    }
    Ok(found)
}
