//! The queue of waiting calls. This file knows neither time nor rate.
//!
//! *Guarantees:* among the calls whose kind has room, a class is first in, first out, and a higher class goes first. Of
//! five consecutive calls, at least one belongs to each waiting class, so no class starves.

use std::collections::BTreeSet;

use super::Urgency;
use super::call::Kind;

/// Consecutive calls of higher classes after which a waiting class goes first.
const MAX_SKIPS: u32 = 3;
const CLASSES: usize = 3;

/// A place in the queue. A call keeps its place over its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    class: usize,
    kind: Kind,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Numbers of the waiting calls by class and kind.
    waiting: [[BTreeSet<u64>; Kind::COUNT]; CLASSES],
    /// Consecutive calls of higher classes while this class waited.
    skips: [u32; CLASSES],
    issued: u64,
}

impl Ticket {
    pub(super) fn kind(self) -> Kind {
        self.kind
    }
}

impl Queue {
    /// A new place. The queue does not contain the place yet.
    pub(super) fn ticket(&mut self, kind: Kind, urgency: Urgency) -> Ticket {
        self.issued += 1;
        let class = match urgency {
            Urgency::Revocation => 0,
            Urgency::Rotation => 1,
            Urgency::Issue | Urgency::Check => 2,
        };
        Ticket { class, kind, number: self.issued }
    }

    /// Enters the queue at this place.
    pub(super) fn enter(&mut self, ticket: Ticket) {
        self.waiting[ticket.class][ticket.kind.index()].insert(ticket.number);
    }

