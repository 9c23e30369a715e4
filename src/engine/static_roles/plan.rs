//! The due times of a static role, and the `ttl` and `rotation_period` of its answers. The functions are pure: the caller
//! passes the time.
//!
//! *Guarantees:* a role with automatic rotation, or with a key to delete, always has a next due time. The answered `ttl`
//! never starts over before the new key is stored, and is never 0.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::record::{Current, Ending, StaticRole};
use super::settings::ROOM_TO_RETRY;
use crate::engine::Error;
use crate::engine::time::clock::Times;
use crate::engine::time::schedule::Schedule;
use crate::openai::LONGEST_EXPIRY;

/// The answered `ttl` while a rotation is overdue. A key without a grace period dies with the rotation, so readers should
/// come back soon.
const SOON: Duration = Duration::from_secs(10);

/// The answered `rotation_period` of a role with rotation by hand only. Clients need a number of at least 1.
const BY_HAND: Duration = LONGEST_EXPIRY;

impl StaticRole {
    /// The time of the next try to rotate. A past time is due in the next tick. `None` for rotation by hand only.
    pub fn next_rotation(&self, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let schedule = self.settings.schedule()?;
        let Some(planned) = self.planned(schedule.as_ref(), name, now) else { return Ok(None) };
        Ok(Some(self.retry.waits_until(now).map_or(planned, |retry| planned.max(retry))))
    }

    /// True if a rotation may start. Both clocks must be past its planned time: a wrong clock alone would rotate a key long
    /// before its readers come back. But OpenAI's clock alone ends a key that expires.
    pub fn is_due(&self, name: &str, times: &Times) -> Result<bool, Error> {
        let (schedule, now) = (self.settings.schedule()?, times.now());
        if self.retry.waits(now) {
            return Ok(false);
        }
        let any_time = schedule.as_ref().map(Schedule::without_window);
        let is_planned = |schedule: Option<&Schedule>, now| {
            self.planned(schedule, name, now).is_some_and(|planned| planned <= now)
        };
        let agreed =
            times.agree(|now| is_planned(schedule.as_ref(), now), |now| is_planned(any_time.as_ref(), now));
        let expires = self.current.as_ref().and_then(Current::replaced_by);
        Ok(agreed || times.are_known() && expires.is_some_and(|at| at <= now))
    }

    /// The time since which a rotation is due, whatever the planned next try after a failure.
    pub fn overdue_since(&self, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let planned = self.planned(self.settings.schedule()?.as_ref(), name, now);
        Ok(planned.filter(|planned| *planned <= now))
    }

    /// The time of the worker's next work. A past time is due in the next tick. `None` if there is no work.
    pub fn next_look(&self, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        Ok(self.making.next_look(now).into_iter().chain(self.next_step(name, now)?).min())
    }

    /// The time of the next rotation, or of the next work on a replaced key.
    pub fn next_step(&self, name: &str, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let rotation = self.next_rotation(name, now)?;
        Ok(self.ending.iter().map(|old| old.next(now)).chain(rotation).min())
    }

    /// The answered `rotation_period`: the planned lifetime of the current key. It is constant until the next rotation.
    pub fn told_period(&self) -> Result<Duration, Error> {
        let schedule = self.settings.schedule()?;
        Ok(if schedule.is_some() { self.period(schedule.as_ref()) } else { BY_HAND })
    }

    /// The answered `ttl`: whole seconds after which a reader should come back.
    pub fn told_ttl(&self, name: &str, now: DateTime<Utc>) -> Result<Duration, Error> {
        let wait = match self.next_rotation(name, now)? {
            None => self.settings.ttl,
            Some(next) if next <= now => SOON,
            Some(next) => (next - now).to_std().unwrap_or_default(),
        };
        let seconds = wait.as_millis().div_ceil(1000).min(self.settings.ttl.as_secs().into()).max(1);
        Ok(Duration::from_secs(seconds as u64))
    }

