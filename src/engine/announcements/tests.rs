//! What stands in the log for whom, and what is left of it.

use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::spent::IDLE;
use super::*;
use crate::engine::clock::Clock;
use crate::engine::issuer::Owner;
use crate::engine::ledger;
use crate::framework::WalLog;
use crate::logical::{Entry, InMemory};

const TTL: Duration = Duration::from_secs(3600);
/// As long as storage takes for a write.
const WRITE: Duration = Duration::from_millis(10);

/// A mount, its storage, and the names that were made so far.
struct Stage {
    memory: Arc<Slow>,
    announcements: Arc<Announcements>,
    answers: Arc<Answers>,
    names: AtomicUsize,
    _folder: TempDir,
}

/// Storage that takes its time.
#[derive(Debug)]
struct Slow(InMemory, Mutex<Duration>);

/// A clock that stands.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
}

impl Slow {
    fn takes(&self, time: Duration) {
        *self.1.lock().unwrap() = time;
    }
}

#[async_trait]
impl Storage for Slow {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.0.list(prefix).await
    }
    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        self.0.get(key).await
    }
    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let time = *self.1.lock().unwrap();
        sleep(time).await;
        self.0.put(entry).await
    }
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key).await
    }
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::with(Answers::logged_in(folder.path().to_owned()), folder)
    }

    fn unlogged() -> Self {
        Self::with(Answers::unlogged(), tempfile::tempdir().unwrap())
    }

    fn with(answers: Answers, folder: TempDir) -> Self {
        let answers = Arc::new(answers);
        let announcements =
            Arc::new(Announcements::new(Arc::clone(&answers), Arc::new(Times::new(Arc::new(Still)))));
        let memory = Arc::new(Slow(InMemory::new(), Mutex::new(WRITE)));
        Self { memory, announcements, answers, names: AtomicUsize::new(0), _folder: folder }
    }

    fn reading(&self) -> Reading {
        self.announcements.reading(terms("app"))
    }

    async fn announce(&self, reading: &Reading) -> Result<Announced, Error> {
        let storage: Arc<dyn Storage> = Arc::<Slow>::clone(&self.memory);
        let new_name = || Ok(format!("name-{}", self.names.fetch_add(1, Ordering::Relaxed)));
        reading.announce(&storage, new_name).await
    }

    /// So many read at once.
    async fn crowd(&self, size: usize) -> (Vec<Reading>, Vec<Announced>) {
        let readings: Vec<_> = (0..size).map(|_| self.reading()).collect();
        let announced = join_all(readings.iter().map(|reading| self.announce(reading))).await;
        (readings, announced.into_iter().map(Result::unwrap).collect())
    }

    /// What stands in the log, one for each entry.
    async fn standing(&self) -> Vec<Announcement> {
        ANNOUNCEMENT.entries(&WalLog::read(&*self.memory, usize::MAX).await.unwrap()).unwrap()
    }

    async fn stands(&self, name: &str) -> bool {
        self.standing().await.iter().any(|entry| entry.names.iter().any(|other| other == name))
    }

    /// Nothing is under way, held or promised.
    fn is_at_rest(&self) {
        assert!(self.memory.0.keys().is_empty());
        assert!(self.announcements.pools().is_empty());
        assert_eq!(self.answers.ahead(), 0);
    }

    fn writes(&self) -> usize {
        self.memory.0.calls().puts
    }
}

fn terms(role_name: &str) -> Terms {
    Terms {
        organization_id: "org-1".parse().unwrap(),
        project_id: "proj_1".parse().unwrap(),
        service_account_id: None,
        role_name: role_name.to_owned(),
        project: "research".to_owned(),
        name_template: String::new(),
        ttl: TTL,
    }
}

