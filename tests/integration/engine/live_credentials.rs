//! The number of live credentials of a role: in a read, in the list, in a metric, and when the role is deleted.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault};
use crate::support::Mount;
use crate::support::mount::PROJECT;

const MINUTE: Duration = Duration::from_secs(60);

async fn mount(role: Value) -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(role).await
}

/// The number in a read of the role, which has no warning.
#[track_caller]
fn told(read: &crate::support::Answered) -> u64 {
    assert!(read.warnings().is_empty(), "{:?}", read.warnings());
    read.json()["live_credentials"].as_u64().unwrap()
}

async fn metric(mount: &Mount, role: &str) -> Option<u64> {
    let text = mount.read("metrics").await.text("http_raw_body");
    let series = format!("openai_live_credentials{{role=\"{role}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)).map(|value| value.parse::<f64>().unwrap() as u64)
}

#[tokio::test]
async fn a_read_the_list_and_the_metric_tell_how_many_credentials_are_live() {
    let mount = mount(json!({"ttl": "1h"})).await;
    mount.write("roles/other", json!({"project": PROJECT})).await.done();
    assert_eq!(told(&mount.read("roles/app").await), 0);
    let first = mount.read("creds/app").await;
    let _second = mount.read_with("creds/app", json!({"ttl": "10m"})).await;
    let other = mount.read("creds/other").await;
    assert_eq!(told(&mount.read("roles/app").await), 2);
    let list = mount.list("roles").await.json();
    let counts = ["app", "other"].map(|role| list["key_info"][role]["live_credentials"].clone());
    assert_eq!(counts, [json!(2), json!(1)]);
    assert_eq!((metric(&mount, "app").await, metric(&mount, "other").await), (Some(2), Some(1)));

    mount.revoke(first.lease()).await.done();
    assert_eq!(told(&mount.read("roles/app").await), 1);
    // Its end comes, whether or not Vault has revoked the lease.
    mount.advance(MINUTE * 11);
    assert_eq!(told(&mount.read("roles/app").await), 0);
    mount.tick().await.done();
    assert_eq!((metric(&mount, "app").await, metric(&mount, "other").await), (Some(0), Some(1)));
    mount.revoke(other.lease()).await.done();
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_failed_read_counts_nothing_and_a_second_revocation_takes_nothing_away() {
    let mount = mount(json!({})).await.without_lag();
    mount.storage.fail_put("ledger/");
    assert!(mount.read("creds/app").await.answer.is_err());
    assert_eq!(told(&mount.read("roles/app").await), 0);
    let (one, _two) = (mount.read("creds/app").await, mount.read("creds/app").await);
    let lease = one.lease().clone();
    for _ in 0..2 {
        mount.revoke(&lease).await.done();
        assert_eq!(told(&mount.read("roles/app").await), 1);
    }
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn after_a_restart_the_numbers_come_from_the_ledger() {
    let mount = mount(json!({"ttl": "1h"})).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(mount.read("creds/app").await);
    }
    mount.restart().await;
    // One that ends before the ledger is read, and one that is made then.
    mount.revoke(made[0].lease()).await.done();
    let _later = mount.read("creds/app").await;
    let read = mount.read("roles/app").await;
    assert!(read.warnings()[0].starts_with("live_credentials may be too low"), "{:?}", read.warnings());
    assert_eq!(read.json()["live_credentials"], 1);
    assert_eq!(metric(&mount, "app").await, None, "no number is better than a wrong one");
    mount.tick().await.done();
    assert_eq!(told(&mount.read("roles/app").await), 3);
    assert_eq!(metric(&mount, "app").await, Some(3));
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    assert_eq!(told(&mount.read("roles/app").await), 0);
    // Where nothing was ever made, the number is known at once.
    mount.restart().await;
    assert_eq!(told(&mount.read("roles/app").await), 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_credential_that_is_revoked_before_the_ledger_is_read_counts_no_more_though_its_record_is_left() {
    let mount = mount(json!({"ttl": "1h"})).await.without_lag();
    let (revoked, left) = (mount.read("creds/app").await, mount.read("creds/app").await);
    mount.restart().await;
    mount.storage.fail_delete("ledger/");
    mount.revoke(revoked.lease()).await.done();
    assert_eq!(mount.stored("ledger/").len(), 2, "the tick removes the record at its time");
    mount.tick().await.done();
    assert_eq!(told(&mount.read("roles/app").await), 1);
    mount.revoke(left.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_ahead_hides_no_credential() {
    const DAYS: Duration = Duration::from_secs(2 * 86_400);
    for begins_ahead in [true, false] {
        let mount = mount(json!({"ttl": "1h"})).await;
        let made = mount.read("creds/app").await;
        // A new process cannot ask OpenAI for the time.
        mount.sim.fault(Fault::everywhere(Action::status(503)));
        if !begins_ahead {
            mount.restart().await;
            let _failed = mount.tick().await;
        }
        mount.put_clock_ahead(DAYS);
        if begins_ahead {
            mount.restart().await;
        }
        let _failed = mount.tick().await;
        mount.put_clock_back(DAYS);
        mount.sim.clear_faults();
        mount.tick().await.done();
        assert_eq!(told(&mount.read("roles/app").await), 1, "{begins_ahead}");
        assert_eq!(metric(&mount, "app").await, Some(1), "{begins_ahead}");
        mount.revoke(made.lease()).await.done();
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_standby_that_began_with_an_empty_ledger_says_that_it_counts_none() {
    let mount = mount(json!({"ttl": "1h"})).await;
    mount.host.set_performance_standby(true);
    mount.restart().await;
    let standby = mount.backend();
    mount.host.set_performance_standby(false);
    mount.restart().await;
    let made = mount.read("creds/app").await;
    mount.host.set_performance_standby(true);
    let read = standby.handle(mount.request(Operation::Read, "roles/app", json!({}))).await;
    let warnings = read.unwrap().unwrap().warnings;
    assert!(warnings.iter().any(|it| it.starts_with("live_credentials may be too low")), "{warnings:?}");
    mount.host.set_performance_standby(false);
    assert_eq!(told(&mount.read("roles/app").await), 1);
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_request_reads_no_record_and_a_tick_a_bounded_part_of_a_long_ledger() {
    const RECORDS: usize = 12_000;
    let mount = mount(json!({"ttl": "24h"})).await;
    let made = mount.read("creds/app").await;
    let mut entries = mount.storage.snapshot();
    let record = entries.iter().find(|entry| entry.key.starts_with("ledger/")).unwrap().clone();
    let credential: Value = serde_json::from_slice(&record.value).unwrap();
    for n in 0..RECORDS {
        let (mut copy, mut credential) = (record.clone(), credential.clone());
        let name = format!("copy-{n:05}-{}", credential["name"].as_str().unwrap());
        let (folder, _) = record.key.rsplit_once('/').unwrap();
        copy.key = format!("{folder}/{name}");
        credential["name"] = name.into();
        copy.value = credential.to_string().into_bytes();
        entries.push(copy);
    }
    mount.storage.restore(entries);
    mount.restart().await;
    mount.read("roles/app").await.done();
    let asked = async |path: &str, operation| {
        let before = mount.storage.calls().gets;
        let request = mount.request(operation, path, json!({}));
        mount.backend().handle(request).await.unwrap();
        mount.storage.calls().gets - before
    };
    assert_eq!(asked("roles/app", Operation::Read).await, 0);
    let first = asked("", Operation::Rollback).await;
    assert!((10_000..10_100).contains(&first), "{first}");
    assert_eq!(metric(&mount, "app").await, None);
    let second = asked("", Operation::Rollback).await;
    assert!((2_000..2_100).contains(&second), "{second}");
    assert_eq!(metric(&mount, "app").await, Some(RECORDS as u64 + 1));
    let third = asked("", Operation::Rollback).await;
    assert!(third < 100, "once read, the ledger is not read again: {third}");
    assert_eq!(told(&mount.read("roles/app").await), RECORDS as u64 + 1);
    mount.revoke(made.lease()).await.done();
    mount.abandon();
}

#[tokio::test]
async fn deleting_a_role_warns_of_its_live_credentials_and_tells_their_last_end() {
    let mount = mount(json!({"ttl": "1h"})).await;
    let made = mount.read("creds/app").await;
    let longer = mount.read_with("creds/app", json!({"ttl": "2h"})).await;
    let ends = mount.now() + chrono::TimeDelta::hours(2);
    let deleted = mount.delete("roles/app").await;
    let [warning] = deleted.warnings() else { panic!("{:?}", deleted.warnings()) };
    assert!(warning.contains("role app is deleted and has 2 live credentials"), "{warning}");
    assert!(warning.contains(&ends.format("%Y-%m-%dT%H:").to_string()), "{warning}, not {ends}");
    assert!(warning.contains("vault lease revoke -prefix openai/creds/app"), "{warning}");
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    mount.revoke(longer.lease()).await.done();
    mount.write("roles/app", json!({"project": PROJECT})).await.nothing();
    mount.delete("roles/app").await.nothing();
    mount.finish().await;
}
