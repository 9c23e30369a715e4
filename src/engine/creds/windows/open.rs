//! The windows that this process opened: their requests, and the names whose outcome is unknown.
//!
//! A name is *settled* when its credential is about to be answered, or surely not at OpenAI. Before, the name is
//! *unsettled*.
//!
//! *Guarantees:* the write-ahead entry of a window is stored before the first request enters. Requests that arrive
//! during this write share the write; later requests wait for nothing. A name is unsettled from before OpenAI is asked
//! until [`WindowGuard::settle`], however the request ends.
//!
//! *Time:* a request's age is measured by the monotonic clock and by the wall clock, and the larger age counts. A wrong
//! wall clock may make requests fail early, but no request runs longer.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::window::{Stamp, Target, WINDOW, Window, WindowId};
use crate::engine::Error;
use crate::engine::accounts::first_seen::settles_after;
use crate::engine::accounts::lost::LONGEST_LAG;
use crate::engine::time::clock::Clock;
use crate::logical::{Storage, StorageError};

/// Time after an opening in which requests may join.
const JOINABLE_FOR: Duration = Duration::from_secs(10);
/// Time after the last opening in which requests may act. A new leader looks the window up 3 minutes after its start.
const MAX_REQUEST_AGE: Duration = Duration::from_secs(90);
/// Time after the first opening in which a window with unsettled names may be reopened. Reopening keeps the number of
/// entries small while OpenAI times out.
const REOPENABLE_FOR: Duration = Duration::from_secs(600);

/// The windows of one mount that this process opened.
pub(in crate::engine) struct Windows {
    clock: Arc<dyn Clock>,
    own: Mutex<HashMap<Target, Vec<OwnWindow>>>,
    /// Ids that no new window may have: ids of these windows, and of entries that other processes wrote.
    reserved: Mutex<HashSet<WindowId>>,
    /// Wakes waiters when a request leaves a window.
    left: Notify,
}

/// A window of this process. It exists as long as its entry may be stored.
struct OwnWindow {
    window: Window,
    /// Time of the last opening, from which the age of its requests counts.
    opened: Moment,
    /// Time of the first opening, by the monotonic clock.
    first_opened: Duration,
    entry_write: EntryWrite,
    /// Number of requests in the window.
    requests: usize,
    unsettled: Vec<Unsettled>,
    /// True from the beginning of the entry's deletion; no request may join any more.
    is_closed: bool,
}

/// An unsettled name without a request.
struct Unsettled {
    name: String,
    /// Time when the request left the window, or of the last look-up without a result, by the monotonic clock.
    since: Duration,
}

/// The write of an entry, shared by the requests that wait for it.
type EntryWrite = Shared<BoxFuture<'static, Result<(), StorageError>>>;

/// A reading of both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    monotonic: Duration,
    wall: DateTime<Utc>,
}

/// A request's place in a window. On drop, the request leaves the window, and its unsettled names stay with the window.
#[must_use = "the request leaves the window when this is dropped"]
pub(in crate::engine) struct WindowGuard {
    windows: Arc<Windows>,
    window: Window,
    opened: Moment,
    unsettled: Vec<String>,
}

/// A window that needs work: names to look up, or an entry to delete.
pub(super) struct DueWindow {
    pub(super) window: Window,
    /// Names to look up.
    pub(super) unsettled: Vec<String>,
    /// Earliest start of a listing that decides about these names, by the monotonic clock.
    pub(super) listed_since: Duration,
}

