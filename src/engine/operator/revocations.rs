//! `revocations`: lists pending deletions with their reasons, and retries them. `credential_end` and `ledger_worker`
//! delete credentials; `accounts` reconciles other owners.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::engine::accounts::kind::{Mount, Pending, PendingWork};
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{kind, pending};
use crate::engine::creds::credential_end::{MAX_WAIT, is_transient};
use crate::engine::creds::ledger::{Entry, LEDGER};
use crate::engine::creds::windows::Stamp;
use crate::engine::creds::{ledger, ledger_worker};
use crate::engine::time::{due_index, rfc3339};
use crate::engine::{Engine, Error, kind_of};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};

/// Maximum wait for another request that changes an owner.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(5);
/// Maximum time of a retry of all pending deletions.
const MAX_RETRY_TIME: Duration = Duration::from_secs(45);
/// Number of owners whose deletions are retried concurrently.
const CONCURRENCY: usize = 4;
/// Maximum number of entries in one answer.
const PAGE: usize = 1_000;

static NAME: Field<Name> = Field::new("name", "Name of the service account or key that has to be deleted.");
static AFTER: Field<String> =
    Field::new("after", "Name after which the list begins: the last name of the page before.")
        .default("")
        .query();
static LIMIT: Field<i64> = Field::new("limit", "Page size; default and maximum 1000.").default(0).query();

const LIST_HELP: Help = Help {
    synopsis: "List pending deletions at OpenAI with their reasons.",
    description: "\
Lists everything that still has to be deleted at OpenAI, in this order: keys of check-outs, replaced keys of static roles \
whose grace period is over, accounts that left a library set, rules and accounts of federated roles, replaced admin keys, \
creations that were cut off; credentials \
that were revoked early; credentials that have ended. The tick deletes them within OpenAI's rate limit. One answer has at \
most 1000 entries; the next page begins with after. If nothing is pending, Vault's CLI prints No value found and exits with 2.

    $ vault list -detailed openai/revocations",
};

const HELP: Help = Help {
    synopsis: "Read why a deletion is pending.",
    description: "\
Shows the time since which the deletion is pending, the state of its key, the number of failed tries, and the last reason.

    $ vault read openai/revocations/vault-app-1x2y3z4a-k3k3k3",
};

const RETRY_HELP: Help = Help {
    synopsis: "Retry a pending deletion now.",
    description: "\
Retries at once, instead of at the next planned time. Fails with the reason if the deletion fails again.

    $ vault write -f openai/revocations/vault-app-1x2y3z4a-k3k3k3/retry",
};

const RETRY_ALL_HELP: Help = Help {
    synopsis: "Retry all pending deletions now.",
    description: "\
Works through all pending deletions for up to 45 seconds, and answers the results.

    $ vault write -f openai/revocations/retry",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>(
        "role",
        "Role, static role or library set of the credential; config for an admin key.",
    ),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<DateTime<Utc>>("since", "Time since which the deletion is pending."),
    ResponseField::new::<bool>("key_dead", "True if the key has already expired at OpenAI."),
    ResponseField::new::<i64>("failures", "Number of failed tries."),
    ResponseField::new::<String>(
        "last_error",
        "Reason of the last failure; empty if the deletion only waits for its turn.",
    ),
    ResponseField::new::<String>("retry_at", "Earliest time of the next try; empty if it may be tried now."),
];

const RETRY_ANSWER: &[ResponseField] = &[
    ResponseField::new::<i64>("removed", "Number of deletions that succeeded."),
    ResponseField::new::<i64>("failed", "Number of deletions that failed."),
    ResponseField::new::<i64>("waiting", "Number of deletions that are pending now."),
    ResponseField::new::<String>("last_error", "Reason of the last failure; empty without one."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("revocations/", LIST_HELP).field(&AFTER).field(&LIMIT).on(Operation::List, list),
        Path::new("revocations/:name", HELP)
            .field(&NAME)
            .on(Operation::Read, read)
            .responds(Operation::Read, ANSWER),
        // A performance secondary has a ledger of its own.
        Path::new("revocations/:name/retry", RETRY_HELP)
            .field(&NAME)
            .on(Operation::Update, retry)
            .writes_locally(Operation::Update),
        Path::new("revocations/retry", RETRY_ALL_HELP)
            .on(Operation::Update, retry_all)
            .writes_locally(Operation::Update)
            .responds(Operation::Update, RETRY_ANSWER),
    ]
}

