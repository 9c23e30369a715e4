//! Deletes a static role.
//!
//! *Guarantees:* the caller holds the role's lock. The record is stored without a current key before OpenAI deletes a
//! key. From then on readers get no key, and the worker continues until OpenAI confirms all deletions. After the answer
//! of a successful deletion, all keys are dead that anybody has. A key whose creation had no answer may live until the
//! worker has looked it up: the answer warns of that key, which nobody has. With `force` the record is deleted in any
//! case, and the answer names the keys and accounts that are left at OpenAI. If the process dies before the record is
//! deleted, the worker continues as without `force`.

use super::ending::end_due_keys;
use super::record::{STATIC_ROLES, StaticRole};
use super::rotate::Work;
use super::stored;
use crate::engine::accounts::claims;
use crate::engine::accounts::owner::Owner;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::Storage;

/// Stores the role as deleted.
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

/// Deletes the role's keys at OpenAI. The tick continues after a failure. Returns a warning if creations have an unknown
/// outcome.
pub(super) async fn finish(work: &Work<'_>, role: &mut StaticRole) -> Result<Option<String>, Error> {
    failpoint!("static.deleting");
    let refused = end_due_keys(work, role).await?;
    if !role.ending.is_empty() {
        let error = refused.unwrap_or(Error::NoTimeLeft);
        return Err(Error::Undeleted { name: work.name.to_owned(), error: Box::new(error) });
    }
    let unknown: Vec<String> = unknown_creations(role).collect();
    Ok((!unknown.is_empty()).then(|| {
        format!(
            "static role {:?} is deleted, but the answer to a creation was lost, so this may be left at OpenAI: {}; \
             nobody has its key, and Vault looks it up and deletes it in some minutes",
            work.name,
            unknown.join(", ")
        )
    }))
}

/// The names of keys and accounts that OpenAI may have made for the role.
fn unknown_creations(role: &StaticRole) -> impl Iterator<Item = String> {
    role.making.iter().map(|making| format!("{} (if OpenAI made it)", making.name))
}

/// Deletes the role's keys as far as possible, then deletes the record. Returns a warning with the keys and accounts that
/// are left. Without a client (`work` is an error) no key is deleted.
pub(super) async fn finish_by_force(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &mut StaticRole,
    work: Result<Work<'_>, Error>,
) -> Result<Option<String>, Error> {
    let why = match work {
        Ok(work) => end_due_keys(&work, role).await?.map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    if role.is_over() {
        return Ok(None);
    }
    let owner = Owner::StaticRole(name.to_owned());
    STATIC_ROLES.delete(storage, name).await?;
    for account in role.accounts() {
        // A claim that stays is void.
        let _ = claims::release(&engine.locks, storage, account, &owner).await;
    }
    let keys = role.ending.iter().map(|old| match old.retry.last_error.as_ref().or(why.as_ref()) {
        Some(why) => format!("{old} ({why})"),
        None => old.to_string(),
    });
    let left: Vec<String> = keys.chain(unknown_creations(role)).collect();
    Ok(Some(format!(
        "static role {name:?} is removed here, but this is left in project {} of organization {}: {}; delete it at \
         OpenAI",
        role.account_project_id,
        role.organization_id,
        left.join(", ")
    )))
}
