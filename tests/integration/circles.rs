//! No circle of files: who reads a file reads what it stands on, and never comes back to it.
//!
//! The head of a module (`src/<module>/mod.rs`) is left out: it declares what all of its files may know, such as the engine
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::layers::{Source, branches, sources, word};

/// A file by its module path: `engine`, `tidy`, `run`.
pub(crate) type Name = Vec<String>;

fn name(path: &Path) -> Name {
    let mut name: Name = path.with_extension("").iter().map(|part| part.to_string_lossy().into()).collect();
    if name.last().is_some_and(|last| last == "mod" || last == "lib") {
        name.pop();
    }
    name
}

fn is_left_out(name: &Name) -> bool {
    name.len() < 2 || name.iter().any(|part| part == "tests")
}

/// Every path in `text`, which begins one: `super::{a::B, c}` is `super a B` and `super c`.
fn read_paths(text: &str, before: &Name, found: &mut Vec<Name>) {
    if let Some(group) = text.trim_start().strip_prefix('{') {
        for branch in branches(group) {
            read_paths(branch, before, found);
        }
        return;
    }
    let segment = word(text);
    let path: Name = before.iter().cloned().chain([segment.clone()]).collect();
    match text.trim_start().strip_prefix(&segment).and_then(|rest| rest.strip_prefix("::")) {
        Some(rest) if !segment.is_empty() => read_paths(rest, &path, found),
        _ => found.push(path),
    }
}

/// The paths in the file that begin at a module, and the files that it declares.
fn paths(source: &Source) -> Vec<Name> {
    let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            if !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                read_paths(&code[at..], &Name::new(), &mut found);
            }
        }
    }
    let declared = code.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
    found.extend(declared.map(|child| vec!["self".to_owned(), child.to_owned()]));
    found
}

/// The file that a path leads to from the file `from`, if it leads to one.
fn target(from: &Name, path: &Name, files: &BTreeSet<Name>) -> Option<Name> {
    let mut at = from.clone();
    let mut leads = None;
    for segment in path {
        match segment.as_str() {
            "crate" => at.clear(),
            "super" => drop(at.pop()),
            "self" => {}
            other => at.push(other.to_owned()),
        }
        leads = files.get(&at).cloned().or(leads);
    }
    leads.filter(|file| file != from)
}

/// Each file with the files that it uses.
pub(crate) fn graph() -> BTreeMap<Name, BTreeSet<Name>> {
    let sources = sources();
    let files = sources.iter().map(|source| name(&source.path)).filter(|name| !is_left_out(name)).collect();
    let used = |source: &Source| {
        let from = name(&source.path);
        let used = paths(source).iter().filter_map(|path| target(&from, path, &files)).collect();
        (from, used)
    };
    sources.iter().map(used).filter(|(from, _)| !is_left_out(from)).collect()
}

#[test]
fn no_file_leads_back_to_itself() {
    let mut graph = graph();
    assert!(
        graph[&name(Path::new("engine/operator/tidy/run.rs"))]
            .contains(&name(Path::new("engine/accounts/claims.rs")))
    );
    // What uses nothing that is left is in no circle, nor is what nothing that is left uses.
    loop {
        let left: BTreeSet<Name> = graph.keys().cloned().collect();
        for uses in graph.values_mut() {
            uses.retain(|file| left.contains(file));
        }
        let used: BTreeSet<Name> = graph.values().flatten().cloned().collect();
        graph.retain(|file, uses| used.contains(file) && !uses.is_empty());
        if graph.len() == left.len() {
            break;
        }
    }
    let circles: Vec<_> = graph.iter().map(|(file, uses)| format!("{file:?} uses {uses:?}")).collect();
    assert!(circles.is_empty(), "files in circles, or between them:\n{}", circles.join("\n"));
}
