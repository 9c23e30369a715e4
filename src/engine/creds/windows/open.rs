//! The windows of this process: who is inside, and what came of it.
//!
//! *Guarantees:* a request is inside only once its window's write-ahead entry is stored. Those who come while it is
//! written share that write; later ones wait for nothing. A name counts as unsettled from before OpenAI is asked until
//! [`Inside::settle`], however its request ends.
//!
//! *Times:* by the larger of the monotonic clock, which nobody sets, and the wall clock. A wrong clock makes requests
//! fail early; it never lets one go on for longer.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use uuid::Uuid;

use super::window::{Stamp, Triple, WINDOW, Window, WindowId};
use crate::engine::Error;
use crate::engine::config::clients::LONGEST_LAG;
use crate::engine::failpoint::shortened;
use crate::engine::time::clock::Clock;
use crate::logical::{Storage, StorageError};

/// For so long others may join.
const OPEN: Duration = Duration::from_secs(10);
/// A request may go on for so long after its window's entry was written. Vault ends requests after 90 seconds, too.
const LONGEST: Duration = Duration::from_secs(90);
/// A name that was left unsettled is looked up so long after its request left the window: OpenAI is done with it then.
const OVER: Duration = Duration::from_secs(180);
/// A window with unsettled names takes new requests for so long, so that a day of time-outs leaves few entries.
const REOPENED: Duration = Duration::from_secs(600);

/// The windows of one mount that this process opened.
pub(in crate::engine) struct Windows {
    clock: Arc<dyn Clock>,
    own: Mutex<HashMap<Triple, Vec<Own>>>,
    /// Ids that no new window may have: those of these windows, and of entries that others left.
    taken: Mutex<HashSet<WindowId>>,
    left: Notify,
}

/// A window of this process. It is here as long as its entry may stand.
struct Own {
    window: Window,
    /// When its entry was last written, and when first.
    opened: Moment,
    first: Duration,
    written: Written,
    /// How many requests are inside.
    inside: usize,
    unsettled: Vec<Unsettled>,
    /// Its entry goes: it takes nobody any more.
    is_closed: bool,
}

/// A name by which something may stand at OpenAI, though no request goes on with it.
struct Unsettled {
    name: String,
    /// When its request left the window, or when the last look at it settled nothing.
    left: Duration,
}

/// The write of an entry, for all who wait for it.
type Written = Shared<BoxFuture<'static, Result<(), StorageError>>>;

/// By both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    monotonic: Duration,
    wall: DateTime<Utc>,
}

/// A request in a window. Dropped while something is unsettled, it leaves that to the window.
#[must_use = "it is left when this is dropped"]
pub(in crate::engine) struct Inside {
    windows: Arc<Windows>,
    window: Window,
    opened: Moment,
    /// Names of what OpenAI was or is asked to make, and that is not settled.
    unsettled: Vec<String>,
}

/// A window with names that are to be looked up now, or one whose entry may go.
pub(super) struct Over {
    pub(super) window: Window,
    /// What is to be looked up.
    pub(super) unsettled: Vec<String>,
    /// No listing of an earlier moment tells what came of it, by the monotonic clock.
    pub(super) since: Duration,
}

