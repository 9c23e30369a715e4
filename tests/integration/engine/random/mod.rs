//! A long life of random requests: no panic, no hang, memory flat, nothing lost at its end.
//!
//! Paths and fields are the mount's own, from its OpenAPI document, so that a new noun takes part by itself.
//! `RANDOM_REQUESTS` says how many (20,000), `RANDOM_SEED` repeats a life. It runs in a process of its own, whose
//! memory nobody else uses. Its clock stands still while anybody has work: nobody sleeps through a wait.

mod dice;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use rand::prelude::*;
use serde_json::json;

use self::dice::Dice;
use crate::simulator::Fault;
use crate::support::Mount;
use crate::support::memory::{live_bytes, resident_kilobytes};

/// No request takes longer.
const HANG: Duration = Duration::from_secs(100);
/// Longer than a 404 proves nothing about what was just made. A server that got such an answer asks again later.
const DOUBT: Duration = Duration::from_secs(61);
/// Longer than the plugin keeps connections that it does not use.
const ALL_CLOSED: Duration = Duration::from_secs(600);
/// Longer than creation windows of another process wait for their second look.
const WINDOWS_ARE_OVER: Duration = Duration::from_secs(540);
/// So many revocations of leases that ran out the server has under way at once.
const ABREAST: usize = 8;
/// The marks at which memory is measured, in percent of a life. Up to the half of it the mount's process dies again and
/// again; from there on it lives, so that what one process keeps is seen.
const MARKS: [u64; 3] = [10, 50, 100];
/// What a life may add to the allocated bytes from one mark to the next: what the entries in storage differ by, the
/// engine's caches of them, and a metric that was not counted before. It is the same for a life of any length: 100 bytes
/// lost in each request would be 1 MB in the second half of 20,000, and 50 MB in that of a million.
const MORE_BYTES: u64 = 256 * 1024;

/// So many mounts come and go, each of which may leave less than the smallest thing that it has.
const MOUNTS: u64 = 500;
const MORE_BY_MOUNT: u64 = 256;

/// The bytes that were allocated at each mark.
#[derive(Default)]
struct Memory(BTreeMap<u64, u64>);

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs a test in a process of its own.
fn alone(test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("engine::random::{test}"), "--ignored", "--nocapture"]);
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    println!("{told}");
}

#[test]
fn no_random_life_ends_badly() {
    alone("a_life");
}

#[test]
fn mounts_that_go_leave_nothing() {
    alone("many_mounts");
}

#[tokio::test(start_paused = true)]
#[ignore = "mounts_that_go_leave_nothing runs it in a process of its own"]
async fn many_mounts() {
    let mount =
        Mount::start().await.configured().await.with_project().await.with_role(json!({})).await.without_lag();
    let mut bytes = Vec::new();
    for mounts in [MOUNTS / 10, MOUNTS] {
        for _ in 0..mounts {
            mount.restart().await;
            mount.read("creds/app").await.done();
        }
        rest(&mount).await;
        bytes.push(live_bytes());
    }
    let each = bytes[1].saturating_sub(bytes[0]) / MOUNTS;
    assert!(each < MORE_BY_MOUNT, "each mount leaves {each} bytes");
    mount.finish().await;
}

#[tokio::test(start_paused = true)]
#[ignore = "no_random_life_ends_badly runs it in a process of its own"]
async fn a_life() {
    let (requests, seed) = (number("RANDOM_REQUESTS", 20_000), number("RANDOM_SEED", rand::random()));
    println!("RANDOM_SEED={seed} RANDOM_REQUESTS={requests}");
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let (mut dice, start) = (Dice::of(seed, &mount).await, Instant::now());
    let (mut done, mut memory) = (0, Memory::default());
    while done < requests {
        let (batch, mortal) = (dice.rng.random_range(1..=8), 2 * done < requests);
        tokio::time::timeout(HANG, step(&mount, &mut dice, batch, mortal)).await.expect("a request hangs");
        done += batch;
        memory.look(100 * done / requests, &mount).await;
    }
    let state = mount.sim.state();
    println!("{done} requests in {:?}; OpenAI saw {} calls", start.elapsed(), state.all_calls());
    // A life in which nothing is ever made proves nothing.
    assert!(state.created.accounts > requests / 100, "{:?}", state.created);
    memory.assert_flat();
    mount.finish().await;
}

