//! Reads and writes the records of static roles.

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::record::{STATIC_ROLES, StaticRole};
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, due};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::ServiceAccountId;

/// Number of records that a list reads concurrently.
const CONCURRENCY: usize = 16;

/// The key of the lock for changes of the static role.
pub(in crate::engine) fn lock(name: &str) -> String {
    format!("static-role/{name}")
}

/// Stores a marker: the worker reconciles the role in the minute of `at`.
pub(super) async fn mark(storage: &dyn Storage, name: &str, at: DateTime<Utc>) -> Result<(), StorageError> {
    due::mark(storage, &Owner::StaticRole(name.to_owned()), at).await?;
    failpoint!("static.marked");
    Ok(())
}

/// Stores the role, after the marker of its next due time.
pub(super) async fn store_marked(
    storage: &dyn Storage,
    name: &str,
    role: &StaticRole,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if let Some(next) = role.next_look(name, now)? {
        mark(storage, name, next).await?;
    }
    Ok(STATIC_ROLES.put(storage, name, role).await?)
}

/// Stores the role, or deletes the record if nothing is left. Then releases those of these accounts that the role no
/// longer names.
pub(super) async fn store(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &StaticRole,
    accounts: &[ServiceAccountId],
) -> Result<(), Error> {
    let mut accounts = accounts.iter().collect::<Vec<_>>();
    if role.is_over() {
        STATIC_ROLES.delete(storage, name).await?;
        failpoint!("static.removed");
        accounts.push(&role.given_account_id);
    } else {
        STATIC_ROLES.put(storage, name, role).await?;
    }
    let owner = Owner::StaticRole(name.to_owned());
    for account in accounts.into_iter().filter(|account| !role.names_account(account)) {
        // A claim that stays is void.
        let _ = claims::release(&engine.locks, storage, account, &owner).await;
    }
    Ok(())
}

/// The record of this name, also of a deleted role or one without a key.
pub(in crate::engine) async fn get(
    storage: &dyn Storage,
    name: &str,
) -> Result<Option<StaticRole>, StorageError> {
    let mut role = STATIC_ROLES.get(storage, name).await?;
    if let Some(role) = role.as_mut().filter(|role| role.deleted)
        && let Some(current) = &role.current
    {
        // A deletion as an earlier release stored it.
        let since = current.last_rotation;
        role.delete(since);
    }
    Ok(role)
}

/// The static role of this name. A role without a current key is an error with the reason.
pub(super) async fn find(storage: &dyn Storage, name: &str) -> Result<StaticRole, Error> {
    let role = get(storage, name).await?;
    let role = role.ok_or_else(|| Error::NotFound { kind: "static role", name: name.to_owned() })?;
    role.current(name)?;
    Ok(role)
}

/// The static roles with this project. An unreadable record is an error, because it may have this project.
pub(in crate::engine) async fn of_project(
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for (name, role) in all(storage).await? {
        if role?.is_some_and(|role| role.settings.project == project) {
            found.push(format!("static role {name}"));
        }
    }
    Ok(found)
}

pub(super) type Found = Result<Option<StaticRole>, StorageError>;

/// All names with their records.
pub(super) async fn all(storage: &dyn Storage) -> Result<Vec<(String, Found)>, StorageError> {
    let reads = STATIC_ROLES.names(storage).await?.into_iter().map(|name| {
        async move {
            let found = get(storage, &name).await;
            (name, found)
        }
        .boxed()
    });
    Ok(stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY).collect().await)
}