    /// The planned time of the next rotation, without regard to failures: the earliest of the schedule, a failed rotation
    /// by hand, and the current key's expiry.
    fn planned(&self, schedule: Option<&Schedule>, name: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let current = self.current.as_ref()?;
        let by_schedule =
            schedule.map(|schedule| schedule.next(now, current.last_rotation, schedule.spread(name)));
        // A request in the future means that the clock was ahead then.
        let asked = self.asked.map(|asked| asked.at.min(now));
        asked.into_iter().chain(by_schedule).chain(current.replaced_by()).min()
    }

    /// Longest wait of a retry: the time between rotations; zero (no limit) for rotation by hand only.
    pub fn longest_wait(&self) -> Result<Duration, Error> {
        Ok(self.period(self.settings.schedule()?.as_ref()))
    }

    fn period(&self, schedule: Option<&Schedule>) -> Duration {
        let (Some(schedule), Some(current)) = (schedule, &self.current) else { return Duration::ZERO };
        schedule.approximate_period(current.last_rotation)
    }
}

impl Current {
    /// The latest time to replace a key that expires at OpenAI. The schedule may have changed since the key's creation, or
    /// its window may have been missed.
    fn replaced_by(&self) -> Option<DateTime<Utc>> {
        let room = self.key_ttl.saturating_sub(ROOM_TO_RETRY);
        (!self.key_ttl.is_zero()).then(|| self.last_rotation + room)
    }
}

