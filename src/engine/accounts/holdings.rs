//! What the records of owners name at OpenAI. It reads all there is, unless one owner is asked about: not for a request
//! that comes often.

use super::kind::{Holding, Mount};
use super::owner::Owner;
use crate::engine::{Engine, KINDS, kind_of};
use crate::logical::{Storage, StorageError};

/// What the record of this owner names; nothing if it is not stored.
pub async fn of(engine: &Engine, storage: &dyn Storage, owner: &Owner) -> Result<Vec<Holding>, StorageError> {
    match kind_of(owner) {
        Some(kind) => kind.holdings(Mount { engine, storage }, owner).await,
        None => Ok(Vec::new()),
    }
}

/// What all records name. A record that cannot be read is an error, as nobody can tell what it names.
pub async fn all(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Holding>, StorageError> {
    let mut found = Vec::new();
    for kind in KINDS {
        for owner in kind.all(storage).await? {
            found.extend(kind.holdings(Mount { engine, storage }, &owner).await?);
        }
    }
    Ok(found)
}

/// What all records name that can be read, by owner.
pub async fn readable(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Vec<(Owner, Vec<Holding>)>, StorageError> {
    let mut found = Vec::new();
    for kind in KINDS {
        for owner in kind.all(storage).await? {
            match kind.holdings(Mount { engine, storage }, &owner).await {
                Err(StorageError::Malformed { .. }) => {}
                holdings => found.push((owner, holdings?)),
            }
        }
    }
    Ok(found)
}
