//! What keeps an account in its set: a check-out, or a live key of somebody else, which would be deleted with it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::lending;
use super::members::{Member, PATIENCE};
use crate::engine::live_keys::{self, LiveKey};
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::Urgency;

/// Keys that a refusal names.
const MOST_NAMED: usize = 5;

/// Refuses if one of these accounts is not free.
pub(super) async fn refuse_lent(storage: &dyn Storage, set: &str, members: &[Member]) -> Result<(), Error> {
    if members.is_empty() {
        return Ok(());
    }
    let taken = lending::taken(storage, set).await?;
    let lent = members.iter().filter(|member| taken.contains(member.id.as_str()));
    let lent: Vec<String> = lent.map(|member| member.name.clone()).collect();
    if lent.is_empty() { Ok(()) } else { Err(Error::StillOut(lent)) }
}

/// Refuses if an account that would be deleted has a live key. Keys of this set's check-outs are none: an account that is
/// free has no key. Where OpenAI cannot be asked nothing is refused, as `changes` asks again before it deletes.
pub(super) async fn refuse_used(
    engine: &Engine,
    storage: &dyn Storage,
    members: &[Member],
) -> Result<(), Error> {
    for (_, members) in by_place(members.iter().filter(|member| member.is_made())) {
        let Ok(keys) = live_keys(engine, storage, &members, PATIENCE).await else { continue };
        let Some(first) = keys.first() else { continue };
        let Some(member) = members.iter().find(|member| member.id == first.account) else { continue };
        let theirs = keys.iter().filter(|key| key.account == first.account);
        let ids: Vec<&str> = theirs.map(|key| key.id.as_str()).take(MOST_NAMED).collect();
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
pub(super) async fn live_keys(
    engine: &Engine,
    storage: &dyn Storage,
    members: &[&Member],
    patience: Duration,
) -> Result<Vec<LiveKey>, Error> {
    let Some(first) = members.first() else { return Ok(Vec::new()) };
    let client = engine.client_of(storage, &first.organization_id).await?;
    let client = client.for_work(Urgency::Check, patience);
    let accounts: HashSet<_> = members.iter().map(|member| &member.id).collect();
    let keys = live_keys::of_accounts(&client, &first.project_id, &accounts, engine.now()).await;
    keys.map_err(Error::call("listing the keys of an account that is to be deleted"))
}

/// Members by organization and project.
pub(super) fn by_place<'a>(
    members: impl Iterator<Item = &'a Member>,
) -> BTreeMap<(&'a str, &'a str), Vec<&'a Member>> {
    let mut places: BTreeMap<_, Vec<&Member>> = BTreeMap::new();
    for member in members {
        places.entry((member.organization_id.as_str(), member.project_id.as_str())).or_default().push(member);
    }
    places
}
