//! Removes at OpenAI what has ended: accounts and keys whose revocation had to wait, whose lease was lost, or whose key
//! expired before OpenAI had a turn for the account. From the ledger alone, at the pace that OpenAI allows.
//!
//! *Guarantees:* what was asked for goes first, then the oldest. One failure never stops the rest: it backs off by
//! itself. Only what concerns every call (OpenAI's limit, an outage, a key that is no good) ends a pass, and is nobody's
//! failure. A pass ends with its time and begins anew from storage; dying anywhere in it repeats at most a deletion,
//! which OpenAI then answers with "gone".
//!
//! *Assumptions:* several passes at once would do no harm, but gain nothing; there is one at a time.

use crate::engine::config::clients;
use crate::engine::telemetry::events;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::accounts::making;
use crate::engine::creds::ledger::{Handed, LEDGER};
use crate::engine::creds::{deletion, ledger};
use crate::engine::failpoint::{failpoint, shortened};
use crate::engine::telemetry::events::Happening;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::Storage;
use crate::openai::{self, Urgency};

/// So many removals are under way at once: with OpenAI at 50 ms a call, 160 a second.
const ABREAST: usize = 8;
/// So many records are taken up at once.
const CHUNK: usize = 256;
/// Vault's own revocation of an ended lease comes first; it needs a moment.
const GRACE: Duration = Duration::from_secs(120);
/// A pass besides the ticks is over before the next tick.
const PASS: Duration = Duration::from_secs(50);
/// By so much OpenAI's clock may be behind ours: no key is called dead before it surely is.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(5);

/// What this process knows of removals; all of it may be lost.
#[derive(Debug, Default)]
pub(in crate::engine) struct Removals {
    /// Held by the pass that runs.
    turn: AsyncMutex<()>,
    /// Something was asked for since the last pass began.
    asked: AtomicBool,
    /// Why the last pass ended before all was done.
    trouble: Mutex<Option<String>>,
    stop: CancellationToken,
}

/// One pass over the ledger.
struct Pass<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    deadline: Instant,
    cancelled: &'a CancellationToken,
    which: Which,
    /// Another organization came into reach.
    reach_changed: bool,
    /// What ends the pass for all.
    halt: OnceLock<Error>,
}

/// Which records a pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Which {
    /// Those whose time has come.
    Due,
    /// Also those that failed a moment ago.
    All,
}

/// What a pass came to.
#[derive(Debug, Default)]
pub(in crate::engine) struct Outcome {
    pub(in crate::engine) removed: u64,
    pub(in crate::engine) failed: u64,
    /// The first failure, or what ended the pass.
    pub(in crate::engine) error: Option<Error>,
}

/// What became of one.
pub(in crate::engine) enum Step {
    Removed,
    Failed(Error),
    Skipped,
}

impl Removals {
    /// The mount goes away: a pass under way begins nothing more.
    pub(in crate::engine) fn stop(&self) {
        self.stop.cancel();
    }

