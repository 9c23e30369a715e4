//! The rooms of the engine: folders of `src/engine`, with arrows from top to bottom only. The table is the map at the
//! head of `src/engine/mod.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::circles::{Name, graph};
use crate::layers::sources;

/// The rooms from top to bottom, as the map lists them: `//! operator/  words`.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/mod.rs")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! ")?.split_once("/ "));
    lines.map(|(room, _)| room.trim().to_owned()).filter(|room| !room.contains(' ')).collect()
}

/// The floor of the file, counted from the top. Files beside the rooms are the lowest floor: every room may use them.
fn floor(file: &Name, rooms: &[String]) -> usize {
    file.get(1).and_then(|room| rooms.iter().position(|known| known == room)).unwrap_or(rooms.len())
}

#[test]
fn the_map_names_every_room() {
    let folders: BTreeSet<_> = sources()
        .iter()
        .filter(|source| source.path.starts_with("engine") && source.path.iter().count() > 2)
        .map(|source| source.path.iter().nth(1).unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(rooms().into_iter().collect::<BTreeSet<_>>(), folders);
}

#[test]
fn no_file_uses_a_room_above_its_own() {
    let (rooms, graph) = (rooms(), graph());
    let mut arrows = 0;
    for (file, used) in graph.iter().filter(|(file, _)| file[0] == "engine") {
        for other in used.iter().filter(|other| other[0] == "engine") {
            let (from, to) = (floor(file, &rooms), floor(other, &rooms));
            arrows += usize::from(from < to);
            assert!(from <= to, "{} uses {}, which stands above it", file.join("/"), other.join("/"));
        }
    }
    assert!(arrows > 100, "only {arrows} arrows are found");
}

#[test]
fn no_file_uses_the_memory_of_a_room_above_its_own() {
    let (rooms, mut uses) = (rooms(), 0);
    for source in sources().iter().filter(|source| source.path.starts_with("engine")) {
        let Some(own) = rooms.iter().position(|room| source.path.starts_with(Path::new("engine").join(room)))
        else {
            continue;
        };
        let code: String = source.code.split_whitespace().collect();
        for (floor, room) in rooms.iter().enumerate() {
            let is_used = code.contains(&format!("engine.{room}."));
            uses += usize::from(is_used && floor > own);
            assert!(!is_used || floor >= own, "{} uses the memory of {room}/", source.path.display());
        }
    }
    assert!(uses > 20, "only {uses} uses are found");
}

#[test]
fn only_the_head_of_the_engine_has_methods_of_the_whole_engine() {
    for source in sources().iter().filter(|source| source.path.starts_with("engine")) {
        let is_head = source.path == Path::new("engine/mod.rs");
        let has_methods = source.code.lines().any(|line| line.starts_with("impl Engine "));
        assert!(is_head || !has_methods, "src/{} has an impl of Engine", source.path.display());
    }
}
