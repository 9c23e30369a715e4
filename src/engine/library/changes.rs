//! What a write or a deletion of a library set does beyond its own record: claims of accounts, accounts made at OpenAI,
//! accounts that go.
//!
//! *The rule:* an account that a change touches is on the change's record before anything is done to it. In the end it
//! is named by the set's record, or it is let go: deleted at OpenAI if Vault made it, and its claim released. So one
//! step, [`settle`], finishes what succeeded and undoes what failed, after a crash at any point as well, by the tick.
//! An account with a live key of somebody else is not deleted before that key has ended.
//!
//! *Unknown outcomes:* a write of storage that failed may still come through, such as by the next leader. Then nothing is
//! undone at once; the tick looks at storage later. And [`settle`] writes before it deletes at OpenAI and reads the set
//! after that write: a node that no longer leads fails there, and what it reads is what was committed.
//!
//! *Guarantees:* storing the set's record is what decides; before it nothing of the old set has changed, after it only
//! letting go is left. An account is on the change's record before it is claimed, and such a claim counts
//! ([`Engine::claim`]): of two sets that want one account, only one gets it.
//!
//! *Assumptions:* whoever changes a set holds its [`lock`](Engine::lock_set); unlike that of the loans it is held over
//! calls to OpenAI, and nobody but writers, deletions and the tick waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use super::in_use::{by_place, listed_keys, refuse_known};
use super::members::{Home, Member};
use super::sets::{CHANGES, Change, LibrarySet, SETS, touched};
use crate::engine::answers::Told;
use crate::engine::failpoint::failpoint;
use crate::engine::issuer::{self, Creation, Owner};
use crate::engine::live_keys::{self, LiveKey};
use crate::engine::owners::AccountOwner;
use crate::engine::{Engine, Error, backoff, endings, removal};
use crate::framework::{LockGuard, Tick};
use crate::logical::{Storage, StorageError};
use crate::openai::Urgency;

/// As long as letting go waits for its turn at OpenAI: in a request, and in the tick.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK_PATIENCE: Duration = Duration::from_secs(5);
/// As long as a request lets go of accounts; the rest is the tick's.
const REQUEST: Duration = Duration::from_secs(40);

/// How long letting go may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// How long each call waits for its turn at OpenAI.
    patience: Duration,
    /// From then on no call begins.
    deadline: Instant,
}

impl Engine {
    /// Holds off every other change of the set's record.
    pub(super) async fn lock_set(&self, set: &str) -> LockGuard {
        self.locks.lock(&lock(set)).await
    }

    /// The same, unless somebody changes it now.
    fn try_lock_set(&self, set: &str) -> Option<LockGuard> {
        self.locks.try_lock(&lock(set))
    }
}

impl Limits {
    pub(super) fn of_request() -> Self {
        Self { patience: PATIENCE, deadline: Instant::now() + REQUEST }
    }

    fn patience(self) -> Duration {
        self.patience.min(self.left())
    }

    /// How long the keys of a project may be listed.
    fn listing(self) -> Duration {
        live_keys::PATIENCE.min(self.left())
    }

