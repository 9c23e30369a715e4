//! Requests that share a window's entry, and unsettled names after their requests have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::open::{WindowGuard, Windows};
use super::window::{Stamp, Target, WINDOW, Window};
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::LEDGER;
use crate::engine::naming::names::MountTag;
use crate::engine::time::clock::Clock;
use crate::framework::WalLog;
use crate::logical::{Entry, InMemory, Storage, StorageError};

/// Duration of a storage write.
const WRITE: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

struct Mount {
    storage: Arc<SlowStorage>,
    clock: Arc<ManualClock>,
    windows: Arc<Windows>,
}

/// Storage with slow writes.
#[derive(Debug)]
struct SlowStorage(InMemory, Mutex<Duration>);

/// Both clocks in seconds, which only tests move.
#[derive(Debug, Default)]
struct ManualClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic.load(Ordering::Relaxed))
    }
}

#[async_trait]
impl Storage for SlowStorage {
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.0.list(prefix).await
    }
    async fn get(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        self.0.get(key).await
    }
    async fn put(&self, entry: Entry) -> Result<(), StorageError> {
        let time = *self.1.lock();
        sleep(time).await;
        self.0.put(entry).await
    }
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key).await
    }
}

impl Mount {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let windows = Arc::new(Windows::new(Arc::<ManualClock>::clone(&clock)));
        Self { storage: Arc::new(SlowStorage(InMemory::new(), Mutex::new(WRITE))), clock, windows }
    }

    async fn join(&self, project: &str) -> Result<WindowGuard, StorageError> {
        let storage: Arc<dyn Storage> = Arc::<SlowStorage>::clone(&self.storage);
        self.windows.join(&storage, target(project)).await
    }

    async fn crowd(&self, size: usize) -> Vec<Result<WindowGuard, StorageError>> {
        join_all((0..size).map(|_| self.join("proj_1"))).await
    }

    fn writes(&self) -> usize {
        self.storage.0.calls().puts
    }

    fn pass(&self, seconds: u64) {
        self.clock.wall.fetch_add(seconds, Ordering::Relaxed);
        self.clock.monotonic.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Runs one request that leaves this name unsettled. Returns the key of the window's entry.
    async fn leave(&self, name: &str) -> String {
        let mut guard = self.join("proj_1").await.unwrap();
        guard.register(name).unwrap();
        drop(guard);
        let log = WalLog::read(&*self.storage, usize::MAX).await.unwrap();
        WINDOW.entries(&log).unwrap().pop().unwrap().key()
    }

    /// Names to look up, by window.
    fn unsettled(&self) -> Vec<Vec<String>> {
        self.windows.due(false).into_iter().map(|due| due.unsettled).collect()
    }
}

