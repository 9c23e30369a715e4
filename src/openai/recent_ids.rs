//! Ids of objects that were created, or first seen, a moment ago. OpenAI may answer 404 for such an object for some
//! seconds, so the 404 proves nothing. The client repeats the call for a while and then fails with
//! [`Error::NotFoundYet`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::call::Request;
use super::{Client, Clock, Error, WallClock};

/// Age from which a 404 proves that an object is gone.
pub const PROPAGATION_TIME: Duration = Duration::from_secs(60);

/// Time for which a call with a 404 for a recent object is repeated.
const MAX_RETRY_TIME: Duration = Duration::from_secs(20);
/// First delay between two attempts. Each delay is half as long again as the delay before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Ids of recently created objects. Clients of the same purpose share one instance.
///
/// Memory holds hashes of the ids, 16 bytes for each, because a mount may create a thousand objects in a second. If two ids
/// had one hash, a 404 would be repeated for nothing.
#[derive(Debug)]
pub struct RecentIds {
    clock: Arc<dyn Clock>,
    hashes: RandomState,
    ids: Mutex<HashMap<u64, Entry>>,
    /// Objects of unknown age, because OpenAI's time was unknown.
    made: Mutex<HashMap<u64, Made>>,
}

/// An object of unknown age.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Time of the creation by OpenAI's clock.
    at: DateTime<Utc>,
    /// Time of this entry by the monotonic clock.
    noted: Duration,
}

/// State of one id in 8 bytes. The lowest bit is 1 if OpenAI confirmed the deletion, so a 404 is conclusive. The others are
/// the end of the time in which the id counts as recent, in milliseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Entry(u64);

/// Retries of one call after a 404 that may prove nothing.
pub(super) struct NotFoundRetries<'a> {
    client: &'a Client,
    backoff: Backoff,
    /// End of the call's maximum wait, which all attempts share.
    deadline: Instant,
    /// The last 404 that proved nothing.
    not_found_yet: Option<Error>,
}

/// Growing delays between the attempts of one call. Their sum is bounded by the call's maximum wait.
struct Backoff {
    next: Duration,
    left: Duration,
}

impl Default for RecentIds {
    fn default() -> Self {
        Self::new(Arc::new(WallClock))
    }
}

impl RecentIds {
    /// An empty set that reads the time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, hashes: RandomState::new(), ids: Mutex::default(), made: Mutex::default() }
    }

    /// Inserts an id whose object was created, or first seen, this long ago.
    pub fn insert(&self, id: &str, age: Duration) {
        let now = self.clock.monotonic();
        let (until, mut ids) = (now + PROPAGATION_TIME.saturating_sub(age), self.ids.lock());
        let entry = ids.entry(self.hash(id)).or_insert(Entry::new(until, false));
        *entry = Entry::new(until.max(entry.until()), entry.is_deleted());
        evict_if_full(&mut ids, now);
    }

    /// Inserts an id whose object was created at this time by OpenAI's clock, whose present time is unknown. The `Date` of a
    /// 404 tells whether the object was recent.
    pub fn insert_made(&self, id: &str, at: DateTime<Utc>) {
        self.made.lock().insert(self.hash(id), Made { at, noted: self.clock.monotonic() });
    }

    /// Forgets an id that no later call names.
    pub fn forget(&self, id: &str) {
        self.ids.lock().remove(&self.hash(id));
    }

    /// Removes expired ids and frees their memory.
    pub fn evict_expired(&self) {
        let (now, mut ids) = (self.clock.monotonic(), self.ids.lock());
        ids.retain(|_, entry| entry.is_recent(now));
        ids.shrink_to_fit();
        self.made.lock().retain(|_, made| now.saturating_sub(made.noted) < PROPAGATION_TIME);
    }

    /// Records that OpenAI confirmed the deletion.
    fn note_deleted(&self, id: &str) {
        let now = self.clock.monotonic();
        let mut ids = self.ids.lock();
        ids.insert(self.hash(id), Entry::new(now + PROPAGATION_TIME, true));
        evict_if_full(&mut ids, now);
    }

    /// True if the object was created less than a minute ago.
    pub fn contains(&self, id: &str) -> bool {
        let now = self.clock.monotonic();
        self.entry(id).is_some_and(|entry| entry.is_recent(now) && !entry.is_deleted())
    }

    /// Learns the age of an object from the date of a 404 for it.
    fn learn_age(&self, id: &str, date: DateTime<Utc>) {
        let made = self.made.lock().remove(&self.hash(id));
        if let Some(age) = made.and_then(|made| (date - made.at).abs().to_std().ok()) {
            self.insert(id, age);
        }
    }

    fn is_deleted(&self, id: &str) -> bool {
        self.entry(id).is_some_and(Entry::is_deleted)
    }

    fn entry(&self, id: &str) -> Option<Entry> {
        self.ids.lock().get(&self.hash(id)).copied()
    }

    fn hash(&self, id: &str) -> u64 {
        self.hashes.hash_one(id)
    }
}

impl Entry {
    /// 63 bits of milliseconds last for 300 million years.
    fn new(until: Duration, is_deleted: bool) -> Self {
        Self((until.as_millis() as u64) << 1 | u64::from(is_deleted))
    }

    fn until(self) -> Duration {
        Duration::from_millis(self.0 >> 1)
    }

    fn is_deleted(self) -> bool {
        self.0 & 1 == 1
    }

    /// Compares whole milliseconds.
    fn is_recent(self, now: Duration) -> bool {
        self.until().as_millis() > now.as_millis()
    }
}