impl Windows {
    /// No windows yet.
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, own: Mutex::default(), reserved: Mutex::default(), left: Notify::new() }
    }

    /// Joins an open window of this target, or opens one.
    pub(in crate::engine) async fn join(
        self: &Arc<Self>,
        storage: &Arc<dyn Storage>,
        target: Target,
    ) -> Result<WindowGuard, StorageError> {
        let (guard, entry_write) = self.enter(storage, target);
        entry_write.await?;
        Ok(guard)
    }

    fn enter(self: &Arc<Self>, storage: &Arc<dyn Storage>, target: Target) -> (WindowGuard, EntryWrite) {
        let now = self.now();
        let mut own = self.own.lock();
        let windows = own.entry(target.clone()).or_default();
        let open = windows.iter().position(|window| window.is_joinable(&now));
        let place = open.unwrap_or_else(|| {
            if let Some(place) = windows.iter().position(|window| window.is_reopenable(&now)) {
                windows[place].reopen(&now, storage);
                return place;
            }
            windows.push(OwnWindow::new(self.new_window(target), &now, storage));
            windows.len() - 1
        });
        let window = &mut windows[place];
        window.requests += 1;
        let guard = WindowGuard {
            windows: Arc::clone(self),
            window: window.window.clone(),
            opened: window.opened,
            unsettled: Vec::new(),
        };
        (guard, window.entry_write.clone())
    }

    /// A window with an unused id, so that its names cannot be mistaken for names of another window.
    fn new_window(&self, target: Target) -> Window {
        loop {
            let id = Uuid::new_v4();
            if self.reserve_id(WindowId::of(id)) {
                return Window { target, id, opened: self.clock.now() };
            }
        }
    }

    /// Reserves this id, so that no new window gets it. Returns false if the id was reserved before.
    pub(super) fn reserve_id(&self, id: WindowId) -> bool {
        self.reserved.lock().insert(id)
    }

    /// Releases an id after its entry was deleted.
    pub(super) fn release_id(&self, id: WindowId) {
        let mut reserved = self.reserved.lock();
        reserved.remove(&id);
        if reserved.is_empty() {
            *reserved = HashSet::new();
        }
    }

    /// True if this process has a window with the same [`WindowId`].
    pub(super) fn has_id_of(&self, window: &Window) -> bool {
        let id = window.window_id();
        self.own.lock().values().flatten().any(|own| own.window.window_id() == id)
    }

    /// True if this process opened the window, and no name of the window is unsettled.
    pub(super) fn is_settled(&self, window: &Window) -> bool {
        self.update(window, |own| own.requests == 0 && own.unsettled.is_empty()).unwrap_or(false)
    }

    /// Windows that need work now. On a tainted mount all unsettled names are due.
    pub(super) fn due(&self, is_tainted: bool) -> Vec<DueWindow> {
        let now = self.now();
        self.own.lock().values().flatten().filter_map(|own| own.due(&now, is_tainted)).collect()
    }

    /// Settles these names. Closes the window if nothing needs its entry any more; returns true if the window is
    /// closed.
    pub(super) fn settle(&self, window: &Window, settled: &[String], is_tainted: bool) -> bool {
        let now = self.now();
        self.update(window, |own| {
            own.unsettled.retain(|unsettled| !settled.contains(&unsettled.name));
            own.is_closed = own.is_over(&now, is_tainted);
            own.is_closed
        })
        .unwrap_or(false)
    }

    /// Postpones the look-up of these names by the full delay.
    pub(super) fn postpone(&self, window: &Window, names: &[String]) {
        let now = self.clock.monotonic();
        self.update(window, |own| {
            let postponed = own.unsettled.iter_mut().filter(|unsettled| names.contains(&unsettled.name));
            postponed.for_each(|unsettled| unsettled.since = now);
        });
    }

    /// Removes a window after its entry was deleted.
    pub(super) fn remove(&self, window: &Window) {
        self.release_id(window.window_id());
        let mut own = self.own.lock();
        if let Some(windows) = own.get_mut(&window.target) {
            windows.retain(|own| own.window.id != window.id);
            if windows.is_empty() {
                own.remove(&window.target);
            }
        }
    }

    /// Waits until no window has a request.
    pub(super) async fn wait_until_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.own.lock().values().flatten().all(|own| own.requests == 0) {
                return;
            }
            left.await;
        }
    }

    fn leave(&self, window: &Window, unsettled: Vec<String>) {
        let since = self.clock.monotonic();
        self.update(window, |own| {
            own.requests -= 1;
            own.unsettled.extend(unsettled.into_iter().map(|name| Unsettled { name, since }));
        });
        self.left.notify_waiters();
    }

    fn update<T>(&self, window: &Window, update: impl FnOnce(&mut OwnWindow) -> T) -> Option<T> {
        let mut own = self.own.lock();
        own.get_mut(&window.target)?.iter_mut().find(|own| own.window.id == window.id).map(update)
    }

    fn now(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall: self.clock.now() }
    }
}

