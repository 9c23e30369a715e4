//! Storage that fails and processes that die at each write of a credential's life: nothing is left in the end.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::json;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::storage::Death;
use crate::support::{Granted, Mount};

const PATH: &str = "creds/app";
const TTL: u64 = 600;

async fn mount() -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await;
    mount.with_role(json!({"ttl": TTL, "scopes": ["api.model.read"]})).await
}

/// After the lease's own end, whoever knows of it, everything is gone.
async fn ends_empty(mount: Mount) {
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
        let mount = mount().await;
        mount.storage.fail_put(prefix);
        let answered = mount.read(PATH).await;
        assert!(answered.error().message().contains("injected fault"), "{answered:?}");
        assert!(mount.sim.state().accounts.is_empty());
        assert_eq!(
            mount.storage.keys().iter().filter(|key| key.contains('/')).count(),
            2,
            "project and role"
        );
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
async fn a_write_ahead_entry_that_stays_harms_nothing() {
    let mount = mount().await;
    mount.storage.fail_delete("wal/");
    let made = mount.read(PATH).await;
    assert_eq!(mount.stored("wal/").len(), 1);
    mount.tick_now().await.done();
    assert_eq!(mount.stored("wal/").len(), 0);
    assert!(mount.sim.state().is_live(&made.text("api_key")), "the sweep took what is leased");
    mount.revoke(made.lease()).await.done();
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
        for death in [Death::Before(write), Death::After(write)] {
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
    assert!(deaths >= 6, "write ahead, record, end of the write-ahead entry; before and after: {deaths}");
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
    for death in [Death::Before(0), Death::After(0), Death::Before(1)] {
        let mount = mount().await;
        let made = mount.read(PATH).await;
        let mut request = mount.request(Operation::Revoke, PATH, json!({}));
        request.secret = Some(made.lease().secret(Duration::ZERO));
        mount.killed(request, death).await;
        mount.revoke(made.lease()).await.done();
        ends_empty(mount).await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_of_a_tick_leaves_it_to_the_next() {
    for write in 0..4 {
        for death in [Death::Before(write), Death::After(write)] {
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