impl Windows {
    /// None yet, by this clock.
    pub(in crate::engine) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, own: Mutex::default(), taken: Mutex::default(), left: Notify::new() }
    }

    /// Goes into a window of this triple, which is opened if there is none.
    pub(in crate::engine) async fn join(
        self: &Arc<Self>,
        storage: &Arc<dyn Storage>,
        triple: Triple,
    ) -> Result<Inside, StorageError> {
        let (inside, written) = self.enter(storage, triple);
        written.await?;
        Ok(inside)
    }

    fn enter(self: &Arc<Self>, storage: &Arc<dyn Storage>, triple: Triple) -> (Inside, Written) {
        let now = self.moment();
        let mut own = self.lock();
        let windows = own.entry(triple.clone()).or_default();
        let place = windows.iter().position(|window| window.takes(&now));
        let place = place.or_else(|| {
            let place = windows.iter().position(|window| window.may_be_reopened(&now))?;
            windows[place].open(&now, storage);
            Some(place)
        });
        let place = place.unwrap_or_else(|| {
            windows.push(Own::new(self.unused(triple), &now, storage));
            windows.len() - 1
        });
        let window = &mut windows[place];
        window.inside += 1;
        let inside = Inside {
            windows: Arc::clone(self),
            window: window.window.clone(),
            opened: window.opened,
            unsettled: Vec::new(),
        };
        (inside, window.written.clone())
    }

    /// A new window, whose names cannot be taken for those of another.
    fn unused(&self, triple: Triple) -> Window {
        loop {
            let id = Uuid::new_v4();
            if self.take_id(WindowId::of(id)) {
                return Window { triple, id, opened: self.clock.now() };
            }
        }
    }

    /// No window gets this id from now on. Answers whether it was free.
    pub(super) fn take_id(&self, id: WindowId) -> bool {
        self.taken().insert(id)
    }

    /// Nothing has this id any more.
    pub(super) fn free_id(&self, id: WindowId) {
        let mut taken = self.taken();
        taken.remove(&id);
        if taken.is_empty() {
            *taken = HashSet::new();
        }
    }

    /// Whether this process opened the window, or one whose names end alike.
    pub(super) fn has_own_like(&self, window: &Window) -> bool {
        let id = window.window_id();
        self.lock().values().flatten().any(|own| own.window.window_id() == id)
    }

    /// Those with something to do. Where the mount goes away, no name waits for its time.
    pub(super) fn over(&self, mount_goes: bool) -> Vec<Over> {
        let now = self.moment();
        self.lock().values().flatten().filter_map(|own| own.over(&now, mount_goes)).collect()
    }

    /// These names of the window are settled. Answers whether its entry may go, which nothing changes any more.
    pub(super) fn settle(&self, window: &Window, settled: &[String], mount_goes: bool) -> bool {
        let now = self.moment();
        self.change(window, |own| {
            own.unsettled.retain(|unsettled| !settled.contains(&unsettled.name));
            own.is_closed = own.is_empty(&now, mount_goes);
            own.is_closed
        })
        .unwrap_or(false)
    }

    /// These names cannot be settled yet: the next look comes as late as the first.
    pub(super) fn put_off(&self, window: &Window, names: &[String]) {
        let now = self.clock.monotonic();
        self.change(window, |own| {
            let put_off = own.unsettled.iter_mut().filter(|unsettled| names.contains(&unsettled.name));
            put_off.for_each(|unsettled| unsettled.left = now);
        });
    }

    /// The window's entry is gone.
    pub(super) fn forget(&self, window: &Window) {
        self.free_id(window.window_id());
        let mut own = self.lock();
        if let Some(windows) = own.get_mut(&window.triple) {
            windows.retain(|own| own.window.id != window.id);
            if windows.is_empty() {
                own.remove(&window.triple);
            }
        }
    }

    /// Waits until nobody is inside of any window.
    pub(super) async fn are_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.lock().values().flatten().all(|own| own.inside == 0) {
                return;
            }
            left.await;
        }
    }

    fn leave(&self, window: &Window, unsettled: Vec<String>) {
        let now = self.clock.monotonic();
        self.change(window, |own| {
            own.inside -= 1;
            own.unsettled.extend(unsettled.into_iter().map(|name| Unsettled { name, left: now }));
        });
        self.left.notify_waiters();
    }

    fn change<T>(&self, window: &Window, change: impl FnOnce(&mut Own) -> T) -> Option<T> {
        let mut own = self.lock();
        own.get_mut(&window.triple)?.iter_mut().find(|own| own.window.id == window.id).map(change)
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall: self.clock.now() }
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<WindowId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic while the lock was held leaves what is there whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Triple, Vec<Own>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as a name that was left unsettled is left alone.
pub(super) fn over_after() -> Duration {
    shortened!("OPENAI_SWEEP_AGE", OVER)
}

