//! The schedule fields of a role or config: how they combine, update and fail. Names and sentences are Vault's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::time::cron::{CronError, CronExpression};
use crate::engine::time::schedule::{MIN_PERIOD, MIN_WINDOW, Schedule};
use crate::engine::time::seconds;

/// The schedule fields of a role or config, as sent and stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleFields {
    /// `rotation_period`; 0 for manual rotation only.
    #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub rotation_period: Option<Duration>,
    /// `rotation_schedule`; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation_schedule: Option<String>,
    /// `rotation_window`; 0 for no limit.
    #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub rotation_window: Option<Duration>,
}

/// An error of the schedule fields. The first four sentences are Vault's own (PROTOCOL 10).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// A period and a cron expression.
    #[error(
        "mutually exclusive fields rotation_schedule and rotation_period were both specified; only one of them can be \
         provided"
    )]
    PeriodAndSchedule,
    /// A window with a period.
    #[error("rotation_window does not apply to period")]
    WindowWithPeriod,
    /// A window without a cron expression.
    #[error("cannot use rotation_window without rotation_schedule")]
    WindowWithoutSchedule,
    /// An invalid cron expression.
    #[error("failed to parse provided rotation_schedule: {0}")]
    Cron(#[from] CronError),
    /// A period shorter than [`MIN_PERIOD`].
    #[error("rotation_period must be 0 (rotation by hand only) or at least {}", seconds::text(MIN_PERIOD))]
    PeriodTooShort,
    /// A window shorter than [`MIN_WINDOW`].
    #[error("rotation_window must be 0 (no limit) or at least {}", seconds::text(MIN_WINDOW))]
    WindowTooShort,
}

impl ScheduleError {
    /// The sentence with other field names.
    pub fn naming(&self, period: &str, window: &str) -> String {
        self.to_string().replace("rotation_period", period).replace("rotation_window", window)
    }
}

impl ScheduleFields {
    /// The fields after a write of `sent`. A sent period replaces a cron expression, and the reverse.
    pub fn updated(self, sent: Self) -> Result<Self, ScheduleError> {
        sent.check_one_kind()?;
        let mut fields = self;
        if sent.has_schedule() {
            fields.rotation_period = None;
        } else if sent.has_period() || sent.rotation_schedule.is_some() {
            fields.rotation_schedule = None;
            fields.rotation_window = None;
        }
        Ok(Self {
            rotation_period: sent.rotation_period.or(fields.rotation_period),
            rotation_schedule: sent.rotation_schedule.or(fields.rotation_schedule),
            rotation_window: sent.rotation_window.or(fields.rotation_window),
        })
    }

    /// The schedule of the fields; `None` for manual rotation only.
    pub fn schedule(&self) -> Result<Option<Schedule>, ScheduleError> {
        self.check_one_kind()?;
        let window = self.rotation_window.filter(|window| !window.is_zero());
        if let Some(expression) = self.rotation_schedule.as_deref().filter(|_| self.has_schedule()) {
            let cron = CronExpression::parse(expression)?;
            return match window {
                Some(window) if window < MIN_WINDOW => Err(ScheduleError::WindowTooShort),
                _ => Ok(Some(Schedule::Cron { cron, window })),
            };
        }
        if window.is_some() {
            return Err(ScheduleError::WindowWithoutSchedule);
        }
        match self.rotation_period.filter(|period| !period.is_zero()) {
            Some(period) if period < MIN_PERIOD => Err(ScheduleError::PeriodTooShort),
            period => Ok(period.map(Schedule::Period)),
        }
    }

    fn check_one_kind(&self) -> Result<(), ScheduleError> {
        match (self.has_period(), self.has_schedule(), self.rotation_window) {
            (true, true, _) => Err(ScheduleError::PeriodAndSchedule),
            (true, false, Some(window)) if !window.is_zero() => Err(ScheduleError::WindowWithPeriod),
            _ => Ok(()),
        }
    }

    fn has_period(&self) -> bool {
        self.rotation_period.is_some_and(|period| !period.is_zero())
    }

