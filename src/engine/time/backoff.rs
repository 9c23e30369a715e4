//! Back-off between retries. Pure: the caller passes the time, and the jitter depends on the name alone.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::fingerprint;

/// The wait after the first failure.
pub const FIRST: Duration = Duration::from_secs(30);

/// The longest wait after a failure that may pass by itself.
pub const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The wait where the configured admin key cannot reach the organization, which only an operator changes. No wait is
/// longer.
pub const OUT_OF_REACH: Duration = Duration::from_secs(60 * 60);

/// Time of the next try after `failures` failures in a row. The wait is 30 s and doubles with each failure, up to 15
/// minutes or a shorter nonzero `period`. The jitter subtracts up to an eighth, so that equal failures do not retry
/// together.
pub fn retry_at(name: &str, failures: u32, last_attempt: DateTime<Utc>, period: Duration) -> DateTime<Utc> {
    last_attempt.checked_add_signed(wait(name, failures, period)).unwrap_or(last_attempt)
}

/// True if the time of the next try is in the future. A time further ahead than [`OUT_OF_REACH`] does not count: the clock was
/// set back after the time was stored.
pub fn is_wait(until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    until > now && until.signed_duration_since(now).to_std().is_ok_and(|wait| wait <= OUT_OF_REACH)
}

fn wait(name: &str, failures: u32, period: Duration) -> chrono::TimeDelta {
    let Some(doublings) = failures.checked_sub(1) else { return chrono::TimeDelta::zero() };
    let cap = if period.is_zero() { LONGEST } else { LONGEST.min(period) };
    let wait = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(cap);
    let millis = wait.as_millis() as u64;
    let jitter = fingerprint::number(&format!("{name}/{doublings}")) % (millis / 8 + 1);
    chrono::TimeDelta::milliseconds((millis - jitter) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn seconds(name: &str, failures: u32, period: u64) -> f64 {
        let wait = retry_at(name, failures, NOW, Duration::from_secs(period)) - NOW;
        wait.as_seconds_f64()
    }

    #[test]
    fn waits_double_from_thirty_seconds_to_fifteen_minutes() {
        assert_eq!(retry_at("a", 0, NOW, Duration::ZERO), NOW);
        for (failures, most) in [(1, 30.0), (2, 60.0), (3, 120.0), (5, 480.0), (6, 900.0), (u32::MAX, 900.0)]
        {
            let wait = seconds("a", failures, 86_400);
            assert!(wait <= most && wait >= most * 7.0 / 8.0, "{failures}: {wait}");
        }
    }

    #[test]
    fn a_wait_is_no_longer_than_the_period() {
        assert!(seconds("a", 9, 60) <= 60.0);
        assert!(seconds("a", 9, 0) > 700.0);
    }

    #[test]
    fn equal_failures_of_different_names_do_not_retry_together() {
        let waits: std::collections::BTreeSet<u64> =
            (0..100).map(|index| seconds(&format!("role-{index}"), 6, 0).to_bits()).collect();
        assert!(waits.len() > 95);
    }

    #[test]
    fn a_wait_beyond_the_longest_does_not_count() {
        let seconds = |seconds| NOW + chrono::TimeDelta::seconds(seconds);
        for (until, waits) in [(-1, false), (0, false), (1, true), (3_600, true), (3_601, false)] {
            assert_eq!(is_wait(seconds(until), NOW), waits, "{until}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_comes_within_the_longest_wait_and_is_deterministic(name in ".{0,9}", failures: u32, period: u32, at in -1_i64<<40..1<<40) {
            let last = DateTime::from_timestamp(at, 0).unwrap();
            let period = Duration::from_secs(period.into());
            let retry = retry_at(&name, failures, last, period);
            prop_assert_eq!(retry, retry_at(&name, failures, last, period));
            prop_assert!(retry >= last && (retry - last).to_std().unwrap() <= LONGEST);
        }
    }
}
