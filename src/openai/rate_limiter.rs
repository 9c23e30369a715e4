//! The rate limiter: one pace for each kind of call, under a common one. A state machine over time and responses, without
//! clock, threads or network.
//!
//! OpenAI limits each kind of call by itself, so a limit pauses only its kind. The common pace keeps the configured maximum
//! rate, and pauses all calls in an outage. Among the calls whose kind has room, the queue decides who goes first.

use std::time::Duration;

use tokio::time::Instant;

use super::Urgency;
use super::call::Kind;
use super::pace::{Pace, Verdict};
use super::queue::{Queue, Ticket};

/// State of the rate limiter.
#[derive(Debug)]
pub(super) struct RateLimiter {
    common: Pace,
    kinds: [Pace; Kind::COUNT],
    queue: Queue,
    /// Time of the last update.
    now: Instant,
}

/// Admission of one call, to be settled with the result of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    kind: Kind,
    common_epoch: u64,
    kind_epoch: u64,
}

/// Decision about a waiting call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    Admit(Admission),
    /// Poll again at this time, or when notified.
    Wait(Option<Instant>),
}

impl RateLimiter {
    /// A rate limiter with a maximum of `per_minute` calls of all kinds (0: no maximum).
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        Self {
            common: Pace::up_to(per_minute, now),
            kinds: std::array::from_fn(|_| Pace::learning(now)),
            queue: Queue::default(),
            now,
        }
    }

    /// A place for a call, kept over its attempts.
    pub(super) fn ticket(&mut self, kind: Kind, urgency: Urgency) -> Ticket {
        self.queue.ticket(kind, urgency)
    }

    /// Queues the call and polls for it.
    pub(super) fn enter(&mut self, now: Instant, ticket: Ticket) -> Decision {
        self.advance(now, ticket.kind());
        self.queue.enter(ticket);
        self.poll(now, ticket)
    }

    /// Admits the waiting call if its time has come.
    pub(super) fn poll(&mut self, now: Instant, ticket: Ticket) -> Decision {
        let kind = ticket.kind();
        self.advance(now, kind);
        if self.queue.head_of(kind) != Some(ticket) {
            return Decision::Wait(None);
        }
        let ready = self.ready_at(kind);
        if ready > self.now {
            return Decision::Wait(Some(ready));
        }
        // A call of another kind goes first and then wakes this one.
        if self.queue.head(|other| self.ready_at(other) <= self.now) != Some(ticket) {
            return Decision::Wait(None);
        }
        self.queue.serve(ticket);
        let (common_epoch, kind_epoch) = (self.common.admit(), self.kinds[kind.index()].admit());
        Decision::Admit(Admission { kind, common_epoch, kind_epoch })
    }

    /// Removes a waiting call that gives up.
    pub(super) fn leave(&mut self, now: Instant, ticket: Ticket) {
        self.advance(now, ticket.kind());
        self.queue.leave(ticket);
    }

    /// The calls that poll next: the first of each kind.
    pub(super) fn heads(&self) -> impl Iterator<Item = Ticket> {
        Kind::ALL.into_iter().filter_map(|kind| self.queue.head_of(kind))
    }

    /// Expected wait of a queued call.
    pub(super) fn expected_wait(&self, ticket: Ticket) -> Duration {
        let of_kind = self.kinds[ticket.kind().index()].expected_wait(self.queue.ahead_of_kind(ticket));
        of_kind.max(self.common.expected_wait(self.queue.ahead(ticket)))
    }

    /// Records the result of a call. `jitter` is a random number from 0 to 1; it spreads the pauses of many clients.
    pub(super) fn settle(&mut self, now: Instant, admission: Admission, verdict: Verdict, jitter: f64) {
        let Admission { kind, common_epoch, kind_epoch } = admission;
        self.advance(now, kind);
        let (common, of_kind) = match verdict {
            // OpenAI answered, so there is no outage.
            Verdict::Limited(_) => (Verdict::Allowed, verdict),
            // An outage says nothing of the limit of a kind.
            Verdict::Failed => (verdict, Verdict::Abandoned),
            Verdict::Allowed | Verdict::Abandoned => (verdict, verdict),
        };
        self.common.settle(common_epoch, common, jitter);
        self.kinds[kind.index()].settle(kind_epoch, of_kind, jitter);
    }

    /// True if the current pause of this kind, or of all calls, ends after `time`. OpenAI may still change that.
    pub(super) fn is_paused_at(&self, kind: Kind, time: Instant) -> bool {
        self.common.is_paused_at(time) || self.kinds[kind.index()].is_paused_at(time)
    }

    /// True if the calls wait for an outage instead of a rate limit.
    pub(super) fn is_outage(&self) -> bool {
        self.common.is_outage()
    }

    fn ready_at(&self, kind: Kind) -> Instant {
        self.common.ready_at().max(self.kinds[kind.index()].ready_at())
    }

    /// Updates the common pace, and the paces of this kind and of every kind with waiting calls. The others have no use
    /// for the time, and catch up with their next call.
    fn advance(&mut self, now: Instant, this: Kind) {
        self.now = self.now.max(now);
        // Calls that wait for the end of an outage say nothing of a limit.
        let is_outage = self.common.is_paused();
        let mut has_waiting_with_room = false;
        for kind in Kind::ALL {
            let (pace, waits) = (&mut self.kinds[kind.index()], self.queue.waits(kind));
            if waits || kind == this {
                pace.advance(now, waits && !is_outage);
                has_waiting_with_room |= waits && pace.ready_at() <= self.now;
            }
        }
        self.common.advance(now, has_waiting_with_room);
    }
}
