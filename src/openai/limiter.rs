//! Makes calls wait for their turn: the pace under a lock, and who to wake. What decides is in `pace`.
//!
//! No task of its own: the call at the head sleeps until its turn and, when it goes, wakes the next. The lock is held
//! for a few hundred nanoseconds at a time and never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Urgency;
use super::queue::Ticket;
use super::rate_limiter::{Admission, Decision, RateLimiter, Verdict};

/// How often who waits looks whether OpenAI fails meanwhile.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The pace of all calls of one client and its clones.
#[derive(Debug)]
pub(super) struct Limiter {
    state: Mutex<State>,
}

/// One call's claim to a turn, kept over its attempts.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    limiter: &'a Limiter,
    ticket: Ticket,
    deadlines: Deadlines,
}

/// Until when a call waits for its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) usual: Instant,
    /// While OpenAI fails; not after `usual`.
    pub(super) in_outage: Instant,
}

/// Leave to send one attempt. Dropped unsettled, it counts as abandoned.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a Limiter,
    admission: Admission,
    verdict: Verdict,
}

/// The turn would come after the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLate {
    /// How long it takes from now.
    pub(super) wait: Duration,
    /// Whether it is because OpenAI fails.
    pub(super) outage: bool,
}

#[derive(Debug)]
struct State {
    rate_limiter: RateLimiter,
    wakers: HashMap<Ticket, Arc<Notify>>,
}

/// Leaves the queue, however the waiting ends.
struct QueueGuard<'a>(&'a Limiter, Ticket);

impl Limiter {
    pub(super) fn new(per_minute: u32) -> Self {
        let state =
            State { rate_limiter: RateLimiter::new(per_minute, Instant::now()), wakers: HashMap::new() };
        Self { state: Mutex::new(state) }
    }

    /// A call's claim to a turn in time.
    pub(super) fn waiter(&self, urgency: Urgency, deadlines: Deadlines) -> Waiter<'_> {
        let ticket = self.lock().rate_limiter.ticket(urgency);
        Waiter { limiter: self, ticket, deadlines }
    }

    /// Nothing panics while it holds the lock, and a pace half brought up is still a pace.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, admission: Admission) -> Permit<'_> {
        Permit { limiter: self, admission, verdict: Verdict::Abandoned }
    }
}

impl<'a> Waiter<'a> {
    /// Waits for a turn.
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
                    // An outage may begin meanwhile, which shortens the wait.
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

    /// Goes at once, or gets a place and the bell to wait for; refused if that is hopeless.
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
            Decision::Admit(_) => state.wake_head(),
            // A gate that OpenAI keeps closed for longer opens no sooner for waiting: whoever waits learns it now.
            Decision::Wait(_) => {
                let deadline = self.deadlines.of(&state.rate_limiter);
                if now >= deadline || state.rate_limiter.is_paused_at(deadline) {
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
    /// Tells what came of the attempt.
    pub(super) fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        state.rate_limiter.settle(Instant::now(), self.admission, self.verdict, rand::random());
        state.wake_head();
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
        self.wake_head();
    }

    /// Wakes the call at the head: its turn may have come.
    fn wake_head(&self) {
        if let Some(waker) = self.rate_limiter.head().and_then(|head| self.wakers.get(&head)) {
            waker.notify_one();
        }
    }
}
