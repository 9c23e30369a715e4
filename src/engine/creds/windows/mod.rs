//! Creation windows: how what is made for a `creds` read is owned or undone, whatever dies meanwhile.
//!
//! 1. A read joins a window ([`Windows::join`]). If none is open, one write-ahead entry is written: where credentials
//!    are made, and a random id, which the names of all of them end in.
//! 2. It asks OpenAI, writes the ledger record, and answers. It leaves the window settled, or it leaves a name behind
//!    that has to be looked up.
//! 3. A tick deletes the entry when nobody is inside and all is settled. What was left is looked up and ended first.
//! 4. After a crash the next process finds the entry, and looks up every name with its id ([`sweep`]).

mod legacy;
mod look;
mod open;
mod recovery;
mod survey;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

pub(in crate::engine) use self::legacy::{ANNOUNCEMENT, Announcement};
use self::look::Batch;
pub(in crate::engine) use self::open::{Inside, Windows};
pub(in crate::engine) use self::recovery::{Recovery, begin, tick};
pub(in crate::engine) use self::window::{Stamp, Triple, WINDOW, Window, WindowId};
use crate::engine::{Engine, Error};
use crate::framework::Swept;
use crate::logical::Storage;

/// The sweep of a window's write-ahead entry. One of this process is the tick's.
pub(in crate::engine) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    window: Window,
) -> Result<Swept, Error> {
    if engine.windows.has_own_like(&window) {
        engine.recovery.forget(&window.key());
        return Ok(Swept::Waits);
    }
    engine.windows.take_id(window.window_id());
    let swept = recovery::sweep(&engine, &*storage, &Batch::of(&window)).await?;
    if swept == Swept::Done {
        engine.windows.free_id(window.window_id());
    }
    Ok(swept)
}

/// The sweep of an entry that the version before wrote.
pub(in crate::engine) async fn sweep_legacy(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    key: String,
    announcement: Announcement,
) -> Result<Swept, Error> {
    recovery::sweep(&engine, &*storage, &announcement.batch(key)).await
}