/// Removes expired ids before the map grows, so that the cost for each insertion stays constant.
fn evict_if_full(ids: &mut HashMap<u64, Entry>, now: Duration) {
    if ids.len() == ids.capacity() {
        ids.retain(|_, entry| entry.is_recent(now));
    }
}

impl Client {
    /// The same client with a shared set of recent ids.
    #[must_use]
    pub fn sharing_recent_ids(&self, recent_ids: Arc<RecentIds>) -> Self {
        Self { recent_ids, ..self.clone() }
    }

    /// The same client for objects that somebody else may have created a moment ago. A 404 is final only after 20 s
    /// of repeats. Objects that the client finds count as recent.
    #[must_use]
    pub fn retrying_not_found(&self) -> Self {
        Self { retries_not_found: true, ..self.clone() }
    }

    /// The set of recent ids.
    pub fn recent_ids(&self) -> &RecentIds {
        &self.recent_ids
    }

    /// Records that OpenAI created this object.
    pub(super) fn note_created(&self, id: &str) {
        self.recent_ids.insert(id, Duration::ZERO);
    }

    /// Records that OpenAI deleted this object.
    pub(super) fn note_deleted(&self, id: &str) {
        self.recent_ids.note_deleted(id);
    }

    /// Records that OpenAI found this object.
    pub(super) fn note_found(&self, id: &str) {
        if self.retries_not_found {
            self.note_created(id);
        }
    }

    /// True if a 404 for this request proves nothing when the request is sent now.
    pub(super) fn is_recent(&self, request: &Request) -> bool {
        let is_deleted = request.path.iter().any(|segment| self.recent_ids.is_deleted(segment));
        !is_deleted && request.path.iter().any(|segment| self.recent_ids.contains(segment))
    }

    /// The same for a request that failed with this error. The date of OpenAI's 404 tells the age of an object whose age was
    /// unknown. The date of another refusal may be a proxy's.
    pub(super) fn was_recent(&self, request: &Request, error: &Error) -> bool {
        if let Some(date) = error.refusal().filter(|_| error.is_gone()).and_then(|refusal| refusal.date) {
            request.path.iter().for_each(|segment| self.recent_ids.learn_age(segment, date));
        }
        self.is_recent(request)
    }

    /// The 404 retries for one call.
    pub(super) fn not_found_retries(&self) -> NotFoundRetries<'_> {
        let left = self.max_wait.min(MAX_RETRY_TIME);
        NotFoundRetries {
            client: self,
            backoff: Backoff { next: FIRST_PAUSE, left },
            deadline: Instant::now() + self.max_wait,
            not_found_yet: None,
        }
    }
}

impl NotFoundRetries<'_> {
    /// Maximum wait of the next attempt for the rate limit.
    pub(super) fn max_wait(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Answers the final error, or `None` if the call is to be repeated: OpenAI answered 404 for an object that was
    /// recent when the request was sent, and time for another delay is left. A 404 changes nothing, so every kind of
    /// call may be repeated.
    pub(super) async fn resolve(&mut self, is_recent: bool, error: Error) -> Option<Error> {
        if matches!(error, Error::Throttled { .. } | Error::Unavailable { .. }) {
            // The earlier 404 concerns this object alone, and the rate limit would stop the caller's other work.
            return Some(self.not_found_yet.take().unwrap_or(error));
        }
        if !error.is_gone() {
            return Some(error);
        }
        let Client { recent_ids, retries_not_found, .. } = self.client;
        if !is_recent && !retries_not_found {
            return Some(error);
        }
        let Some(pause) = self.backoff.next() else {
            // After the wait a client that retries every 404 takes it as conclusive.
            return Some(if is_recent && !retries_not_found { error.not_found_yet() } else { error });
        };
        self.not_found_yet = (is_recent && !retries_not_found).then(|| error.not_found_yet());
        recent_ids.clock.pause(pause).await;
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

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use tokio::time::Instant;

    use super::*;

    /// Follows the simulated time of a test.
    #[derive(Debug)]
    struct SimulatedClock(Instant);

    impl Clock for SimulatedClock {
        fn now(&self) -> DateTime<Utc> {
            Utc::now()
        }

        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_is_recent_for_a_minute() {
        let recent_ids = RecentIds::new(Arc::new(SimulatedClock(Instant::now())));
        recent_ids.insert("key_1", Duration::ZERO);
        recent_ids.insert("key_2", Duration::from_secs(50));
        tokio::time::advance(Duration::from_secs(11)).await;
        // An insertion with a greater age does not shorten the time.
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
        assert!(recent_ids.ids.lock().len() < 1_000, "what is old is forgotten");
        recent_ids.evict_expired();
        assert_eq!(recent_ids.ids.lock().capacity(), 0);
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
    fn a_forgotten_id_takes_no_memory_and_others_stay() {
        let recent_ids = RecentIds::default();
        recent_ids.insert("svc_acct_1", Duration::ZERO);
        recent_ids.insert("key_1", Duration::ZERO);
        recent_ids.forget("key_1");
        assert!(recent_ids.contains("svc_acct_1") && !recent_ids.contains("key_1"));
        assert_eq!(recent_ids.ids.lock().len(), 1);
    }

    #[test]
    fn retry_delays_grow_and_end_with_the_maximum_wait() {
        let backoff = |left| Backoff { next: FIRST_PAUSE, left };
        assert_eq!(backoff(MAX_RETRY_TIME).sum::<Duration>(), MAX_RETRY_TIME);
        assert!(backoff(MAX_RETRY_TIME).count() < 10);
        assert_eq!(backoff(Duration::ZERO).count(), 0);
    }
}
