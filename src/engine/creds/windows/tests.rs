//! Who shares a window's entry, who waits for it, and what a window still knows when its requests are over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::open::{Inside, Windows};
use super::window::{Stamp, Triple, WINDOW, Window};
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::naming::names::MountTag;
use crate::engine::time::clock::Clock;
use crate::framework::WalLog;
use crate::logical::{Entry, InMemory, Storage, StorageError};

/// As long as storage takes for a write.
const WRITE: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    memory: Arc<Slow>,
    hands: Arc<Hands>,
    windows: Arc<Windows>,
}

/// Storage that takes its time.
#[derive(Debug)]
struct Slow(InMemory, Mutex<Duration>);

/// Two clocks that stand until they are moved, in seconds.
#[derive(Debug, Default)]
struct Hands {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic.load(Ordering::Relaxed))
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
        let hands = Arc::new(Hands::default());
        let windows = Arc::new(Windows::new(Arc::<Hands>::clone(&hands)));
        Self { memory: Arc::new(Slow(InMemory::new(), Mutex::new(WRITE))), hands, windows }
    }

    async fn join(&self, project: &str) -> Result<Inside, StorageError> {
        let storage: Arc<dyn Storage> = Arc::<Slow>::clone(&self.memory);
        self.windows.join(&storage, triple(project)).await
    }

    async fn crowd(&self, size: usize) -> Vec<Result<Inside, StorageError>> {
        join_all((0..size).map(|_| self.join("proj_1"))).await
    }

    fn writes(&self) -> usize {
        self.memory.0.calls().puts
    }

    fn pass(&self, seconds: u64) {
        self.hands.wall.fetch_add(seconds, Ordering::Relaxed);
        self.hands.monotonic.fetch_add(seconds, Ordering::Relaxed);
    }

    /// One request whose name is left unsettled; the window's entry.
    async fn leave(&self, name: &str) -> String {
        let mut inside = self.join("proj_1").await.unwrap();
        inside.sends(name).unwrap();
        drop(inside);
        let log = WalLog::read(&*self.memory, usize::MAX).await.unwrap();
        WINDOW.entries(&log).unwrap().pop().unwrap().key()
    }

    /// What is to be looked up of the windows that are over.
    fn unsettled(&self) -> Vec<Vec<String>> {
        self.windows.over(false).into_iter().map(|over| over.unsettled).collect()
    }
}

