//! What a process, and the one after it, know of answers.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::time::SystemTime;

use tempfile::TempDir;

use super::folder::KEPT;
use super::log::COMPACT_ABOVE;
use super::*;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// What a process in this folder knows.
    fn process(&self) -> Answers {
        Answers::logged_in(self.0.path().to_owned())
    }

    fn logs(&self) -> PathBuf {
        self.0.path().join("vault-plugin-secrets-openai")
    }
}

/// An answer that may leave.
fn promise(answers: &Answers, name: &str) -> Told {
    let told = answers.promise(&[name]);
    assert!(matches!(told, Told::ByLog(_)));
    told
}

/// An answer that leaves.
fn give(answers: &Answers, name: &str) -> Told {
    let told = promise(answers, name);
    answers.note(name);
    told
}

#[test]
fn another_process_knows_what_left_and_what_did_not() {
    let folder = Place::new();
    let process = folder.process();
    let told = give(&process, "a");
    promise(&process, "waits");
    let next = folder.process();
    assert!(!next.was_never_given(told, "a"));
    assert!(next.was_never_given(told, "b"));
    assert!(next.was_never_given(told, "waits"));
}

#[test]
fn a_note_that_was_cut_short_names_nobody_and_hides_no_later_one() {
    let folder = Place::new();
    let process = folder.process();
    let told = promise(&process, "cut-short");
    let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
    let place = fs::read_to_string(&path).unwrap().find("\n\n").unwrap() as u64 + 1;
    File::options().write(true).open(path).unwrap().write_all_at(b"cut-", place).unwrap();
    give(&process, "b");
    assert!(!folder.process().was_never_given(told, "b"));
    assert!(folder.process().was_never_given(told, "cut-short"));
}

#[test]
fn an_answer_counts_as_given_until_it_is_known_that_it_does_not_leave() {
    let folder = Place::new();
    let answers = folder.process();
    let told = promise(&answers, "a");
    assert!(!answers.was_never_given(told, "a"));
    answers.disown("a");
    assert!(answers.was_never_given(told, "a"));
    assert_eq!(answers.ahead(), 0);
    answers.forget("a");
    for name in ["a", "b"] {
        assert!(!answers.was_never_given(told, name), "nothing is known of {name}");
    }
}

#[test]
fn there_is_room_for_all_names_or_for_none() {
    let folder = Place::new();
    let answers = folder.process();
    let names: Vec<_> = (0..MOST_AHEAD).map(|number| number.to_string()).collect();
    let (last, others) = names.split_last().unwrap();
    assert!(matches!(answers.promise(others), Told::ByLog(_)));
    assert_eq!(answers.promise(&["a", "b"]), Told::ByEntry);
    assert_eq!(answers.ahead(), MOST_AHEAD - 1);
    promise(&answers, last);
    assert_eq!(answers.promise(&["a"]), Told::ByEntry);
    answers.note("0");
    answers.settle(&["0"]);
    promise(&answers, "a");
}

#[test]
fn a_log_that_tells_nothing_leaves_everything() {
    let folder = Place::new();
    let told = give(&folder.process(), "a");
    let next = folder.process();
    let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
    fs::write(&path, "another-start\na\n").unwrap();
    assert!(!next.was_never_given(told, "b"), "the machine was started anew");
    fs::remove_file(&path).unwrap();
    assert!(!next.was_never_given(told, "b"), "the log is gone");
    let elsewhere_folder = Place::new();
    let elsewhere = elsewhere_folder.process();
    assert!(!elsewhere.was_never_given(told, "b"), "another machine");
    assert!(!Answers::unlogged().was_never_given(told, "b"), "no logs here");
    assert!(!next.was_never_given(Told::ByNothing, "b"), "an entry of an older version");
}

#[test]
fn without_a_log_the_entry_tells() {
    let answers = Answers::unlogged();
    assert_eq!(answers.promise(&["a"]), Told::ByEntry);
    assert!(answers.was_never_given(Told::ByEntry, "a"));
}

#[test]
fn a_folder_of_somebody_else_is_not_written_to() {
    let folder = Place::new();
    DirBuilder::new().mode(0o777).create(folder.logs()).unwrap();
    fs::set_permissions(folder.logs(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(folder.process().promise(&["a"]), Told::ByEntry);
    assert_eq!(fs::read_dir(folder.logs()).unwrap().count(), 0, "not even an empty file");
    fs::set_permissions(folder.logs(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    // Only root can give a folder away.
    if std::os::unix::fs::chown(folder.logs(), Some(1), None).is_ok() {
        assert_eq!(folder.process().promise(&["a"]), Told::ByEntry);
        assert_eq!(fs::read_dir(folder.logs()).unwrap().count(), 0, "not even an empty file");
    }
}

/// As many as it takes to have the log written anew.
fn fill(answers: &Answers) {
    for number in 0..COMPACT_ABOVE / 40 + 2 {
        let name = format!("{number:0>40}");
        if answers.promise(&[&name]) != Told::ByEntry {
            answers.note(&name);
            answers.settle(&[&name]);
        }
    }
}

#[test]
fn a_log_that_grew_is_written_anew_with_what_counts() {
    let folder = Place::new();
    let answers = folder.process();
    let told = promise(&answers, "stands");
    promise(&answers, "waits");
    answers.note("stands");
    fill(&answers);
    let logs: Vec<_> = fs::read_dir(folder.logs()).unwrap().flatten().collect();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].metadata().unwrap().len() < COMPACT_ABOVE / 2);
    assert!(!folder.process().was_never_given(told, "stands"));
    assert!(folder.process().was_never_given(told, "waits"));
    let told = give(&answers, "after");
    answers.note("waits");
    for name in ["stands", "waits", "after"] {
        assert!(!folder.process().was_never_given(told, name), "{name}");
    }
    assert!(folder.process().was_never_given(told, "another"), "the log tells nothing");
}

#[test]
fn where_no_room_can_be_had_the_entry_tells() {
    let folder = Place::new();
    let answers = folder.process();
    let told = promise(&answers, "before");
    fs::remove_dir_all(folder.logs()).unwrap();
    fill(&answers);
    assert_eq!(answers.promise(&["a", "b"]), Told::ByEntry);
    assert_eq!(answers.ahead(), 1);
    assert!(!answers.was_never_given(told, "before"));
}

#[test]
fn old_logs_go() {
    let folder = Place::new();
    give(&folder.process(), "a");
    let old = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
    let file = File::options().append(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - KEPT * 2).unwrap();
    promise(&folder.process(), "b");
    assert!(!old.exists());
}
