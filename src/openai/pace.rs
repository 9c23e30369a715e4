//! The pace of a group of calls: a state machine over time and responses, without clock, threads or network. The
//! estimator in `rate_estimator` sets the rate.
//!
//! The first 429 pauses the group. After the pause (the wait that OpenAI names, or a default) one call probes the limit.
//! When OpenAI allows the probe, the other calls follow at the estimated rate. The estimate expires 5 minutes after
//! OpenAI's last refusal, and after a minute without calls. Consecutive failures (5xx, no connection) pause the group
//! too, but give no estimate. The configured maximum rate is never exceeded.

use std::time::Duration;

use tokio::time::Instant;

use super::rate_estimator::{Measurement, RateEstimator};

/// Calls that may be sent at once at the start.
const START_BURST: f64 = 4.0;
/// Idle time after which the measurement starts over.
const IDLE_RESET: Duration = Duration::from_secs(10);

/// Lifetime of an estimate after OpenAI's last refusal. Success alone does not end it, because a low rate may prevent
/// success.
const ESTIMATE_TTL: Duration = Duration::from_secs(300);

/// OpenAI's limits count the calls of at most a minute. After so long without a call, a burst is possible again.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

/// Consecutive failures that count as an outage.
const OUTAGE_THRESHOLD: u32 = 3;
const OUTAGE_PAUSE: Duration = Duration::from_millis(500);
/// Short, so that one broken endpoint of OpenAI delays the others little. With its spread the pause is shorter than the wait
/// of an issue in an outage (5 s), so each issue finds out whether the outage is over.
const OUTAGE_PAUSE_MAX: Duration = Duration::from_millis(4_500);
/// First pause without an estimate. Most limits are per second or per minute.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);
const LIMIT_PAUSE_MIN: Duration = Duration::from_millis(250);
const LIMIT_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Upper bound on Retry-After. A call that comes too early does less harm than a call that never comes.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Lower bound on Retry-After, against a server that always answers "now".
const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);
/// Longest addition to a wait that OpenAI names. It spreads the probes of several processes.
const MAX_SPREAD: Duration = Duration::from_millis(500);
/// Time after which another probe follows a probe without a response.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// State of one group of calls.
#[derive(Debug)]
pub(super) struct Pace {
    /// Configured maximum rate in calls per second.
    ceiling: Option<f64>,
    estimator: RateEstimator,
    /// Time of OpenAI's last rate-limit refusal.
    refused: Instant,
    pause: Option<Pause>,
    tokens: f64,
    /// Time of the last update.
    now: Instant,
    /// Each pause and each end of a pause starts a new epoch. Responses to calls of an earlier epoch do not count.
    epoch: u64,
    /// Consecutive failures.
    failures: u32,
    measurement: Measurement,
}

/// Result of a call, as far as the rate limiter needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// OpenAI allowed the call.
    Allowed,
    /// A rate limit refused the call, with the `Retry-After` time if OpenAI sent one.
    Limited(Option<Duration>),
    /// OpenAI or the connection failed.
    Failed,
    /// The caller dropped the call, so the result is unknown.
    Abandoned,
}

#[derive(Debug)]
struct Pause {
    since: Instant,
    until: Instant,
    cause: Cause,
    /// Probes that failed so far.
    failed_probes: u32,
    /// A probe is under way; `until` is the time of the next probe.
    probing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Limit,
    Outage,
}

impl Pace {
    /// A pace that learns the limit from OpenAI's responses.
    pub(super) fn learning(now: Instant) -> Self {
        Self {
            ceiling: None,
            estimator: RateEstimator::start(),
            refused: now,
            pause: None,
            tokens: START_BURST,
            now,
            epoch: 0,
            failures: 0,
            measurement: Measurement::new(now),
        }
    }

    /// A pace with a maximum of `per_minute` calls (0: no maximum).
    pub(super) fn up_to(per_minute: u32, now: Instant) -> Self {
        let ceiling = (per_minute > 0).then(|| f64::from(per_minute) / 60.0);
        Self { ceiling, estimator: RateEstimator::Unlimited, tokens: 1.0, ..Self::learning(now) }
    }

    /// Updates the state to `now`: adds tokens, and lets the rate grow if calls waited meanwhile.
    pub(super) fn advance(&mut self, now: Instant, waited: bool) {
        let passed = now.saturating_duration_since(self.now);
        self.now = self.now.max(now);
        self.expire_estimate();
        if let Some(rate) = self.rate() {
            self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(self.burst(rate));
        }
        if waited {
            self.measurement.waited += passed;
            if self.pause.is_none() {
                self.estimator.grow(passed);
            }
        }
    }

