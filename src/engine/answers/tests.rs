//! What a process, and the one after it, know of answers.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::time::SystemTime;

use tempfile::TempDir;

use super::folder::KEPT;
use super::log::COMPACT_ABOVE;
use super::*;
use crate::engine::issuer::CREATION;
use crate::logical::{InMemory, Storage};

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// What a process in this folder knows.
    fn process(&self) -> Arc<Answers> {
        Arc::new(Answers::logged_in(self.0.path().to_owned()))
    }

    fn logs(&self) -> PathBuf {
        self.0.path().join("vault-plugin-secrets-openai")
    }
}

/// An entry, and the storage that it stands in.
async fn entry() -> (Arc<InMemory>, Pending) {
    let memory = Arc::new(InMemory::new());
    let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&memory);
    let creation = serde_json::from_value(serde_json::json!({
        "organization_id": "org-1", "project_id": "proj_1", "name": "a", "owner": {"ledger": "1/1/a"},
    }));
    let pending = CREATION.begin(&storage, &creation.unwrap()).await.unwrap();
    (memory, pending)
}

/// An answer that is ready; what its entry stood in.
async fn ready(answers: &Arc<Answers>, name: &str) -> (Told, Departure, Arc<InMemory>) {
    let told = answers.told();
    let (memory, pending) = entry().await;
    (told, answers.give(&Arc::default(), name, pending).await.unwrap().unwrap(), memory)
}

/// An answer that leaves.
async fn give(answers: &Arc<Answers>, name: &str) -> Told {
    let (told, departure, _) = ready(answers, name).await;
    departure.leave();
    told
}

#[tokio::test]
async fn another_process_knows_what_left_and_what_did_not() {
    let folder = Place::new();
    let process = folder.process();
    let told = give(&process, "a").await;
    let (_, _waits, _) = ready(&process, "waits").await;
    let next = folder.process();
    assert!(matches!(told, Told::ByLog(_)));
    assert!(!next.was_never_given(told, "a"));
    assert!(next.was_never_given(told, "b"));
    assert!(next.was_never_given(told, "waits"));
}

#[tokio::test]
async fn a_note_that_was_cut_short_names_nobody_and_hides_no_later_one() {
    let folder = Place::new();
    let process = folder.process();
    let (told, _cut_short, _) = ready(&process, "cut-short").await;
    let path = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
    let place = fs::read_to_string(&path).unwrap().find("\n\n").unwrap() as u64 + 1;
    File::options().write(true).open(path).unwrap().write_all_at(b"cut-", place).unwrap();
    give(&process, "b").await;
    assert!(!folder.process().was_never_given(told, "b"));
    assert!(folder.process().was_never_given(told, "cut-short"));
}

#[tokio::test(start_paused = true)]
async fn the_process_itself_knows_while_the_entry_stands() {
    let folder = Place::new();
    let answers = folder.process();
    let (told, departure, memory) = ready(&answers, "a").await;
    memory.fail_delete("wal/");
    departure.leave();
    tokio::time::sleep(spent::IDLE * 3).await;
    assert_eq!(memory.keys().len(), 1);
    assert!(!answers.was_never_given(told, "a"));
    assert!(answers.was_never_given(told, "b"));
}

#[tokio::test]
async fn an_answer_that_may_still_leave_counts_as_given_until_it_is_dropped() {
    let folder = Place::new();
    let answers = folder.process();
    let (told, departure, memory) = ready(&answers, "a").await;
    assert!(!answers.was_never_given(told, "a"));
    drop(departure);
    tokio::task::yield_now().await;
    assert!(answers.was_never_given(told, "a"));
    assert_eq!(memory.keys().len(), 1, "the sweep is to find it");
}

#[tokio::test(start_paused = true)]
async fn the_entry_goes_after_an_answer_that_left() {
    let folder = Place::new();
    let (_, departure, memory) = ready(&folder.process(), "a").await;
    assert_eq!(memory.keys().len(), 1);
    departure.leave();
    tokio::time::sleep(spent::IDLE * 3).await;
    assert!(memory.keys().is_empty());
}

