//! Finds the path of a request in a tree of segments. A literal takes precedence over a capture.
//!
//! The order of declaration does not matter: building the tree panics if two paths match the same requests. If a
//! literal leads to no path, the router tries the capture.

use std::collections::BTreeMap;

use super::Name;
use super::pattern::{Pattern, Segment};

/// The paths of an engine by their segments.
#[derive(Debug, Default)]
pub(super) struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<&'static str, Node>,
    capture: Option<Box<Node>>,
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    path: usize,
    open_end: bool,
}

/// Match of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// Index of the path.
    pub(super) path: usize,
    /// Captured values, in order.
    pub(super) captured: Vec<&'a str>,
}

impl Router {
    /// Panics if two patterns match the same requests, because patterns are part of the program.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let mut router = Self::default();
        for (path, pattern) in patterns.into_iter().enumerate() {
            router.add(path, pattern);
        }
        router
    }

    fn add(&mut self, path: usize, pattern: &Pattern) {
        let node = pattern.segments.iter().fold(&mut self.root, |node, segment| match segment {
            Segment::Literal(literal) => node.literals.entry(literal).or_default(),
            Segment::Capture(_) => node.capture.get_or_insert_default(),
        });
        assert!(node.target.is_none(), "two paths match the same requests as {}", pattern.regex());
        node.target = Some(Target { path, open_end: pattern.open_end });
    }

    /// The path that matches a request.
    pub(super) fn find<'a>(&self, path: &'a str) -> Option<Found<'a>> {
        let (body, slash) = match path.strip_suffix('/') {
            Some(body) => (body, true),
            None => (path, false),
        };
        let mut captured = Vec::new();
        let target = self.root.walk(body.split('/'), slash, &mut captured)?;
        Some(Found { path: target.path, captured })
    }
}

impl Node {
    fn walk<'a>(
        &self,
        mut segments: std::str::Split<'a, char>,
        slash: bool,
        captured: &mut Vec<&'a str>,
    ) -> Option<&Target> {
        let Some(segment) = segments.next() else {
            return self.target.as_ref().filter(|target| target.open_end || !slash);
        };
        let literal = self.literals.get(segment);
        if let Some(target) = literal.and_then(|node| node.walk(segments.clone(), slash, captured)) {
            return Some(target);
        }
        let node = self.capture.as_ref().filter(|_| Name::matches(segment))?;
        captured.push(segment);
        let target = node.walk(segments, slash, captured);
        if target.is_none() {
            captured.pop();
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 7] = [
        "config",
        "roles/",
        "roles/:name",
        "sets/:name/status",
        "sets/all/:kind",
        "sets/:name/:verb",
        "sets/all/status/deep",
    ];

    fn router() -> Router {
        let patterns: Vec<Pattern> = PATTERNS.into_iter().map(Pattern::new).collect();
        Router::new(&patterns)
    }

    fn found(path: &str) -> Option<(&'static str, Vec<&str>)> {
        router().find(path).map(|found| (PATTERNS[found.path], found.captured))
    }

    #[test]
    fn a_literal_beats_a_capture_and_gives_way_where_it_leads_nowhere() {
        assert_eq!(found("config"), Some(("config", vec![])));
        assert_eq!(found("roles/a"), Some(("roles/:name", vec!["a"])));
        assert_eq!(found("sets/a/status"), Some(("sets/:name/status", vec!["a"])));
        assert_eq!(found("sets/a/renew"), Some(("sets/:name/:verb", vec!["a", "renew"])));
        assert_eq!(found("sets/all/status"), Some(("sets/all/:kind", vec!["status"])));
        assert_eq!(found("sets/all/status/deep"), Some(("sets/all/status/deep", vec![])));
    }

    #[test]
    fn a_list_matches_with_and_without_its_slash() {
        assert_eq!(found("roles"), Some(("roles/", vec![])));
        assert_eq!(found("roles/"), Some(("roles/", vec![])));
        assert_eq!(found("roles//"), None);
    }

    #[test]
    fn a_name_matches_neither_with_a_slash_nor_outside_its_pattern() {
        for path in
            ["roles/a/", "roles/-a", "roles/a.", "roles/a b", "roles/ä", "config/", "", "/", "x", "/config"]
        {
            assert_eq!(found(path), None, "{path}");
        }
        for path in ["roles/a.b-c_d", "roles/1", "roles/_", "roles/a..b"] {
            assert!(found(path).is_some(), "{path}");
        }
    }

    #[test]
    #[should_panic(expected = "two paths match the same requests")]
    fn two_paths_for_the_same_requests_are_a_mistake() {
        let patterns = [Pattern::new("roles/:name"), Pattern::new("roles/:role")];
        Router::new(&patterns);
    }

    #[test]
    #[should_panic(expected = "two paths match the same requests")]
    fn a_list_and_a_path_of_the_same_name_are_a_mistake() {
        let patterns = [Pattern::new("roles"), Pattern::new("roles/")];
        Router::new(&patterns);
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC*|(config|roles|sets|all|status|deep|/|[a-z.]){0,12}") {
            let _ = router().find(&path);
        }

        #[test]
        fn every_name_reaches_its_path(name in r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,30}[0-9A-Za-z_])?") {
            let path = format!("roles/{name}");
            prop_assert_eq!(router().find(&path), Some(Found { path: 2, captured: vec![name.as_str()] }));
        }

        #[test]
        fn the_order_of_declaration_never_matters(order in Just(PATTERNS.to_vec()).prop_shuffle(), path in
            "(config|roles|sets)(/(all|status|deep|a|b)){0,4}/?") {
            let patterns: Vec<Pattern> = order.iter().copied().map(Pattern::new).collect();
            let shuffled = Router::new(&patterns);
            let other = shuffled.find(&path).map(|found| (order[found.path], found.captured));
            prop_assert_eq!(other, router().find(&path).map(|found| (PATTERNS[found.path], found.captured)));
        }
    }
}
