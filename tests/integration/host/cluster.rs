//! Three nodes: what one is asked another may have to do, once, and what is written at one all others see. That
//! whoever leads may go at any moment is `failover`'s.

use serde_json::json;

use crate::simulator::endpoint::CREATE_KEY;
use crate::support::cluster::Cluster;
use crate::support::openai::{OpenAi, PROJECT};
use crate::support::wait::eventually;

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
async fn a_static_role_is_rotated_once_at_any_node_and_read_at_all() {
    let (openai, cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, &[]).await;
    let account = openai.existing_account("always");
    let role = json!({"project_id": PROJECT, "service_account_id": account});
    cluster.nodes()[0].api().write("openai/static-roles/always", role).await.ok();

    for writer in cluster.nodes() {
        for node in cluster.nodes() {
            eventually("the node reads the role", async || {
                (node.api().read("openai/static-creds/always").await.status == 200).then_some(())
            })
            .await;
        }
        let before = openai.state().calls(CREATE_KEY);
        let rotated = writer.api().write("openai/static-creds/always/rotate", json!({})).await.ok();
        assert_eq!(openai.state().calls(CREATE_KEY), before + 1);
        assert_eq!(openai.live_keys_of(&account), [rotated.text("api_key_id")]);
        for node in cluster.nodes() {
            eventually("the node reads the new key", async || {
                let read = node.api().read("openai/static-creds/always").await.ok();
                (read.text("api_key") == rotated.text("api_key")).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_account_is_lent_at_one_node_and_given_back_at_another() {
    let (openai, cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, &[]).await;
    let set = json!({"project_id": PROJECT, "service_account_names": ["the-only-one"]});
    cluster.nodes()[0].api().write("openai/library-sets/pool", set).await.ok();

    let nodes = cluster.nodes();
    for (number, node) in nodes.iter().enumerate() {
        let lent = eventually("the node knows the set", async || {
            let lent = node.api().write("openai/library-sets/pool/check-out", json!({})).await;
            (lent.status == 200).then_some(lent)
        })
        .await;
        assert!(openai.accepts(&lent.text("api_key")).await);
        for other in nodes {
            let refused = other.api().write("openai/library-sets/pool/check-out", json!({})).await;
            refused.refused(400, "no available service accounts in library");
        }
        let back = nodes[(number + 1) % nodes.len()].api();
        back.write("openai/library-sets/pool/check-in", json!({})).await.ok();
        assert!(!openai.accepts(&lent.text("api_key")).await);
    }
}
