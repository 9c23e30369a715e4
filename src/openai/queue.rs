//! The queue of waiting calls. This file knows neither time nor rate.
//!
//! *Guarantees:* a class is first in, first out. A higher class goes first. Of five consecutive calls, at least one
//! belongs to each waiting class, so no class starves.

use std::collections::BTreeSet;

use super::Urgency;

/// Consecutive calls of higher classes after which a waiting class goes first.
const MAX_SKIPS: u32 = 3;
const CLASSES: usize = 3;

/// A place in the queue. A call keeps its place over its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    class: usize,
    number: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: [BTreeSet<u64>; CLASSES],
    /// Consecutive calls of higher classes while this class waited.
    skips: [u32; CLASSES],
    issued: u64,
}

impl Queue {
    /// A new place. The queue does not contain the place yet.
    pub(super) fn ticket(&mut self, urgency: Urgency) -> Ticket {
        self.issued += 1;
        let class = match urgency {
            Urgency::Revocation => 0,
            Urgency::Rotation => 1,
            Urgency::Issue | Urgency::Check => 2,
        };
        Ticket { class, number: self.issued }
    }

    /// Enters the queue at this place.
    pub(super) fn enter(&mut self, ticket: Ticket) {
        self.waiting[ticket.class].insert(ticket.number);
    }

    /// Leaves the queue without being served.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting[ticket.class].remove(&ticket.number);
        self.reset_skips_of_empty_classes();
    }

    /// Leaves the queue to be served.
    pub(super) fn serve(&mut self, ticket: Ticket) {
        self.waiting[ticket.class].remove(&ticket.number);
        self.skips[ticket.class] = 0;
        for class in ticket.class + 1..CLASSES {
            self.skips[class] += 1;
        }
        self.reset_skips_of_empty_classes();
    }

    /// The place that is served next.
    pub(super) fn head(&self) -> Option<Ticket> {
        let waits = |class: &usize| !self.waiting[*class].is_empty();
        let class = (0..CLASSES)
            .filter(waits)
            .find(|&class| self.skips[class] >= MAX_SKIPS)
            .or_else(|| (0..CLASSES).find(waits))?;
        self.waiting[class].first().map(|&number| Ticket { class, number })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.iter().all(BTreeSet::is_empty)
    }

    /// Upper bound on the calls that are served before this one, if no new call arrives.
    pub(super) fn ahead(&self, ticket: Ticket) -> usize {
        let sum = |sets: &[BTreeSet<u64>]| -> usize { sets.iter().map(BTreeSet::len).sum() };
        let (higher, lower) = self.waiting.split_at(ticket.class);
        let own = lower[0].range(..ticket.number).count();
        let between = MAX_SKIPS as usize + CLASSES - 2;
        let higher = sum(higher).min((own + 1) * between);
        let shares = (own + higher) / MAX_SKIPS as usize * (CLASSES - 1);
        own + higher + sum(&lower[1..]).min(shares)
    }

    fn reset_skips_of_empty_classes(&mut self) {
        for class in 0..CLASSES {
            if self.waiting[class].is_empty() {
                self.skips[class] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(queue: &mut Queue, urgency: Urgency) -> Ticket {
        let ticket = queue.ticket(urgency);
        queue.enter(ticket);
        ticket
    }

    fn served(queue: &mut Queue, turns: usize) -> Vec<usize> {
        let mut classes = Vec::new();
        for _ in 0..turns {
            let Some(ticket) = queue.head() else { break };
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
        assert_eq!(queue.head(), Some(first));
        queue.leave(first);
        assert_eq!(queue.head(), Some(second));
    }

    #[test]
    fn a_call_that_comes_again_keeps_its_place() {
        let mut queue = Queue::default();
        let first = enter(&mut queue, Urgency::Issue);
        queue.serve(first);
        enter(&mut queue, Urgency::Issue);
        queue.enter(first);
        assert_eq!(queue.head(), Some(first));
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
        assert!(queue.is_empty());
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
        while queue.head() != Some(mine) {
            let head = queue.head().unwrap();
            queue.serve(head);
            turns += 1;
        }
        assert!(turns <= told && told <= 4, "{turns} of {told}");
    }
}
