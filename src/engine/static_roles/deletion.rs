//! Ends a static role: its keys at OpenAI, then what is stored of it.
//!
//! *Guarantees:* the caller holds the role's lock. That it is to go is stored before anything is ended; from then on
//! readers get no key, and each tick goes on until OpenAI says that all is gone. A key that OpenAI does not end holds up
//! no other. Only when all are gone the record goes, and what leads to it: where a deletion answers success, its keys
//! are dead. By force the record goes all the same, and the answer names what is left at OpenAI.

use std::time::Duration;

use tokio::time::Instant;

use super::record::{Retiring, STATIC_ROLES, StaticRole};
use super::rotate::{Held, Work, end};
use super::stored;
use crate::engine::failpoint::failpoint;
use crate::engine::owners::AccountOwner;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::ApiKeyId;

/// Stores that the role is to go.
pub(in crate::engine) async fn begin(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &mut StaticRole,
) -> Result<(), Error> {
    if role.deleting {
        return Ok(());
    }
    role.deleting = true;
    role.retry.succeeded();
    stored::store_marked(storage, name, role, engine.now()).await
}

/// Ends what the role has. If OpenAI fails, or time is up, the role stays for the tick, without the keys that are gone.
pub(in crate::engine) async fn finish(work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    failpoint!("static.deleting");
    let left = end_all(work, role).await.into_iter().map(|(held, error)| (held.key.clone(), error));
    let left: Vec<(ApiKeyId, Error)> = left.collect();
    if !left.is_empty() {
        return Err(keep(work, role, left).await);
    }
    failpoint!("static.ended");
    forget(work.engine, &**work.storage, work.name, role).await
}

/// Stores what is left, and answers why it is. What time was up for is no failure: the next tick goes on.
async fn keep(work: &Work<'_>, role: &mut StaticRole, left: Vec<(ApiKeyId, Error)>) -> Error {
    role.retiring.retain(|old| left.iter().any(|(key, _)| *key == old.api_key_id));
    let (late, failed): (Vec<_>, Vec<_>) =
        left.into_iter().map(|(_, error)| error).partition(|error| matches!(error, Error::NoTimeLeft));
    if let Some(error) = failed.first() {
        role.retry.failed(work.name, error, work.engine.now(), Duration::ZERO);
    }
    // If this cannot be stored, the tick only comes back sooner.
    let _ = STATIC_ROLES.put(&**work.storage, work.name, role).await;
    let error = failed.into_iter().chain(late).next().unwrap_or(Error::NoTimeLeft);
    Error::Undeleted { name: work.name.to_owned(), error: Box::new(error) }
}

/// Ends what can be ended, and forgets the role whatever is left of it. Answers what that is. Without a client nothing
/// can be ended.
pub(super) async fn finish_by_force(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &StaticRole,
    work: Result<Work<'_>, Error>,
) -> Result<Option<String>, Error> {
    let left: Vec<(Held<'_>, String)> = match work {
        Ok(work) => {
            let left = end_all(&work, role).await.into_iter();
            left.map(|(held, error)| (held, error.to_string())).collect()
        }
        Err(error) => held(role).map(|held| (held, error.to_string())).collect(),
    };
    forget(engine, storage, name, role).await?;
    if left.is_empty() {
        return Ok(None);
    }
    let left: Vec<String> = left.into_iter().map(|(held, error)| format!("{held} ({error})")).collect();
    Ok(Some(format!(
        "static role {name:?} is removed here, but this is left in project {} of organization {}: {}; delete it at \
         OpenAI",
        role.account_project_id,
        role.organization_id,
        left.join(", ")
    )))
}

/// The current key first: it is the one that is used. Answers each that is not ended, and why.
async fn end_all<'a>(work: &Work<'_>, role: &'a StaticRole) -> Vec<(Held<'a>, Error)> {
    let (mut left, ours) = (Vec::new(), role.keys().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    let deadline = Instant::now() + work.patience;
    for held in held(role) {
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            left.push((held, Error::NoTimeLeft));
            continue;
        }
        let work = &Work { client: work.client.clone(), patience, ..*work };
        work.engine.note_made(&[held.account.as_str(), held.key.as_str()], held.made);
        if let Err(error) = end(work, &role.account_project_id, &held, &ours).await {
            left.push((held, error));
        }
    }
    left
}

fn held(role: &StaticRole) -> impl Iterator<Item = Held<'_>> {
    std::iter::once(role.current.held()).chain(role.retiring.iter().map(Retiring::held))
}

/// Removes what is stored of the role.
async fn forget(engine: &Engine, storage: &dyn Storage, name: &str, role: &StaticRole) -> Result<(), Error> {
    STATIC_ROLES.delete(storage, name).await?;
    failpoint!("static.removed");
    let owner = AccountOwner::StaticRole(name.to_owned());
    for Held { account, .. } in held(role) {
        // A claim that stays is void.
        let _ = engine.release(storage, account, &owner).await;
    }
    Ok(())
}

impl std::fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { account, key, with_account, .. } = self;
        if *with_account {
            write!(f, "service account {account}, which Vault made, with key {key}")
        } else {
            write!(f, "key {key} of service account {account}")
        }
    }
}