    /// Leaves the queue without being served.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting[ticket.class][ticket.kind.index()].remove(&ticket.number);
        self.reset_skips_of_empty_classes();
    }

    /// Leaves the queue to be served.
    pub(super) fn serve(&mut self, ticket: Ticket) {
        self.waiting[ticket.class][ticket.kind.index()].remove(&ticket.number);
        self.skips[ticket.class] = 0;
        for class in ticket.class + 1..CLASSES {
            self.skips[class] += 1;
        }
        self.reset_skips_of_empty_classes();
    }

    /// The place that is served next, among the kinds that have room.
    pub(super) fn head(&self, has_room: impl Fn(Kind) -> bool) -> Option<Ticket> {
        self.first(|kind| self.waits(kind) && has_room(kind))
    }

    /// The place that is served next of this kind.
    pub(super) fn head_of(&self, kind: Kind) -> Option<Ticket> {
        self.first(|other| other == kind)
    }

    /// True if calls of this kind wait.
    pub(super) fn waits(&self, kind: Kind) -> bool {
        self.waiting.iter().any(|class| !class[kind.index()].is_empty())
    }

    /// Upper bound on the calls that are served before this one, if no new call arrives.
    pub(super) fn ahead(&self, ticket: Ticket) -> usize {
        self.ahead_among(ticket, &Kind::ALL)
    }

    /// The same, of the calls of its kind.
    pub(super) fn ahead_of_kind(&self, ticket: Ticket) -> usize {
        self.ahead_among(ticket, &[ticket.kind])
    }

    fn first(&self, is_eligible: impl Fn(Kind) -> bool) -> Option<Ticket> {
        let first = |class: usize| {
            let eligible = Kind::ALL.into_iter().filter(|kind| is_eligible(*kind));
            let numbers = eligible.filter_map(|kind| {
                self.waiting[class][kind.index()].first().map(|&number| Ticket { class, kind, number })
            });
            numbers.min_by_key(|ticket| ticket.number)
        };
        (0..CLASSES)
            .filter(|&class| self.skips[class] >= MAX_SKIPS)
            .find_map(first)
            .or_else(|| (0..CLASSES).find_map(first))
    }

    fn ahead_among(&self, ticket: Ticket, kinds: &[Kind]) -> usize {
        let count = |class: usize| -> usize {
            kinds.iter().map(|kind| self.waiting[class][kind.index()].len()).sum()
        };
        let before = |kind: &Kind| self.waiting[ticket.class][kind.index()].range(..ticket.number).count();
        let own: usize = kinds.iter().map(before).sum();
        let between = MAX_SKIPS as usize + CLASSES - 2;
        let higher = (0..ticket.class).map(count).sum::<usize>().min((own + 1) * between);
        let shares = (own + higher) / MAX_SKIPS as usize * (CLASSES - 1);
        own + higher + (ticket.class + 1..CLASSES).map(count).sum::<usize>().min(shares)
    }

    fn reset_skips_of_empty_classes(&mut self) {
        for class in 0..CLASSES {
            if self.waiting[class].iter().all(BTreeSet::is_empty) {
                self.skips[class] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(queue: &mut Queue, urgency: Urgency) -> Ticket {
        let ticket = queue.ticket(Kind::CreateAccount, urgency);
        queue.enter(ticket);
        ticket
    }

    fn served(queue: &mut Queue, turns: usize) -> Vec<usize> {
        let mut classes = Vec::new();
        for _ in 0..turns {
            let Some(ticket) = queue.head(|_| true) else { break };
            queue.serve(ticket);
            classes.push(ticket.class);
        }
        classes
    }

    #[test]
    fn within_a_class_the_first_come_is_the_first_served() {
        let mut queue = Queue::default();
        let first = enter(&mut queue, Urgency::Issue);
        let second = enter(&mut queue, Urgency::Check);
        assert_eq!((queue.ahead(first), queue.ahead(second)), (0, 1));
        assert_eq!(queue.head(|_| true), Some(first));
        queue.leave(first);
        assert_eq!(queue.head(|_| true), Some(second));
    }

    #[test]
    fn a_call_that_comes_again_keeps_its_place() {
        let mut queue = Queue::default();
        let first = enter(&mut queue, Urgency::Issue);
        queue.serve(first);
        enter(&mut queue, Urgency::Issue);
        queue.enter(first);
        assert_eq!(queue.head(|_| true), Some(first));
    }

    #[test]
    fn revocations_go_before_rotations_before_issues_and_none_starves() {
        let mut queue = Queue::default();
        for urgency in [Urgency::Issue, Urgency::Rotation, Urgency::Revocation] {
            for _ in 0..20 {
                enter(&mut queue, urgency);
            }
        }
        let order = served(&mut queue, 20);
        assert_eq!(order[..3], [0, 0, 0]);
        let of = |class| order.iter().filter(|&&it| it == class).count();
        assert_eq!((of(0), of(1), of(2)), (12, 4, 4), "{order:?}");
        assert_eq!(served(&mut queue, 60).len(), 40);
        assert!(!queue.waits(Kind::CreateAccount));
    }

    #[test]
    fn the_calls_ahead_are_never_more_than_estimated() {
        let mut queue = Queue::default();
        for _ in 0..50 {
            enter(&mut queue, Urgency::Revocation);
        }
        let mine = enter(&mut queue, Urgency::Issue);
        let told = queue.ahead(mine);
        let mut turns = 0;
        while queue.head(|_| true) != Some(mine) {
            let head = queue.head(|_| true).unwrap();
            queue.serve(head);
            turns += 1;
        }
        assert!(turns <= told && told <= 4, "{turns} of {told}");
    }

    #[test]
    fn a_kind_without_room_lets_the_others_pass() {
        let mut queue = Queue::default();
        let deletion = queue.ticket(Kind::DeleteAccount, Urgency::Revocation);
        queue.enter(deletion);
        let creation = enter(&mut queue, Urgency::Issue);
        assert_eq!(queue.head(|_| true), Some(deletion));
        assert_eq!(queue.head(|kind| kind == Kind::CreateAccount), Some(creation));
        assert_eq!((queue.ahead(creation), queue.ahead_of_kind(creation)), (1, 0));
    }
}
