//! The async rate limiter: calls wait here until [`RateLimiter`] admits them.
//!
//! No background task runs. The first call of each kind sleeps until it is admitted and then wakes the next
//! calls. The lock is held for less than a microsecond at a time and never across an await.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Urgency;
use super::call::Kind;
use super::pace::Verdict;
use super::queue::Ticket;
use super::rate_limiter::{Admission, Decision, RateLimiter};

/// Interval at which a waiting call checks for an outage.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The rate limiter of one client and its clones.
#[derive(Debug)]
pub(super) struct Limiter {
    state: Mutex<State>,
    /// A number from 0 to 1, anew for each pause.
    jitter: fn() -> f64,
}

/// One call's place in the queue, kept over its attempts.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    limiter: &'a Limiter,
    ticket: Ticket,
    deadlines: Deadlines,
}

/// Deadlines of a waiting call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) usual: Instant,
    /// Deadline during an outage; not later than `usual`.
    pub(super) in_outage: Instant,
}

/// Permission to send one attempt. A permit that is dropped without [`Permit::settle`] counts as abandoned.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a Limiter,
    admission: Admission,
    verdict: Verdict,
}

/// The call would be admitted after its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLate {
    /// Expected wait from now.
    pub(super) wait: Duration,
    /// True if OpenAI fails; false for a rate limit.
    pub(super) outage: bool,
}

#[derive(Debug)]
struct State {
    rate_limiter: RateLimiter,
    wakers: HashMap<Ticket, Arc<Notify>>,
}

/// Leaves the queue on drop.
struct QueueGuard<'a>(&'a Limiter, Ticket);

impl Limiter {
    pub(super) fn new(per_minute: u32) -> Self {
        Self::with_jitter(per_minute, rand::random)
    }

    pub(super) fn with_jitter(per_minute: u32, jitter: fn() -> f64) -> Self {
        let state =
            State { rate_limiter: RateLimiter::new(per_minute, Instant::now()), wakers: HashMap::new() };
        Self { state: Mutex::new(state), jitter }
    }

    /// A place in the queue for one call.
    pub(super) fn waiter(&self, kind: Kind, urgency: Urgency, deadlines: Deadlines) -> Waiter<'_> {
        let ticket = self.lock().rate_limiter.ticket(kind, urgency);
        Waiter { limiter: self, ticket, deadlines }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn permit(&self, admission: Admission) -> Permit<'_> {
        Permit { limiter: self, admission, verdict: Verdict::Abandoned }
    }
}

impl<'a> Waiter<'a> {
    /// Waits until the call is admitted.
    pub(super) async fn acquire(&self) -> Result<Permit<'a>, TooLate> {
        let waker = match self.enter()? {
            Ok(permit) => return Ok(permit),
            Err(waker) => waker,
        };
        let _guard = QueueGuard(self.limiter, self.ticket);
        loop {
            let wake = match self.poll()? {
                Decision::Admit(admission) => return Ok(self.limiter.permit(admission)),
                Decision::Wait(at) => {
                    // An outage may begin while the call waits. The outage shortens the deadline.
                    let look = Instant::now() + RECHECK_INTERVAL;
                    at.map_or(look, |at| at.min(look)).min(self.deadlines.usual)
                }
            };
            tokio::select! {
                () = waker.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Admits the call at once, or queues it and answers the notification to wait for. Fails if the expected wait
    /// exceeds the deadline.
    fn enter(&self) -> Result<Result<Permit<'a>, Arc<Notify>>, TooLate> {
        let mut state = self.limiter.lock();
        let decision = state.rate_limiter.enter(Instant::now(), self.ticket);
        if let Decision::Admit(admission) = decision {
            return Ok(Ok(self.limiter.permit(admission)));
        }
        if let Err(late) = self.check_deadline(&state.rate_limiter) {
            state.leave(self.ticket);
            return Err(late);
        }
        let waker = Arc::new(Notify::new());
        state.wakers.insert(self.ticket, Arc::clone(&waker));
        Ok(Err(waker))
    }

    fn poll(&self) -> Result<Decision, TooLate> {
        let now = Instant::now();
        let mut state = self.limiter.lock();
        let decision = state.rate_limiter.poll(now, self.ticket);
        match decision {
            Decision::Admit(_) => state.wake_heads(),
            // A pause beyond the deadline cannot be waited out, so the call fails now.
            Decision::Wait(_) => {
                let deadline = self.deadlines.of(&state.rate_limiter);
                if now >= deadline || state.rate_limiter.is_paused_at(self.ticket.kind(), deadline) {
                    return Err(TooLate::new(&state.rate_limiter, self.ticket));
                }
            }
        }
        Ok(decision)
    }

    fn check_deadline(&self, rate_limiter: &RateLimiter) -> Result<(), TooLate> {
        let late = TooLate::new(rate_limiter, self.ticket);
        if Instant::now() + late.wait > self.deadlines.of(rate_limiter) { Err(late) } else { Ok(()) }
    }
}

impl Deadlines {
    fn of(self, rate_limiter: &RateLimiter) -> Instant {
        if rate_limiter.is_outage() { self.in_outage } else { self.usual }
    }
}

impl TooLate {
    fn new(rate_limiter: &RateLimiter, ticket: Ticket) -> Self {
        Self { wait: rate_limiter.expected_wait(ticket), outage: rate_limiter.is_outage() }
    }
}

impl Permit<'_> {
    /// Records the result of the attempt.
    pub(super) fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        state.rate_limiter.settle(Instant::now(), self.admission, self.verdict, (self.limiter.jitter)());
        state.wake_heads();
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.wakers.remove(&self.1);
        state.leave(self.1);
    }
}

impl State {
    fn leave(&mut self, ticket: Ticket) {
        self.rate_limiter.leave(Instant::now(), ticket);
        self.wake_heads();
    }

    /// Wakes the first call of each kind, which may now be admitted.
    fn wake_heads(&self) {
        if self.wakers.is_empty() {
            return;
        }
        for waker in self.rate_limiter.heads().filter_map(|head| self.wakers.get(&head)) {
            waker.notify_one();
        }
    }
}
