//! Path patterns. A segment is a literal or, as `:name`, a capture.
//!
//! Help shows patterns as Go regular expressions, as Vault's engines do. The router matches them without regular
//! expressions.

use std::fmt::Write as _;

/// One segment of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Matches exactly this text.
    Literal(&'static str),
    /// Matches any name and stores it in the field of this name.
    Capture(&'static str),
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) segments: Vec<Segment>,
    /// True if a trailing `/` also matches, as for lists.
    pub(super) open_end: bool,
}

impl Pattern {
    /// Parses a pattern. Panics on an invalid pattern, because patterns are part of the program.
    pub(super) fn new(text: &'static str) -> Self {
        let (body, open_end) = match text.strip_suffix('/') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let segments = body.split('/').map(|segment| Segment::new(segment, text)).collect();
        Self { segments, open_end }
    }

    /// Names of the captures, in order.
    pub(super) fn captures(&self) -> impl Iterator<Item = &'static str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(*name),
            Segment::Literal(_) => None,
        })
    }

    /// The pattern in Go's syntax: `^roles/(?P<name>\w(([\w-.]+)?\w)?)$`.
    pub(super) fn regex(&self) -> String {
        let mut regex = self.written("^", |regex, name| {
            // Writing to a string cannot fail.
            let _ = write!(regex, r"(?P<{name}>\w(([\w-.]+)?\w)?)");
        });
        regex.push_str(if self.open_end { "/?$" } else { "$" });
        regex
    }

    /// The pattern in OpenAPI syntax: `roles/{name}`.
    pub(super) fn template(&self) -> String {
        self.written("", |template, name| {
            let _ = write!(template, "{{{name}}}");
        })
    }

    fn written(&self, start: &str, capture: impl Fn(&mut String, &str)) -> String {
        let mut text = start.to_owned();
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                text.push('/');
            }
            match segment {
                Segment::Literal(literal) => text.push_str(literal),
                Segment::Capture(name) => capture(&mut text, name),
            }
        }
        text
    }
}

impl Segment {
    fn new(segment: &'static str, pattern: &'static str) -> Self {
        let (name, parsed) = match segment.strip_prefix(':') {
            Some(name) => (name, Self::Capture(name)),
            None => (segment, Self::Literal(segment)),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        assert!(
            !name.is_empty() && name.bytes().all(plain),
            "path {pattern:?}: {segment:?} is neither a literal of letters, digits, `_` and `-` nor a capture"
        );
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_shown_in_the_writing_of_go() {
        for (pattern, regex, template) in [
            ("config", "^config$", "config"),
            ("config/rotate", "^config/rotate$", "config/rotate"),
            ("roles/", "^roles/?$", "roles"),
            ("roles/:name", r"^roles/(?P<name>\w(([\w-.]+)?\w)?)$", "roles/{name}"),
            ("a/:b/c/:d", r"^a/(?P<b>\w(([\w-.]+)?\w)?)/c/(?P<d>\w(([\w-.]+)?\w)?)$", "a/{b}/c/{d}"),
        ] {
            assert_eq!(Pattern::new(pattern).regex(), regex);
            assert_eq!(Pattern::new(pattern).template(), template);
        }
    }

    #[test]
    #[should_panic(expected = "is neither a literal")]
    fn an_empty_segment_is_a_mistake() {
        Pattern::new("roles//:name");
    }

    #[test]
    #[should_panic(expected = "is neither a literal")]
    fn a_regular_expression_is_a_mistake() {
        Pattern::new("roles/.*");
    }
}