    fn has_schedule(&self) -> bool {
        self.rotation_schedule.as_ref().is_some_and(|expression| !expression.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fields(period: Option<u64>, schedule: Option<&str>, window: Option<u64>) -> ScheduleFields {
        ScheduleFields {
            rotation_period: period.map(Duration::from_secs),
            rotation_schedule: schedule.map(str::to_owned),
            rotation_window: window.map(Duration::from_secs),
        }
    }

    #[test]
    fn fields_form_a_schedule_or_an_error() {
        for (fields, sentence) in [
            (
                fields(Some(3600), Some("0 3 * * *"), None),
                "mutually exclusive fields rotation_schedule and rotation_period were both specified; only one of \
                 them can be provided",
            ),
            (fields(Some(3600), None, Some(3600)), "rotation_window does not apply to period"),
            (fields(None, None, Some(3600)), "cannot use rotation_window without rotation_schedule"),
            (fields(Some(0), Some(" "), Some(3600)), "cannot use rotation_window without rotation_schedule"),
            (
                fields(None, Some("61 * * * *"), None),
                "failed to parse provided rotation_schedule: \"61\" is not a valid minute",
            ),
            (
                fields(Some(59), None, None),
                "rotation_period must be 0 (rotation by hand only) or at least 1m",
            ),
            (
                fields(None, Some("0 3 * * *"), Some(60)),
                "rotation_window must be 0 (no limit) or at least 2m",
            ),
        ] {
            let error = fields.schedule().unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
        assert!(matches!(fields(Some(60), Some(""), Some(0)).schedule(), Ok(Some(Schedule::Period(_)))));
        assert!(fields(Some(0), None, None).schedule().unwrap().is_none());
        assert!(matches!(
            fields(Some(0), Some("0 3 * * *"), Some(3600)).schedule(),
            Ok(Some(Schedule::Cron { window: Some(HOUR), .. }))
        ));
    }

    #[test]
    fn an_update_changes_the_sent_fields_and_the_sent_kind_replaces_the_other() {
        let nightly = || fields(None, Some("0 3 * * *"), Some(3600));
        let hourly = || fields(Some(3600), None, None);
        for (stored, sent, now) in [
            (nightly(), fields(None, None, Some(7200)), fields(None, Some("0 3 * * *"), Some(7200))),
            (nightly(), hourly(), hourly()),
            (hourly(), nightly(), nightly()),
            (hourly(), fields(None, None, None), hourly()),
            (nightly(), fields(None, Some(""), None), fields(None, Some(""), None)),
            (hourly(), fields(Some(0), None, None), fields(Some(0), None, None)),
        ] {
            assert_eq!(stored.updated(sent), Ok(now));
        }
        assert!(hourly().updated(fields(None, None, Some(7200))).unwrap().schedule().is_err());
        assert!(nightly().updated(fields(Some(60), None, Some(60))).is_err());
    }

    proptest! {
        #[test]
        fn every_accepted_expression_has_a_next_time(
            text in "[-*/,0-9 LW#?a-z]{0,24}|\\PC{0,40}|([*]|[0-9*/,-]{1,5}|[0-9]{1,3})( ([*]|[0-9*/,-]{1,5}|[0-9]{1,3})){3,5}",
            window in prop::option::of(any::<u32>()),
            now in 0_i64..4_000_000_000,
        ) {
            let fields = fields(None, Some(&text), window.map(u64::from));
            if let Ok(Some(schedule)) = fields.schedule() {
                let now = chrono::DateTime::from_timestamp(now, 0).unwrap();
                prop_assert!(schedule.next(now, now, schedule.spread("a")) > now);
            }
        }
    }

    #[test]
    fn fields_are_stored_as_seconds() {
        let stored = serde_json::to_value(fields(Some(3600), None, None)).unwrap();
        assert_eq!(stored, serde_json::json!({"rotation_period": 3600}));
        assert_eq!(serde_json::from_str::<ScheduleFields>("{}").unwrap(), ScheduleFields::default());
    }
}