async fn leave(announced: Announced) {
    announced.give().await.unwrap().unwrap().leave();
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_has_an_entry_for_one_that_goes_after_the_answer() {
    let stage = Stage::new();
    let reading = stage.reading();
    for read in 1..=3 {
        let announced = stage.announce(&reading).await.unwrap();
        assert_eq!(announced.ends(), DateTime::UNIX_EPOCH + TTL);
        let standing = stage.standing().await;
        assert_eq!(standing.len(), 1, "it takes the place of the one before");
        assert_eq!(standing[0].names, [announced.name()]);
        leave(announced).await;
        assert_eq!(stage.writes(), read);
    }
    sleep(IDLE * 3).await;
    assert!(stage.standing().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_who_read_at_once_share_entries_and_no_name() {
    let stage = Stage::new();
    let (_readings, announced) = stage.crowd(MOST * 3).await;
    assert_eq!(stage.writes(), 3);
    let names: HashSet<_> = announced.iter().map(Announced::name).collect();
    assert_eq!(names.len(), MOST * 3);
    for announced in &announced {
        assert!(stage.stands(announced.name()).await);
        assert_eq!(announced.ends(), DateTime::UNIX_EPOCH + FRESH + TTL);
        let Owner::Ledger(place) = announced.creation().owner else { panic!("it is a credential") };
        assert_eq!(place, ledger::place(announced.ends(), announced.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_next_waits_for_no_write() {
    let stage = Stage::new();
    let (readings, mut under_way) = stage.crowd(8).await;
    let began = Instant::now();
    for reading in readings.iter().cycle().take(500) {
        leave(under_way.remove(0)).await;
        under_way.push(stage.announce(reading).await.unwrap());
        // The time that passes elsewhere between two reads.
        sleep(WRITE / 2).await;
    }
    assert_eq!(began.elapsed(), WRITE / 2 * 500);
    assert!(stage.writes() < 500 / 8, "{} writes", stage.writes());
    assert!(stage.standing().await.len() < 5, "entries take the place of spent ones");
}

#[tokio::test(start_paused = true)]
async fn an_entry_goes_when_all_of_it_is_over_and_nobody_reads() {
    let stage = Stage::new();
    let (readings, mut announced) = stage.crowd(3).await;
    let last = announced.pop().unwrap();
    for announced in announced {
        leave(announced).await;
    }
    drop(readings);
    sleep(IDLE * 3).await;
    assert!(stage.stands(last.name()).await);
    let key = stage.memory.0.keys().remove(0);
    assert!(stage.announcements.holds(&key), "no sweep takes it away");
    last.forget().await;
    sleep(IDLE * 3).await;
    assert!(!stage.announcements.holds(&key));
    stage.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn what_came_to_no_end_stays_in_a_shorter_entry() {
    let stage = Stage::new();
    let (readings, mut announced) = stage.crowd(8).await;
    let (unended, unsent) = (announced.pop().unwrap(), announced.pop().unwrap());
    let names = HashSet::from([unended.name().to_owned(), unsent.name().to_owned()]);
    let told = unended.creation().told;
    let sent: Vec<_> = announced.iter().map(|announced| announced.name().to_owned()).collect();
    for announced in announced {
        leave(announced).await;
    }
    drop(unended);
    drop(unsent.give().await.unwrap().unwrap());
    for name in &sent {
        assert!(!stage.answers.was_never_given(told, name));
    }
    drop(readings);
    sleep(IDLE * 3).await;
    let standing = stage.standing().await;
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0].names.iter().cloned().collect::<HashSet<_>>(), names);
    assert!(!stage.announcements.holds(&stage.memory.0.keys()[0]), "it is a sweep's");
    for name in &names {
        assert!(stage.answers.was_never_given(told, name));
    }
    for name in &sent {
        assert!(!stage.answers.was_never_given(told, name), "its entry is gone, and it has its lease");
    }
    assert_eq!(stage.answers.ahead(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_a_longer_entry_stands_its_answers_are_known() {
    let stage = Stage::new();
    let (readings, mut announced) = stage.crowd(2).await;
    let told = announced[0].creation().told;
    let sent = announced.pop().unwrap();
    let name = sent.name().to_owned();
    leave(sent).await;
    stage.memory.0.fail_put("wal/");
    drop(announced);
    drop(readings);
    sleep(IDLE * 3).await;
    assert!(stage.stands(&name).await);
    assert!(!stage.answers.was_never_given(told, &name));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_the_failure_of_one_read_and_holds_up_no_other() {
    let stage = Stage::new();
    stage.memory.0.fail_put("wal/");
    let readings: Vec<_> = (0..50).map(|_| stage.reading()).collect();
    let began = Instant::now();
    let announced = join_all(readings.iter().map(|reading| stage.announce(reading))).await;
    assert_eq!(announced.iter().filter(|announced| announced.is_err()).count(), 1);
    assert_eq!(began.elapsed(), WRITE * 2);
    let names: HashSet<_> = announced.iter().flatten().map(|it| it.name().to_owned()).collect();
    assert_eq!(names.len(), 49);
    for announced in announced.into_iter().flatten() {
        announced.forget().await;
    }
    drop(readings);
    sleep(IDLE * 3).await;
    stage.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_write_that_hangs() {
    let stage = Stage::new();
    stage.memory.takes(Duration::from_secs(3600));
    let began = Instant::now();
    let heals = async {
        sleep(PATIENCE / 2).await;
        stage.memory.takes(WRITE);
    };
    let ((_readings, announced), ()) = tokio::join!(stage.crowd(50), heals);
    assert_eq!(announced.len(), 50);
    assert_eq!(began.elapsed(), PATIENCE + WRITE);
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_too_slow_is_written_to_by_each_at_the_same_time() {
    let stage = Stage::new();
    stage.memory.takes(PATIENCE * 3);
    let began = Instant::now();
    let (_readings, announced) = stage.crowd(50).await;
    assert_eq!(announced.len(), 50);
    assert_eq!(began.elapsed(), PATIENCE * 4);
}

#[test]
fn the_last_of_many_at_once_takes_the_pool_along() {
    let stage = Stage::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20_000).for_each(|_| drop(stage.reading())));
        }
    });
    stage.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_takes_no_write_fails_all_at_once_and_is_tried_again() {
    let stage = Stage::new();
    stage.memory.0.set_read_only(true);
    let readings: Vec<_> = (0..50).map(|_| stage.reading()).collect();
    let began = Instant::now();
    let announced = join_all(readings.iter().map(|reading| stage.announce(reading))).await;
    assert!(announced.iter().all(Result::is_err));
    assert_eq!(began.elapsed(), WRITE * 2);
    let writes = stage.writes();
    stage.memory.0.set_read_only(false);
    let announced = join_all(readings.iter().map(|reading| stage.announce(reading))).await;
    assert!(announced.iter().all(Result::is_ok));
    assert_eq!(stage.writes(), writes + 1);
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_while_it_is_written_leaves_nothing_promised() {
    let stage = Stage::new();
    let (first, second) = (stage.reading(), stage.reading());
    assert!(timeout(WRITE / 2, stage.announce(&first)).await.is_err());
    assert_eq!(stage.answers.ahead(), 0);
    let announced = stage.announce(&second).await.unwrap();
    assert!(stage.stands(announced.name()).await);
}

#[tokio::test(start_paused = true)]
async fn spare_names_are_not_handed_out_late() {
    let stage = Stage::new();
    let (readings, _announced) = stage.crowd(2).await;
    let old = stage.standing().await.remove(0).names;
    sleep(FRESH).await;
    let late = stage.announce(&readings[0]).await.unwrap();
    assert!(!old.iter().any(|name| name == late.name()));
    assert_eq!(stage.writes(), 2);
    assert!(stage.stands(late.name()).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_alike_shares_nothing() {
    let stage = Stage::new();
    let (readings, _announced) = stage.crowd(2).await;
    let storage: Arc<dyn Storage> = Arc::<Slow>::clone(&stage.memory);
    let other = stage.announcements.reading(terms("other"));
    let announced = other.announce(&storage, || Ok("other".to_owned())).await.unwrap();
    assert_eq!((announced.name(), stage.writes()), ("other", 2));
    drop(readings);
    assert_eq!(stage.announcements.pools().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_log_each_has_an_entry_that_goes_before_the_answer() {
    let stage = Stage::unlogged();
    let (_readings, announced) = stage.crowd(8).await;
    assert_eq!(stage.standing().await.len(), 8);
    for announced in announced {
        assert_eq!(announced.creation().told, Told::ByEntry);
        let name = announced.name().to_owned();
        assert!(announced.give().await.unwrap().is_none());
        assert!(!stage.stands(&name).await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_given_while_its_entry_has_to_go_and_stays() {
    let stage = Stage::unlogged();
    let announced = stage.announce(&stage.reading()).await.unwrap();
    stage.memory.0.fail_delete("wal/");
    let name = announced.name().to_owned();
    announced.give().await.unwrap_err();
    assert!(stage.stands(&name).await);
}
