//! Notices that the clock was put back, which an index by time would not survive: what was planned under the wrong
//! time would lie in a future that does not come for long.
//!
//! It keeps the latest time that a tick saw, in storage, so that a restart does not forget it. It knows nothing of what
//! is planned.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Engine, Error};
use crate::logical::{Collection, Record, Storage, StorageError};

/// The latest time that a tick saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    at: DateTime<Utc>,
}

impl Record for Seen {
    const VERSION: u32 = 1;
}

pub(super) static SEEN: Collection<Seen> = Collection::new("tick-seen");
/// The name of the only record.
const ONLY: &str = "";

/// A step back of less is an adjustment. The time is written down this often, so that it costs next to nothing.
const SLACK: TimeDelta = TimeDelta::minutes(10);

impl Engine {
    /// Whether the clock was put back since it was last written down, or may have been: what was written down cannot be
    /// read.
    pub(super) async fn clock_went_back(
        &self,
        storage: &dyn Storage,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        match self.seen.get(storage, ONLY).await {
            Err(StorageError::Malformed { .. }) => Ok(true),
            seen => Ok(seen?.is_some_and(|seen| seen.at - now > SLACK)),
        }
    }

    /// Writes the time down, if it is worth it.
    pub(super) async fn note_time(&self, storage: &dyn Storage, now: DateTime<Utc>) -> Result<(), Error> {
        let seen = self.seen.get_readable(storage, ONLY).await?;
        if seen.is_none_or(|seen| (now - seen.at).abs() > SLACK) {
            self.seen.put(storage, ONLY, &Seen { at: now }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Engines;
    use crate::logical::{FixedSystem, InMemory, Setup};

    fn engine(storage: &Arc<InMemory>) -> Engine {
        let setup = Setup {
            config: std::collections::HashMap::new(),
            backend_uuid: "7e5f".to_owned(),
            storage: Arc::<InMemory>::clone(storage),
            system: Arc::new(FixedSystem::default()),
        };
        Engine::new(&Engines::default(), &setup)
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    #[tokio::test]
    async fn a_clock_put_back_is_noticed_after_a_restart_too_until_the_time_is_noted() {
        let storage = Arc::new(InMemory::new());
        let before = engine(&storage);
        assert!(!before.clock_went_back(&*storage, at(500)).await.unwrap());
        before.note_time(&*storage, at(500)).await.unwrap();
        let engine = engine(&storage);
        assert!(!engine.clock_went_back(&*storage, at(491)).await.unwrap());
        assert!(engine.clock_went_back(&*storage, at(400)).await.unwrap());
        engine.note_time(&*storage, at(400)).await.unwrap();
        assert!(!engine.clock_went_back(&*storage, at(400)).await.unwrap());
    }

    #[tokio::test]
    async fn the_time_is_written_down_now_and_then() {
        let storage = Arc::new(InMemory::new());
        let engine = engine(&storage);
        for minute in 0..40 {
            engine.note_time(&*storage, at(minute)).await.unwrap();
        }
        assert_eq!(storage.calls().puts, 4);
    }
}
