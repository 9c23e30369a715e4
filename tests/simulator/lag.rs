//! OpenAI's propagation delay: a new object is not found everywhere at once, and a deleted object does not disappear
//! everywhere at once.
//!
//! The delay of each object and operation is drawn from a seed, so a run can be repeated. It passes with the
//! simulator's clock, so a test that moves the clock does not wait.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Propagation delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lag {
    /// Minimum time in which a new object answers 404, in milliseconds.
    pub least_ms: u64,
    /// Maximum time in which a new object answers 404, in milliseconds.
    pub most_ms: u64,
    /// Maximum time in which a deleted object stays in lists and a deleted key works, in milliseconds.
    pub deleted_ms: u64,
    /// The delay applies to reads.
    pub get: bool,
    /// The delay applies to changes, and to keys created on a new account.
    pub post: bool,
    /// The delay applies to deletions.
    pub delete: bool,
    /// The delay applies to lists.
    pub list: bool,
    /// Seed of the delays.
    pub seed: u64,
}

/// Operation on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Read the object.
    Get,
    /// Change the object, or create a key on it.
    Post,
    /// Delete the object.
    Delete,
    /// List objects.
    List,
}

/// Deleted objects that are still visible, by serial number.
#[derive(Debug, Clone)]
pub struct RecentlyDeleted<T>(BTreeMap<u64, (Duration, T)>);

impl Default for Lag {
    /// Delays as observed at OpenAI: up to 20 s for new objects, a few seconds for deleted ones.
    fn default() -> Self {
        Self {
            least_ms: 0,
            most_ms: 20_000,
            deleted_ms: 5_000,
            get: true,
            post: true,
            delete: true,
            list: true,
            seed: 0,
        }
    }
}

impl Lag {
    /// A fixed delay for new objects. Deleted objects disappear at once.
    pub fn of(time: Duration) -> Self {
        let ms = time.as_millis() as u64;
        Self { least_ms: ms, most_ms: ms, deleted_ms: 0, ..Self::default() }
    }

    /// Time until a new object is visible to this operation.
    pub fn creation_lag(&self, id: &str, operation: Operation) -> Duration {
        let lags = match operation {
            Operation::Get => self.get,
            Operation::Post => self.post,
            Operation::Delete => self.delete,
            Operation::List => self.list,
        };
        if !lags {
            return Duration::ZERO;
        }
        let spread = self.most_ms.saturating_sub(self.least_ms);
        Duration::from_millis(self.least_ms + self.draw(id, operation) % (spread + 1))
    }

    /// Time until a deleted object has disappeared.
    pub fn deletion_lag(&self, id: &str) -> Duration {
        Duration::from_millis(self.draw(id, Operation::Delete) % (self.deleted_ms + 1))
    }

    /// Draws the same number for the same seed, serial number and operation. The random suffix of the id does not
    /// count.
    fn draw(&self, id: &str, operation: Operation) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, id.get(..id.len().saturating_sub(12)), operation).hash(&mut hasher);
        hasher.finish()
    }
}

impl Operation {
    /// The operation of an HTTP method.
    pub fn of_method(method: &str) -> Self {
        match method {
            "DELETE" => Self::Delete,
            "POST" => Self::Post,
            _ => Self::Get,
        }
    }
}

impl<T> Default for RecentlyDeleted<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> RecentlyDeleted<T> {
    /// Adds a deleted object that stays visible until this time.
    pub fn add(&mut self, serial: u64, thing: T, now: Duration, until: Duration) {
        self.0.retain(|_, (until, _)| *until > now);
        if until > now {
            self.0.insert(serial, (until, thing));
        }
    }

    /// The objects that are still visible, by serial number.
    pub fn visible(&self, now: Duration) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.0.iter().filter(move |(_, (until, _))| *until > now).map(|(serial, (_, thing))| (*serial, thing))
    }
}