impl Memory {
    /// Takes note at each mark, once all is over that was under way.
    async fn look(&mut self, percent: u64, mount: &Mount) {
        for mark in MARKS {
            if percent >= mark && !self.0.contains_key(&mark) {
                rest(mount).await;
                let bytes = live_bytes();
                println!("at {mark}%: {bytes} bytes allocated, {} kB resident", resident_kilobytes());
                self.0.insert(mark, bytes);
            }
        }
    }

    fn assert_flat(&self) {
        for pair in MARKS.windows(2) {
            let grown = self.0[&pair[1]].saturating_sub(self.0[&pair[0]]);
            println!("from {}% to {}%: {grown} bytes more", pair[0], pair[1]);
            assert!(grown < MORE_BYTES, "memory grows: {grown} bytes from {}% to {}%", pair[0], pair[1]);
        }
    }
}

async fn step(mount: &Mount, dice: &mut Dice, batch: u64, mortal: bool) {
    match dice.rng.random_range(0..1000) {
        0..5 if mortal => mount.restart().await,
        5..10 => {
            mount.advance(Duration::from_secs(dice.rng.random_range(1..100_000)));
            expire(mount, dice).await;
        }
        10..14 => mount.storage.fail_put(dice.pick(&["wal/", "ledger/", "role/", "config", ""])),
        14..18 => mount.storage.fail_delete(dice.pick(&["wal/", "ledger/", "role/", "project/", ""])),
        18..30 => {
            let action = dice.action();
            mount.sim.fault(Fault::everywhere(action).times(1));
        }
        30..34 => mount.host.set_performance_standby(dice.rng.random()),
        34..60 => repair(mount).await,
        60..80 => drop(mount.tick().await),
        80..90 => {
            // Time passes by every clock alike, also by OpenAI's.
            mount.advance(WINDOWS_ARE_OVER);
            drop(mount.tick_immediately().await);
        }
        90..300 => drop(mount.read("creds/app").await),
        300..500 => {
            if let Some(lease) = mount.leases().choose(&mut dice.rng) {
                let lease = dice.perhaps_odd(lease);
                if dice.rng.random_ratio(1, 8) {
                    drop(mount.renew(&lease, Duration::from_secs(dice.rng.random_range(0..10_000))).await);
                } else {
                    drop(mount.revoke(&lease).await);
                }
            }
        }
        _ => {
            let requests = (0..batch).map(|_| dice.request(mount)).collect::<Vec<_>>();
            join_all(requests.into_iter().map(|request| mount.ask(request))).await;
        }
    }
}

/// As a person would put it right: a configuration that works, a project and a role.
async fn repair(mount: &Mount) {
    mount.host.set_performance_standby(false);
    let mut config = mount.config();
    if let Some(key) = mount.sim.state().admin_keys.iter().rfind(|key| key.live) {
        config["admin_api_key"] = key.value.as_str().into();
    }
    drop(mount.write("config", config).await);
    drop(mount.write("project/research", json!({"project_id": mount.sim.project()})).await);
    let role = json!({"project": "research", "ttl": 60, "max_ttl": 3600, "scopes": [], "service_account_id": "",
        "service_account_name_template": "{{.RoleName}}"});
    drop(mount.write("roles/app", role).await);
}

/// The server revokes what has run out, some of it later.
async fn expire(mount: &Mount, dice: &mut Dice) {
    let mut over = mount.leases();
    over.retain(|lease| lease.issued + lease.ttl < mount.now() && dice.rng.random_ratio(3, 4));
    stream::iter(&over).for_each_concurrent(ABREAST, async |lease| drop(mount.revoke(lease).await)).await;
}

/// Whatever happened: once all leases and all times are over nothing is left, and nothing is open.
async fn rest(mount: &Mount) {
    mount.sim.clear_faults();
    mount.storage.clear_faults();
    repair(mount).await;
    mount.advance(DOUBT);
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    mount.advance(Duration::from_secs(3 * 366 * 86_400));
    // An admin key with an expiry cannot rotate itself after its end.
    mount.sim.add_admin_key();
    repair(mount).await;
    for _ in 0..3 {
        mount.tick_now().await.done();
    }
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    assert_eq!(mount.orphans(), Vec::<String>::new());
    tokio::time::sleep(ALL_CLOSED).await;
    mount.forget_past();
}
