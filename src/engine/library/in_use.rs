//! Refuses the removal of an account that is in use: by a check-out, or by a live key of somebody else, which the
//! account's deletion would delete.

use tokio::time::Instant;

use super::lending;
use super::members::{MAX_WAIT, Member};
use crate::engine::accounts::live_keys;
use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{ApiKeyId, Urgency};

/// Number of keys that a refusal names.
const MAX_NAMES: usize = 5;

/// Refuses if one of these accounts is checked out.
pub(super) async fn refuse_lent(storage: &dyn Storage, set: &str, members: &[Member]) -> Result<(), Error> {
    if members.is_empty() {
        return Ok(());
    }
    let taken = lending::taken(storage, set).await?;
    let lent = members.iter().filter(|member| taken.contains(member.id.as_str()));
    let lent: Vec<String> = lent.map(|member| member.name.clone()).collect();
    if lent.is_empty() { Ok(()) } else { Err(Error::StillOut(lent)) }
}

/// Refuses if an account that would be deleted has a live key. The key is somebody else's, because a free account has no
/// key of this set. A failed call refuses nothing, as `reconcile` asks again before it deletes.
pub(super) async fn refuse_used(
    engine: &Engine,
    storage: &dyn Storage,
    members: &[Member],
) -> Result<(), Error> {
    let made = || members.iter().filter(|member| member.is_made());
    // Asked for at the same time, the keys of all accounts of a project come from one list.
    for member in made() {
        engine.accounts.listings.ask(&member.id);
    }
    let deadline = Instant::now() + MAX_WAIT;
    for Member { name, id, organization_id, project_id, .. } in made() {
        let Ok(client) = clients::client_of(engine, storage, organization_id).await else { continue };
        let within = deadline.saturating_duration_since(Instant::now());
        let client = client.for_work(Urgency::Check, within);
        let keys = live_keys::others(engine, &client, project_id, id, &[], within, MAX_NAMES).await;
        let Ok(Some(keys)) = keys else { continue };
        if !keys.is_empty() {
            let keys: Vec<&str> = keys.iter().map(ApiKeyId::as_str).collect();
            return Err(Error::field(format!(
                "service account {name} has keys that do not come from this library set ({}), and would be deleted with \
                 them: a role, another mount or somebody else uses it. End these keys first",
                keys.join(", ")
            )));
        }
    }
    Ok(())
}
