//! Many roles: a thousand due at once, ten thousand idle.

use std::time::Instant;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::json;

use super::*;
use crate::simulator::endpoint;

/// Copies of the role `app` under other names, each on an account of its own where `on_own_accounts`.
async fn multiply(mount: &Mount, count: usize, on_own_accounts: bool) {
    let entries = mount.storage.snapshot();
    let find = |prefix: &str| entries.iter().find(|entry| entry.key.starts_with(prefix)).unwrap().clone();
    let (record, marker) = (find("static-role/app"), find("due/"));
    for n in 0..count {
        let mut role: Value = serde_json::from_slice(&record.value).unwrap();
        let place = marker.key.replace("static-role:app", &format!("static-role:copy-{n}"));
        if on_own_accounts {
            let account = mount.seed(&format!("account-{n}"), true);
            let current = &mut role["current"];
            current["service_account_id"] = account.id.into();
            current["api_key_id"] = account.key.unwrap().0.into();
            current["unique_name"] = format!("copy-{n}").into();
        }
        let value = serde_json::to_vec(&role).unwrap();
        let copy = Entry { key: format!("static-role/copy-{n}"), value, seal_wrap: true };
        mount.storage.put(copy).await.unwrap();
        mount.storage.put(Entry { key: place, ..marker.clone() }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_roles_due_at_the_same_minute_are_rotated_within_90_seconds_while_readers_are_answered() {
    const COUNT: usize = 1000;
    let (mount, _) = with_app(json!({"rotation_schedule": "0 3 * * *", "grace_period": 0})).await;
    multiply(&mount, COUNT - 1, true).await;
    let planned = role(&mount, "app").await["next_vault_rotation"].as_str().unwrap().to_owned();
    let planned: chrono::DateTime<chrono::Utc> = planned.parse().unwrap();
    mount.advance((planned - mount.now()).to_std().unwrap() + MINUTE);
    mount.sim.latency(Duration::from_millis(50));
    let before = mount.sim.calls(endpoint::CREATE_KEY);

    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut ticks = 0;
    while mount.sim.calls(endpoint::CREATE_KEY) - before < COUNT as u64 {
        ticks += 1;
        let (tick, read) = tokio::join!(mount.tick(), slowest_read(&mount));
        tick.done();
        slowest = slowest.max(read);
        assert!(start.elapsed() < Duration::from_secs(90), "after {ticks} ticks");
    }
    println!("{COUNT} roles rotated in {:?}, {ticks} tick(s); slowest read {slowest:?}", start.elapsed());
    assert_eq!(mount.sim.calls(endpoint::DELETE_KEY), COUNT as u64);
    assert_eq!(mount.stored("due/").len(), COUNT);
    mount.finish().await;
}

/// The slowest of some reads made while something else goes on.
async fn slowest_read(mount: &Mount) -> Duration {
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        let request = mount.request(
            openai_secrets::logical::Operation::Read,
            &format!("static-creds/copy-{n}"),
            json!({}),
        );
        mount.backend().handle(request).await.unwrap();
        slowest = slowest.max(start.elapsed());
    }
    slowest
}

#[tokio::test]
async fn ten_thousand_idle_roles_cost_a_tick_the_listing_of_a_few_folders() {
    let (mount, _) = with_app(json!({})).await;
    // The marker of the creation goes.
    mount.advance(MINUTE * 10);
    mount.tick().await.done();
    multiply(&mount, 10_000, false).await;
    mount.tick().await.done();
    mount.advance(MINUTE * 9);
    let before = mount.storage.calls();
    let start = Instant::now();
    mount
        .backend()
        .handle(mount.request(openai_secrets::logical::Operation::Rollback, "", json!({})))
        .await
        .unwrap();
    let (taken, after) = (start.elapsed(), mount.storage.calls());
    println!(
        "a tick with 10,000 idle roles: {taken:?}, {} lists, {} gets",
        after.lists - before.lists,
        after.gets - before.gets
    );
    assert!(after.lists - before.lists <= 10 && after.gets - before.gets <= 3);
    assert_eq!((after.puts, after.deletes), (before.puts, before.deletes));
    mount.abandon();
}
