//! What was made, or first seen, a moment ago. OpenAI may answer 404 for it for some seconds, so such a 404 proves nothing:
//! the call is repeated for a while, and then fails with [`Error::NotFoundYet`], which is not "gone".

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::call::Request;
use super::{Client, Error};

/// From this age on a 404 means that a thing is gone.
pub const PROPAGATION_TIME: Duration = Duration::from_secs(60);

/// A call that gets 404 for a recent thing is repeated for so long.
const MAX_RETRY_TIME: Duration = Duration::from_secs(20);
/// The first pause between two tries; each is half as long again as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Time that passes for a client.
#[async_trait]
pub trait Passing: Debug + Send + Sync + 'static {
    /// The time since some moment, by a clock that nobody sets.
    fn passed(&self) -> Duration;
    /// Waits.
    async fn pause(&self, time: Duration);
}

/// The ids of what was made a moment ago. Clients that work for the same purpose share it.
#[derive(Debug)]
pub struct RecentIds {
    time: Arc<dyn Passing>,
    ids: Mutex<HashMap<String, Entry>>,
}

/// What is known of one id.
#[derive(Debug)]
struct Entry {
    /// When it stops being recent.
    until: Duration,
    /// OpenAI said that it deleted this: a 404 is no surprise then.
    is_deleted: bool,
}

/// The time of the machine.
#[derive(Debug)]
struct Machine(Instant);

/// One call, as long as a 404 for it may prove nothing.
pub(super) struct NotFoundRetries<'a> {
    client: &'a Client,
    backoff: Backoff,
}

/// The pauses of one call: each longer than the one before, and no more of them than its patience allows.
struct Backoff {
    next: Duration,
    left: Duration,
}

impl Default for RecentIds {
    fn default() -> Self {
        Self::by(Arc::new(Machine(Instant::now())))
    }
}

impl RecentIds {
    /// Nothing is recent yet, by this time.
    pub fn by(time: Arc<dyn Passing>) -> Self {
        Self { time, ids: Mutex::default() }
    }

    /// This id was made, or first seen, at this age.
    pub fn insert(&self, id: &str, age: Duration) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        let until = now + PROPAGATION_TIME.saturating_sub(age);
        let entry = ids.entry(id.to_owned()).or_insert(Entry { until, is_deleted: false });
        entry.until = until.max(entry.until);
        evict_if_full(&mut ids, now);
    }

    /// Gives back the memory of what is no longer recent.
    pub fn evict_expired(&self) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        ids.retain(|_, entry| entry.until > now);
        ids.shrink_to_fit();
    }

    /// OpenAI said that it deleted this id.
    fn note_deleted(&self, id: &str) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        ids.insert(id.to_owned(), Entry { until: now + PROPAGATION_TIME, is_deleted: true });
        evict_if_full(&mut ids, now);
    }

    /// Whether this id was made less than a minute ago.
    pub fn contains(&self, id: &str) -> bool {
        let now = self.time.passed();
        self.lock().get(id).is_some_and(|entry| entry.until > now && !entry.is_deleted)
    }

    /// A panic while the lock was held leaves the map whole, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks through all ids only when the map would have to grow, so that a flood of creations costs no more for each.
fn evict_if_full(ids: &mut HashMap<String, Entry>, now: Duration) {
    if ids.len() == ids.capacity() {
        ids.retain(|_, entry| entry.until > now);
    }
}

impl Client {
    /// The same client, with what is recent known to others as well.
    #[must_use]
    pub fn sharing_recent_ids(&self, recent_ids: Arc<RecentIds>) -> Self {
        Self { recent_ids, ..self.clone() }
    }

    /// The same client, for looking up what somebody else may have made a moment ago: a 404 is final only after it was
    /// repeated for 20 s. What is found counts as recent.
    #[must_use]
    pub fn retrying_not_found(&self) -> Self {
        Self { retries_not_found: true, ..self.clone() }
    }

    /// What is recent.
    pub fn recent_ids(&self) -> &RecentIds {
        &self.recent_ids
    }

    /// OpenAI says that it made this.
    pub(super) fn note_created(&self, id: &str) {
        self.recent_ids.insert(id, Duration::ZERO);
    }

    /// OpenAI says that it deleted this.
    pub(super) fn note_deleted(&self, id: &str) {
        self.recent_ids.note_deleted(id);
    }

    /// What was looked up is there.
    pub(super) fn note_found(&self, id: &str) {
        if self.retries_not_found {
            self.note_created(id);
        }
    }

    /// How to take each 404 that one call gets.
    pub(super) fn not_found_retries(&self) -> NotFoundRetries<'_> {
        let left = self.max_wait.min(MAX_RETRY_TIME);
        NotFoundRetries { client: self, backoff: Backoff { next: FIRST_PAUSE, left } }
    }
}

impl NotFoundRetries<'_> {
    /// What a failed attempt means, or nothing if the call is to be made again: OpenAI answered 404 for something
    /// recent, and enough patience was left for a pause. A 404 did nothing, so each kind of call may be repeated.
    pub(super) async fn resolve(&mut self, request: &Request, error: Error) -> Option<Error> {
        if !error.is_gone() {
            return Some(error);
        }
        let Client { recent_ids, retries_not_found, .. } = self.client;
        let is_recent = request.path.iter().any(|segment| recent_ids.contains(segment));
        if !is_recent && !retries_not_found {
            return Some(error);
        }
        let Some(pause) = self.backoff.next() else {
            // Who expects something recent has waited for it now: it is not there.
            return Some(if is_recent && !retries_not_found { error.not_found_yet() } else { error });
        };
        recent_ids.time.pause(pause).await;
        None
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next.min(self.left);
        self.left -= pause;
        self.next += self.next / 2;
        (!pause.is_zero()).then_some(pause)
    }
}

#[async_trait]
impl Passing for Machine {
    fn passed(&self) -> Duration {
        self.0.elapsed()
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_recent_for_a_minute() {
        let recent_ids = RecentIds::default();
        recent_ids.insert("key_1", Duration::ZERO);
        recent_ids.insert("key_2", Duration::from_secs(50));
        tokio::time::advance(Duration::from_secs(11)).await;
        // What is known better is not forgotten.
        recent_ids.insert("key_1", Duration::from_secs(59));
        assert!(
            recent_ids.contains("key_1") && !recent_ids.contains("key_2") && !recent_ids.contains("key_3")
        );
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(!recent_ids.contains("key_1"));
        for round in 0..100 {
            for number in 0..100 {
                recent_ids.insert(&format!("key_{round}_{number}"), Duration::ZERO);
            }
            tokio::time::advance(PROPAGATION_TIME).await;
        }
        assert!(recent_ids.lock().len() < 1_000, "what is old is forgotten");
        recent_ids.evict_expired();
        assert_eq!(recent_ids.lock().capacity(), 0);
    }

    #[test]
    fn what_was_deleted_is_no_longer_in_doubt_whatever_a_record_says() {
        let recent_ids = RecentIds::default();
        recent_ids.insert("key_1", Duration::ZERO);
        recent_ids.note_deleted("key_1");
        recent_ids.insert("key_1", Duration::ZERO);
        assert!(!recent_ids.contains("key_1"));
    }

    #[test]
    fn the_pauses_grow_and_end_with_the_patience() {
        let backoff = |left| Backoff { next: FIRST_PAUSE, left };
        assert_eq!(backoff(MAX_RETRY_TIME).sum::<Duration>(), MAX_RETRY_TIME);
        assert!(backoff(MAX_RETRY_TIME).count() < 10);
        assert_eq!(backoff(Duration::ZERO).count(), 0);
    }
}
