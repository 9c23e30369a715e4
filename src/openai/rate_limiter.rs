//! When calls may leave: a state machine of time and answers, without clock, threads or network. How fast they may
//! leave, and what limits teach, is `flow`'s.
//!
//! The first 429 closes the gate. After a pause (OpenAI's own, else ours) one call tries whether the limit is over,
//! and only when it is answered do the others follow, at a rate that the limit taught. That rate is forgotten 5 minutes
//! after OpenAI's last refusal, whether calls came meanwhile or not. Failures in a row (5xx, no connection) close the
//! gate likewise, but teach no rate. A set ceiling is never exceeded, whatever is learned.

use std::time::Duration;

use tokio::time::Instant;

use super::Urgency;
use super::queue::{Queue, Ticket};
use super::rate_estimator::{Measurement, RateEstimator};

/// How many calls may leave at once at the start.
const START_BURST: f64 = 4.0;
/// After so long without a call, what was allowed before tells nothing of the rate.
const IDLE_RESET: Duration = Duration::from_secs(10);

/// What a limit taught holds for so long after OpenAI's last refusal: success alone must not lift it, as it may be what
/// prevents success.
const ESTIMATE_TTL: Duration = Duration::from_secs(300);

/// Failures in a row that make an outage.
const OUTAGE_THRESHOLD: u32 = 3;
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);
/// Short, because one broken endpoint of OpenAI's must not hold up the others for long.
const OUTAGE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// The first pause when no rate is known: most limits are by the second at least.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);
const LIMIT_PAUSE_MIN: Duration = Duration::from_millis(250);
const LIMIT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How much of OpenAI's own word is kept: a call a little early does less harm than one that never comes.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// "Come back at once", said again and again, is not taken literally.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
/// A trying call that is not answered in this time is joined by another.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The state.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Calls a second that are never exceeded.
    ceiling: Option<f64>,
    estimator: RateEstimator,
    /// When OpenAI last turned a call down for the pace.
    refused: Instant,
    pause: Option<Pause>,
    tokens: f64,
    /// Until when the state was brought up.
    now: Instant,
    /// What was sent in an earlier era says nothing of this one: it changes with each pause and each end of one.
    epoch: u64,
    /// Failures in a row.
    failures: u32,
    measurement: Measurement,
    queue: Queue,
}

/// A call may leave. To be settled when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    epoch: u64,
}

/// What the answer to a call says of the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was let through.
    Allowed,
    /// It came too early; when to come back, if OpenAI says so.
    Limited(Option<Duration>),
    /// It failed on OpenAI's side or on the way.
    Failed,
    /// Nobody knows: the caller went away.
    Abandoned,
}

/// What a waiting call shall do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    Admit(Admission),
    /// Ask again at that time, or when told to.
    Wait(Option<Instant>),
}

#[derive(Debug)]
struct Pause {
    since: Instant,
    until: Instant,
    cause: Cause,
    /// How many calls tried in vain.
    failed_probes: u32,
    /// A call is trying; `until` is then when it is joined by another.
    probing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Limit,
    Outage,
}

