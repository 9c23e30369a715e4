//! The house rules on who may use whom, which the compiler cannot hold within one package. The table is the map at the
//! head of `src/lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that carry one neighbour's way of speaking, and who may speak it.
const LANGUAGES: [(&str, &[&str]); 8] = [
    ("tonic", &["goplugin", "wire"]),
    ("prost", &["goplugin", "wire"]),
    ("prost_types", &["goplugin", "wire"]),
    ("pb", &["goplugin", "wire"]),
    ("yamux", &["goplugin"]),
    ("rcgen", &["goplugin"]),
    ("reqwest", &["openai"]),
    ("p521", &["tls"]),
];
/// Words that the OpenAI client has no use for: what it is used for is none of its business.
const NOT_OPENAIS: [&str; 4] = ["vault", "lease", "leases", "mount"];

/// One file of `src`: the module it belongs to, and its code without comments.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    module: String,
    pub(crate) code: String,
}

pub(crate) fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::read(path.strip_prefix(&src).unwrap(), &path));
            }
        }
    }
    found
}

impl Source {
    fn read(path: &Path, at: &Path) -> Self {
        let module = path.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(at).unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        Self { path: path.to_owned(), module, code: code.collect::<Vec<_>>().join("\n") }
    }

    /// The modules of this package that the file names.
    fn uses(&self) -> BTreeSet<String> {
        let paths =
            ["crate::", "openai_secrets::"].into_iter().flat_map(|root| self.code.split(root).skip(1));
        let mut used = BTreeSet::new();
        for rest in paths {
            match rest.strip_prefix('{') {
                // `use crate::{a::X, b}`: the first word of each branch at the top.
                Some(group) => used.extend(branches(group).into_iter().map(word)),
                None => drop(used.insert(word(rest))),
            }
        }
        used
    }

    fn names(&self, name: &str) -> bool {
        let words = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        self.code.split(words).any(|word| word.eq_ignore_ascii_case(name))
    }

    /// Whether the name stands where a path begins.
    fn begins_a_path_with(&self, name: &str) -> bool {
        self.code.match_indices(&format!("{name}::")).any(|(at, _)| {
            !self.code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':')
        })
    }
}

pub(crate) fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The parts between the commas at the top of a group that was opened.
pub(crate) fn branches(group: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&group[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// Who may use whom, as `src/lib.rs` says: `//! wire -> goplugin, logical   words`.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! ")?.split_once("->"));
    rows.map(|(module, rest)| {
        let mut used = BTreeSet::new();
        // In brackets stand crates of others.
        for part in rest.split(',').take_while(|part| !part.contains(['(', ')'])) {
            used.extend(Some(word(part)).filter(|name| !name.is_empty()));
            // What is set off by spaces is about the module.
            if part.trim_start().contains(' ') {
                break;
            }
        }
        (module.trim().to_owned(), used)
    })
    .collect()
}

#[test]
fn the_map_names_every_module() {
    let table = table();
    let modules: BTreeSet<_> = sources().into_iter().map(|source| source.module).collect();
    let expected: BTreeSet<_> = modules.into_iter().filter(|module| module != "lib").collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(table["engine"], BTreeSet::from(["framework", "logical", "openai"].map(str::to_owned)));
    assert_eq!(table["goplugin"], BTreeSet::from(["tls".to_owned()]));
}

#[test]
fn no_module_uses_another_that_the_map_does_not_allow_it() {
    let (table, modules) = (table(), sources());
    for source in &modules {
        let Some(allowed) = table.get(&source.module) else { continue };
        for used in source.uses().iter().filter(|used| table.contains_key(*used)) {
            let fine = *used == source.module || allowed.contains(used);
            assert!(fine, "src/{} uses {used}, which {} may not", source.path.display(), source.module);
        }
    }
    let engine = modules.iter().filter(|source| source.module == "engine").flat_map(Source::uses);
    assert!(engine.collect::<BTreeSet<_>>().contains("openai"), "nothing is found any more");
}

#[test]
fn each_language_is_spoken_at_its_own_border_only() {
    for source in sources() {
        // Tests stand in for the neighbour.
        if source.path.iter().any(|part| part == "tests") {
            continue;
        }
        for (name, speakers) in LANGUAGES {
            let spoken = source.begins_a_path_with(name);
            let fine = !spoken || speakers.contains(&source.module.as_str());
            assert!(fine, "src/{} speaks {name}", source.path.display());
        }
    }
}

#[test]
fn the_openai_client_knows_nothing_of_what_it_is_used_for() {
    for source in sources().iter().filter(|source| source.module == "openai") {
        for name in NOT_OPENAIS {
            assert!(!source.names(name), "src/{} says {name}", source.path.display());
        }
    }
}