async fn list(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let limit = usize::try_from(call.get(&LIMIT)?).ok().filter(|limit| (1..=PAGE).contains(limit));
    let limit = limit.unwrap_or(PAGE);
    let after = call.get(&AFTER)?;
    let place = place_after(&engine, storage, &after).await?;
    let mut entries = Vec::new();
    if place.is_none() {
        entries = others_after(&engine, storage, &after, limit).await?;
    }
    let room = limit - entries.len();
    entries.extend(credentials_after(&engine, storage, &place.unwrap_or_default(), room).await?);
    let is_cut = entries.len() >= limit;
    let response = Response::list(entries);
    Ok(Some(if is_cut {
        response.with_warning("there may be more: list with after=<the last name>")
    } else {
        response
    }))
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    if let Some(pending) = other(&engine, storage, &name).await? {
        return Ok(Some(Response::new(view(&engine, &pending))));
    }
    let Some(place) = place_of(&engine, storage, &name).await? else { return Ok(None) };
    let entry = LEDGER.get(storage, &place).await?;
    Ok(entry.map(|entry| Response::new(view_credential(&engine, &place, &entry))))
}

async fn retry(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    if let Some(pending) = other(&engine, storage, &name).await? {
        if kind::leaves_owners_alone(&engine).await? {
            return Err(StorageError::ReadOnly.into());
        }
        return end_now(&engine, storage, &pending).await.map(|()| None);
    }
    let none = || Error::NotFound { kind: "revocation", name: name.to_string() };
    let place = place_of(&engine, storage, &name).await?.ok_or_else(none)?;
    let mut entry = LEDGER.get(storage, &place).await?.ok_or_else(none)?;
    if let Some(until) = ledger_worker::waits_until(&engine, &place) {
        return Err(Error::field(format!(
            "name: the lease of this credential may still run; its deletion may be retried from {} on",
            rfc3339::text(until)
        )));
    }
    if let Err(error) = ledger_worker::end(&engine, storage, &entry.credential, MAX_WAIT).await {
        if !ledger_worker::concerns_all(&engine, &error) && !is_transient(&error) {
            entry.failed(&error, engine.now());
            LEDGER.put(storage, &place, &entry).await?;
        }
        return Err(error);
    }
    LEDGER.delete(storage, &place).await?;
    ledger_worker::count_end(&engine, &entry.credential);
    Ok(None)
}

async fn retry_all(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let (owners, credentials) = tokio::join!(
        end_owners(&engine, storage, Instant::now() + MAX_RETRY_TIME),
        ledger_worker::run_now(&engine, storage, MAX_RETRY_TIME),
    );
    let outcome = owners?.and(credentials);
    let pending = ledger::pending(storage, engine.now(), usize::MAX).await?.0;
    let pending = pending + others(&engine, storage).await?.len();
    Ok(Some(Response::of([
        ("removed", Value::from(outcome.removed)),
        ("failed", outcome.failed.into()),
        ("waiting", pending.into()),
        ("last_error", outcome.error.map(|error| error.to_string()).unwrap_or_default().into()),
    ])))
}

/// Retries all pending deletions except credentials, once for each owner.
async fn end_owners(
    engine: &Engine,
    storage: &dyn Storage,
    deadline: Instant,
) -> Result<ledger_worker::Outcome, Error> {
    let mut outcome = ledger_worker::Outcome::default();
    if kind::leaves_owners_alone(engine).await? {
        // Only the primary may write the owners' records, so it does the deletions.
        return Ok(outcome);
    }
    let pending = others(engine, storage).await?.into_iter();
    let ending = pending.filter(|pending| pending.work == PendingWork::Deletion);
    let owners: BTreeSet<Owner> = ending.filter_map(|pending| pending.owner).collect();
    let attempts = owners.iter().map(|owner| {
        async move {
            let max_wait = deadline.saturating_duration_since(Instant::now());
            if max_wait.is_zero() {
                return ledger_worker::Step::Skipped;
            }
            let ended = end_owner(engine, storage, owner, max_wait).await;
            ended.map_or_else(ledger_worker::Step::Failed, |()| ledger_worker::Step::Removed)
        }
        .boxed()
    });
    let mut attempts = stream::iter(attempts.collect::<Vec<_>>()).buffer_unordered(CONCURRENCY);
    while let Some(step) = attempts.next().await {
        outcome.count(step);
    }
    drop(attempts);
    Ok(outcome)
}

/// Retries the pending deletions of one owner. Another request may hold the owner's lock for minutes.
async fn end_owner(
    engine: &Engine,
    storage: &dyn Storage,
    owner: &Owner,
    max_wait: Duration,
) -> Result<(), Error> {
    let kind = kind_of(owner);
    let Ok(_alone) = timeout(MAX_LOCK_WAIT.min(max_wait), engine.locks.lock(&kind.lock(owner))).await else {
        return Err(Error::field(format!("another request changes {}: try again later", owner.described())));
    };
    kind.end_now(Mount { engine, storage }, owner, max_wait).await
}

