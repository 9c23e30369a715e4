//! Refuses the removal of an account that is in use: by a check-out, or by a live key of somebody else, which the
//! account's deletion would delete.

use std::collections::BTreeMap;

use super::lending;
use super::members::{MAX_WAIT, Member};
use crate::engine::accounts::live_keys;
use crate::engine::accounts::live_keys::LiveKey;
use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::Urgency;

/// Number of keys that a refusal names.
const MAX_NAMES: usize = 5;
/// The action in the message of a failed call.
const LISTING: &str = "listing the keys of an account that is to be deleted";

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
    for (_, members) in by_place(members.iter().filter(|member| member.is_made())) {
        let Ok(keys) = live_keys(engine, storage, &members).await else { continue };
        let Some(first) = keys.first() else { continue };
        let Some(member) = members.iter().find(|member| member.id == first.account) else { continue };
        let theirs = keys.iter().filter(|key| key.account == first.account);
        let ids: Vec<&str> = theirs.map(|key| key.id.as_str()).take(MAX_NAMES).collect();
        return Err(Error::field(format!(
            "service account {} has keys that do not come from this library set ({}), and would be deleted with them: \
             a role, another mount or somebody else uses it. End these keys first",
            member.name,
            ids.join(", ")
        )));
    }
    Ok(())
}

/// The live keys of members of one project.
async fn live_keys(
    engine: &Engine,
    storage: &dyn Storage,
    members: &[&Member],
) -> Result<Vec<LiveKey>, Error> {
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let client =
        clients::client_of(engine, storage, &first.organization_id).await?.for_work(Urgency::Check, MAX_WAIT);
    let (accounts, now) = (members.iter().map(|member| &member.id).collect(), || engine.certain_time());
    let keys = live_keys::of_accounts(&client, &first.project_id, &accounts, now).await;
    keys.map_err(Error::call(LISTING))
}

/// Members by organization and project.
fn by_place<'a>(members: impl Iterator<Item = &'a Member>) -> BTreeMap<(&'a str, &'a str), Vec<&'a Member>> {
    let mut places: BTreeMap<_, Vec<&Member>> = BTreeMap::new();
    for member in members {
        places.entry((member.organization_id.as_str(), member.project_id.as_str())).or_default().push(member);
    }
    places
}
