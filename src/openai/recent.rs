//! What was made, or first seen, a moment ago. OpenAI may answer 404 for it for some seconds, so such a 404 proves nothing:
//! the call is repeated for a while, and then fails with [`Error::InDoubt`], which is not "gone".

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::call::Request;
use super::{Client, Error};

/// From this age on a 404 means that a thing is gone.
pub const DOUBTFUL_AGE: Duration = Duration::from_secs(60);

/// A call that gets 404 for a recent thing is repeated for so long.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
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
pub struct Recent {
    time: Arc<dyn Passing>,
    ids: Mutex<HashMap<String, Known>>,
}

/// What is known of one id.
#[derive(Debug)]
struct Known {
    /// When it stops being recent.
    until: Duration,
    /// OpenAI said that it deleted this: a 404 is no surprise then.
    is_deleted: bool,
}

/// The time of the machine.
#[derive(Debug)]
struct Machine(Instant);

/// One call, as long as a 404 for it may prove nothing.
pub(super) struct Doubts<'a> {
    client: &'a Client,
    pauses: Pauses,
}

/// The pauses of one call: each longer than the one before, and no more of them than its patience allows.
struct Pauses {
    next: Duration,
    left: Duration,
}

impl Default for Recent {
    fn default() -> Self {
        Self::by(Arc::new(Machine(Instant::now())))
    }
}

impl Recent {
    /// Nothing is recent yet, by this time.
    pub fn by(time: Arc<dyn Passing>) -> Self {
        Self { time, ids: Mutex::default() }
    }

    /// This id was made, or first seen, at this age.
    pub fn note(&self, id: &str, age: Duration) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        let until = now + DOUBTFUL_AGE.saturating_sub(age);
        let known = ids.entry(id.to_owned()).or_insert(Known { until, is_deleted: false });
        known.until = until.max(known.until);
        forget_old(&mut ids, now);
    }

    /// Gives back the memory of what is no longer recent.
    pub fn tidy(&self) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        ids.retain(|_, known| known.until > now);
        ids.shrink_to_fit();
    }

    /// OpenAI said that it deleted this id.
    fn note_deleted(&self, id: &str) {
        let (now, mut ids) = (self.time.passed(), self.lock());
        ids.insert(id.to_owned(), Known { until: now + DOUBTFUL_AGE, is_deleted: true });
        forget_old(&mut ids, now);
    }

    /// Whether this id was made less than a minute ago.
    pub fn contains(&self, id: &str) -> bool {
        let now = self.time.passed();
        self.lock().get(id).is_some_and(|known| known.until > now && !known.is_deleted)
    }

    /// A panic while the lock was held leaves the map whole, so a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks through all ids only when the map would have to grow, so that a flood of creations costs no more for each.
fn forget_old(ids: &mut HashMap<String, Known>, now: Duration) {
    if ids.len() == ids.capacity() {
        ids.retain(|_, known| known.until > now);
    }
}

impl Client {
    /// The same client, with what is recent known to others as well.
    #[must_use]
    pub fn sharing(&self, recent: Arc<Recent>) -> Self {
        Self { recent, ..self.clone() }
    }

    /// The same client, for looking up what somebody else may have made a moment ago: a 404 is final only after it was
    /// repeated for 20 s. What is found counts as recent.
    #[must_use]
    pub fn expecting_recent(&self) -> Self {
        Self { expects_recent: true, ..self.clone() }
    }

    /// What is recent.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// OpenAI says that it made this.
    pub(super) fn made(&self, id: &str) {
        self.recent.note(id, Duration::ZERO);
    }

    /// OpenAI says that it deleted this.
    pub(super) fn deleted(&self, id: &str) {
        self.recent.note_deleted(id);
    }

    /// What was looked up is there.
    pub(super) fn found(&self, id: &str) {
        if self.expects_recent {
            self.made(id);
        }
    }

    /// How to take each 404 that one call gets.
    pub(super) fn doubts(&self) -> Doubts<'_> {
        let left = self.patience.min(LONGEST_WAIT);
        Doubts { client: self, pauses: Pauses { next: FIRST_PAUSE, left } }
    }
}

impl Doubts<'_> {
    /// What a failed attempt means, or nothing if the call is to be made again: OpenAI answered 404 for something
    /// recent, and enough patience was left for a pause. A 404 did nothing, so each kind of call may be repeated.
    pub(super) async fn resolve(&mut self, request: &Request, error: Error) -> Option<Error> {
        if !error.is_gone() {
            return Some(error);
        }
        let Client { recent, expects_recent, .. } = self.client;
        let is_recent = request.path.iter().any(|segment| recent.contains(segment));
        if !is_recent && !expects_recent {
            return Some(error);
        }
        let Some(pause) = self.pauses.next() else {
            // Who expects something recent has waited for it now: it is not there.
            return Some(if is_recent && !expects_recent { error.in_doubt() } else { error });
        };
        recent.time.pause(pause).await;
        None
    }
}

impl Iterator for Pauses {
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
        let recent = Recent::default();
        recent.note("key_1", Duration::ZERO);
        recent.note("key_2", Duration::from_secs(50));
        tokio::time::advance(Duration::from_secs(11)).await;
        // What is known better is not forgotten.
        recent.note("key_1", Duration::from_secs(59));
        assert!(recent.contains("key_1") && !recent.contains("key_2") && !recent.contains("key_3"));
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(!recent.contains("key_1"));
        for round in 0..100 {
            for number in 0..100 {
                recent.note(&format!("key_{round}_{number}"), Duration::ZERO);
            }
            tokio::time::advance(DOUBTFUL_AGE).await;
        }
        assert!(recent.lock().len() < 1_000, "what is old is forgotten");
        recent.tidy();
        assert_eq!(recent.lock().capacity(), 0);
    }

    #[test]
    fn what_was_deleted_is_no_longer_in_doubt_whatever_a_record_says() {
        let recent = Recent::default();
        recent.note("key_1", Duration::ZERO);
        recent.note_deleted("key_1");
        recent.note("key_1", Duration::ZERO);
        assert!(!recent.contains("key_1"));
    }

    #[test]
    fn the_pauses_grow_and_end_with_the_patience() {
        let pauses = |left| Pauses { next: FIRST_PAUSE, left };
        assert_eq!(pauses(LONGEST_WAIT).sum::<Duration>(), LONGEST_WAIT);
        assert!(pauses(LONGEST_WAIT).count() < 10);
        assert_eq!(pauses(Duration::ZERO).count(), 0);
    }
}
