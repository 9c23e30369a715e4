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
use super::pace::{Pace, Pass, Turn, Verdict};
use super::queue::Ticket;

/// How often who waits looks whether OpenAI fails meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The pace of all calls of one client and its clones.
#[derive(Debug)]
pub(super) struct Governor {
    state: Mutex<State>,
}

/// One call's claim to a turn, kept over its attempts.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    governor: &'a Governor,
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
    governor: &'a Governor,
    pass: Pass,
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
    pace: Pace,
    bells: HashMap<Ticket, Arc<Notify>>,
}

/// Leaves the queue, however the waiting ends.
struct Place<'a>(&'a Governor, Ticket);

impl Governor {
    pub(super) fn new(per_minute: u32) -> Self {
        let state = State { pace: Pace::new(per_minute, Instant::now()), bells: HashMap::new() };
        Self { state: Mutex::new(state) }
    }

    /// A call's claim to a turn in time.
    pub(super) fn claim(&self, urgency: Urgency, deadlines: Deadlines) -> Claim<'_> {
        let ticket = self.lock().pace.ticket(urgency);
        Claim { governor: self, ticket, deadlines }
    }

    /// Nothing panics while it holds the lock, and a pace half brought up is still a pace.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, pass: Pass) -> Permit<'_> {
        Permit { governor: self, pass, verdict: Verdict::Abandoned }
    }
}

impl<'a> Claim<'a> {
    /// Waits for a turn.
    pub(super) async fn permit(&self) -> Result<Permit<'a>, TooLate> {
        let bell = match self.enter()? {
            Ok(permit) => return Ok(permit),
            Err(bell) => bell,
        };
        let _place = Place(self.governor, self.ticket);
        loop {
            let wake = match self.ask()? {
                Turn::Go(pass) => return Ok(self.governor.permit(pass)),
                Turn::Wait(at) => {
                    // An outage may begin meanwhile, which shortens the wait.
                    let look = Instant::now() + LOOK_AGAIN;
                    at.map_or(look, |at| at.min(look)).min(self.deadlines.usual)
                }
            };
            tokio::select! {
                () = bell.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Goes at once, or gets a place and the bell to wait for; refused if that is hopeless.
    fn enter(&self) -> Result<Result<Permit<'a>, Arc<Notify>>, TooLate> {
        let mut state = self.governor.lock();
        let turn = state.pace.enter(Instant::now(), self.ticket);
        if let Turn::Go(pass) = turn {
            return Ok(Ok(self.governor.permit(pass)));
        }
        if let Err(late) = self.check_patience(&state.pace) {
            state.leave(self.ticket);
            return Err(late);
        }
        let bell = Arc::new(Notify::new());
        state.bells.insert(self.ticket, Arc::clone(&bell));
        Ok(Err(bell))
    }

    fn ask(&self) -> Result<Turn, TooLate> {
        let now = Instant::now();
        let mut state = self.governor.lock();
        let turn = state.pace.ask(now, self.ticket);
        match turn {
            Turn::Go(_) => state.ring(),
            // A gate that OpenAI keeps closed for longer opens no sooner for waiting: whoever waits learns it now.
            Turn::Wait(_) => {
                let deadline = self.deadlines.of(&state.pace);
                if now >= deadline || state.pace.is_closed_at(deadline) {
                    return Err(TooLate::new(&state.pace, self.ticket));
                }
            }
        }
        Ok(turn)
    }

    fn check_patience(&self, pace: &Pace) -> Result<(), TooLate> {
        let late = TooLate::new(pace, self.ticket);
        if Instant::now() + late.wait > self.deadlines.of(pace) { Err(late) } else { Ok(()) }
    }
}

impl Deadlines {
    fn of(self, pace: &Pace) -> Instant {
        if pace.is_outage() { self.in_outage } else { self.usual }
    }
}

impl TooLate {
    fn new(pace: &Pace, ticket: Ticket) -> Self {
        Self { wait: pace.expected_wait(ticket), outage: pace.is_outage() }
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
        let mut state = self.governor.lock();
        state.pace.settle(Instant::now(), self.pass, self.verdict, rand::random());
        state.ring();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.bells.remove(&self.1);
        state.leave(self.1);
    }
}

impl State {
    fn leave(&mut self, ticket: Ticket) {
        self.pace.leave(Instant::now(), ticket);
        self.ring();
    }

    /// Wakes the call at the head: its turn may have come.
    fn ring(&self) {
        if let Some(bell) = self.pace.head().and_then(|head| self.bells.get(&head)) {
            bell.notify_one();
        }
    }
}
