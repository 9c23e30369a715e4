//! Ends a static role: its keys at OpenAI, then what is stored of it.
//!
//! *Guarantees:* the caller holds the role's lock. That it is to go is stored before anything is ended; from then on
//! readers get no key, and each tick goes on until OpenAI says that all is gone. Only then does the record go, and what
//! leads to it. Where a deletion answers success, its keys are dead.

use super::due;
use super::record::{StaticRole, Trouble};
use super::rotate::Work;
use crate::engine::failpoint::failpoint;
use crate::engine::{Error, endings};
use crate::openai::{self, ServiceAccountId};

/// Stores that the role is to go.
pub(in crate::engine) async fn begin(work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    role.deleting = true;
    role.trouble = Trouble::default();
    due::store(&**work.storage, work.name, role, work.engine.now()).await
}

/// Ends what the role has. If OpenAI fails, the role stays for the tick.
pub(in crate::engine) async fn finish(work: &Work<'_>, role: &mut StaticRole) -> Result<(), Error> {
    failpoint!("static.deleting");
    if let Err(error) = end_all(work, role).await {
        let now = work.engine.now();
        role.trouble.note(&error, now);
        // If this cannot be stored, the tick only comes back sooner.
        let _ = due::store(&**work.storage, work.name, role, now).await;
        return Err(Error::Undeleted { name: work.name.to_owned(), error });
    }
    failpoint!("static.ended");
    due::remove(&**work.storage, work.name, role).await?;
    failpoint!("static.removed");
    for account in accounts(role) {
        work.release(account).await;
    }
    Ok(())
}

/// The current key first: it is the one that is used.
async fn end_all(work: &Work<'_>, role: &StaticRole) -> Result<(), openai::Error> {
    let (client, project, current) = (work.ending(), &role.account_project_id, &role.current);
    let ids = [current.service_account_id.as_str(), current.api_key_id.as_str()];
    work.engine.note_made(&ids, current.last_rotation);
    endings::end(&client, project, &current.service_account_id, &current.api_key_id, current.made_account)
        .await?;
    for old in &role.retiring {
        work.engine.note_made(&[old.service_account_id.as_str(), old.api_key_id.as_str()], old.made);
        endings::end(&client, project, &old.service_account_id, &old.api_key_id, old.with_account).await?;
    }
    Ok(())
}

fn accounts(role: &StaticRole) -> impl Iterator<Item = &ServiceAccountId> {
    let old = role.retiring.iter().map(|old| &old.service_account_id);
    std::iter::once(&role.current.service_account_id).chain(old)
}
