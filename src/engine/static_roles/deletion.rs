//! Deletes a static role.
//!
//! *Guarantees:* the caller holds the role's lock. The record without a current key is stored before anything is ended;
//! from then on readers get no key, and the worker goes on until OpenAI says that all is gone. Where a deletion answers
//! success, the keys are dead. By force the record goes all the same, and the answer names what is left at OpenAI.

use super::ending::settle;
use super::record::{STATIC_ROLES, StaticRole};
use super::rotate::Work;
use super::stored;
use crate::engine::accounts::claims;
use crate::engine::accounts::owner::Owner;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::Storage;

/// Stores that the role is deleted.
pub(super) async fn begin(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &mut StaticRole,
) -> Result<(), Error> {
    let now = engine.now();
    role.delete(now);
    stored::mark(storage, name, engine.certain_time()).await?;
    Ok(STATIC_ROLES.put(storage, name, role).await?)
}

/// Ends what the role has. What OpenAI does not end yet stays for the tick.
pub(super) async fn finish(work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    failpoint!("static.deleting");
    let refused = settle(work, role).await?;
    if role.ending.is_empty() {
        return Ok(());
    }
    let error = refused.unwrap_or(Error::NoTimeLeft);
    Err(Error::Undeleted { name: work.name.to_owned(), error: Box::new(error) })
}

/// Ends what can be ended, and removes the record whatever is left. Answers what that is. Without a client nothing can
/// be ended.
pub(super) async fn finish_by_force(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &mut StaticRole,
    work: Result<Work<'_>, Error>,
) -> Result<Option<String>, Error> {
    let why = match work {
        Ok(work) => settle(&work, role).await?.map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    if role.is_over() {
        return Ok(None);
    }
    let owner = Owner::StaticRole(name.to_owned());
    STATIC_ROLES.delete(storage, name).await?;
    for account in role.accounts() {
        // A claim that stays is void.
        let _ = claims::release(engine, storage, account, &owner).await;
    }
    let keys = role.ending.iter().map(|old| match old.retry.last_error.as_ref().or(why.as_ref()) {
        Some(why) => format!("{old} ({why})"),
        None => old.to_string(),
    });
    let made = role.making.iter().map(|making| format!("{} (if OpenAI made it)", making.name));
    let left: Vec<String> = keys.chain(made).collect();
    Ok(Some(format!(
        "static role {name:?} is removed here, but this is left in project {} of organization {}: {}; delete it at \
         OpenAI",
        role.account_project_id,
        role.organization_id,
        left.join(", ")
    )))
}
