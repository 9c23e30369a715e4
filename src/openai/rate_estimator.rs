//! Estimates the rate that OpenAI allows. This file contains arithmetic only.
//!
//! The estimator starts with a short ramp-up: the rate grows while calls wait and responses arrive. After the ramp-up
//! the rate is unlimited. After a rate limit, the calls that OpenAI allowed give an estimate. The rate then grows
//! slowly near the estimate and faster beyond it, so a lifted limit is soon forgotten. The rate never falls below
//! what a caller can wait for.

use std::time::Duration;

use tokio::time::Instant;

/// Calls per second at the start of the ramp-up, and its growth while calls wait. A limit of 20 calls per second is
/// met after few calls; 640 calls per second are reached in 0.7 s.
const START_RATE: f64 = 50.0;
const START_STEP: Duration = Duration::from_millis(100);
const START_GROWTH: f64 = 1.5;
/// Rate above which calls are not delayed.
const UNLIMITED_FROM: f64 = 2000.0;
/// Lowest estimate: one call in 20 seconds. A caller can wait that long; without calls nothing would prove that
/// OpenAI allows more. The pauses after refusals respect a limit that is lower still.
const MIN_RATE: f64 = 0.05;

/// Starting point of an estimated rate, relative to its target, and the time to reach the target.
const START_FRACTION: f64 = 0.85;
const RECOVERY: Duration = Duration::from_secs(10);
/// Multiple of the recovery time after which the rate is about twice its target.
const DOUBLED_AFTER: f64 = 2.0;
/// A low rate recovers over this many calls.
const RECOVERY_CALLS: f64 = 10.0;
/// Minimum number of allowed calls for an estimate. Calls must also have waited for half of the time.
const MIN_SAMPLES: u32 = 5;
/// Growth of an uncertain rate while calls wait.
const SEARCH_STEP: Duration = Duration::from_secs(1);
const SEARCH_GROWTH: f64 = 2.0;
/// Lowest start of the search if too few calls waited for a measurement.
const SEARCH_START: f64 = 2.0;

/// The rate at which calls are sent.
#[derive(Debug, PartialEq)]
pub(super) enum RateEstimator {
    /// Calls are not delayed.
    Unlimited,
    /// The rate grows with each `step` in which calls waited and some were allowed.
    RampUp { rate: f64, step: Duration, waited: Duration, allowed: u32 },
    /// The rate recovers to an estimate that was once too high. It reaches `target` after `recovery`; `waited` is the
    /// time that calls were delayed so far.
    Estimated { target: f64, recovery: Duration, waited: Duration },
}

/// Measurement of allowed calls since the last pause.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) since: Instant,
    /// Time at which a call was last sent or allowed.
    pub(super) last: Instant,
    pub(super) allowed: u32,
    /// Part of the time in which calls waited.
    pub(super) waited: Duration,
}

impl RateEstimator {
    /// The estimator before any limit.
    pub(super) fn start() -> Self {
        Self::ramp_up(START_RATE, START_STEP)
    }

    pub(super) fn is_start(&self) -> bool {
        matches!(self, Self::RampUp { step: START_STEP, .. })
    }

    /// Calls per second; `None` means unlimited.
    pub(super) fn rate(&self) -> Option<f64> {
        match self {
            Self::Unlimited => None,
            Self::RampUp { rate, .. } => Some(*rate),
            Self::Estimated { target, recovery, waited } => Some(cubic_rate(*target, *recovery, *waited)),
        }
    }

    /// Rate for estimates of waiting time. A ramp-up will grow, so its future rate counts.
    pub(super) fn expected_rate(&self) -> Option<f64> {
        match self {
            Self::RampUp { rate, .. } if !self.is_start() => Some(rate * SEARCH_GROWTH * SEARCH_GROWTH),
            _ => self.estimated_rate(),
        }
    }

    /// The rate if a limit set it.
    pub(super) fn estimated_rate(&self) -> Option<f64> {
        if self.is_start() { None } else { self.rate() }
    }

    /// A call was allowed.
    pub(super) fn allowed(&mut self) {
        if let Self::RampUp { allowed, .. } = self {
            *allowed += 1;
        }
    }

    /// Calls were delayed for this time.
    pub(super) fn grow(&mut self, time: Duration) {
        let growth = if self.is_start() { START_GROWTH } else { SEARCH_GROWTH };
        match self {
            Self::Unlimited => {}
            Self::RampUp { rate, step, waited, allowed } => {
                *waited += time;
                if *waited >= *step && *allowed > 0 {
                    *rate *= growth;
                    *waited = Duration::ZERO;
                    *allowed = 0;
                }
            }
            Self::Estimated { waited, .. } => *waited += time,
        }
        if self.rate().is_some_and(|rate| rate >= UNLIMITED_FROM) {
            *self = Self::Unlimited;
        }
    }

    /// OpenAI is back from an outage. The earlier rate applies again; an unlimited rate starts with the ramp-up, so
    /// that not all calls leave at once.
    pub(super) fn restart(&mut self) {
        if *self == Self::Unlimited {
            *self = Self::start();
        }
    }

    fn ramp_up(rate: f64, step: Duration) -> Self {
        Self::RampUp { rate: rate.max(MIN_RATE), step, waited: Duration::ZERO, allowed: 0 }
    }

