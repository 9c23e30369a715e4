//! The tick: periodic work and the sweep of the write-ahead log.

use chrono::Utc;

use super::*;
use crate::logical::{Entry, Kind};

const OLD: i64 = 601;

/// Stores an entry of this age, as a crash leaves it.
async fn left_behind(mount: &Mount, name: &str, kind: &str, data: Value, age: i64) {
    let record = json!({"type": kind, "data": data, "created_at": Utc::now().timestamp() - age});
    put(mount, name, record.to_string().into_bytes()).await;
}

async fn put(mount: &Mount, name: &str, value: Vec<u8>) {
    let entry = Entry { key: format!("wal/{name}"), value, seal_wrap: false };
    mount.storage.put(entry).await.unwrap();
}

async fn mixing_left_behind(mount: &Mount, pot: &str, age: i64) {
    left_behind(mount, pot, "mixing", json!({"pot": pot}), age).await;
}

async fn tick(mount: &Mount) -> Result<(), Error> {
    mount.ask(Operation::Rollback, "", Value::Null).await.map(|answer| assert!(answer.is_none()))
}

#[tokio::test]
async fn an_entry_is_written_as_vaults_framework_writes_it() {
    let mount = Mount::new();
    let storage = Arc::clone(&mount.storage) as Arc<dyn Storage>;
    let before = Utc::now().timestamp();
    MIXING.write(&*storage, "wal/a".to_owned(), &Mixing { pot: "a".to_owned() }).await.unwrap();
    let entry = mount.storage.get("wal/a").await.unwrap().unwrap();
    let record: Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!((&record["type"], &record["data"]), (&json!("mixing"), &json!({"pot": "a"})));
    assert!((before..=Utc::now().timestamp()).contains(&record["created_at"].as_i64().unwrap()));
}

#[tokio::test]
async fn only_what_is_old_enough_is_undone_oldest_first() {
    let mount = Mount::new();
    for (pot, age) in [("a", OLD), ("b", OLD + 20), ("c", OLD + 10), ("young", 590)] {
        mixing_left_behind(&mount, pot, age).await;
    }
    tick(&mount).await.unwrap();
    assert_eq!(mount.toy.notes(), ["unmix b", "unmix c", "unmix a"]);
    assert_eq!(mount.storage.keys(), ["wal/young"]);
}

#[tokio::test]
async fn immediate_takes_the_young_ones_too() {
    let mount = Mount::new();
    mixing_left_behind(&mount, "young", 0).await;
    mount.ask(Operation::Rollback, "", json!({"immediate": false})).await.unwrap();
    assert_eq!(mount.toy.notes(), ["unmix young"], "the key counts, whatever its value");
    assert!(mount.storage.keys().is_empty());
}

#[tokio::test]
async fn what_failed_comes_after_all_others_in_the_next_tick() {
    let mount = Mount::new();
    for (pot, age) in [("stuck", OLD + 9), ("a", OLD + 7)] {
        mixing_left_behind(&mount, pot, age).await;
    }
    tick(&mount).await.unwrap_err();
    mixing_left_behind(&mount, "b", OLD).await;
    tick(&mount).await.unwrap_err();
    assert_eq!(mount.toy.notes(), ["unmix stuck", "unmix a", "unmix b", "unmix stuck"]);
}

#[tokio::test]
async fn an_entry_from_a_clock_that_ran_ahead_does_not_stay_for_ever() {
    let mount = Mount::new();
    mixing_left_behind(&mount, "soon", -5).await;
    mixing_left_behind(&mount, "next-year", -365 * 86_400).await;
    tick(&mount).await.unwrap();
    assert_eq!(mount.storage.keys(), ["wal/soon"]);
}

#[tokio::test]
async fn a_trailing_newline_as_go_writes_it_is_read() {
    let mount = Mount::new();
    put(
        &mount,
        "go",
        b"{\"type\":\"mixing\",\"data\":{\"pot\":\"\\u003ca\\u003e\"},\"created_at\":1}\n".to_vec(),
    )
    .await;
    tick(&mount).await.unwrap();
    assert_eq!(mount.toy.notes(), ["unmix <a>"]);
}

#[tokio::test]
async fn one_failure_stops_neither_the_rest_nor_the_next_tick() {
    let mount = Mount::new();
    for (pot, age) in [("stuck", OLD + 9), ("burst", OLD + 8), ("a", OLD + 7)] {
        mixing_left_behind(&mount, pot, age).await;
    }
    let error = tick(&mount).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert!(error.message().starts_with("2 failed: "), "{error}");
    assert!(error.message().contains("wal/stuck (mixing): stuck"), "{error}");
    assert!(error.message().contains("wal/burst (mixing): it panicked"), "{error}");
    assert_eq!(error.detail(), Some("wal/stuck (mixing): under the lid"));
    assert_eq!(mount.storage.keys(), ["wal/burst", "wal/stuck"]);
    tick(&mount).await.unwrap_err();
    assert_eq!(mount.toy.notes().iter().filter(|note| *note == "unmix stuck").count(), 2);
}

