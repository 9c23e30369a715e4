//! `service_account_names`: how many there may be, what each must be, and which accounts were made for them.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::library::{self, SET};

/// How long this thread has computed, to 10 ms: the engine and the simulator of a test run on its one thread.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // Of the fields behind the name, the 12th and 13th are user and system time in ticks of 10 ms.
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("account-{number:06}-{}", "x".repeat(20))).collect()
}

#[tokio::test]
async fn a_hundred_thousand_names_are_refused_before_anything_else_and_cost_next_to_nothing() {
    let (mount, other) = (library::mount().await, Mount::start().await);
    let calls = (mount.sim.state().all_calls(), mount.storage.calls());
    let body = json!({"project": "nowhere", "service_account_names": numbered(100_000)});
    let before = processor_time();
    let (answer, info) = tokio::join!(mount.write(SET, body), other.read("info"));
    let spent = processor_time().saturating_sub(before);
    answer.refused("service_account_names must name at most 1000 elements, not 100000");
    info.done();
    // Ten times what a debug build needs. The look for repeats, name by name, took minutes.
    assert!(spent < Duration::from_secs(2), "{spent:?}");
    let after = mount.storage.calls();
    assert_eq!(mount.sim.state().all_calls(), calls.0);
    assert_eq!((after.puts, after.deletes, after.lists), (calls.1.puts, calls.1.deletes, calls.1.lists));
    mount.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn names_are_counted_whatever_form_they_come_in() {
    let mount = library::mount().await;
    for names in [Value::from(numbered(1001)), Value::from(numbered(1001).join(","))] {
        let body = json!({"project": "research", "service_account_names": names});
        mount.write(SET, body.clone()).await.refused("must name at most 1000 elements, not 1001");
        mount.patch(SET, body).await.error();
    }
    let body = json!({
        "project": "research", "service_account_names": numbered(1000), "create_missing": false,
    });
    mount.write(SET, body).await.refused("create_missing is false");
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_write_warns_of_the_accounts_that_it_made() {
    let mount = library::mount().await;
    mount.seed("old", false);
    let body = json!({"project": "research", "service_account_names": "old,acount-typo"});
    let answer = mount.write(SET, body.clone()).await;
    let [warning] = answer.warnings() else { panic!("{:?}", answer.warnings()) };
    assert!(warning.contains("made") && warning.ends_with("acount-typo"), "{warning}");
    mount.write(SET, body).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn read_and_status_tell_made_accounts_from_adopted_ones() {
    let mount = library::mount().await;
    mount.seed("old", false);
    mount.write(SET, json!({"project": "research", "service_account_names": "old,new"})).await.done();
    assert_eq!(mount.read(SET).await.json()["made_accounts"], json!(["new"]));
    let status = mount.read(&format!("{SET}/status")).await.json();
    assert_eq!(status["made_accounts"], json!(["new"]));
    mount.delete(SET).await.nothing();
    assert_eq!(library::names(&mount), ["old"]);
    mount.finish().await;
}

#[tokio::test]
async fn nothing_is_made_where_create_missing_is_false() {
    let mount = library::mount().await;
    mount.seed("old", false);
    let body =
        |names: &str| json!({"project": "research", "service_account_names": names, "create_missing": false});
    mount.write(SET, body("old,typo-1,typo-2")).await.refused("typo-1, typo-2");
    assert_eq!(library::names(&mount), ["old"]);
    mount.read(SET).await.nothing();
    mount.write(SET, body("old")).await.done();
    assert_eq!(mount.read(SET).await.json()["create_missing"], false);
    mount.write(SET, json!({"service_account_names": "old,later"})).await.refused("later");
    let allowed = json!({"service_account_names": "old,later", "create_missing": true});
    mount.write(SET, allowed).await.done();
    assert_eq!(library::names(&mount), ["old", "later"]);
    mount.finish().await;
}

#[tokio::test]
async fn an_id_or_an_unfit_name_is_refused_by_name_and_makes_nothing() {
    let mount = library::mount().await;
    let seeded = mount.seed("pool-2", false);
    mount.seed("my account!", false);
    for (name, says) in [
        (seeded.id.as_str(), "is the id of account \"pool-2\""),
        ("svc_acct_pool3", "\"svc_acct_pool3\" is written like the id of an account"),
        ("bad name!", "letters, digits, _ and -, not \"bad name!\""),
        (&"n".repeat(65), "up to 64"),
    ] {
        let body = json!({"project": "research", "service_account_names": [name]});
        mount.write(SET, body).await.refused(says);
    }
    assert_eq!(mount.sim.state().accounts.len(), 2);
    mount.write(SET, json!({"project": "research", "service_account_names": ["my account!"]})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_status_of_a_set_written_with_project_id_shows_it() {
    let mount = library::mount().await;
    let id = mount.sim.project().to_owned();
    mount.write(SET, json!({"project_id": id, "service_account_names": "a"})).await.done();
    mount
        .write("library-sets/named", json!({"project": "research", "service_account_names": "b"}))
        .await
        .done();
    for (set, project) in [(SET, ""), ("library-sets/named", "research")] {
        let status = mount.read(&format!("{set}/status")).await.json();
        assert_eq!((&status["project"], &status["project_id"]), (&json!(project), &json!(id)));
    }
    mount.finish().await;
}
