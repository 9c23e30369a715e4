//! Three nodes: what one is asked another may have to do, and whoever leads may go at any moment.

use std::time::Duration;

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::openai::OpenAi;
use crate::support::wait::{eventually, within};

/// So that what a dead leader left is removed while the test waits. It takes a plugin built for that.
const SHORTENED: &[&str] = &["OPENAI_SWEEP_AGE=5", "OPENAI_LEDGER_GRACE=1"];
/// A lease of 20 s, the minute that its record is filed under, and two ticks of a minute.
const UNTIL_ALL_IS_REMOVED: Duration = Duration::from_secs(220);

#[tokio::test]
async fn a_credential_read_at_a_standby_is_made_once() {
    let (openai, cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, &[]).await;

    for standby in cluster.standbys().await {
        let before = openai.accounts().len();
        let credential = standby.credential().await;
        assert_eq!(openai.accounts().len(), before + 1);
        assert!(openai.accepts(&credential.text("api_key")).await);
        standby.revoke(&credential).await;
        assert!(!openai.accepts(&credential.text("api_key")).await);
    }
    assert!(openai.accounts().is_empty());
}

#[tokio::test]
async fn every_node_sees_what_was_written_at_another() {
    let (openai, cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, &[]).await;

    for (number, writer) in cluster.nodes().iter().enumerate() {
        // Every node has read it before, and keeps it in memory where it serves reads itself.
        for node in cluster.nodes() {
            node.api().read("openai/roles/my-role").await.ok();
        }
        let ttl = 100 + number as u64;
        writer.api().write("openai/roles/my-role", json!({"ttl": ttl})).await.ok();
        for node in cluster.nodes() {
            eventually("the node reads the new ttl", async || {
                let role = node.api().read("openai/roles/my-role").await.ok();
                (*role.data("ttl") == json!(ttl)).then_some(())
            })
            .await;
            let credential = node.credential().await;
            assert_eq!(credential.body["lease_duration"], json!(ttl));
        }
    }
}

#[tokio::test]
async fn standbys_serve_reads_themselves() {
    let (openai, cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, &[]).await;
    for standby in cluster.standbys().await {
        eventually("the standby reads the role by a plugin of its own", async || {
            standby.api().read("openai/roles/my-role").await.ok();
            (!standby.plugin_processes().is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs --features failpoints, as `make test` gives it")]
async fn leaders_that_go_in_the_middle_of_reads_leave_nothing_behind() {
    let (openai, mut cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, SHORTENED).await;
    openai.simulator().latency(Duration::from_millis(100));

    let apis: Vec<_> = cluster.nodes().iter().map(|node| node.api().clone()).collect();
    let load = Load::start(&apis.iter().collect::<Vec<_>>(), "openai/creds/my-role?ttl=20s", 16);
    some_are_made(&openai).await;
    let killed = cluster.kill_leader().await;
    some_are_made(&openai).await;
    cluster.resume(killed).await;
    cluster.step_down().await;
    some_are_made(&openai).await;
    cluster.step_down().await;
    some_are_made(&openai).await;
    let tally = load.end().await;
    println!("{} handed out; {tally:?}", tally.accounts.len());

    for node in cluster.nodes() {
        let credential = node.credential().await;
        node.revoke(&credential).await;
    }
    let gone = within(UNTIL_ALL_IS_REMOVED, async || openai.accounts().is_empty().then_some(())).await;
    assert!(gone.is_some(), "{} accounts are left", openai.accounts().len());
}

/// Reads go on: after what just happened, accounts are made again.
async fn some_are_made(openai: &OpenAi) {
    let before = openai.state().created.accounts;
    eventually("accounts are made", async || (openai.state().created.accounts >= before + 50).then_some(()))
        .await;
}