impl OwnWindow {
    fn new(window: Window, now: &Moment, storage: &Arc<dyn Storage>) -> Self {
        Self {
            entry_write: write_entry(&window, storage),
            window,
            opened: *now,
            first_opened: now.monotonic,
            requests: 0,
            unsettled: Vec::new(),
            is_closed: false,
        }
    }

    /// Starts another write of the entry. The age of the window's next requests counts from now.
    fn reopen(&mut self, now: &Moment, storage: &Arc<dyn Storage>) {
        self.window.opened = now.wall;
        self.opened = *now;
        self.entry_write = write_entry(&self.window, storage);
    }

    fn is_joinable(&self, now: &Moment) -> bool {
        let has_failed = matches!(self.entry_write.peek(), Some(Err(_)));
        !self.is_closed && !has_failed && now.since(&self.opened) < JOINABLE_FOR
    }

    fn is_reopenable(&self, now: &Moment) -> bool {
        let is_left = self.requests == 0 && !self.is_joinable(now);
        let age = now.monotonic.saturating_sub(self.first_opened);
        is_left && !self.unsettled.is_empty() && age < REOPENABLE_FOR
    }

    /// True if nothing needs the entry any more.
    fn is_over(&self, now: &Moment, is_tainted: bool) -> bool {
        self.requests == 0 && self.unsettled.is_empty() && (!self.is_joinable(now) || is_tainted)
    }

    fn due(&self, now: &Moment, is_tainted: bool) -> Option<DueWindow> {
        let is_due = |since: Duration| is_tainted || now.monotonic.saturating_sub(since) >= settles_after();
        let due: Vec<_> = self.unsettled.iter().filter(|unsettled| is_due(unsettled.since)).collect();
        if due.is_empty() && !self.is_over(now, is_tainted) {
            return None;
        }
        let last = due.iter().map(|unsettled| unsettled.since).max().unwrap_or_default();
        Some(DueWindow {
            window: self.window.clone(),
            unsettled: due.iter().map(|unsettled| unsettled.name.clone()).collect(),
            listed_since: last + if is_tainted { LONGEST_LAG } else { settles_after() },
        })
    }
}

fn write_entry(window: &Window, storage: &Arc<dyn Storage>) -> EntryWrite {
    let (window, storage) = (window.clone(), Arc::clone(storage));
    let write = async move { WINDOW.write(&*storage, window.key(), &window).await };
    write.boxed().shared()
}

impl Moment {
    /// Time since an earlier moment, by the clock that shows more.
    fn since(&self, earlier: &Self) -> Duration {
        let wall = (self.wall - earlier.wall).to_std().unwrap_or_default();
        self.monotonic.saturating_sub(earlier.monotonic).max(wall)
    }
}

impl WindowGuard {
    /// The stamp for the name of a credential that ends at `end`.
    pub(in crate::engine) fn stamp(&self, end: DateTime<Utc>) -> Stamp {
        self.window.stamp(end)
    }

    /// Registers a name as unsettled before OpenAI is asked to create its credential. Fails if the request is too old.
    pub(in crate::engine) fn register(&mut self, name: &str) -> Result<(), Error> {
        self.check_age()?;
        self.unsettled.push(name.to_owned());
        Ok(())
    }

    /// Fails if the request is too old: after a change of the leader, the new leader may soon look up this window, and end
    /// a credential without a ledger record.
    pub(in crate::engine) fn check_age(&self) -> Result<(), Error> {
        let age = self.windows.now().since(&self.opened);
        if age < MAX_REQUEST_AGE { Ok(()) } else { Err(Error::TookTooLong) }
    }

    /// Settles a name: its credential is about to be answered, or surely not at OpenAI.
    pub(in crate::engine) fn settle(&mut self, name: &str) {
        self.unsettled.retain(|unsettled| unsettled != name);
    }
}

impl Drop for WindowGuard {
    fn drop(&mut self) {
        self.windows.leave(&self.window, std::mem::take(&mut self.unsettled));
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").finish_non_exhaustive()
    }
}
