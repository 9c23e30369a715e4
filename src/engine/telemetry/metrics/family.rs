//! Metrics told apart by a label whose values come from outside, and so must be kept from growing without bound.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// The label's value once there are as many as may be.
pub(super) const OTHER: &str = "_other";

/// One set of metrics for each value of a label, up to a number of values; all others share one.
///
/// A value seen before costs a read lock and no allocation.
pub(super) struct Family<T> {
    most: usize,
    members: RwLock<HashMap<Box<str>, T>>,
}

impl<T: Clone> Family<T> {
    pub(super) fn of_at_most(most: usize) -> Self {
        Self { most, members: RwLock::default() }
    }

    /// The member for a value of the label, made by `register` where it is new.
    pub(super) fn member(&self, label: &str, register: impl FnOnce(&str) -> T) -> T {
        let known = self.known(label);
        known.unwrap_or_else(|| self.add(label, register))
    }

    fn known(&self, label: &str) -> Option<T> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).get(label).cloned()
    }

    fn add(&self, label: &str, register: impl FnOnce(&str) -> T) -> T {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        let full = members.len() >= self.most && !members.contains_key(label);
        let label = if full { OTHER } else { label };
        if let Some(member) = members.get(label) {
            return member.clone();
        }
        let member = register(label);
        members.insert(label.into(), member.clone());
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_late_shares_one_member() {
        let family = Family::of_at_most(2);
        let name = |label: &str| family.member(label, str::to_owned);
        assert_eq!(
            ["a", "b", "c", "d", "a", "_other"].map(name),
            ["a", "b", "_other", "_other", "a", "_other"]
        );
        assert_eq!(family.members.read().unwrap().len(), 3);
    }

    #[test]
    fn a_value_is_registered_once() {
        let family = Family::of_at_most(1);
        for label in ["a", "a", "b", "c"] {
            family.member(label, str::to_owned);
        }
        for label in ["a", "b", "z"] {
            family.member(label, |label| panic!("{label} was registered again"));
        }
    }
}
