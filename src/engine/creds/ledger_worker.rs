//! The ledger's worker: removes ended credentials at OpenAI. Their revocation was queued or failed, their lease was
//! lost, or their key expired before OpenAI admitted the call. The worker reads only the ledger, and respects OpenAI's
//! rate.
//!
//! *Guarantees:* early revocations go first, then the oldest records. One failure never stops the others: each record
//! has its own retry state. Only an error that concerns every call ends a pass: OpenAI's rate limit, an outage, a
//! refused admin key. Such an error counts as no record's failure. A pass ends at its deadline, and the next pass
//! starts anew from storage. An interrupted pass repeats at most a deletion, which OpenAI then answers with 404.
//!
//! One pass runs at a time, because of OpenAI's rate. Two would do no harm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::accounts::{claims, deletion, making};
use crate::engine::config::clients;
use crate::engine::creds::ledger::{Credential, LEDGER};
use crate::engine::creds::{account_user, ledger};
use crate::engine::failpoint::{failpoint, shortened};
use crate::engine::telemetry::events::EventKind;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::Storage;
use crate::openai::{self, Urgency};

/// Number of concurrent removals: 160 a second if OpenAI takes 50 ms a call.
const CONCURRENCY: usize = 8;
/// Number of records that are started together.
const CHUNK: usize = 256;
/// Delay after a credential's end. The end counts from before the creation, and the lease from the response, up to 90 s
/// later. Then Vault revokes the lease itself.
const GRACE: Duration = Duration::from_secs(120);
/// Maximum duration of a pass between two ticks.
const MAX_PASS: Duration = Duration::from_secs(50);
/// Tolerance for OpenAI's clock, so that no live key counts as dead.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// State of the worker in this process. A restart loses this state without harm.
#[derive(Debug, Default)]
pub(in crate::engine) struct LedgerWorker {
    /// Held by the running pass.
    turn: AsyncMutex<()>,
    /// True if a revocation was queued since the last pass began.
    is_requested: AtomicBool,
    /// Error that ended the last pass early.
    halt: Mutex<Option<String>>,
    stop: CancellationToken,
}

/// One pass over the ledger.
struct Pass<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    deadline: Instant,
    cancelled: &'a CancellationToken,
    which: Which,
    /// True if the configuration has named another organization since the last pass, or if the process is new.
    reach_changed: bool,
    /// Error that ends the pass early.
    halt: OnceLock<Error>,
}

/// Which records a pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Which {
    /// Records that are due, without those that wait for a retry.
    Due,
    /// Also records that wait for a retry.
    Retried,
    /// Also records within [`GRACE`]. Only for a tainted mount, whose leases Vault revokes.
    All,
}

/// Result of a pass.
#[derive(Debug, Default)]
pub(in crate::engine) struct Outcome {
    pub(in crate::engine) removed: u64,
    pub(in crate::engine) failed: u64,
    /// The error that ended the pass early, or else the first failure.
    pub(in crate::engine) error: Option<Error>,
}

/// Result for one record.
pub(in crate::engine) enum Step {
    Removed,
    Failed(Error),
    Skipped,
}

impl LedgerWorker {
    /// Stops the running pass when the mount ends.
    pub(in crate::engine) fn stop(&self) {
        self.stop.cancel();
    }

    /// Error that ended the last pass early.
    pub(in crate::engine) fn trouble(&self) -> Option<String> {
        self.halt.lock().clone()
    }
}

/// Earliest time at which the record at this place may be removed, if that is not now. Until then the lease may run.
pub(in crate::engine) fn waits_until(engine: &Engine, place: &str) -> Option<DateTime<Utc>> {
    ledger::due_from(place).map(|from| from + grace()).filter(|until| *until > engine.certain_time())
}

/// True if the key has surely expired at OpenAI.
pub(in crate::engine) fn is_dead(engine: &Engine, credential: &Credential) -> bool {
    credential.is_expired(engine.certain_time() - CLOCK_SKEW)
}