#[tokio::test]
async fn unreadable_entries_stay_and_are_reported_without_their_content() {
    let mount = Mount::new();
    left_behind(&mount, "odd-kind", "brewing", json!({"pot": "sesame"}), OLD).await;
    left_behind(&mount, "odd-data", "mixing", json!({"sesame": 1}), OLD).await;
    put(&mount, "garbage", b"sesame".to_vec()).await;
    mixing_left_behind(&mount, "a", OLD).await;
    let error = tick(&mount).await.unwrap_err();
    for text in [
        "wal/odd-kind: its kind \"brewing\" is unknown",
        "wal/odd-data (mixing): its data is not what this version expects",
        "wal/garbage: it is no write-ahead entry",
    ] {
        assert!(error.message().contains(text), "{error}");
    }
    assert!(!error.message().contains("sesame"), "{error}");
    assert_eq!(mount.storage.keys(), ["wal/garbage", "wal/odd-data", "wal/odd-kind"]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_deleted_is_reported_and_undone_again() {
    let mount = Mount::new();
    mixing_left_behind(&mount, "a", OLD).await;
    mount.storage.fail_delete("wal/");
    assert!(tick(&mount).await.unwrap_err().message().contains("injected fault"));
    tick(&mount).await.unwrap();
    assert_eq!(mount.toy.notes(), ["unmix a", "unmix a"]);
}

#[tokio::test]
async fn a_storage_that_became_read_only_is_no_failure() {
    let mount = Mount::new();
    mixing_left_behind(&mount, "read-only", OLD).await;
    mixing_left_behind(&mount, "a", OLD).await;
    mount.storage.set_read_only(true);
    *mount.toy.tick.lock().unwrap() = Some(|| vec![Error::read_only()]);
    tick(&mount).await.unwrap();
    assert_eq!(mount.storage.keys(), ["wal/a", "wal/read-only"]);
}

#[tokio::test]
async fn a_failed_or_panicked_tick_of_the_engine_stops_no_sweep() {
    let ticks: [(Work, &str); 3] = [
        (|| vec![Error::internal("dried up")], "1 failed: periodic work: dried up"),
        (
            || vec![Error::internal("dried up"), Error::read_only(), Error::internal("spilled")],
            "2 failed: periodic work: dried up; periodic work: spilled",
        ),
        (|| panic!("burst"), "1 failed: periodic work: it panicked"),
    ];
    for (work, text) in ticks {
        let mount = Mount::new();
        mixing_left_behind(&mount, "a", OLD).await;
        *mount.toy.tick.lock().unwrap() = Some(work);
        assert_eq!(tick(&mount).await.unwrap_err().message(), text);
        assert!(mount.storage.keys().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ends_with_its_time() {
    let mount = Mount::new();
    for index in 0..5 {
        left_behind(&mount, &format!("endless{index}"), "mixing", json!({"pot": "endless"}), OLD + 10).await;
    }
    mixing_left_behind(&mount, "a", OLD).await;
    let begun = tokio::time::Instant::now();
    let error = tick(&mount).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 75);
    assert!(error.message().starts_with("4 failed: "), "those that began: {error}");
    assert!(error.message().contains("it took too long"), "{error}");
    assert_eq!(mount.storage.keys().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_ends_when_vault_stops_waiting() {
    let mount = Mount::new();
    mixing_left_behind(&mount, "endless", OLD).await;
    let request = mount.request(Operation::Rollback, "", Value::Null);
    let cancelled = request.cancelled.clone();
    let begun = tokio::time::Instant::now();
    let hang_up = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancelled.cancel();
    };
    let (answer, ()) = tokio::join!(mount.backend.handle(request), hang_up);
    assert!(answer.unwrap_err().message().contains("Vault stopped waiting"));
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(mount.storage.keys(), ["wal/endless"]);
}

#[tokio::test]
async fn entries_beyond_the_first_few_are_counted_not_spelled_out() {
    let mount = Mount::new();
    for index in 0..30 {
        left_behind(&mount, &format!("odd{index}"), "brewing", Value::Null, OLD).await;
    }
    let error = tick(&mount).await.unwrap_err();
    assert!(error.message().starts_with("30 failed: ") && error.message().ends_with("; and more"), "{error}");
    assert_eq!(error.message().matches("is unknown").count(), 10);
}