/// Retries one pending deletion, and returns its failure.
async fn end_now(engine: &Engine, storage: &dyn Storage, pending: &Pending) -> Result<(), Error> {
    let owner = pending.owner.as_ref().filter(|_| pending.work == PendingWork::Deletion);
    match owner {
        Some(owner) => end_owner(engine, storage, owner, MAX_WAIT).await,
        None => Err(Error::field(
            "name: this is a creation that was cut off; the tick looks it up, and after a failure not before retry_at",
        )),
    }
}

/// All pending deletions and look-ups except credentials, sorted by name.
async fn others(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Pending>, Error> {
    let mut others = pending::all(engine, storage, engine.now(), usize::MAX).await?;
    others.retain(Pending::is_listed);
    Ok(others)
}

/// The place of the pending ledger record of this name. The place of an early revocation follows from the name; other
/// records are searched for.
async fn place_of(engine: &Engine, storage: &dyn Storage, name: &str) -> Result<Option<String>, Error> {
    let mut after = ledger::early_place(name);
    if LEDGER.contains(storage, &after).await? {
        return Ok(Some(after));
    }
    after.clear();
    loop {
        let places = ledger::due(storage, engine.now(), &after, PAGE).await?;
        if let Some(place) = places.iter().find(|place| due_index::name_in(place) == name) {
            return Ok(Some(place.clone()));
        }
        let Some(last) = places.into_iter().next_back() else { return Ok(None) };
        after = last;
    }
}

/// The place after which a list of credentials goes on after this name; `None` if the name is no credential's. The
/// credential may be gone meanwhile. Then the list goes on after its place among the early revocations, so that nothing is
/// left out.
async fn place_after(engine: &Engine, storage: &dyn Storage, name: &str) -> Result<Option<String>, Error> {
    if name.is_empty() || other(engine, storage, name).await?.is_some() {
        return Ok(None);
    }
    let place = place_of(engine, storage, name).await?;
    Ok(place.or_else(|| Stamp::of(name, &engine.tag).map(|_| ledger::early_place(name))))
}

/// At most `most` pending deletions and look-ups except credentials, after this name.
async fn others_after(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    most: usize,
) -> Result<Vec<(String, Data)>, Error> {
    let pending = others(engine, storage).await?.into_iter().filter(|one| *one.name > *name);
    Ok(pending.take(most).map(|one| (one.name.clone(), view(engine, &one))).collect())
}

/// At most `most` pending credentials, after the one at this place.
async fn credentials_after(
    engine: &Engine,
    storage: &dyn Storage,
    place: &str,
    most: usize,
) -> Result<Vec<(String, Data)>, Error> {
    let mut listed = Vec::new();
    if most == 0 {
        return Ok(listed);
    }
    for place in ledger::due(storage, engine.now(), place, most).await? {
        let info = match LEDGER.get(storage, &place).await {
            Ok(None) => continue,
            Ok(Some(entry)) => view_credential(engine, &place, &entry),
            // An unreadable record does not hide others.
            Err(error @ StorageError::Malformed { .. }) => data([("last_error", error.to_string().into())]),
            Err(error) => return Err(error.into()),
        };
        listed.push((due_index::name_in(&place).to_owned(), info));
    }
    Ok(listed)
}

/// The pending deletion or look-up of this name, unless it is a credential.
async fn other(engine: &Engine, storage: &dyn Storage, name: &str) -> Result<Option<Pending>, Error> {
    Ok(others(engine, storage).await?.into_iter().find(|one| one.name == name))
}

/// A pending credential, in the same form as other pending deletions.
fn view_credential(engine: &Engine, place: &str, entry: &Entry) -> Data {
    let credential = &entry.credential;
    let mut retry = entry.retry.clone();
    retry.next_try = retry.next_try.max(ledger_worker::waits_until(engine, place));
    retry.last_error = retry.last_error.or_else(|| engine.creds.ledger_worker.trouble());
    let pending = Pending {
        service_account_id: credential.service_account_id.to_string(),
        api_key_id: credential.api_key_id.to_string(),
        key_dead: ledger_worker::is_dead(engine, credential),
        ..Pending::deletion(&credential.name, None, entry.since(), &retry)
    };
    let mut view = view(engine, &pending);
    view.insert("role".to_owned(), credential.role.as_str().into());
    view
}

fn view(engine: &Engine, pending: &Pending) -> Data {
    let Pending { owner, retry, .. } = pending;
    let retry_at = retry.waits_until(engine.now()).map(rfc3339::text).unwrap_or_default();
    data([
        ("role", Value::from(owner.as_ref().map_or("", Owner::name))),
        ("service_account_id", pending.service_account_id.as_str().into()),
        ("api_key_id", pending.api_key_id.as_str().into()),
        ("since", rfc3339::text(pending.since).into()),
        ("key_dead", pending.key_dead.into()),
        ("failures", retry.failures.into()),
        ("last_error", retry.last_error.as_deref().unwrap_or_default().into()),
        ("retry_at", retry_at.into()),
    ])
}