impl Own {
    fn new(window: Window, now: &Moment, storage: &Arc<dyn Storage>) -> Self {
        let written = write(&window, storage);
        Self {
            window,
            opened: *now,
            first: now.monotonic,
            written,
            inside: 0,
            unsettled: Vec::new(),
            is_closed: false,
        }
    }

    /// Has the entry written again, so that its requests' time counts from now.
    fn open(&mut self, now: &Moment, storage: &Arc<dyn Storage>) {
        self.window.opened = now.wall;
        self.opened = *now;
        self.written = write(&self.window, storage);
    }

    fn takes(&self, now: &Moment) -> bool {
        !self.is_closed && now.since(&self.opened) < OPEN && !matches!(self.written.peek(), Some(Err(_)))
    }

    fn may_be_reopened(&self, now: &Moment) -> bool {
        let is_left = self.inside == 0 && !self.takes(now);
        is_left && !self.unsettled.is_empty() && now.monotonic.saturating_sub(self.first) < REOPENED
    }

    /// Whether nothing is left that needs its entry.
    fn is_empty(&self, now: &Moment, mount_goes: bool) -> bool {
        self.inside == 0 && self.unsettled.is_empty() && (!self.takes(now) || mount_goes)
    }

    fn over(&self, now: &Moment, mount_goes: bool) -> Option<Over> {
        let is_due = |left: Duration| mount_goes || now.monotonic.saturating_sub(left) >= over_after();
        let due: Vec<_> = self.unsettled.iter().filter(|unsettled| is_due(unsettled.left)).collect();
        if due.is_empty() && !self.is_empty(now, mount_goes) {
            return None;
        }
        let last = due.iter().map(|unsettled| unsettled.left).max().unwrap_or_default();
        Some(Over {
            window: self.window.clone(),
            unsettled: due.iter().map(|unsettled| unsettled.name.clone()).collect(),
            since: last + if mount_goes { LONGEST_LAG } else { over_after() },
        })
    }
}

fn write(window: &Window, storage: &Arc<dyn Storage>) -> Written {
    let (window, storage) = (window.clone(), Arc::clone(storage));
    let write = async move { WINDOW.write(&*storage, window.key(), &window).await };
    write.boxed().shared()
}

impl Moment {
    /// By the clock that says more.
    fn since(&self, earlier: &Self) -> Duration {
        let wall = (self.wall - earlier.wall).to_std().unwrap_or_default();
        self.monotonic.saturating_sub(earlier.monotonic).max(wall)
    }
}

impl Inside {
    /// What the name of a credential must end in, before the tag, that ends then.
    pub(in crate::engine) fn stamp(&self, ends: DateTime<Utc>) -> Stamp {
        self.window.stamp(ends)
    }

    /// Before OpenAI is asked to make something of this name.
    pub(in crate::engine) fn sends(&mut self, name: &str) -> Result<(), Error> {
        self.check_time()?;
        self.unsettled.push(name.to_owned());
        Ok(())
    }

    /// Whether the request may go on: nobody else looks after what it makes yet.
    pub(in crate::engine) fn check_time(&self) -> Result<(), Error> {
        let passed = self.windows.moment().since(&self.opened);
        if passed < LONGEST { Ok(()) } else { Err(Error::TookTooLong) }
    }

    /// Nothing stands by the name, or the ledger has it.
    pub(in crate::engine) fn settle(&mut self, name: &str) {
        self.unsettled.retain(|unsettled| unsettled != name);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.windows.leave(&self.window, std::mem::take(&mut self.unsettled));
    }
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows").finish_non_exhaustive()
    }
}