    /// Why the last pass ended early, if it did.
    pub(in crate::engine) fn trouble(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether OpenAI has surely ended the key by itself.
pub(in crate::engine) fn is_dead(engine: &Engine, handed: &Handed) -> bool {
    handed.is_expired(engine.certain_time() - CLOCK_SKEW)
}

/// Ends one credential at OpenAI. What lives goes before everything else; the account of a dead key is only tidied up,
/// and waits with those who look something up.
pub(in crate::engine) async fn end(
    engine: &Engine,
    storage: &dyn Storage,
    handed: &Handed,
    patience: Duration,
) -> Result<(), Error> {
    let client = clients::client_of(engine, storage, &handed.organization_id).await?;
    let urgency = if is_dead(engine, handed) { Urgency::Check } else { Urgency::Revocation };
    clients::note_made(engine, &handed.ids(), handed.made);
    deletion::retire(&client.for_work(urgency, patience), handed).await.map_err(Error::Revocation)?;
    engine.metrics.credential_revoked(&handed.role);
    events::tell(engine, Happening::CredsRevoke, &format!("creds/{}", handed.role));
    Ok(())
}

/// Part of the tick. What was out of reach is tried again after another organization came into reach.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick, reach_changed: bool) -> Result<(), Error> {
    // A pass that runs already does what this one would.
    let Ok(_turn) = engine.removals.turn.try_lock() else { return Ok(()) };
    let (storage, cancelled) = (&*tick.storage, &tick.cancelled);
    // On unmounting it is now or never: Vault wipes the mount's storage after this.
    let which = if engine.system.tainted().await? { Which::All } else { Which::Due };
    let pass = Pass::new(engine, storage, tick.deadline, cancelled, which);
    let outcome = Pass { reach_changed, ..pass }.run().await;
    // A limit is no failure: the rest comes with the next ticks. Nor is a configuration that somebody deleted.
    let is_failure = |error: &Error| !is_limit(error) && !matches!(error, Error::NotConfigured);
    outcome.error.filter(is_failure).map_or(Ok(()), Err)
}

/// A pass right now, for somebody who waits for it.
pub(in crate::engine) async fn run_now(
    engine: &Engine,
    storage: &dyn Storage,
    patience: Duration,
) -> Outcome {
    let deadline = Instant::now() + patience;
    let Ok(_turn) = tokio::time::timeout_at(deadline, engine.removals.turn.lock()).await else {
        return Outcome::default();
    };
    Pass::new(engine, storage, deadline, &engine.removals.stop, Which::All).run().await
}

/// Something was put on record to be ended at once: a pass of its own begins, unless one runs that will see to it. It
/// is a favour, not a promise: what it does not come to is the tick's.
pub(in crate::engine) fn begin(engine: &Arc<Engine>, storage: &Arc<dyn Storage>) {
    engine.removals.asked.store(true, Ordering::Release);
    let (engine, storage) = (Arc::clone(engine), Arc::clone(storage));
    tokio::spawn(async move {
        while engine.removals.asked.load(Ordering::Acquire) {
            let Ok(_turn) = engine.removals.turn.try_lock() else { return };
            engine.removals.asked.store(false, Ordering::Release);
            let deadline = Instant::now() + PASS;
            let pass = Pass::new(&engine, &*storage, deadline, &engine.removals.stop, Which::Due);
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
        if let Err(error) = self.work_through(&mut outcome).await {
            outcome.error.get_or_insert(error);
        }
        let halt = self.halt.into_inner();
        *self.engine.removals.lock() = halt.as_ref().map(ToString::to_string);
        outcome.error = halt.or(outcome.error);
        outcome
    }

    /// Chunk after chunk, so that what backs off in front does not keep the pass from what stands behind it.
    async fn work_through(&self, outcome: &mut Outcome) -> Result<(), Error> {
        let mut after = String::new();
        while !self.is_over() {
            let by =
                self.engine.certain_time() - if self.which == Which::All { Duration::ZERO } else { grace() };
            let places = ledger::ended(self.storage, by, &after, ledger::PAGE).await?;
            let Some(last) = places.last() else { break };
            after.clone_from(last);
            for chunk in places.chunks(CHUNK) {
                self.take(chunk, outcome).await;
            }
        }
        Ok(())
    }

    async fn take(&self, places: &[String], outcome: &mut Outcome) {
        let steps: Vec<_> = places.iter().map(|place| self.step(place).boxed()).collect();
        let mut steps = stream::iter(steps).buffer_unordered(ABREAST);
        while let Some(step) = steps.next().await {
            outcome.count(step);
        }
    }

    fn is_over(&self) -> bool {
        self.halt.get().is_some()
            || self.cancelled.is_cancelled()
            || self.engine.removals.stop.is_cancelled()
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
        let patience = self.deadline.saturating_duration_since(Instant::now());
        match end(self.engine, self.storage, &entry.handed, patience).await {
            Ok(()) => {
                failpoint!("tick.ended");
                LEDGER.delete(self.storage, place).await?;
                Ok(Step::Removed)
            }
            Err(error) if concerns_all(self.engine, &error) => {
                // Who comes later says the same.
                let _ = self.halt.set(error);
                Ok(Step::Skipped)
            }
            Err(Error::OtherOrganization { organization, .. })
                if is_past_remembering(self.engine, &entry) =>
            {
                tracing::warn!(
                    name = entry.handed.name, %organization,
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
    /// What two passes came to.
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

/// Whether nothing but an empty account can be left of it, for longer than any key lives.
fn is_past_remembering(engine: &Engine, entry: &ledger::Entry) -> bool {
    let Some(expired) = entry.handed.expires else { return false };
    expired + making::FORGOTTEN_AFTER < engine.certain_time()
}

fn grace() -> Duration {
    shortened!("OPENAI_LEDGER_GRACE", GRACE)
}

/// Whether the next one would fail alike: nothing is wrong with this one.
pub(in crate::engine) fn concerns_all(engine: &Engine, error: &Error) -> bool {
    match error {
        Error::NotConfigured | Error::Settings(_) => true,
        Error::Revocation(error) => {
            // Any other 401 or 403 may be about this one alone: its project, its address, a permission.
            let is_key = error.refuses_key()
                || (error.is_unexplained_401() && engine.clients.openai_status().outcomes().refused);
            is_key || matches!(error, openai::Error::Throttled { .. } | openai::Error::Unavailable { .. })
        }
        _ => false,
    }
}

fn is_limit(error: &Error) -> bool {
    matches!(error, Error::Revocation(error) if error.is_limited())
}