impl Ending {
    /// The time of the next work on this key. Its end is set at OpenAI at once, and the key is deleted at its end. A failure
    /// to set the end does not delay the deletion, unless the organization is out of reach.
    pub fn next(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let due = if self.limited { self.ends } else { self.ends.min(now) };
        self.retry.waits_until(now).map_or(due, |retry| retry.max(due))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::engine::accounts::first_seen;
    use crate::engine::static_roles::ending::note_failure;

    /// A role whose key was made at this second of time.
    fn role(settings: serde_json::Value, made: i64) -> StaticRole {
        let mut stored = json!({
            "project": "research", "api_key_name": "k", "ttl": 86_400,
            "organization_id": "org-1", "account_project_id": "proj_1", "given_account_id": "svc_1",
            "current": {
                "service_account_id": "svc_1", "service_account": "s", "made_account": false,
                "api_key_id": "key_1", "unique_name": "k-1", "api_key": "sk-1",
                "last_rotation": time(made).to_rfc3339(),
            },
        });
        stored.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        serde_json::from_value(stored).unwrap()
    }

    fn hourly(made: i64) -> StaticRole {
        role(json!({"rotation_period": 3600}), made)
    }

    fn ending(ends: i64, limited: bool) -> serde_json::Value {
        json!({
            "service_account_id": "svc_1", "api_key_id": "key_0", "unique_name": "k-0", "with_account": false,
            "ends": time(ends).to_rfc3339(), "limited": limited,
        })
    }

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_next_look_is_for_whatever_is_due_first() {
        let mut role = hourly(0);
        assert!(role.next_look("a", time(9_000)).unwrap().unwrap() <= time(9_000));
        role.current.as_mut().unwrap().last_rotation = time(9_000);
        assert!(role.next_look("a", time(9_000)).unwrap().unwrap() > time(12_000));
        role.ending = vec![serde_json::from_value(ending(9_001, true)).unwrap()];
        assert_eq!(role.next_look("a", time(9_000)).unwrap(), Some(time(9_001)));
    }

    #[test]
    fn a_failure_puts_off_the_next_try_and_is_told_to_readers() {
        let mut role = hourly(0);
        role.retry.failed("a", &"no", time(4_000), role.longest_wait().unwrap());
        let next = role.next_rotation("a", time(4_000)).unwrap().unwrap();
        assert!(next > time(4_025) && next <= time(4_030), "{next}");
        let told = role.told_ttl("a", time(4_000)).unwrap().as_secs();
        assert_eq!(told, ((next - time(4_000)).num_milliseconds() as u64).div_ceil(1000));
        // It is no reason to be early, nor to wait for a clock that was put back.
        role.current.as_mut().unwrap().last_rotation = time(3_999);
        assert!(role.next_rotation("a", time(4_000)).unwrap().unwrap() >= time(7_599));
        role.current.as_mut().unwrap().last_rotation = time(0);
        role.retry.next_try = Some(time(999_999));
        assert!(role.next_rotation("a", time(4_000)).unwrap().unwrap() <= time(4_000));
    }

    #[test]
    fn the_end_of_a_grace_is_told_to_openai_at_once_and_kept_then() {
        let mut old: Ending = serde_json::from_value(ending(1_000, false)).unwrap();
        assert_eq!(old.next(time(500)), time(500));
        note_failure(&mut old, &Error::KeyInDoubt, time(990));
        assert!(old.next(time(991)) <= time(1_000), "failures to tell do not put off the end");
        old.limited = true;
        note_failure(&mut old, &Error::KeyInDoubt, time(1_000));
        assert!(old.next(time(1_000)) > time(1_020), "failures to end do");
        old.retry.succeeded();
        assert_eq!(old.next(time(500)), time(1_000));
    }

    #[test]
    fn what_is_deleted_has_nothing_to_do_but_to_go() {
        let mut role = role(json!({"rotation_period": 0}), 0);
        assert_eq!(role.next_look("a", time(5)).unwrap(), None);
        role.delete(time(4));
        assert_eq!(role.next_look("a", time(5)).unwrap(), Some(time(4)));
        assert_eq!(role.told_ttl("a", time(5)).unwrap(), role.settings.ttl);
        assert!(role.current("a").unwrap_err().to_string().contains("is being deleted"));
    }

    #[test]
    fn what_is_being_made_is_looked_for_when_its_name_has_settled() {
        let mut role = role(json!({"rotation_period": 0}), 0);
        role.begin_making("k-2".to_owned(), None, time(7)).unwrap();
        assert_eq!(role.next_look("a", time(8)).unwrap(), Some(time(7) + first_seen::settles_after()));
        assert!(!role.id.is_empty());
    }

    #[test]
    fn a_role_is_stored_and_read_back_as_it_was() {
        let mut role = role(json!({"rotation_schedule": "0 3 * * *", "rotation_window": 7200}), 77);
        role.ending = vec![serde_json::from_value(ending(9, true)).unwrap()];
        role.retry.failed("a", &"no", time(8), Duration::ZERO);
        role.begin_making("k-2".to_owned(), Some(&"svc_1".parse().unwrap()), time(7)).unwrap();
        let stored = serde_json::to_value(&role).unwrap();
        let read: StaticRole = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), stored);
        assert!(!format!("{role:?}").contains("sk-1"));
    }

    fn any_settings() -> impl Strategy<Value = serde_json::Value> {
        prop_oneof![
            (60_u64..1_000_000).prop_map(|period| json!({"rotation_period": period})),
            Just(json!({"rotation_period": 0})),
            Just(json!({"rotation_schedule": "*/7 * * * *"})),
            Just(json!({"rotation_schedule": "0 3 * * MON", "rotation_window": 600})),
        ]
    }

    proptest! {
        #[test]
        fn readers_are_told_a_time_and_a_period_that_make_sense(
            settings in any_settings(), made in 0_i64..4_000_000, now in 0_i64..4_000_000, ttl in 1_u64..100_000,
            failures in 0_u32..9, name in "[a-z]{1,8}",
        ) {
            let mut role = role(settings, made);
            role.settings.ttl = Duration::from_secs(ttl);
            for _ in 0..failures {
                role.retry.failed(&name, &"no", time(now), role.longest_wait().unwrap());
            }
            let told = role.told_ttl(&name, time(now)).unwrap().as_secs();
            prop_assert!(told >= 1 && told <= ttl);
            prop_assert!(role.told_period().unwrap().as_secs() >= 1);
            prop_assert_eq!(role.told_period().unwrap(), role.told_period().unwrap());
        }

        #[test]
        fn a_role_with_something_ahead_always_has_a_next_look(
            settings in any_settings(), now in 0_i64..4_000_000, ends in 0_i64..4_000_000, limited: bool,
        ) {
            let mut role = role(settings, 1_000);
            role.ending = vec![serde_json::from_value(ending(ends, limited)).unwrap()];
            prop_assert!(role.next_look("a", time(now)).unwrap().is_some());
        }
    }
}