    /// The time from which the next call may be sent.
    pub(super) fn ready_at(&self) -> Instant {
        let token = match self.rate() {
            // The tolerance covers rounding errors.
            Some(rate) if self.tokens < 1.0 - 1e-6 => {
                self.now + Duration::from_secs_f64((1.0 - self.tokens) / rate)
            }
            _ => self.now,
        };
        match &self.pause {
            None => token,
            // A probe ignores the estimated rate, but respects the maximum rate.
            Some(pause) if self.ceiling.is_none() => pause.until,
            Some(pause) => pause.until.max(token),
        }
    }

    /// One call is sent. Answers the epoch, by which the result is settled.
    pub(super) fn admit(&mut self) -> u64 {
        if self.now.duration_since(self.measurement.last) > IDLE_RESET && self.pause.is_none() {
            self.measurement = Measurement::new(self.now);
        }
        self.measurement.last = self.now;
        self.tokens = (self.tokens - 1.0).max(0.0);
        if let Some(pause) = &mut self.pause {
            pause.until = self.now + PROBE_TIMEOUT;
            pause.probing = true;
        }
        self.epoch
    }

    /// Expected wait of a call that has this many calls of the group before it.
    pub(super) fn expected_wait(&self, ahead: usize) -> Duration {
        let pause_left = match &self.pause {
            // The response to the probe may arrive at any moment.
            None | Some(Pause { probing: true, .. }) => Duration::ZERO,
            Some(pause) => pause.until.duration_since(self.now),
        };
        // A queue never holds four billion calls.
        let turns = f64::from(ahead as u32) + 1.0 - self.tokens;
        match self.expected_rate() {
            Some(rate) if turns > 0.0 => pause_left + Duration::from_secs_f64(turns / rate),
            _ => pause_left,
        }
    }

    /// Records the result of a call of this epoch. `jitter` is a random number from 0 to 1; it spreads the pauses of many
    /// clients.
    pub(super) fn settle(&mut self, epoch: u64, verdict: Verdict, jitter: f64) {
        let current = epoch == self.epoch;
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

    /// True if the current pause ends after `time`. OpenAI may still change that.
    pub(super) fn is_paused_at(&self, time: Instant) -> bool {
        self.pause.as_ref().is_some_and(|pause| !pause.probing && pause.until > time)
    }

    /// True while no call but a probe may be sent.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// True if the calls wait for an outage instead of a rate limit.
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

    /// Starts a pause, or prolongs it after a failed probe.
    fn pause_calls(&mut self, cause: Cause, retry_after: Option<Duration>, jitter: f64) {
        let (since, cause, failed_probes) = match &self.pause {
            Some(pause) if cause == Cause::Outage => (pause.since, pause.cause, pause.failed_probes + 1),
            Some(pause) => (pause.since, cause, pause.failed_probes + 1),
            None => (self.now, cause, 0),
        };
        let length = self.pause_length(cause, retry_after, failed_probes);
        let longest_spread = if retry_after.is_some() { MAX_SPREAD } else { length };
        let length = length + (length / 10).min(longest_spread).mul_f64(jitter);
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

    /// The time for about one more call at the estimated rate.
    fn first_pause(&self) -> Duration {
        match self.estimator.estimated_rate() {
            Some(rate) => Duration::from_secs_f64(1.0 / rate).clamp(LIMIT_PAUSE_MIN, LIMIT_PAUSE_MAX / 3),
            None => LIMIT_PAUSE,
        }
    }

    /// A late response from before the pause may name a longer wait.
    fn extend_pause(&mut self, retry_after: Duration) {
        let until = self.now + retry_after.min(RETRY_AFTER_MAX);
        if let Some(pause) = &mut self.pause {
            pause.until = pause.until.max(until);
        }
    }

    /// The probe was dropped, so another probe may start at once.
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

    /// Drops an estimate whose lifetime has ended.
    fn expire_estimate(&mut self) {
        let is_idle =
            self.pause.is_none() && self.now.duration_since(self.measurement.last) >= LONGEST_WINDOW;
        let is_old = is_idle || self.now.duration_since(self.refused) >= ESTIMATE_TTL;
        if is_old && self.estimator.estimated_rate().is_some() {
            self.estimator = RateEstimator::start();
            self.measurement = Measurement::new(self.now);
        }
    }

    fn rate(&self) -> Option<f64> {
        lower(self.estimator.rate(), self.ceiling)
    }

    /// Rate for estimates of waiting time.
    fn expected_rate(&self) -> Option<f64> {
        lower(self.estimator.expected_rate(), self.ceiling)
    }

    /// Calls that may be sent at once. After the start only one, because some limits allow no burst, and because no
    /// minute may exceed the maximum rate.
    fn burst(&self, rate: f64) -> f64 {
        if self.estimator.is_start() && self.ceiling.is_none() { (rate / 10.0).max(START_BURST) } else { 1.0 }
    }
}

/// The lower of two rates; `None` means unlimited.
fn lower(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
