//! The schedule of the admin key's automatic rotation. Pure: the caller passes configuration and time.
//!
//! **Guarantees**
//! - A due rotation stays due until it succeeds, across restarts and failures.
//! - With a window, a rotation or its retry starts only within the window after a scheduled time, or after a multiple of
//!   the period since the last rotation.
//! - If the clock is set back, no rotation waits longer than two periods.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::engine::Error;
use crate::engine::config::configuration::Config;
use crate::engine::time::clock::Times;
use crate::engine::time::schedule::{MIN_WINDOW, Schedule};
use crate::engine::time::seconds;

/// The time from which the next rotation may start. A time in the past means that the rotation is overdue. `None` for never.
pub(in crate::engine) fn next(config: &Config, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(schedule) = config.schedule()?.filter(|_| !config.disable_automated_rotation) else {
        return Ok(None);
    };
    let (last, window) = (config.last_rotated, config.automatic_rotation_window);
    let Some(retry) = config.keys.retry.waits_until(now) else {
        return Ok(Some(planned(&schedule, window, now, last)));
    };
    Ok(Some(planned(&schedule, window, now.max(retry), last).max(retry)))
}

/// The time since which a rotation is overdue; `None` if none is. The back-off after failures does not change it.
pub(in crate::engine) fn overdue_since(
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, Error> {
    let schedule = config.schedule()?.filter(|_| !config.disable_automated_rotation);
    let window = config.automatic_rotation_window;
    Ok(schedule
        .map(|schedule| planned(&schedule, window, now, config.last_rotated))
        .filter(|planned| *planned <= now))
}

/// True if a rotation may start now, by both clocks.
pub(in crate::engine) fn is_due(config: &Config, times: &Times) -> Result<bool, Error> {
    let Some(schedule) = config.schedule()?.filter(|_| !config.disable_automated_rotation) else {
        return Ok(false);
    };
    let (last, window) = (config.last_rotated, config.automatic_rotation_window);
    let any_time = schedule.without_window();
    let is_due = |now| planned(&schedule, window, now, last) <= now;
    let is_planned = |now| planned(&any_time, Duration::ZERO, now, last) <= now;
    Ok(!config.keys.retry.waits(times.now()) && times.agree(is_due, is_planned))
}

/// Refuses a window that Vault's tick, once a minute, could miss. A window without a period or schedule is valid.
pub(in crate::engine) fn check_window(window: Duration, field: &str) -> Result<(), Error> {
    if window.is_zero() || window >= MIN_WINDOW {
        return Ok(());
    }
    let least = seconds::text(MIN_WINDOW);
    Err(Error::field(format!("{field} must be 0 (any time) or at least {least}")))
}

fn planned(schedule: &Schedule, window: Duration, now: DateTime<Utc>, last: DateTime<Utc>) -> DateTime<Utc> {
    let next = schedule.next(now, last, Duration::ZERO);
    match schedule {
        Schedule::Period(period) if next <= now && !window.is_zero() => {
            within_window(*period, window, now, last)
        }
        _ => next,
    }
}

/// The multiple of the period whose window is open at `now`, or else the next multiple.
fn within_window(
    period: Duration,
    window: Duration,
    now: DateTime<Utc>,
    last: DateTime<Utc>,
) -> DateTime<Utc> {
    let length = period.as_secs().max(1) as i64;
    let since = (now - last).num_seconds();
    let opened = last + TimeDelta::seconds(since - since.rem_euclid(length));
    let is_open = (now - opened).to_std().is_ok_and(|late| late < window);
    if is_open { opened } else { opened + TimeDelta::seconds(length) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2025-06-{text}Z").parse().unwrap()
    }

    /// A configuration whose key was rotated on June 1st at noon.
    fn config(changes: serde_json::Value) -> Config {
        let mut fields = json!({
            "admin_api_key": "sk-admin-x", "organization_id": "org-1", "last_rotated": "2025-06-01T12:00:00Z"
        });
        let serde_json::Value::Object(changes) = changes else { panic!("an object") };
        fields.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(fields).unwrap()
    }

    /// True if a rotation may start at this time.
    fn is_due(config: &Config, now: DateTime<Utc>) -> bool {
        next(config, now).unwrap().is_some_and(|next| next <= now)
    }

    fn next_of(config: &Config, now: &str) -> Option<DateTime<Utc>> {
        next(config, at(now)).unwrap()
    }

    #[test]
    fn nothing_rotates_without_a_schedule_or_when_disabled() {
        let daily = json!({"automatic_rotation_period": 86_400, "disable_automated_rotation": true});
        for fields in [json!({}), json!({"automatic_rotation_window": 600}), daily] {
            assert_eq!(next_of(&config(fields), "20T00:00:00"), None);
        }
    }

    #[test]
    fn a_due_rotation_without_a_window_stays_due() {
        let daily = config(json!({"automatic_rotation_period": 86_400}));
        for now in ["01T12:00:00", "02T11:59:59", "02T12:00:00", "20T03:00:00"] {
            assert_eq!(next_of(&daily, now), Some(at("02T12:00:00")), "{now}");
        }
    }

    #[test]
    fn a_window_opens_at_each_multiple_of_the_period() {
        let daily = config(json!({"automatic_rotation_period": 86_400, "automatic_rotation_window": 3600}));
        for (now, next) in [
            ("01T13:00:00", "02T12:00:00"),
            ("02T12:00:00", "02T12:00:00"),
            ("02T12:59:59", "02T12:00:00"),
            ("02T13:00:00", "03T12:00:00"),
            ("09T12:30:00", "09T12:00:00"),
        ] {
            assert_eq!(next_of(&daily, now), Some(at(next)), "{now}");
        }
    }

    #[test]
    fn a_window_applies_to_a_cron_schedule_too() {
        let nightly = config(json!({"rotation_schedule": "0 3 * * *", "automatic_rotation_window": 3600}));
        assert!(is_due(&nightly, at("04T03:59:00")));
        assert_eq!(next_of(&nightly, "04T04:00:00"), Some(at("05T03:00:00")));
    }

    #[test]
    fn a_failed_rotation_backs_off_within_its_window() {
        let failed = json!({
            "automatic_rotation_period": 86_400, "automatic_rotation_window": 600, "rotation_failures": 1,
            "last_rotation_failure": "2025-06-02T12:00:05Z"
        });
        let failed = config(failed);
        assert!(!is_due(&failed, at("02T12:00:20")));
        assert!(is_due(&failed, at("02T12:00:36")));
        assert_eq!(next_of(&failed, "02T12:10:00"), Some(at("03T12:00:00")));
        let late = json!({
            "automatic_rotation_period": 86_400, "automatic_rotation_window": 600, "rotation_failures": 9,
            "last_rotation_failure": "2025-06-02T12:09:00Z"
        });
        assert_eq!(next_of(&config(late), "02T12:09:30"), Some(at("03T12:00:00")));
    }

    #[test]
    fn a_window_that_a_tick_could_miss_is_refused() {
        assert!(
            check_window(Duration::ZERO, "window").is_ok()
                && check_window(Duration::from_secs(120), "window").is_ok()
        );
        assert!(
            check_window(Duration::from_secs(119), "window").unwrap_err().to_string().contains("at least 2m")
        );
    }

    proptest! {
        #[test]
        fn a_wait_ends_and_a_tick_each_minute_falls_into_the_window(
            period in 60_u32..1_000_000, window in 120_u32..10_000, late in 0_i64..10_000_000, failures in 0_u32..9,
        ) {
            let mut config =
                config(json!({"automatic_rotation_period": period, "automatic_rotation_window": window}));
            let now = config.last_rotated + TimeDelta::seconds(late);
            if failures > 0 {
                config.keys.retry.failures = failures - 1;
                let longest = Duration::from_secs(period.into());
                config.keys.retry.failed("admin-key", &"why", now, longest);
            }
            prop_assert!(!is_due(&config, config.last_rotated), "just rotated");
            let planned = next(&config, now).unwrap().unwrap();
            let longest = now + TimeDelta::seconds(2 * i64::from(period)) + TimeDelta::minutes(15);
            prop_assert!(planned <= longest);
            // At the latest, a tick comes 59 s after the window opens.
            prop_assert!(is_due(&config, planned.max(now)));
            if failures == 0 {
                prop_assert!(is_due(&config, planned.max(now) + TimeDelta::seconds(59)) || planned <= now);
            }
        }
    }
}
