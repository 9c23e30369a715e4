//! Finds key values in texts.

use std::collections::{BTreeSet, VecDeque};

/// Prefix of OpenAI's keys.
const PREFIX: &str = "sk-";
/// Shortest part of a key that counts as a leak. Redacted values show less.
const MIN_LEAK: usize = 20;

/// Number of values to remember; a bound, so that long tests do not look like a memory leak.
const MAX_VALUES: usize = 5_000;

/// Key values of a test.
#[derive(Debug, Default)]
pub struct Secrets {
    values: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Secrets {
    /// Remembers a value.
    pub fn learn(&mut self, value: &str) {
        if self.values.contains(value) {
            return;
        }
        self.values.insert(value.to_owned());
        self.order.push_back(value.to_owned());
        if self.order.len() > MAX_VALUES
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }

    /// A known value, or a long prefix of one, in the text.
    pub fn find_in(&self, text: &str) -> Option<String> {
        suspects(text).find(|suspect| self.knows(suspect)).map(str::to_owned)
    }

    fn knows(&self, suspect: &str) -> bool {
        let near = |value: &String| value.starts_with(suspect) || suspect.starts_with(value.as_str());
        self.values.range(suspect.to_owned()..).next().is_some_and(near)
            || self.values.range(..=suspect.to_owned()).next_back().is_some_and(near)
    }
}

/// Parts of the text that look like keys.
pub fn suspects(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PREFIX).filter_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let word = &rest[..end.unwrap_or(rest.len())];
        (word.len() >= MIN_LEAK).then_some(word)
    })
}

#[test]
fn a_value_is_found_whole_cut_and_in_the_middle_of_a_text_and_a_redacted_one_is_not() {
    let mut secrets = Secrets::default();
    secrets.learn("sk-svcacct-0123456789abcdef0123456789abcdef");
    secrets.learn("sk-admin-zzzz");
    for leak in [
        "sk-svcacct-0123456789abcdef0123456789abcdef",
        "{\"k\":\"sk-svcacct-0123456789abcdef0123\"}",
        "sk-x sk-svcacct-0123456789abcdef0123456789abcdef-and-more",
    ] {
        assert!(secrets.find_in(leak).is_some(), "{leak}");
    }
    for fine in ["sk-svcacct-***cdef", "sk-svcacct-0123", "sk-svcacct-99999999999999999999999", ""] {
        assert_eq!(secrets.find_in(fine), None, "{fine}");
    }
}