    fn estimated(target: f64) -> Self {
        let target = target.max(MIN_RATE);
        let recovery = RECOVERY.max(Duration::from_secs_f64(RECOVERY_CALLS / target));
        Self::Estimated { target, recovery, waited: Duration::ZERO }
    }
}

impl Measurement {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, last: now, allowed: 0, waited: Duration::ZERO }
    }

    /// The estimator after a limit that closed at `closed` and ended at `now`; `before` is the earlier estimator.
    pub(super) fn estimate(&self, before: &RateEstimator, closed: Instant, now: Instant) -> RateEstimator {
        let time = now.duration_since(self.since);
        let saturated = self.waited >= time / 2;
        let allowed = self.rate(time);
        let enough = saturated && self.allowed >= MIN_SAMPLES;
        match before.estimated_rate() {
            // At least half of the rate, because OpenAI allowed the rate before the last doubling.
            Some(rate) if enough => RateEstimator::estimated(allowed.clamp(rate * 0.5, rate)),
            Some(rate) if saturated => {
                RateEstimator::ramp_up(allowed.clamp(rate * 0.3, rate * 0.7), SEARCH_STEP)
            }
            Some(rate) => RateEstimator::ramp_up(rate * 0.7, SEARCH_STEP),
            // OpenAI allows the initial burst again after a pause of the same length, but not at a higher rate.
            None if enough => {
                let burst = self.rate(closed.duration_since(self.since));
                RateEstimator::estimated(self.rate(now.duration_since(closed)).min(burst))
            }
            None if saturated => RateEstimator::ramp_up(allowed, SEARCH_STEP),
            None => RateEstimator::ramp_up(allowed.max(SEARCH_START), SEARCH_STEP),
        }
    }

    /// Rate of the allowed calls over this time.
    fn rate(&self, time: Duration) -> f64 {
        f64::from(self.allowed) / time.as_secs_f64().max(0.001)
    }
}

/// CUBIC growth of the rate after calls were delayed for `waited`. The rate starts at `START_FRACTION`, is flat near
/// the target and grows with the cube of time to twice the target. Beyond that it doubles twice in each `recovery`.
fn cubic_rate(target: f64, recovery: Duration, waited: Duration) -> f64 {
    let x = waited.as_secs_f64() / recovery.as_secs_f64() - 1.0;
    let cube = 1.0 + (1.0 - START_FRACTION) * x.min(DOUBLED_AFTER).powi(3);
    target * cube * ((x - DOUBLED_AFTER).max(0.0) * 2.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn measurement(allowed: u32, seconds: u32, waited: u32) -> (Measurement, Instant) {
        let since = Instant::now();
        let measurement = Measurement { allowed, waited: waited * SECOND, ..Measurement::new(since) };
        (measurement, since + seconds * SECOND)
    }

    #[test]
    fn a_learned_rate_is_cautious_then_flat_then_boundless() {
        let rate = |seconds| cubic_rate(20.0, RECOVERY, seconds * SECOND);
        assert!((rate(0) - 17.0).abs() < 0.01 && (rate(10) - 20.0).abs() < 0.01);
        assert!(rate(9) > 19.9 && rate(11) < 20.1);
        assert!(rate(30) > 40.0 && rate(60) > 2000.0);
    }

    #[test]
    fn the_start_opens_within_a_second_of_demand_that_is_met() {
        let mut estimator = RateEstimator::start();
        for _ in 0..9 {
            estimator.grow(START_STEP);
        }
        assert_eq!(estimator.rate(), Some(START_RATE), "nothing was answered");
        for _ in 0..10 {
            estimator.allowed();
            estimator.grow(START_STEP);
        }
        assert_eq!(estimator, RateEstimator::Unlimited);
    }

    #[test]
    fn a_burst_and_the_pause_after_it_teach_the_rate() {
        let (measurement, closed) = measurement(20, 1, 2);
        let RateEstimator::Estimated { target, .. } =
            measurement.estimate(&RateEstimator::Unlimited, closed, closed + 2 * SECOND)
        else {
            panic!()
        };
        assert!((target - 10.0).abs() < 0.01, "{target}");
    }

    #[test]
    fn what_was_allowed_without_demand_teaches_no_rate() {
        let (measurement, closed) = measurement(6, 60, 0);
        let estimator = measurement.estimate(&RateEstimator::Unlimited, closed, closed + SECOND);
        assert_eq!(estimator, RateEstimator::ramp_up(SEARCH_START, SEARCH_STEP));
    }

    #[test]
    fn no_lesson_leaves_less_than_what_a_caller_can_wait_for() {
        let mut estimator = RateEstimator::Unlimited;
        for (allowed, waited) in [(0, 1), (1, 1), (9, 1), (1, 0)].into_iter().cycle().take(400) {
            let (measurement, closed) = measurement(allowed, 1, waited);
            estimator = measurement.estimate(&estimator, closed, closed + 1000 * SECOND);
            assert!(estimator.rate().unwrap() >= MIN_RATE * START_FRACTION - 0.001, "{estimator:?}");
        }
    }

    #[test]
    fn a_limit_that_dropped_is_followed_down() {
        let (measurement, closed) = measurement(1, 1, 1);
        let estimator = measurement.estimate(&RateEstimator::estimated(20.0), closed, closed + SECOND);
        assert!(estimator.rate().unwrap() <= 20.0 * START_FRACTION * 0.31, "{estimator:?}");
    }
}
