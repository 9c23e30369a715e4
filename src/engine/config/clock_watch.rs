//! Watches the clocks: reads OpenAI's time if it is in doubt, and detects that this machine's clock was set back. After
//! that, the entries of the due index would lie too far in the future.
//!
//! The time of the latest tick is stored, so the detection survives a restart.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{Pages, Urgency};

/// The time at which the latest tick began.
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

/// Largest tolerated step back, and the interval between writes of the time.
const SLACK: TimeDelta = TimeDelta::minutes(10);

/// Maximum time that a tick waits for OpenAI's time.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Calls OpenAI to read its time if that is in doubt, as after a start. Expiries would otherwise wait for the next call.
pub(in crate::engine) async fn ask_openai(engine: &Engine, tick: &Tick) {
    if engine.times.are_in_doubt() {
        ask(engine, tick).await;
    }
}

/// Calls OpenAI during an outage, and while OpenAI refuses the admin key. `health` and the metrics would otherwise report
/// that until the next request.
pub(in crate::engine) async fn ask_while_failing(engine: &Engine, tick: &Tick) {
    if engine.config.clients.openai_status().outcomes().are_failing() && !tick.is_over() {
        ask(engine, tick).await;
    }
}

async fn ask(engine: &Engine, tick: &Tick) {
    let Ok(configured) = clients::configured(engine, &*tick.storage).await else { return };
    let client = configured.client.for_work(Urgency::Check, MAX_WAIT);
    // The client's observer records the date. Without a date, expiries wait for a later tick.
    drop(timeout(MAX_WAIT, client.next_admin_keys(&mut Pages::within(MAX_WAIT))).await);
}

/// True if the clock was set back since the time was stored, or if the stored time is unreadable. `now` is the time at which
/// the tick begins.
pub(in crate::engine) async fn clock_went_back(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    match engine.config.seen.get(storage, ONLY).await {
        Err(StorageError::Malformed { .. }) => Ok(true),
        seen => Ok(seen?.is_some_and(|seen| seen.at - now > SLACK)),
    }
}

/// Stores the time at which the tick began, if it differs enough from the stored time. A later time would hide that the clock
/// was set back during the tick.
pub(in crate::engine) async fn note_time(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let seen = engine.config.seen.get_readable(storage, ONLY).await?;
    if seen.is_none_or(|seen| (now - seen.at).abs() > SLACK) {
        engine.config.seen.put(storage, ONLY, &Seen { at: now }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Engines;
    use crate::logical::{FixedSystem, InMemory, Setup};

    /// An engine on this storage, after a start.
    fn engine(storage: &Arc<InMemory>) -> Engine {
        let setup = Setup {
            config: std::collections::HashMap::new(),
            backend_uuid: "7e5f".to_owned(),
            storage: Arc::<InMemory>::clone(storage),
            system: Arc::new(FixedSystem::default()),
        };
        Engine::new(&Engines::default(), &setup)
    }

    /// Minutes since 1970.
    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
    }

    #[tokio::test]
    async fn a_clock_set_back_is_detected_across_a_restart_until_the_time_is_stored() {
        let storage = Arc::new(InMemory::new());
        let went_back =
            async |minute| clock_went_back(&engine(&storage), &*storage, at(minute)).await.unwrap();
        assert!(!went_back(500).await);
        note_time(&engine(&storage), &*storage, at(500)).await.unwrap();
        assert!(!went_back(491).await);
        assert!(went_back(400).await);
        note_time(&engine(&storage), &*storage, at(400)).await.unwrap();
        assert!(!went_back(400).await);
    }

    #[tokio::test]
    async fn the_time_is_stored_every_ten_minutes() {
        let storage = Arc::new(InMemory::new());
        for minute in 0..40 {
            note_time(&engine(&storage), &*storage, at(minute)).await.unwrap();
        }
        assert_eq!(storage.calls().puts, 4);
    }
}
