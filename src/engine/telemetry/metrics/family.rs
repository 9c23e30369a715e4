//! Metrics with a label whose values come from outside. Their number is bounded.

use std::collections::HashMap;

use parking_lot::RwLock;

/// The shared label value beyond the maximum.
pub(super) const OTHER: &str = "_other";

/// One set of metrics for each value of a label, up to a maximum number of values. All further values share one set. A
/// known value costs a read lock and no allocation.
pub(super) struct Family<T> {
    max: usize,
    members: RwLock<HashMap<Box<str>, T>>,
}

impl<T: Clone> Family<T> {
    pub(super) fn of_at_most(max: usize) -> Self {
        Self { max, members: RwLock::default() }
    }

    /// The member for a value of the label. `register` makes a new member.
    pub(super) fn member(&self, label: &str, register: impl FnOnce(&str) -> T) -> T {
        let known = self.members.read().get(label).cloned();
        known.unwrap_or_else(|| self.add(label, register))
    }

    /// The label under which a value's member is registered.
    pub(super) fn label<'a>(&self, label: &'a str) -> &'a str {
        if self.members.read().contains_key(label) { label } else { OTHER }
    }

    fn add(&self, label: &str, register: impl FnOnce(&str) -> T) -> T {
        let mut members = self.members.write();
        let full = members.len() >= self.max && !members.contains_key(label);
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
    fn values_beyond_the_maximum_share_one_member() {
        let family = Family::of_at_most(2);
        let name = |label: &str| family.member(label, str::to_owned);
        assert_eq!(
            ["a", "b", "c", "d", "a", "_other"].map(name),
            ["a", "b", "_other", "_other", "a", "_other"]
        );
        assert_eq!(family.members.read().len(), 3);
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
