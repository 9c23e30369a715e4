//! Storage lists in any order, and in-memory storage does so always: what is due is found nevertheless.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::support::{Mount, library};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

#[tokio::test]
async fn hourly_roles_are_rotated_every_hour_among_others_with_longer_periods() {
    let (mount, mut hourly) = (mount().await, Vec::new());
    for hours in [1, 1, 1, 30, 40, 50, 60, 70] {
        let account = mount.seed("app", false);
        let role = json!({"project": "research", "service_account_id": account.id,
            "rotation_period": format!("{hours}h"), "grace_period": 0});
        mount.write(&format!("static-roles/{}", account.id), role).await.done();
        mount.advance(MINUTE * 7);
        if hours == 1 {
            hourly.push((account.id, String::new()));
        }
    }
    for hour in 0..10 {
        mount.advance(HOUR + MINUTE * 2);
        mount.tick().await.done();
        for (name, last) in &mut hourly {
            let key = mount.read(&format!("static-creds/{name}")).await.text("api_key");
            assert_ne!(*last, key, "hour {hour}");
            *last = key;
        }
        assert_eq!(mount.read("health").await.json()["overdue_rotations"], 0, "hour {hour}");
    }
}

#[tokio::test]
async fn the_accounts_of_lost_leases_are_removed() {
    let mount = mount().await.with_role(json!({"ttl": "1h", "max_ttl": "24h"})).await;
    // Under hours and minutes of their own, some of them far from due.
    for number in 0..12 {
        let ttl = 600 + 1_900 * number;
        let lease = mount.read_with("creds/app", json!({"ttl": ttl})).await.lease().clone();
        mount.lose(&lease);
    }
    for number in 0..12 {
        let ends = Duration::from_secs(600 + 1_900 * number);
        let passed = Duration::from_secs(mount.sim.state().now - mount.sim.state().accounts[0].created_at);
        mount.advance(ends.saturating_sub(passed) + MINUTE * 4);
        mount.tick().await.done();
        assert_eq!(mount.sim.state().accounts.len(), 11 - usize::try_from(number).unwrap());
        if number == 11 {
            break;
        }
    }
    mount.finish().await;
}

#[tokio::test]
async fn lost_loans_are_returned() {
    let mount = library::mount().await;
    let names = "a,b,c,d,e";
    let set = json!({"project": "research", "service_account_names": names, "ttl": "5h", "max_ttl": "24h"});
    mount.write(library::SET, set).await.done();
    for hours in 1..=5 {
        let lent =
            mount.write(&format!("{}/check-out", library::SET), json!({"ttl": format!("{hours}h")})).await;
        mount.lose(lent.lease());
    }
    for hours in 1..=5 {
        mount.advance(HOUR + MINUTE * 4);
        mount.tick().await.done();
        let status = library::status(&mount).await;
        let free = status.as_object().unwrap().values().filter(|one| **one == "available").count();
        assert_eq!(free, hours, "{status}");
    }
    mount.finish().await;
}

#[tokio::test]
async fn pages_of_revocations_show_each_once_and_in_one_order() {
    let mount = mount().await.with_role(json!({"ttl": "1h", "max_ttl": "24h"})).await;
    for number in 0..12 {
        let ttl = 600 + 1_900 * (number / 2);
        let lease = mount.read_with("creds/app", json!({"ttl": ttl})).await.lease().clone();
        mount.lose(&lease);
    }
    mount.advance(HOUR * 12);
    let all = mount.list("revocations").await.keys();
    assert_eq!(all.len(), 12);
    for size in [1, 2, 5] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let query: Value = json!({"after": after, "limit": size});
            let page = mount.ask(mount.request(Operation::List, "revocations/", query)).await.keys();
            let Some(last) = page.last() else { break };
            after.clone_from(last);
            seen.extend(page);
        }
        assert_eq!(seen, all, "in pages of {size}");
    }
    let tried = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&tried["removed"], &tried["waiting"]), (&json!(12), &json!(0)));
}

#[tokio::test]
async fn lists_of_names_come_sorted() {
    let mount = library::mount_with("c,a,b").await;
    let names = ["e", "b", "d", "a", "c"];
    for name in names {
        mount.write(&format!("roles/{name}"), json!({"project": "research"})).await.done();
        mount.write(&format!("project/{name}"), json!({"project_id": mount.sim.project()})).await.done();
    }
    for _ in 0..5 {
        assert_eq!(mount.list("roles").await.keys(), ["a", "b", "c", "d", "e"]);
        assert_eq!(mount.list("project").await.keys(), ["a", "b", "c", "d", "e", "research"]);
    }
}