/// Ends one credential at OpenAI. A live key has the highest urgency. The account of a dead key is only tidied up, with
/// the lowest urgency. The caller deletes the ledger record, and then calls [`count_end`].
pub(in crate::engine) async fn end(
    engine: &Engine,
    storage: &dyn Storage,
    credential: &Credential,
    max_wait: Duration,
) -> Result<(), Error> {
    let client = clients::client_of(engine, storage, &credential.organization_id).await?;
    let urgency = if is_dead(engine, credential) { Urgency::Check } else { Urgency::Revocation };
    clients::note_made(engine, &credential.ids(), credential.made);
    let client = client.for_work(urgency, max_wait);
    let Credential { project_id, service_account_id, api_key_id, with_account, .. } = credential;
    let (with_account, _no_claim) = if *with_account {
        let no_claim = claims::lock(&engine.locks, service_account_id).await;
        // An account that somebody else uses by now stays.
        (!account_user::is_taken(engine, storage, service_account_id).await?, Some(no_claim))
    } else {
        (false, None)
    };
    let ended = deletion::end(&client, project_id, service_account_id, api_key_id, with_account).await;
    ended.map_err(Error::Revocation)?;
    engine.creds.live.remove(credential);
    engine.creds.recovery.note_ended(&credential.name, engine.clock.monotonic());
    Ok(())
}

/// Counts the end of a credential whose ledger record is deleted. While the record stays, the next pass ends the
/// credential again, so that nothing is counted twice.
pub(in crate::engine) fn count_end(engine: &Engine, credential: &Credential) {
    engine.metrics.credential_revoked(&credential.role);
    engine.events.emit(EventKind::CredsRevoke, &format!("creds/{}", credential.role));
}

/// Part of the tick. After a change of the organization (`reach_changed`), records of other organizations are tried at
/// once. If this tick does not come to all of them, the next tick continues.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick, reach_changed: bool) -> Result<(), Error> {
    // A running pass does the same work, except after a change of the organization.
    let Ok(_turn) = engine.creds.ledger_worker.turn.try_lock() else {
        engine.reach_changed.fetch_or(reach_changed, Ordering::Relaxed);
        return Ok(());
    };
    let (storage, cancelled) = (&*tick.storage, &tick.cancelled);
    // Vault may delete the storage of a tainted mount next.
    let which = if engine.system.tainted().await? { Which::All } else { Which::Due };
    let pass = Pass::new(engine, storage, tick.deadline, cancelled, which);
    let outcome = Pass { reach_changed, ..pass }.run().await;
    // The rate limit is no failure, because the next ticks continue. A deleted configuration is no failure either.
    let is_failure = |error: &Error| !is_limit(error) && !matches!(error, Error::NotConfigured);
    outcome.error.filter(is_failure).map_or(Ok(()), Err)
}

/// Runs a pass for a waiting caller.
pub(in crate::engine) async fn run_now(
    engine: &Engine,
    storage: &dyn Storage,
    max_wait: Duration,
) -> Outcome {
    let deadline = Instant::now() + max_wait;
    let Ok(_turn) = tokio::time::timeout_at(deadline, engine.creds.ledger_worker.turn.lock()).await else {
        return Outcome::default();
    };
    Pass::new(engine, storage, deadline, &engine.creds.ledger_worker.stop, Which::Retried).run().await
}

/// Starts a pass after a revocation was queued. If a pass of this function runs already, another follows. Any other running
/// pass may miss the record; then the next tick handles the record.
pub(in crate::engine) fn begin(engine: &Arc<Engine>, storage: &Arc<dyn Storage>) {
    engine.creds.ledger_worker.is_requested.store(true, Ordering::Release);
    let (engine, storage) = (Arc::clone(engine), Arc::clone(storage));
    tokio::spawn(async move {
        while engine.creds.ledger_worker.is_requested.load(Ordering::Acquire) {
            let Ok(_turn) = engine.creds.ledger_worker.turn.try_lock() else { return };
            engine.creds.ledger_worker.is_requested.store(false, Ordering::Release);
            let deadline = Instant::now() + MAX_PASS;
            let pass = Pass::new(&engine, &*storage, deadline, &engine.creds.ledger_worker.stop, Which::Due);
            if pass.run().await.error.is_some() {
                return;
            }
        }
    });
}