#[tokio::test]
async fn too_many_answers_at_once_wait_for_their_entries_to_go() {
    let folder = Place::new();
    let answers = folder.process();
    let mut on_their_way = Vec::new();
    for number in 0..MOST_AHEAD {
        on_their_way.push(ready(&answers, &number.to_string()).await);
    }
    let (memory, pending) = entry().await;
    assert!(answers.give(&Arc::default(), "a", pending).await.unwrap().is_none());
    assert!(memory.keys().is_empty());
    on_their_way.pop();
    drop(ready(&answers, "b").await);
}

#[tokio::test]
async fn a_log_that_tells_nothing_leaves_everything() {
    let folder = Place::new();
    let told = give(&folder.process(), "a").await;
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

#[tokio::test]
async fn without_a_log_the_entry_goes_before_the_answer() {
    let answers = Arc::new(Answers::unlogged());
    assert_eq!(answers.told(), Told::ByEntry);
    let (memory, pending) = entry().await;
    answers.give(&Arc::default(), "a", pending).await.unwrap();
    assert!(memory.keys().is_empty());
    let (memory, pending) = entry().await;
    memory.fail_delete("wal/");
    answers.give(&Arc::default(), "a", pending).await.unwrap_err();
    assert!(answers.was_never_given(Told::ByEntry, "a"));
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_not_written_to() {
    let folder = Place::new();
    DirBuilder::new().mode(0o777).create(folder.logs()).unwrap();
    fs::set_permissions(folder.logs(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(folder.process().told(), Told::ByEntry);
}

/// As many as it takes to have the log written anew.
fn fill(answers: &Arc<Answers>) {
    for number in 0..COMPACT_ABOVE / 40 + 2 {
        let name = format!("{number:0>40}");
        if answers.promise(&name) {
            answers.note(&name);
            answers.settle(&name);
        }
    }
}

#[tokio::test]
async fn a_log_that_grew_is_written_anew_with_what_counts() {
    let folder = Place::new();
    let answers = folder.process();
    let told = answers.told();
    for name in ["stands", "waits"] {
        assert!(answers.promise(name));
    }
    answers.note("stands");
    fill(&answers);
    let logs: Vec<_> = fs::read_dir(folder.logs()).unwrap().flatten().collect();
    assert_eq!(logs.len(), 1);
    assert!(logs[0].metadata().unwrap().len() < COMPACT_ABOVE / 2);
    assert!(!folder.process().was_never_given(told, "stands"));
    assert!(folder.process().was_never_given(told, "waits"));
    let told = give(&answers, "after").await;
    answers.note("waits");
    for name in ["stands", "waits", "after"] {
        assert!(!folder.process().was_never_given(told, name), "{name}");
    }
    assert!(folder.process().was_never_given(told, "another"), "the log tells nothing");
}

#[tokio::test]
async fn where_no_room_can_be_had_the_entry_goes_before_the_answer() {
    let folder = Place::new();
    let answers = folder.process();
    assert!(matches!(answers.told(), Told::ByLog(_)));
    fs::remove_dir_all(folder.logs()).unwrap();
    fill(&answers);
    let (memory, pending) = entry().await;
    assert!(answers.give(&Arc::default(), "a", pending).await.unwrap().is_none());
    assert!(memory.keys().is_empty());
}

#[tokio::test]
async fn old_logs_go() {
    let folder = Place::new();
    give(&folder.process(), "a").await;
    let old = fs::read_dir(folder.logs()).unwrap().next().unwrap().unwrap().path();
    let file = File::options().append(true).open(&old).unwrap();
    file.set_modified(SystemTime::now() - KEPT * 2).unwrap();
    folder.process().told();
    assert!(!old.exists());
}