    fn left(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

fn lock(set: &str) -> String {
    format!("library-set/{set}")
}

/// Puts accounts on the change's record.
pub(super) async fn touch(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    members: &[Member],
) -> Result<(), StorageError> {
    let mut touched = touched(storage, set).await?;
    let new: HashSet<_> = members.iter().map(|member| &member.id).collect();
    touched.retain(|old| !new.contains(&old.id));
    touched.extend_from_slice(members);
    let due = engine.now() + issuer::sweep_age();
    CHANGES.put(storage, set, &Change { touched, due, failures: 0, last_error: None, since: None }).await
}

/// Adopts accounts: on record first, then claimed.
pub(super) async fn adopt(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    members: &[Member],
) -> Result<(), Error> {
    touch(engine, storage, set, members).await?;
    failpoint!("set.touched");
    for member in members {
        engine.claim(storage, &member.id, &AccountOwner::LibrarySet(set.to_owned())).await?;
        failpoint!("set.claimed");
    }
    Ok(())
}

/// Makes an account of this name, and claims it.
pub(super) async fn make(
    engine: &Engine,
    storage: &Arc<dyn Storage>,
    set: &str,
    home: &Home,
    name: &str,
) -> Result<Member, Error> {
    let made_as = engine.new_name_for_set(set);
    let creation = Creation {
        organization_id: home.organization_id.clone(),
        project_id: home.project_id.clone(),
        name: made_as.clone(),
        service_account_id: None,
        owner: Owner::LibrarySet(set.to_owned()),
        told: Told::ByNothing,
        announced: Utc::now(),
    };
    let (id, pending) = issuer::issue_bare_account(&home.client, storage, &creation).await?;
    let member = home.member(name, id, Some(made_as));
    adopt(engine, &**storage, set, std::slice::from_ref(&member)).await?;
    issuer::forget(pending).await;
    failpoint!("set.made");
    home.dub(&member).await?;
    Ok(member)
}

/// Lets go of what the change touched and the set does not name. Answers what could not go yet: the tick tries again.
pub(super) async fn settle(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    limits: Limits,
) -> Result<Vec<String>, Error> {
    let Some(mut change) = CHANGES.get(storage, set).await? else { return Ok(Vec::new()) };
    // From storage and not from memory: an earlier write may have come through although it was reported as failed.
    if unnamed(&change.touched, SETS.get(storage, set).await?).is_empty() {
        CHANGES.delete(storage, set).await?;
        return Ok(Vec::new());
    }
    let failures_before = change.failures;
    change.failures = failures_before.saturating_add(1);
    change.due = backoff::retry_at(set, change.failures, engine.now(), Duration::ZERO);
    change.since = change.since.or_else(|| Some(engine.now()));
    CHANGES.put(storage, set, &change).await?;
    failpoint!("set.settling");
    let going = unnamed(&change.touched, SETS.get(storage, set).await?);
    let (mut left, mut failed, mut is_hopeless) = (Vec::new(), false, false);
    let mut listed = listed(engine, storage, &going, limits).await;
    for member in going {
        if is_hopeless || Instant::now() >= limits.deadline {
            left.push(member);
            continue;
        }
        let outcome = match listed.remove(member.id.as_str()) {
            Some(Ok(keys)) => refuse_known(engine, storage, &member, keys, limits.patience()).await,
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => let_go(engine, storage, set, &member, limits.patience()).await,
            refused => refused,
        };
        if let Err(error) = outcome {
            tracing::warn!(
                set,
                account = member.name,
                "an account that left its set is not let go of yet: {error}"
            );
            (failed, is_hopeless) = (true, removal::concerns_all(&error));
            change.last_error = Some(error.to_string());
            left.push(member);
        }
    }
    if left.is_empty() {
        CHANGES.delete(storage, set).await?;
        return Ok(Vec::new());
    }
    let names = left.iter().map(|member| member.name.clone()).collect();
    if !failed {
        // What there was no time for is the next tick's.
        (change.failures, change.due) = (failures_before, engine.now());
    }
    CHANGES.put(storage, set, &Change { touched: left, ..change }).await?;
    Ok(names)
}

/// The accounts that the stored set does not name.
fn unnamed(touched: &[Member], named: Option<LibrarySet>) -> Vec<Member> {
    let members = named.map(|set| set.members).unwrap_or_default();
    let named: HashSet<_> = members.iter().map(|member| &member.id).collect();
    touched.iter().filter(|member| !named.contains(&member.id)).cloned().collect()
}

/// The keys that OpenAI lists on accounts that Vault made, by the accounts' ids; or why OpenAI does not list them.
async fn listed(
    engine: &Engine,
    storage: &dyn Storage,
    going: &[Member],
    limits: Limits,
) -> HashMap<String, Result<Vec<LiveKey>, Error>> {
    let mut listed: HashMap<String, Result<Vec<LiveKey>, Error>> = HashMap::new();
    for (_, members) in by_place(going.iter().filter(|member| member.is_made())) {
        match listed_keys(engine, storage, &members, limits.listing()).await {
            Ok(keys) => {
                for key in keys {
                    let of_account = listed.entry(key.account.to_string()).or_insert_with(|| Ok(Vec::new()));
                    if let Ok(of_account) = of_account {
                        of_account.push(key);
                    }
                }
            }
            Err(error) => {
                let sentence = error.to_string();
                let why = |member: &&Member| (member.id.to_string(), Err(Error::field(sentence.clone())));
                listed.extend(members.iter().map(why));
            }
        }
    }
    listed
}

/// Gives accounts up that a change touches, without a call to OpenAI. Answers which.
pub(super) async fn give_up(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    which: impl Fn(&Member) -> bool + Send,
) -> Result<Vec<Member>, Error> {
    let Some(change) = CHANGES.get(storage, set).await? else { return Ok(Vec::new()) };
    let (given_up, touched): (Vec<_>, Vec<_>) =
        unnamed(&change.touched, SETS.get(storage, set).await?).into_iter().partition(which);
    for member in &given_up {
        engine.release(storage, &member.id, &AccountOwner::LibrarySet(set.to_owned())).await?;
    }
    CHANGES.put(storage, set, &Change { touched, ..change }).await?;
    Ok(given_up)
}

/// After a write or deletion that succeeded: a warning if something is left to do.
pub(super) async fn finish(engine: &Engine, storage: &dyn Storage, set: &str) -> Option<String> {
    match settle(engine, storage, set, Limits::of_request()).await {
        Ok(left) if left.is_empty() => None,
        Ok(left) => Some(format!("still to be deleted at OpenAI, which is tried again: {}", left.join(", "))),
        Err(_) => Some("accounts that left the set are let go of later".to_owned()),
    }
}

/// After a write that failed: the error, or that something is left which the tick undoes.
pub(super) async fn undo(engine: &Engine, storage: &dyn Storage, set: &str, error: Error) -> Error {
    match error {
        // The node that may write does it all.
        Error::Storage(StorageError::ReadOnly) => return error,
        // The write may come through all the same: the tick decides by what is stored then.
        Error::Storage(StorageError::Failed(_)) => return Error::LeftBehind(Box::new(error)),
        _ => {}
    }
    match settle(engine, storage, set, Limits::of_request()).await {
        Ok(left) if left.is_empty() => error,
        _ if matches!(error, Error::LeftBehind(_)) => error,
        _ => Error::LeftBehind(Box::new(error)),
    }
}

/// The accounts that Vault made, that left their set, and that could not be deleted yet; each with its set and the change.
pub(in crate::engine) async fn leaving(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Vec<(String, Member, Change)>, Error> {
    let mut leaving = Vec::new();
    for set in CHANGES.names(storage).await? {
        let change = match CHANGES.get(storage, &set).await {
            Ok(Some(change)) => change,
            // It hides no other.
            Ok(None) | Err(StorageError::Malformed { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        // A change without failures that is not due is under way.
        if change.failures == 0 && change.due > engine.now() {
            continue;
        }
        let named = engine.library_sets.get_readable(storage, &set).await?;
        let named = named.as_ref().map_or(&[][..], |set| &set.members);
        let left = change.touched.iter().filter(|member| member.made_as.is_some());
        let left = left.filter(|member| named.iter().all(|one| one.id != member.id));
        leaving.extend(left.map(|member| (set.clone(), member.clone(), change.clone())));
    }
    Ok(leaving)
}

/// Tries now to let go of what left the set, for somebody who waits for it.
pub(in crate::engine) async fn retry(engine: &Engine, storage: &dyn Storage, set: &str) -> Result<(), Error> {
    let _alone = engine.lock_set(set).await;
    let left = settle(engine, storage, set, Limits::of_request()).await?;
    if left.is_empty() {
        return Ok(());
    }
    let change = CHANGES.get(storage, set).await?;
    let reason = change.and_then(|change| change.last_error).unwrap_or_default();
    Err(Error::field(format!(
        "accounts that left library set {set} are not deleted ({}): {reason}",
        left.join(", ")
    )))
}

async fn let_go(
    engine: &Engine,
    storage: &dyn Storage,
    set: &str,
    member: &Member,
    patience: Duration,
) -> Result<(), Error> {
    if member.made_as.is_some() {
        let client = engine.client_of(storage, &member.organization_id).await?;
        let client = client.for_work(Urgency::Revocation, patience);
        engine.note_made(&[member.id.as_str()], member.joined);
        endings::end_account(&client, &member.project_id, &member.id).await.map_err(Error::Revocation)?;
        failpoint!("set.account_ended");
    }
    engine.release(storage, &member.id, &AccountOwner::LibrarySet(set.to_owned())).await
}

/// Part of the tick: finishes or undoes what died half way, and what could not be finished before. One failure never
/// stops the rest.
pub(in crate::engine) async fn tend(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let mut outcome = Ok(());
    for set in CHANGES.names(&*tick.storage).await? {
        if tick.is_over() {
            break;
        }
        outcome = outcome.and(attend(engine, tick, &set).await);
    }
    outcome
}

async fn attend(engine: &Engine, tick: &Tick, set: &str) -> Result<(), Error> {
    let storage = &*tick.storage;
    let is_due =
        |change: Option<Change>| change.is_some_and(|change| !backoff::is_wait(change.due, engine.now()));
    if !is_due(CHANGES.get(storage, set).await?) {
        return Ok(());
    }
    // Whoever writes the set now settles it, too.
    let Some(_alone) = engine.try_lock_set(set) else { return Ok(()) };
    // A writer may have come first.
    if is_due(CHANGES.get(storage, set).await?) {
        let limits = Limits { patience: TICK_PATIENCE, deadline: tick.deadline };
        settle(engine, storage, set, limits).await?;
    }
    Ok(())
}
