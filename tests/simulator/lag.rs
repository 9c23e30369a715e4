//! OpenAI lags behind itself: what was just made is not found everywhere yet, what was just deleted is not gone everywhere.
//!
//! How long that takes is drawn for each thing and each kind of call, from a seed, so that a run can be repeated. It
//! passes with the simulator's clock, so a test that moves the clock waits for nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far OpenAI lags behind itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lag {
    /// What is made answers 404 for at least so many milliseconds ...
    pub least_ms: u64,
    /// ... and for at most so many.
    pub most_ms: u64,
    /// What is deleted is listed, and a deleted key works, for at most so many milliseconds.
    pub deleted_ms: u64,
    /// Whether reads lag.
    pub get: bool,
    /// Whether changes of what was made lag, and keys made on an account that was made.
    pub post: bool,
    /// Whether deletions lag.
    pub delete: bool,
    /// Whether lists lag.
    pub list: bool,
    /// What the times are drawn from.
    pub seed: u64,
}

/// What is asked of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// To be read.
    Get,
    /// To be changed, or to get a key.
    Post,
    /// To be deleted.
    Delete,
    /// To be in a list.
    List,
}

/// What was deleted and is not gone everywhere yet, by serial number.
#[derive(Debug, Clone)]
pub struct RecentlyDeleted<T>(BTreeMap<u64, (Duration, T)>);

impl Default for Lag {
    /// As it was seen: up to 20 s for what is made, some seconds for what is deleted.
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
    /// Always this long, for what is made; what is deleted is gone at once.
    pub fn of(time: Duration) -> Self {
        let ms = time.as_millis() as u64;
        Self { least_ms: ms, most_ms: ms, deleted_ms: 0, ..Self::default() }
    }

    /// How long what was made does not answer to this.
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

    /// How long what was deleted is not gone everywhere.
    pub fn deletion_lag(&self, id: &str) -> Duration {
        Duration::from_millis(self.draw(id, Operation::Delete) % (self.deleted_ms + 1))
    }

    /// The same for the same seed, serial number and kind of call: what follows the serial number in an id is random.
    fn draw(&self, id: &str, operation: Operation) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, id.get(..id.len().saturating_sub(12)), operation).hash(&mut hasher);
        hasher.finish()
    }
}

impl Operation {
    /// What a call of this method asks of what its path names.
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
    /// It was deleted and stays visible until then.
    pub fn add(&mut self, serial: u64, thing: T, now: Duration, until: Duration) {
        self.0.retain(|_, (until, _)| *until > now);
        if until > now {
            self.0.insert(serial, (until, thing));
        }
    }

    /// What is still visible, by serial number.
    pub fn visible(&self, now: Duration) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.0.iter().filter(move |(_, (until, _))| *until > now).map(|(serial, (_, thing))| (*serial, thing))
    }
}
