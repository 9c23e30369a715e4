//! Watches the clocks: asks OpenAI for the time where that is in doubt, and notices that this machine's clock was put
//! back, which an index by time would not survive: what was planned under the wrong time would lie in a future that
//! does not come for long.
//!
//! It keeps the latest time that a tick saw, in storage, so that a restart does not forget it. It knows nothing of what
//! is planned.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{Pages, Urgency};

/// The latest time that a tick saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    at: DateTime<Utc>,
}

impl Record for Seen {
    const VERSION: u32 = 1;
}

pub(in crate::engine) static SEEN: Collection<Seen> = Collection::new("tick-seen");
/// The name of the only record.
const ONLY: &str = "";

/// A step back of less is an adjustment. The time is written down this often, so that it costs next to nothing.
const SLACK: TimeDelta = TimeDelta::minutes(10);

/// The longest that a tick waits for OpenAI to tell the time.
const ASKING: Duration = Duration::from_secs(5);

/// Has OpenAI tell the time where it is in doubt, as after a start: what ends by time would else wait for the next call.
pub(in crate::engine) async fn ask_openai(engine: &Engine, tick: &Tick) {
    if engine.times.are_in_doubt() {
        ask(engine, tick).await;
    }
}

/// Asks OpenAI for anything, where calls have failed and none has succeeded since: `health` would else tell of an outage
/// until the next request.
pub(in crate::engine) async fn ask_while_failing(engine: &Engine, tick: &Tick) {
    if engine.clients.pulse().beat().failing_since.is_some() && !tick.is_over() {
        ask(engine, tick).await;
    }
}

async fn ask(engine: &Engine, tick: &Tick) {
    let Ok(configured) = engine.configured(&*tick.storage).await else { return };
    let client = configured.client.for_work(Urgency::Check, ASKING);
    // The date is noted where every answer's is. If there is none, what ends by time waits for a later tick.
    drop(timeout(ASKING, client.next_admin_keys(&mut Pages::within(ASKING))).await);
}

impl Engine {
    /// Whether the clock was put back since it was last written down, or may have been: what was written down cannot be
    /// read.
    pub(in crate::engine) async fn clock_went_back(&self, storage: &dyn Storage) -> Result<bool, Error> {
        let now = self.now();
        match self.seen.get(storage, ONLY).await {
            Err(StorageError::Malformed { .. }) => Ok(true),
            seen => Ok(seen?.is_some_and(|seen| seen.at - now > SLACK)),
        }
    }

    /// Writes the time down, if it is worth it.
    pub(in crate::engine) async fn note_time(&self, storage: &dyn Storage) -> Result<(), Error> {
        let now = self.now();
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
    use crate::engine::time::clock::Clock;
    use crate::logical::{FixedSystem, InMemory, Setup};

    /// Minutes since 1970.
    #[derive(Debug)]
    struct Minutes(i64);

    impl Clock for Minutes {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH + TimeDelta::minutes(self.0)
        }
    }

    /// An engine on this storage, at this minute.
    fn engine(storage: &Arc<InMemory>, minute: i64) -> Engine {
        let setup = Setup {
            config: std::collections::HashMap::new(),
            backend_uuid: "7e5f".to_owned(),
            storage: Arc::<InMemory>::clone(storage),
            system: Arc::new(FixedSystem::default()),
        };
        Engine::new(&Engines::by(Arc::new(Minutes(minute))), &setup)
    }

    #[tokio::test]
    async fn a_clock_put_back_is_noticed_after_a_restart_too_until_the_time_is_noted() {
        let storage = Arc::new(InMemory::new());
        let went_back = async |minute| engine(&storage, minute).clock_went_back(&*storage).await.unwrap();
        assert!(!went_back(500).await);
        engine(&storage, 500).note_time(&*storage).await.unwrap();
        assert!(!went_back(491).await);
        assert!(went_back(400).await);
        engine(&storage, 400).note_time(&*storage).await.unwrap();
        assert!(!went_back(400).await);
    }

    #[tokio::test]
    async fn the_time_is_written_down_now_and_then() {
        let storage = Arc::new(InMemory::new());
        for minute in 0..40 {
            engine(&storage, minute).note_time(&*storage).await.unwrap();
        }
        assert_eq!(storage.calls().puts, 4);
    }
}