impl RateLimiter {
    /// A pace that exceeds `per_minute` never (0: without such a limit).
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let ceiling = (per_minute > 0).then(|| f64::from(per_minute) / 60.0);
        Self {
            ceiling,
            estimator: RateEstimator::start(),
            refused: now,
            pause: None,
            tokens: if ceiling.is_some() { 1.0 } else { START_BURST },
            now,
            epoch: 0,
            failures: 0,
            measurement: Measurement::new(now),
            queue: Queue::default(),
        }
    }

    /// A place for a call, kept over its attempts.
    pub(super) fn ticket(&mut self, urgency: Urgency) -> Ticket {
        self.queue.ticket(urgency)
    }

    /// The call wants to leave: at once if it may, else it waits from now on.
    pub(super) fn enter(&mut self, now: Instant, ticket: Ticket) -> Decision {
        self.advance(now);
        self.queue.enter(ticket);
        self.poll(now, ticket)
    }

    /// The waiting call asks whether it may leave now.
    pub(super) fn poll(&mut self, now: Instant, ticket: Ticket) -> Decision {
        self.advance(now);
        if self.queue.head() != Some(ticket) {
            return Decision::Wait(None);
        }
        let ready = self.ready_at();
        if ready > self.now {
            return Decision::Wait(Some(ready));
        }
        self.queue.serve(ticket);
        self.take_token();
        Decision::Admit(Admission { epoch: self.epoch })
    }

    /// The waiting call gives up.
    pub(super) fn leave(&mut self, now: Instant, ticket: Ticket) {
        self.advance(now);
        self.queue.leave(ticket);
    }

    /// Who should ask now, because it is at the head.
    pub(super) fn head(&self) -> Option<Ticket> {
        self.queue.head()
    }

    /// When the waiting call's turn will come as things are.
    pub(super) fn expected_wait(&self, ticket: Ticket) -> Duration {
        let pause_left = match &self.pause {
            // The answer may come any moment.
            None | Some(Pause { probing: true, .. }) => Duration::ZERO,
            Some(pause) => pause.until.duration_since(self.now),
        };
        // Nobody has four billion calls waiting.
        let turns = f64::from(self.queue.ahead(ticket) as u32) + 1.0 - self.tokens;
        match self.expected_rate() {
            Some(rate) if turns > 0.0 => pause_left + Duration::from_secs_f64(turns / rate),
            _ => pause_left,
        }
    }

    /// A call that left was answered. `dice` is a random number from 0 to 1 that spreads the pauses of many clients.
    pub(super) fn settle(&mut self, now: Instant, admission: Admission, verdict: Verdict, jitter: f64) {
        self.advance(now);
        let current = admission.epoch == self.epoch;
        if let Verdict::Limited(_) = verdict {
            self.refused = self.now;
        }
        match verdict {
            Verdict::Allowed if current => self.allowed(),
            Verdict::Limited(retry_after) if current => self.pause_calls(Cause::Limit, retry_after, jitter),
            Verdict::Limited(Some(retry_after)) => self.extend_pause(retry_after),
            Verdict::Failed if current => self.failed(jitter),
            Verdict::Abandoned if current => self.restart_probe(),
            _ => {}
        }
    }

    /// Whether the gate is closed until after `time`, unless OpenAI's word changes.
    pub(super) fn is_paused_at(&self, time: Instant) -> bool {
        self.pause.as_ref().is_some_and(|pause| !pause.probing && pause.until > time)
    }

    /// Whether calls wait because OpenAI fails, and not because of its limits.
    pub(super) fn is_outage(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.cause == Cause::Outage)
    }

    fn allowed(&mut self) {
        self.failures = 0;
        self.measurement.allowed += 1;
        self.measurement.last = self.now;
        self.estimator.allowed();
        if let Some(pause) = self.pause.take() {
            self.resume(&pause);
        }
    }

    fn failed(&mut self, jitter: f64) {
        self.failures += 1;
        if self.failures >= OUTAGE_THRESHOLD || self.pause.is_some() {
            self.pause_calls(Cause::Outage, None, jitter);
        }
    }

    /// Closes the gate, or keeps it closed because the call that tried was turned down.
    fn pause_calls(&mut self, cause: Cause, retry_after: Option<Duration>, jitter: f64) {
        let (since, cause, failed_probes) = match &self.pause {
            Some(pause) if cause == Cause::Outage => (pause.since, pause.cause, pause.failed_probes + 1),
            Some(pause) => (pause.since, cause, pause.failed_probes + 1),
            None => (self.now, cause, 0),
        };
        let length = self.pause_length(cause, retry_after, failed_probes).mul_f64(1.0 + jitter / 10.0);
        self.pause = Some(Pause { since, until: self.now + length, cause, failed_probes, probing: false });
        self.epoch += 1;
    }

    fn pause_length(&self, cause: Cause, retry_after: Option<Duration>, failed_probes: u32) -> Duration {
        let doubled = |first: Duration, longest: Duration| {
            first.mul_f64(2_f64.powi(failed_probes.min(16) as i32)).min(longest)
        };
        match (cause, retry_after) {
            (_, Some(retry_after)) => {
                retry_after.min(RETRY_AFTER_MAX).max(doubled(RETRY_AFTER_MIN, LIMIT_PAUSE_MAX))
            }
            (Cause::Outage, None) => doubled(OUTAGE_PAUSE, OUTAGE_PAUSE_MAX),
            (Cause::Limit, None) => doubled(self.first_pause(), LIMIT_PAUSE_MAX),
        }
    }

    /// About the time in which one more call is allowed, if the rate is known.
    fn first_pause(&self) -> Duration {
        match self.estimator.estimated_rate() {
            Some(rate) => Duration::from_secs_f64(1.0 / rate).clamp(LIMIT_PAUSE_MIN, LIMIT_PAUSE_MAX / 3),
            None => LIMIT_PAUSE,
        }
    }

    /// A late answer from before the pause may know better how long it lasts.
    fn extend_pause(&mut self, retry_after: Duration) {
        let until = self.now + retry_after.min(RETRY_AFTER_MAX);
        if let Some(pause) = &mut self.pause {
            pause.until = pause.until.max(until);
        }
    }

    /// The call that tried will not tell: another may try at once.
    fn restart_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.until = self.now;
            pause.probing = false;
        }
    }

    fn resume(&mut self, pause: &Pause) {
        match pause.cause {
            Cause::Limit => {
                self.estimator = self.measurement.estimate(&self.estimator, pause.since, self.now);
            }
            Cause::Outage => self.estimator.restart(),
        }
        self.measurement = Measurement::new(self.now);
        self.tokens = 0.0;
        self.epoch += 1;
    }

    /// One call leaves.
    fn take_token(&mut self) {
        if self.now.duration_since(self.measurement.last) > IDLE_RESET && self.pause.is_none() {
            self.measurement = Measurement::new(self.now);
        }
        self.measurement.last = self.now;
        self.tokens = (self.tokens - 1.0).max(0.0);
        if let Some(pause) = &mut self.pause {
            pause.until = self.now + PROBE_TIMEOUT;
            pause.probing = true;
        }
    }

    fn ready_at(&self) -> Instant {
        let token = match self.rate() {
            // The difference is what floating point may lose.
            Some(rate) if self.tokens < 1.0 - 1e-6 => {
                self.now + Duration::from_secs_f64((1.0 - self.tokens) / rate)
            }
            _ => self.now,
        };
        match &self.pause {
            None => token,
            // What tries whether a limit is over is not bound by the rate that met it, but by the ceiling.
            Some(pause) if self.ceiling.is_none() => pause.until,
            Some(pause) => pause.until.max(token),
        }
    }

    /// Brings the state up to `now`: tokens come in, and the rate grows while it holds calls back.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.now);
        self.now = self.now.max(now);
        self.expire_estimate();
        if let Some(rate) = self.rate() {
            self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(self.burst(rate));
        }
        if !self.queue.is_empty() {
            self.measurement.waited += passed;
            if self.pause.is_none() {
                self.estimator.grow(passed);
            }
        }
    }

    /// Forgets what a limit taught a while ago.
    fn expire_estimate(&mut self) {
        let is_old = self.now.duration_since(self.refused) >= ESTIMATE_TTL;
        if is_old && self.estimator.estimated_rate().is_some() {
            self.estimator = RateEstimator::start();
            self.measurement = Measurement::new(self.now);
        }
    }

    fn rate(&self) -> Option<f64> {
        lower(self.estimator.rate(), self.ceiling)
    }

    /// The rate to count with for what waits.
    fn expected_rate(&self) -> Option<f64> {
        lower(self.estimator.expected_rate(), self.ceiling)
    }

    /// How many calls may leave at once: beyond the start just one, as some limits take no more, and so that no minute
    /// ever sees more calls than its ceiling.
    fn burst(&self, rate: f64) -> f64 {
        if self.estimator.is_start() && self.ceiling.is_none() { (rate / 10.0).max(START_BURST) } else { 1.0 }
    }
}

/// The lower of two rates, of which none means any.
fn lower(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
