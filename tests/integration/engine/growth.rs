//! What each kind of work costs as roles, leases and what waits for its removal grow: storage calls are held, times
//! are printed (`--nocapture`).

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use openai_secrets::logical::{Entry, Operation, Storage as _};
use serde_json::{Value, json};

use crate::support::Mount;

/// What one piece of work cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    reads: usize,
    lists: usize,
    writes: usize,
    /// Not part of what is compared.
    time: Time,
}

/// A time that equals any other.
#[derive(Clone, Copy, Debug)]
struct Time(Duration);

impl PartialEq for Time {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Time {}

/// A mount with a role and a credential, and as many copies of both, and of credentials that wait for OpenAI.
async fn grown(count: usize) -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    mount.read("creds/app").await.lease();
    let entries = mount.storage.snapshot();
    let find = |prefix: &str| entries.iter().find(|entry| entry.key.starts_with(prefix)).unwrap().clone();
    let (role, handed_out) = (find("role/app"), find("ledger/"));
    let place = handed_out.key.rsplit_once('/').unwrap().0.to_owned();
    let later = (mount.now() + TimeDelta::minutes(10)).to_rfc3339();
    for n in 0..count {
        put(&mount, format!("role/copy-{n}"), role.value.clone()).await;
        let mut record: Value = serde_json::from_slice(&handed_out.value).unwrap();
        record["name"] = format!("copy-{n}").into();
        put(&mount, format!("{place}/copy-{n}"), record.to_string().into_bytes()).await;
        record["name"] = format!("waits-{n}").into();
        record["retry_at"] = later.clone().into();
        put(&mount, format!("ledger/00000000/00/waits-{n}"), record.to_string().into_bytes()).await;
    }
    mount
}

async fn put(mount: &Mount, key: String, value: Vec<u8>) {
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
}

async fn cost(mount: &Mount, work: impl AsyncFnOnce()) -> Cost {
    let (before, start) = (mount.storage.calls(), Instant::now());
    work().await;
    let (after, time) = (mount.storage.calls(), Time(start.elapsed()));
    Cost {
        reads: after.gets - before.gets,
        lists: after.lists - before.lists,
        writes: after.puts + after.deletes - before.puts - before.deletes,
        time,
    }
}

/// The same request as the server would make it, without the judgement of the whole storage that follows others.
async fn asked(mount: &Mount, operation: Operation, path: &str) -> Cost {
    let request = mount.request(operation, path, json!({}));
    cost(mount, async || drop(mount.backend().handle(request).await.unwrap())).await
}

async fn costs(count: usize) -> Vec<(&'static str, Cost)> {
    let mount = grown(count).await;
    let mut costs = vec![("start", cost(&mount, async || mount.restart().await).await)];
    // What the process learns on first use is no request's cost.
    asked(&mount, Operation::Read, "creds/app").await;
    for (name, operation, path) in [
        ("config read", Operation::Read, "config"),
        ("role read", Operation::Read, "roles/app"),
        ("credential", Operation::Read, "creds/app"),
        ("metrics", Operation::Read, "metrics"),
        ("list of roles", Operation::List, "roles/"),
        ("list of revocations", Operation::List, "revocations/"),
        ("first tick", Operation::Rollback, ""),
        ("tick", Operation::Rollback, ""),
    ] {
        costs.push((name, asked(&mount, operation, path).await));
    }
    mount.abandon();
    costs
}

/// The cost of this work among all.
fn of(costs: &[(&str, Cost)], name: &str) -> Cost {
    costs.iter().find(|(work, _)| *work == name).unwrap().1
}

fn print(count: usize, costs: &[(&str, Cost)]) {
    println!("{count} roles, credentials and waiting removals");
    for (name, Cost { reads, lists, writes, time }) in costs {
        println!("  {name:20} {reads:7} reads {lists:4} lists {writes:3} writes  {:10.3?}", time.0);
    }
}

#[tokio::test]
async fn no_request_costs_more_storage_calls_the_more_there_is() {
    let (few, many) = (costs(10).await, costs(1_000).await);
    print(10, &few);
    print(1_000, &many);
    for name in ["start", "config read", "role read", "credential"] {
        assert_eq!(of(&few, name), of(&many, name), "{name}");
    }
}

/// Vault lists a folder whole for each part of it that is taken.
#[tokio::test]
async fn a_tick_reads_what_waits_once_and_lists_it_hardly_more_often() {
    let (few, many) = (of(&costs(10).await, "tick"), of(&costs(5_000).await, "tick"));
    assert_eq!(many.reads - few.reads, 5_000 - 10);
    assert_eq!((many.lists, many.writes), (few.lists, few.writes));
}

#[tokio::test]
#[ignore = "takes a minute; its figures are in docs/performance.md"]
async fn a_hundred_thousand_of_everything() {
    for count in [10, 1_000, 100_000] {
        print(count, &costs(count).await);
    }
}