fn target(project: &str) -> Target {
    Target {
        organization_id: "org-1".parse().unwrap(),
        project_id: project.parse().unwrap(),
        service_account_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn requests_during_the_write_of_the_entry_share_the_write_and_later_ones_wait_for_nothing() {
    let mount = Mount::new();
    let began = Instant::now();
    let first = mount.crowd(100).await;
    assert!(first.iter().all(Result::is_ok));
    assert_eq!((began.elapsed(), mount.writes()), (WRITE, 1));
    mount.pass(9);
    assert!(mount.join("proj_1").await.is_ok());
    assert_eq!((began.elapsed(), mount.writes()), (WRITE, 1));
    mount.pass(1);
    assert!(mount.join("proj_1").await.is_ok());
    assert_eq!(mount.writes(), 2, "ten seconds are over");
    assert!(mount.join("proj_2").await.is_ok());
    assert_eq!(mount.writes(), 3, "another project");
}

#[tokio::test(start_paused = true)]
async fn a_request_cancelled_during_the_write_leaves_the_write_to_the_others() {
    let mount = Mount::new();
    let cancelled = tokio::time::timeout(WRITE / 2, mount.join("proj_1"));
    let (result, other) = tokio::join!(cancelled, mount.join("proj_1"));
    assert!(result.is_err());
    assert_eq!((other.is_ok(), mount.writes()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_fails_all_waiting_requests_at_once_and_no_later_one() {
    let mount = Mount::new();
    mount.storage.0.fail_put("wal/");
    let began = Instant::now();
    assert!(mount.crowd(50).await.iter().all(Result::is_err));
    assert_eq!((began.elapsed(), mount.writes()), (WRITE, 1));
    assert!(mount.join("proj_1").await.is_ok());
    mount.pass(11);
    assert_eq!(mount.unsettled(), [Vec::<String>::new(), Vec::new()], "either entry may be stored");
}

#[tokio::test(start_paused = true)]
async fn a_request_may_last_ninety_seconds_by_either_clock() {
    for is_wall in [true, false] {
        let mount = Mount::new();
        let clock = if is_wall { &mount.clock.wall } else { &mount.clock.monotonic };
        let mut guard = mount.join("proj_1").await.unwrap();
        mount.pass(5);
        // The age counts from the write of the entry, also for requests that joined later.
        let late = mount.join("proj_1").await.unwrap();
        clock.fetch_add(84, Ordering::Relaxed);
        guard.check_age().unwrap();
        clock.fetch_add(1, Ordering::Relaxed);
        guard.check_age().unwrap_err();
        guard.register("name").unwrap_err();
        late.check_age().unwrap_err();
        drop((guard, late));
        mount.pass(200);
        assert_eq!(mount.unsettled(), [Vec::<String>::new()], "nothing was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_three_minutes_after_its_request_has_left_while_others_stay() {
    let mount = Mount::new();
    let (mut one, mut two, mut three) = (
        mount.join("proj_1").await.unwrap(),
        mount.join("proj_1").await.unwrap(),
        mount.join("proj_1").await.unwrap(),
    );
    one.register("one").unwrap();
    two.register("two").unwrap();
    two.settle("two");
    three.register("three").unwrap();
    drop((one, two));
    mount.pass(179);
    assert!(mount.unsettled().is_empty());
    mount.clock.wall.fetch_add(100, Ordering::Relaxed);
    assert!(mount.unsettled().is_empty(), "the wall clock does not decide");
    mount.pass(1);
    let due = mount.windows.due(false).pop().unwrap();
    assert_eq!(due.unsettled, ["one"]);
    assert!(!mount.windows.settle(&due.window, &due.unsettled, false), "a request is in the window");
    drop(three);
    mount.pass(179);
    assert!(mount.unsettled().is_empty());
    mount.pass(1);
    assert_eq!(mount.unsettled(), [["three"]]);
}

#[tokio::test(start_paused = true)]
async fn a_window_with_unsettled_names_is_reopened_for_ten_minutes() {
    let mount = Mount::new();
    mount.leave("first").await;
    let mut entries = Vec::new();
    for minute in 1..=20 {
        mount.pass(60);
        mount.leave(&minute.to_string()).await;
        entries.push(mount.storage.0.keys().len());
    }
    assert_eq!((entries[8], entries[9], entries[18], entries[19]), (1, 2, 2, 3), "{entries:?}");
    let writes = mount.writes();
    let guard = mount.join("proj_1").await.unwrap();
    mount.pass(80);
    guard.check_age().unwrap();
    assert_eq!(mount.writes(), writes, "the age of a request counts from the last write");
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_deleted_only_after_its_window_is_closed() {
    let mount = Mount::new();
    mount.leave("name").await;
    mount.pass(200);
    let due = mount.windows.due(false).pop().unwrap();
    // The window is reopened while its names are looked up.
    let guard = mount.join("proj_1").await.unwrap();
    assert!(!mount.windows.settle(&due.window, &due.unsettled, false));
    drop(guard);
    assert!(mount.unsettled().is_empty(), "the window is joinable");
    mount.pass(11);
    let due = mount.windows.due(false).pop().unwrap();
    assert!(due.unsettled.is_empty());
    assert!(mount.windows.settle(&due.window, &[], false));
    let other = mount.join("proj_1").await.unwrap();
    assert_ne!(
        other.stamp(DateTime::UNIX_EPOCH),
        due.window.stamp(DateTime::UNIX_EPOCH),
        "the window is closed"
    );
    assert!(mount.windows.has_id_of(&due.window), "the window stays until its entry is deleted");
    mount.windows.remove(&due.window);
    assert!(!mount.windows.has_id_of(&due.window));
}

#[tokio::test(start_paused = true)]
async fn a_tainted_mount_waits_for_its_requests() {
    let mount = Mount::new();
    let mut guard = mount.join("proj_1").await.unwrap();
    guard.register("name").unwrap();
    let began = Instant::now();
    let leave = async {
        sleep(SECOND).await;
        drop(guard);
    };
    tokio::join!(mount.windows.wait_until_empty(), leave);
    assert_eq!(began.elapsed(), SECOND);
    let due = mount.windows.due(true);
    assert_eq!(due[0].unsettled, ["name"], "the name is looked up at once");
    assert!(mount.windows.settle(&due[0].window, &due[0].unsettled, true));
}

#[tokio::test]
async fn a_record_is_found_at_either_place() {
    let (storage, tag) = (InMemory::new(), MountTag::of("7e5f"));
    let ends = "2026-03-01T12:01:59Z".parse::<DateTime<Utc>>().unwrap();
    let window = Window { target: target("proj_1"), id: uuid::Uuid::new_v4(), opened: ends };
    let name = format!("vault-app-abcdefgh-{}-{tag}", window.stamp(ends));
    let stamp = Stamp::of(&name, &tag).unwrap();
    assert!(!ledger::is_recorded(&storage, stamp.end(), &name).await.unwrap());
    for place in [ledger::place(ends, &name), ledger::early_place(&name)] {
        let key = format!("{}{place}", LEDGER.prefix());
        storage.put(Entry { key: key.clone(), value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
        assert!(ledger::is_recorded(&storage, stamp.end(), &name).await.unwrap(), "{key}");
        storage.delete(&key).await.unwrap();
    }
    assert_eq!(storage.calls().lists, 0);
}

/// Storage in which a record moves when its first place is read.
struct MovingStorage(InMemory, String, String);

#[async_trait]
impl Storage for MovingStorage {
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
async fn a_record_that_moves_during_the_look_up_is_found() {
    let ends = "2026-03-01T12:01:59Z".parse::<DateTime<Utc>>().unwrap();
    let keys = [ledger::place(ends, "name"), ledger::early_place("name")].map(|place| LEDGER.key(&place));
    let [from, to] = keys;
    let storage = MovingStorage(InMemory::new(), from.clone(), to);
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
fn a_name_that_ends_in_ten_digits_may_be_no_credential() {
    let made = "2026-03-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let window = Window { target: target("proj_1"), id: uuid::Uuid::new_v4(), opened: made };
    let is_plausible = |end: DateTime<Utc>, now| window.stamp(end).is_plausible(made, now);
    assert!(is_plausible(made + TimeDelta::hours(1), made));
    assert!(
        !is_plausible(made + TimeDelta::hours(1), made + TimeDelta::hours(2)),
        "the credential has ended"
    );
    assert!(!is_plausible(made + TimeDelta::days(500), made));
    assert!(!is_plausible(made - TimeDelta::days(1), made - TimeDelta::days(2)));
    // OpenAI may send any time of the calendar.
    for created_at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        assert!(!window.stamp(made + TimeDelta::hours(1)).is_plausible(created_at, made));
    }
}

proptest! {
    #[test]
    fn a_stamp_is_read_back_from_a_name(seconds in 0_i64..3_600_000_000, id: u128) {
        let (ends, tag) = (DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds), MountTag::of("7e5f"));
        let window = Window { target: target("proj_1"), id: uuid::Uuid::from_u128(id), opened: ends };
        let name = format!("vault-app-abcdefgh-{}-{tag}", window.stamp(ends));
        let stamp = Stamp::of(&name, &tag).unwrap();
        prop_assert_eq!(stamp.window, window.window_id());
        prop_assert_eq!(stamp.end().timestamp(), seconds / 60 * 60);
    }
}
