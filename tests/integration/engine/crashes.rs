//! Storage that fails and processes that die at each write of a credential's life: nothing is left in the end.

use std::time::Duration;

use openai_secrets::logical::{Entry, Operation, Storage as _};
use serde_json::json;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::storage::CrashPoint;
use crate::support::{Granted, Mount};

const PATH: &str = "creds/app";
const TTL: u64 = 600;

async fn mount() -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await;
    mount.with_role(json!({"ttl": TTL, "scopes": ["api.model.read"]})).await
}

/// After the lease's own end, whoever knows of it, everything is gone.
async fn ends_empty(mount: Mount) {
    // What was made a moment ago and is not found is in doubt for a minute.
    mount.advance(Duration::from_secs(120));
    mount.tick_now().await.done();
    mount.advance(Duration::from_secs(TTL + 600));
    mount.tick_now().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!((mount.stored("wal/"), mount.stored("ledger/")), (Vec::new(), Vec::new()));
    mount.finish().await;
}

#[tokio::test]
async fn a_write_that_fails_ends_the_request_with_nothing_left() {
    for prefix in ["wal/", "ledger/"] {
        let mount = mount().await.without_lag();
        mount.storage.fail_put(prefix);
        let answered = mount.read(PATH).await;
        assert!(answered.error().message().contains("injected fault"), "{answered:?}");
        assert!(mount.sim.state().accounts.is_empty());
        assert_eq!(mount.entries_left().await, 0, "nothing is to be looked up");
        let stored = mount.storage.keys().into_iter().filter(|key| key.contains('/'));
        assert_eq!(stored.collect::<Vec<_>>(), ["project/research", "role/app"]);
        ends_empty(mount).await;
    }
}

#[tokio::test]
async fn nothing_is_made_without_its_write_ahead_entry() {
    let mount = mount().await;
    mount.storage.fail_put("wal/");
    mount.read(PATH).await.error();
    assert_eq!(mount.sim.calls(endpoint::CREATE_ACCOUNT), 0);
}

#[tokio::test]
async fn an_entry_that_cannot_be_deleted_is_no_matter_of_what_was_handed_out() {
    let mount = mount().await;
    let made = mount.read(PATH).await;
    mount.storage.fail_delete("wal/");
    assert_eq!(mount.entries_left().await, 1);
    mount.restart().await;
    mount.tick_now().await.done();
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    assert_eq!(mount.stored("wal/"), Vec::<String>::new());
    mount.lose(made.lease());
    ends_empty(mount).await;
}

