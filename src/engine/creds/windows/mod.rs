//! Creation windows: every credential of a `creds` read has a ledger record or is undone, whatever process dies. The head of
//! `path_creds.rs` says what a crash leaves after each step of a read.
//!
//! A read joins a window ([`Windows::join`]). If no window is open, one write-ahead entry is written. The entry holds the
//! place at OpenAI and a random id; the names of all credentials of the window contain the id. When the read leaves the
//! window, its names are settled, or the window keeps those with an unknown outcome.
//!
//! - `open` holds the windows of this process, and `own` is their part of the tick.
//! - `recovery` is the sweep of other processes' entries. `look_up` is one look-up at OpenAI, for both.
//! - `window` and `legacy` are the stored forms.

mod legacy;
mod look_up;
mod open;
mod own;
mod recovery;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub(in crate::engine) use self::legacy::{LEGACY_ENTRY, LegacyEntry};
use self::look_up::Batch;
pub(in crate::engine) use self::open::{WindowGuard, Windows};
pub(in crate::engine) use self::own::tick;
pub(in crate::engine) use self::recovery::{Recovery, begin};
pub(in crate::engine) use self::window::{Stamp, Target, WINDOW, Window, WindowId};
use crate::engine::accounts::kind::Pending;
use crate::engine::{Engine, Error};
use crate::framework::{Swept, WalLog};
use crate::logical::Storage;
use crate::openai::OrganizationId;

/// The sweep of a window's write-ahead entry. `own.rs` handles the windows of this process.
pub(in crate::engine) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    window: Window,
) -> Result<Swept, Error> {
    let batch = Batch::of(&window);
    if engine.creds.windows.has_id_of(&window) {
        return waits(&engine, &batch).await;
    }
    engine.creds.windows.reserve_id(window.window_id());
    if recovery::sweep(&engine, &*storage, &batch).await? == Swept::Waits {
        return waits(&engine, &batch).await;
    }
    engine.creds.windows.release_id(window.window_id());
    Ok(Swept::Done)
}

/// The sweep of an entry of a late version-1 release.
pub(in crate::engine) async fn sweep_legacy(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    key: String,
    entry: LegacyEntry,
) -> Result<Swept, Error> {
    let batch = entry.batch(key);
    match recovery::sweep(&engine, &*storage, &batch).await? {
        Swept::Done => Ok(Swept::Done),
        Swept::Waits => waits(&engine, &batch).await,
    }
}

/// The entry waits for a later tick. A tainted mount may have none, so the log names the entry.
async fn waits(engine: &Engine, batch: &Batch) -> Result<Swept, Error> {
    if engine.system.tainted().await? {
        tracing::warn!(
            project = %batch.target.project_id, tag = engine.tag.as_str(),
            "{} is not looked up before the mount is moved or disabled: if it is disabled, an account or key whose name \
             ends in the mount's tag may stay at OpenAI",
            batch.entry
        );
    }
    Ok(Swept::Waits)
}

/// Number of entries in this organization whose credentials may be at OpenAI without a ledger record.
pub(in crate::engine) fn unsettled(engine: &Engine, log: &WalLog, organization: &OrganizationId) -> usize {
    let is_unsettled = |window: &Window| {
        window.target.organization_id == *organization && !engine.creds.windows.is_settled(window)
    };
    let legacy = LEGACY_ENTRY.known(log).filter(|entry| entry.organization_id == *organization);
    WINDOW.known(log).filter(is_unsettled).count() + legacy.count()
}

/// Age at which an entry is overdue. A window is reopened for 10 minutes at most. Another process' window is looked up 3
/// and 8 minutes after the mount's start.
const OVERDUE_AGE: Duration = Duration::from_secs(1_320);

/// Entries that should have been deleted by now. The credentials of one entry count as one.
pub(in crate::engine) fn overdue(log: &WalLog, now: DateTime<Utc>) -> Vec<Pending> {
    let windows = WINDOW.swept_from(OVERDUE_AGE).overdue(log).into_iter();
    let windows = windows.map(|(window, age)| {
        Pending::look_up(None, window.id.to_string(), window.target.organization_id, now - age)
    });
    let legacy = LEGACY_ENTRY.swept_from(OVERDUE_AGE).overdue(log).into_iter();
    let legacy = legacy.map(|(entry, age)| {
        let name = entry.names.into_iter().next().unwrap_or_default();
        Pending::look_up(None, name, entry.organization_id, now - age)
    });
    windows.chain(legacy).collect()
}