impl<'a> Pass<'a> {
    fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        deadline: Instant,
        cancelled: &'a CancellationToken,
        which: Which,
    ) -> Self {
        let (reach_changed, halt) = (false, OnceLock::new());
        Self { engine, storage, deadline, cancelled, which, reach_changed, halt }
    }

    async fn run(self) -> Outcome {
        let mut outcome = Outcome::default();
        let worked = self.work_through(&mut outcome).await;
        if self.reach_changed && (worked.is_err() || self.is_over()) {
            self.engine.reach_changed.store(true, Ordering::Relaxed);
        }
        if let Err(error) = worked {
            outcome.error.get_or_insert(error);
        }
        let halt = self.halt.into_inner();
        *self.engine.creds.ledger_worker.halt.lock() = halt.as_ref().map(ToString::to_string);
        outcome.error = halt.or(outcome.error);
        outcome
    }

    /// Works through the records in chunks, so that waiting records do not block the records after them.
    async fn work_through(&self, outcome: &mut Outcome) -> Result<(), Error> {
        let mut after = String::new();
        while !self.is_over() {
            let grace = if self.which == Which::All { Duration::ZERO } else { grace() };
            let end = self.engine.certain_time() - grace;
            let places = ledger::due(self.storage, end, &after, ledger::PAGE).await?;
            let Some(last) = places.last() else { break };
            after.clone_from(last);
            for chunk in places.chunks(CHUNK) {
                self.remove_all(chunk, outcome).await;
            }
        }
        Ok(())
    }

    async fn remove_all(&self, places: &[String], outcome: &mut Outcome) {
        let steps: Vec<_> = places.iter().map(|place| self.step(place).boxed()).collect();
        let mut steps = stream::iter(steps).buffer_unordered(CONCURRENCY);
        while let Some(step) = steps.next().await {
            outcome.count(step);
        }
    }

    fn is_over(&self) -> bool {
        self.halt.get().is_some()
            || self.cancelled.is_cancelled()
            || self.engine.creds.ledger_worker.stop.is_cancelled()
            || Instant::now() >= self.deadline
    }

    async fn step(&self, place: &str) -> Step {
        if self.is_over() {
            return Step::Skipped;
        }
        self.remove(place).await.unwrap_or_else(Step::Failed)
    }

    async fn remove(&self, place: &str) -> Result<Step, Error> {
        let Some(mut entry) = LEDGER.get(self.storage, place).await? else { return Ok(Step::Skipped) };
        let now = self.engine.now();
        let is_in_reach = self.reach_changed && entry.retry.waits_for_reach(now);
        if self.which == Which::Due && entry.retry.waits(now) && !is_in_reach {
            return Ok(Step::Skipped);
        }
        let max_wait = self.deadline.saturating_duration_since(Instant::now());
        match end(self.engine, self.storage, &entry.credential, max_wait).await {
            Ok(()) => {
                failpoint!("tick.ended");
                LEDGER.delete(self.storage, place).await?;
                count_end(self.engine, &entry.credential);
                Ok(Step::Removed)
            }
            Err(error) if concerns_all(self.engine, &error) => {
                // Later errors say the same.
                let _ = self.halt.set(error);
                Ok(Step::Skipped)
            }
            Err(Error::OtherOrganization { organization, .. }) if is_forgettable(self.engine, &entry) => {
                tracing::warn!(
                    name = entry.credential.name, %organization,
                    "a credential's record is forgotten: its key ended more than a year ago, and its organization is not \
                     configured"
                );
                LEDGER.delete(self.storage, place).await?;
                Ok(Step::Removed)
            }
            Err(error) => {
                entry.failed(&error, self.engine.now());
                LEDGER.put(self.storage, place, &entry).await?;
                Ok(Step::Failed(error))
            }
        }
    }
}

impl Outcome {
    /// Sum of two results.
    pub(in crate::engine) fn and(self, other: Self) -> Self {
        Self {
            removed: self.removed + other.removed,
            failed: self.failed + other.failed,
            error: self.error.or(other.error),
        }
    }

    pub(in crate::engine) fn count(&mut self, step: Step) {
        match step {
            Step::Removed => self.removed += 1,
            Step::Skipped => {}
            Step::Failed(error) => {
                self.failed += 1;
                self.error.get_or_insert(error);
            }
        }
    }
}

/// True if the key expired longer ago than any key lives, so that at most an empty account is left.
fn is_forgettable(engine: &Engine, entry: &ledger::Entry) -> bool {
    let Some(expired) = entry.credential.expires else { return false };
    // OpenAI may send any time of the calendar, so nothing is added to its time.
    expired < engine.certain_time() - making::FORGOTTEN_AFTER
}

fn grace() -> Duration {
    shortened!("OPENAI_LEDGER_GRACE", GRACE)
}

/// True if the error concerns every call, and not the record at hand.
pub(in crate::engine) fn concerns_all(engine: &Engine, error: &Error) -> bool {
    match error {
        Error::NotConfigured | Error::Settings(_) => true,
        Error::Revocation(error) => {
            // Any other 401 or 403 may concern this record alone: its project, its address, a permission.
            let is_key = error.refuses_key()
                || (error.is_unexplained_401() && engine.config.clients.openai_status().outcomes().refused);
            is_key || matches!(error, openai::Error::Throttled { .. } | openai::Error::Unavailable { .. })
        }
        _ => false,
    }
}

fn is_limit(error: &Error) -> bool {
    matches!(error, Error::Revocation(error) if error.is_limited())
}