#[tokio::test]
async fn what_can_neither_be_recorded_nor_taken_back_is_left_to_the_sweep_and_not_to_be_repeated() {
    let mount = mount().await;
    mount.storage.fail_put("ledger/");
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
    let answered = mount.read(PATH).await;
    answered.refused("removed within 10 minutes");
    assert_eq!((mount.sim.state().accounts.len(), mount.stored("wal/").len()), (1, 1));
    mount.tick_now().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    ends_empty(mount).await;
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_of_a_creation_leaves_nothing() {
    let mut deaths = 0;
    for write in 0.. {
        let mut reached = false;
        for death in [CrashPoint::Before(write), CrashPoint::After(write)] {
            let mount = mount().await;
            let request = mount.request(Operation::Read, PATH, json!({}));
            reached |= mount.killed(request, death).await;
            deaths += usize::from(reached);
            ends_empty(mount).await;
        }
        if !reached {
            break;
        }
    }
    assert!(deaths >= 4, "write ahead and record; before and after: {deaths}");
}

#[tokio::test]
async fn a_process_that_dies_in_the_middle_of_a_call_leaves_nothing() {
    for on in [endpoint::CREATE_ACCOUNT, endpoint::UPDATE_KEY] {
        let mount = mount().await;
        mount.sim.fault(Fault::on(on, Action::delay(Duration::from_millis(100))).times(1));
        let dies = async {
            while mount.sim.faults_left() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answered = mount.read(PATH) => panic!("{answered:?}"),
            () = dies => {}
        }
        mount.restart().await;
        // OpenAI goes on with what it was asked.
        while mount.sim.calls(on) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(mount.sim.state().accounts.len(), 1);
        mount.tick_now().await.done();
        assert!(mount.sim.state().accounts.is_empty());
        ends_empty(mount).await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_of_a_revocation_leaves_it_to_the_next() {
    for death in [CrashPoint::Before(0), CrashPoint::After(0), CrashPoint::Before(1)] {
        let mount = mount().await.without_lag();
        let made = mount.read(PATH).await;
        let mut request = mount.request(Operation::Revoke, PATH, json!({}));
        request.secret = Some(made.lease().secret(Duration::ZERO));
        mount.killed(request, death).await;
        // A 404 for what is younger proves nothing.
        mount.advance(Duration::from_secs(120));
        mount.revoke(made.lease()).await.done();
        ends_empty(mount).await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_of_a_tick_leaves_it_to_the_next() {
    for write in 0..4 {
        for death in [CrashPoint::Before(write), CrashPoint::After(write)] {
            let mount = mount().await;
            lose_some(&mount).await;
            mount.advance(Duration::from_secs(TTL + 600));
            let tick = mount.request(Operation::Rollback, "", json!({"immediate": true}));
            mount.killed(tick, death).await;
            ends_empty(mount).await;
        }
    }
}

/// Leases that the server lost, and a creation whose answer was.
async fn lose_some(mount: &Mount) {
    let made: Vec<Granted> =
        vec![mount.read(PATH).await.lease().clone(), mount.read(PATH).await.lease().clone()];
    for lease in &made {
        mount.lose(lease);
    }
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read(PATH).await.error();
    assert_eq!(mount.sim.state().accounts.len(), 3);
}

/// A write-ahead entry of a creation in this organization, so many seconds old.
async fn cut_off(mount: &Mount, organization: &str, age: i64) {
    let creation = json!({"organization_id": organization, "project_id": mount.sim.project(), "name": "vault-cut-off",
        "service_account_id": null, "owner": {"ledger": "00000001/00/vault-cut-off"}});
    let created_at = chrono::Utc::now().timestamp() - age;
    let entry = json!({"type": "creation", "data": creation, "created_at": created_at});
    let value = entry.to_string().into_bytes();
    mount.storage.put(Entry { key: "wal/cut-off".to_owned(), value, seal_wrap: false }).await.unwrap();
}

#[tokio::test]
async fn what_was_cut_off_in_another_organization_waits_for_it_and_is_told_of() {
    let mount = mount().await;
    cut_off(&mount, "org-other", 1200).await;
    for _ in 0..2 {
        mount.tick().await.done();
        assert_eq!(mount.stored("wal/").len(), 1);
    }
    assert_eq!(mount.sim.calls(endpoint::LIST_ACCOUNTS), 0, "its absence here proves nothing");
    let health = mount.read("health").await.json();
    assert_eq!((&health["status"], &health["unfinished_creations"]), (&json!("degraded"), &json!(1)));
    assert!(health["unfinished_creation_age"].as_i64().unwrap() >= 1200, "{health}");
    assert!(health["reasons"][0].as_str().unwrap().contains("org-other"), "{health}");
    let metrics = mount.read("metrics").await.text("http_raw_body");
    assert!(metrics.contains("\nopenai_unfinished_creations 1\n"), "{metrics}");

    // Without any configuration it is the same.
    mount.delete_by_force("config").await.done();
    mount.tick().await.done();
    assert_eq!(mount.stored("wal/").len(), 1);
    mount.configure_elsewhere().await;
    // The simulator knows one organization. The other one has the project, and nothing in it.
    let project = json!({"object": "organization.project", "id": mount.sim.project(), "name": "Project",
        "created_at": 1, "status": "active"});
    mount.sim.fault(Fault::on(endpoint::READ_PROJECT, Action::status_with(200, project)));
    mount.sim.fault(Fault::on(
        endpoint::LIST_ACCOUNTS,
        Action::status_with(200, json!({"data": [], "has_more": false})),
    ));
    mount.tick().await.done();
    assert_eq!(mount.stored("wal/").len(), 0);
    assert_eq!(mount.read("health").await.json()["unfinished_creations"], 0);
}

#[tokio::test]
async fn what_was_cut_off_is_forgotten_when_no_key_of_it_can_live() {
    let mount = mount().await;
    cut_off(&mount, "org-other", 400 * 86_400).await;
    mount.tick().await.done();
    assert_eq!(mount.stored("wal/").len(), 0);
}
