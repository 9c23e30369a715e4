//! The tick's work on the windows that this process opened: looks up their unsettled names, ends the credentials of these
//! names, and deletes entries that nothing needs any more.
//!
//! *Guarantees:* a name is looked up only after its request has ended, and [`settles_after`] later. On a tainted mount it
//! is looked up at once. A listing counts only if it began after the look-up was due. No adjustable clock decides any of
//! this. The tick of a tainted mount first waits for the requests.
//!
//! [`settles_after`]: crate::engine::accounts::first_seen::settles_after

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::look_up::{Batch, LookUp};
use super::open::DueWindow;
use crate::engine::config::clients;
use crate::engine::creds::ledger_worker::concerns_all;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::Storage;

/// Number of windows that are looked up concurrently.
const CONCURRENCY: usize = 16;
/// Time for which a tainted mount waits for its requests.
const TAINTED_WAIT: Duration = Duration::from_secs(60);

/// Part of the tick: works on the windows of this process, and forgets old ends of credentials.
pub(in crate::engine) async fn tick(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    engine.creds.recovery.drop_old_ends(engine.clock.monotonic());
    let is_tainted = engine.system.tainted().await?;
    if is_tainted {
        let wait = timeout_at(Instant::now() + TAINTED_WAIT, engine.creds.windows.wait_until_empty());
        // After a timeout the entries of the remaining requests stay.
        let _ = wait.await;
    }
    // Concurrently, so that a project that OpenAI does not list delays no other window.
    let due = engine.creds.windows.due(is_tainted).into_iter();
    let work = due.map(|due| settle(engine, &*tick.storage, due, is_tainted).boxed()).collect::<Vec<_>>();
    let mut work = stream::iter(work).buffer_unordered(CONCURRENCY);
    let mut failure = None;
    // The next tick repeats interrupted work. A tainted mount may have no next tick.
    let deadline = if is_tainted { tick.deadline + TAINTED_WAIT } else { tick.deadline };
    while let Ok(Some(result)) = timeout_at(deadline, work.next()).await {
        match result {
            Ok(()) => {}
            Err(error) if concerns_all(engine, &error) => return Err(error),
            Err(error) => failure = Some(error),
        }
        if tick.cancelled.is_cancelled() {
            break;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Looks up the unsettled names of a window, and deletes the entry once nothing needs the entry.
async fn settle(
    engine: &Engine,
    storage: &dyn Storage,
    due: DueWindow,
    is_tainted: bool,
) -> Result<(), Error> {
    let DueWindow { window, unsettled, listed_since } = due;
    if !unsettled.is_empty() {
        if is_tainted {
            engine.clock.pause(listed_since.saturating_sub(engine.clock.monotonic())).await;
        }
        let batch = Batch::of(&window);
        let organization = &batch.target.organization_id;
        // Without a client for this organization the work waits for another configuration.
        let Some(client) = clients::client_in_reach(engine, storage, organization).await? else {
            return Ok(());
        };
        let look_up = LookUp::new(engine, storage, &client, &batch, listed_since);
        if !look_up.of_names(&unsettled).await? {
            engine.creds.windows.postpone(&window, &unsettled);
            return Ok(());
        }
    }
    if engine.creds.windows.settle(&window, &unsettled, is_tainted) {
        failpoint!("sweep.own_window_over");
        storage.delete(&window.key()).await?;
        engine.creds.windows.remove(&window);
    }
    Ok(())
}