fn triple(project: &str) -> Triple {
    Triple {
        organization_id: "org-1".parse().unwrap(),
        project_id: project.parse().unwrap(),
        service_account_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_come_while_the_entry_is_written_share_the_write_and_later_ones_wait_for_nothing() {
    let stage = Stage::new();
    let began = Instant::now();
    let first = stage.crowd(100).await;
    assert!(first.iter().all(Result::is_ok));
    assert_eq!((began.elapsed(), stage.writes()), (WRITE, 1));
    stage.pass(9);
    assert!(stage.join("proj_1").await.is_ok());
    assert_eq!((began.elapsed(), stage.writes()), (WRITE, 1));
    stage.pass(1);
    assert!(stage.join("proj_1").await.is_ok());
    assert_eq!(stage.writes(), 2, "ten seconds are over");
    assert!(stage.join("proj_2").await.is_ok());
    assert_eq!(stage.writes(), 3, "another project");
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_while_the_entry_is_written_leaves_the_write_to_the_others() {
    let stage = Stage::new();
    let hangs_up = tokio::time::timeout(WRITE / 2, stage.join("proj_1"));
    let (hung_up, other) = tokio::join!(hangs_up, stage.join("proj_1"));
    assert!(hung_up.is_err());
    assert_eq!((other.is_ok(), stage.writes()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_fails_all_who_wait_for_it_at_once_and_nobody_later() {
    let stage = Stage::new();
    stage.memory.0.fail_put("wal/");
    let began = Instant::now();
    assert!(stage.crowd(50).await.iter().all(Result::is_err));
    assert_eq!((began.elapsed(), stage.writes()), (WRITE, 1));
    assert!(stage.join("proj_1").await.is_ok());
    stage.pass(11);
    assert_eq!(
        stage.unsettled(),
        [Vec::<String>::new(), Vec::new()],
        "nobody knows which of the entries stand"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_may_go_on_for_ninety_seconds_by_either_clock() {
    for is_wall in [true, false] {
        let stage = Stage::new();
        let clock = if is_wall { &stage.hands.wall } else { &stage.hands.monotonic };
        let mut inside = stage.join("proj_1").await.unwrap();
        stage.pass(5);
        // The time counts from the write of the entry, whenever one came.
        let late = stage.join("proj_1").await.unwrap();
        clock.fetch_add(84, Ordering::Relaxed);
        inside.check_time().unwrap();
        clock.fetch_add(1, Ordering::Relaxed);
        inside.check_time().unwrap_err();
        inside.sends("name").unwrap_err();
        late.check_time().unwrap_err();
        drop((inside, late));
        stage.pass(200);
        assert_eq!(stage.unsettled(), [Vec::<String>::new()], "nothing was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_three_minutes_after_its_request_has_left_whoever_stays() {
    let stage = Stage::new();
    let (mut one, mut two, mut three) = (
        stage.join("proj_1").await.unwrap(),
        stage.join("proj_1").await.unwrap(),
        stage.join("proj_1").await.unwrap(),
    );
    one.sends("one").unwrap();
    two.sends("two").unwrap();
    two.settle("two");
    three.sends("three").unwrap();
    drop((one, two));
    stage.pass(179);
    assert!(stage.unsettled().is_empty());
    stage.hands.wall.fetch_add(100, Ordering::Relaxed);
    assert!(stage.unsettled().is_empty(), "no wall clock decides that");
    stage.pass(1);
    let over = stage.windows.over(false).pop().unwrap();
    assert_eq!(over.unsettled, ["one"]);
    assert!(!stage.windows.settle(&over.window, &over.unsettled, false), "somebody is inside");
    drop(three);
    stage.pass(179);
    assert!(stage.unsettled().is_empty());
    stage.pass(1);
    assert_eq!(stage.unsettled(), [["three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_window_with_something_unsettled_is_opened_again_for_ten_minutes() {
    let stage = Stage::new();
    stage.leave("first").await;
    let mut entries = Vec::new();
    for minute in 1..=20 {
        stage.pass(60);
        stage.leave(&minute.to_string()).await;
        entries.push(stage.memory.0.keys().len());
    }
    assert_eq!((entries[8], entries[9], entries[18], entries[19]), (1, 2, 2, 3), "{entries:?}");
    let writes = stage.writes();
    let inside = stage.join("proj_1").await.unwrap();
    stage.pass(80);
    inside.check_time().unwrap();
    assert_eq!(stage.writes(), writes, "its requests' time counts from its last write");
}

#[tokio::test(start_paused = true)]
async fn an_entry_goes_when_nothing_can_change_it_any_more() {
    let stage = Stage::new();
    stage.leave("name").await;
    stage.pass(200);
    let over = stage.windows.over(false).pop().unwrap();
    // Opened again while its names are looked up.
    let inside = stage.join("proj_1").await.unwrap();
    assert!(!stage.windows.settle(&over.window, &over.unsettled, false));
    drop(inside);
    assert!(stage.unsettled().is_empty(), "it takes others");
    stage.pass(11);
    let over = stage.windows.over(false).pop().unwrap();
    assert!(over.unsettled.is_empty());
    assert!(stage.windows.settle(&over.window, &[], false));
    let other = stage.join("proj_1").await.unwrap();
    assert_ne!(other.stamp(DateTime::UNIX_EPOCH), over.window.stamp(DateTime::UNIX_EPOCH), "it takes nobody");
    assert!(stage.windows.has_own_like(&over.window), "until it is deleted it is ours");
    stage.windows.forget(&over.window);
    assert!(!stage.windows.has_own_like(&over.window));
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_goes_away_waits_for_those_inside() {
    let stage = Stage::new();
    let mut inside = stage.join("proj_1").await.unwrap();
    inside.sends("name").unwrap();
    let began = Instant::now();
    let leaves = async {
        sleep(SECOND).await;
        drop(inside);
    };
    tokio::join!(stage.windows.are_empty(), leaves);
    assert_eq!(began.elapsed(), SECOND);
    let over = stage.windows.over(true);
    assert_eq!(over[0].unsettled, ["name"], "it is looked up now or never");
    assert!(stage.windows.settle(&over[0].window, &over[0].unsettled, true));
}

#[tokio::test]
async fn a_record_that_moves_is_found_wherever_it_is() {
    let (storage, tag) = (InMemory::new(), MountTag::of("7e5f"));
    let ends = "2026-03-01T12:01:59Z".parse::<DateTime<Utc>>().unwrap();
    let window = Window { triple: triple("proj_1"), id: uuid::Uuid::new_v4(), opened: ends };
    let name = format!("vault-app-abcdefgh-{}-{tag}", window.stamp(ends));
    let stamp = Stamp::of(&name, &tag).unwrap();
    assert!(!ledger::is_recorded(&storage, stamp.ends(), &name).await.unwrap());
    for place in [ledger::place(ends, &name), ledger::asked_place(&name)] {
        let key = format!("{}{place}", LEDGER.prefix());
        storage.put(Entry { key: key.clone(), value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        assert!(ledger::is_recorded(&storage, stamp.ends(), &name).await.unwrap(), "{key}");
        storage.delete(&key).await.unwrap();
    }
    assert_eq!(storage.calls().lists, 0);
}

/// Storage in which a record moves in the moment in which it is looked for at its first place.
struct Moves(InMemory, String, String);

#[async_trait]
impl Storage for Moves {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.0.list(prefix).await
    }
    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let Self(inner, from, to) = self;
        if key == from
            && let Some(record) = inner.get(from).await?
        {
            inner.put(Entry { key: to.clone(), ..record }).await?;
            inner.delete(from).await?;
        }
        inner.get(key).await
    }
    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        self.0.put(entry).await
    }
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key).await
    }
}

#[tokio::test]
async fn a_record_that_moves_while_it_is_looked_for_is_found() {
    let ends = "2026-03-01T12:01:59Z".parse::<DateTime<Utc>>().unwrap();
    let keys = [ledger::place(ends, "name"), ledger::asked_place("name")].map(|place| LEDGER.key(&place));
    let [from, to] = keys;
    let storage = Moves(InMemory::new(), from.clone(), to);
    storage.put(Entry { key: from, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
    assert!(ledger::is_recorded(&storage, ends, "name").await.unwrap());
}

#[test]
fn a_name_without_a_stamp_has_none() {
    let tag = MountTag::of("7e5f");
    for front in ["vault-app-abcdefgh", "0123456789", "vault-app0123456789", "x-012345678", "x-ABCDE01234"] {
        assert_eq!(Stamp::of(&format!("{front}-{tag}"), &tag), None, "{front}");
    }
    assert_eq!(Stamp::of("vault-app-0123456789-others", &tag), None);
    let stamp = Stamp::of(&format!("vault-app-0123456789-{tag}"), &tag).unwrap();
    assert_eq!(stamp.to_string(), "0123456789");
}

#[test]
fn what_ends_in_ten_digits_need_not_be_a_credential() {
    let made = "2026-03-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let window = Window { triple: triple("proj_1"), id: uuid::Uuid::new_v4(), opened: made };
    let fits = |ends: DateTime<Utc>, now| window.stamp(ends).fits(made, now);
    assert!(fits(made + TimeDelta::hours(1), made));
    assert!(!fits(made + TimeDelta::hours(1), made + TimeDelta::hours(2)), "it is over");
    assert!(!fits(made + TimeDelta::days(500), made));
    assert!(!fits(made - TimeDelta::days(1), made - TimeDelta::days(2)));
}

proptest! {
    #[test]
    fn a_stamp_is_read_back_from_a_name(seconds in 0_i64..3_600_000_000, id: u128) {
        let (ends, tag) = (DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds), MountTag::of("7e5f"));
        let window = Window { triple: triple("proj_1"), id: uuid::Uuid::from_u128(id), opened: ends };
        let name = format!("vault-app-abcdefgh-{}-{tag}", window.stamp(ends));
        let stamp = Stamp::of(&name, &tag).unwrap();
        prop_assert_eq!(stamp.window, window.window_id());
        prop_assert_eq!(stamp.ends().timestamp(), seconds / 60 * 60);
    }
}
