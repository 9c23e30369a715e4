//! Clocks, schedules, cron expressions, back-off, and the stored forms of times and durations.

pub mod backoff;
pub mod clock;
pub mod cron;
pub(in crate::engine) mod due_index;
pub(in crate::engine) mod intervals;
pub(in crate::engine) mod key_lifetime;
pub mod rfc3339;
pub mod schedule;
pub mod schedule_fields;
pub mod seconds;
