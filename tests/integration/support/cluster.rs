//! A cluster of three OpenBao nodes with integrated storage, and failures of its leader.

use std::time::Duration;

use serde_json::json;

use super::host::Host;
use super::openai::OpenAi;
use super::programs;
use super::server::Storage;
use super::wait::{eventually, within};

const NODES: usize = 3;
/// A leader that steps down waits for its requests, which end within 90 s.
const MAX_STEP_DOWN: Duration = Duration::from_secs(120);

/// The nodes in order of their start. Dropping the cluster stops them.
pub(crate) struct Cluster {
    nodes: Vec<Host>,
}

impl Cluster {
    /// Three unsealed nodes, one of them the leader.
    pub(crate) async fn start() -> Self {
        let program = programs::openbao_server();
        let mut first = Host::start(&program, Storage::Raft).await;
        let mut others = Vec::new();
        while others.len() + 1 < NODES {
            others.push(Host::join(&program, &mut first).await);
        }
        let cluster = Self { nodes: std::iter::once(first).chain(others).collect() };
        cluster.every_node_votes().await;
        cluster
    }

    /// Installs the plugin on every node and sets up the mount of the Quick Start.
    pub(crate) async fn quick_start(&self, openai: &OpenAi, environment: &[&str]) {
        for node in &self.nodes {
            node.install_plugin();
        }
        let leader = &self.nodes[self.leader().await];
        leader.register_with(environment).await;
        leader.set_up("openai", openai).await;
        for node in &self.nodes {
            node.knows_the_mount().await;
        }
    }

    pub(crate) fn nodes(&self) -> &[Host] {
        &self.nodes
    }

    /// Waits for a leader; answers its index.
    pub(crate) async fn leader(&self) -> usize {
        eventually("one node leads", async || {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.is_active().await {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// The nodes that are not the leader.
    pub(crate) async fn standbys(&self) -> Vec<&Host> {
        let leader = self.leader().await;
        let others = self.nodes.iter().enumerate().filter(|(number, _)| *number != leader);
        others.map(|(_, node)| node).collect()
    }

    /// Kills the leader with `-9`. Answers its index after another node leads.
    pub(crate) async fn kill_leader(&mut self) -> usize {
        let number = self.leader().await;
        self.nodes[number].kill();
        self.leader().await;
        number
    }

    /// Starts the killed node again.
    pub(crate) async fn resume(&mut self, number: usize) {
        self.nodes[number].resume().await;
    }

    /// Makes the leader step down.
    pub(crate) async fn step_down(&self) {
        let number = self.leader().await;
        self.nodes[number].api().write("sys/step-down", json!({})).await.ok();
        let left = within(MAX_STEP_DOWN, async || (!self.nodes[number].is_active().await).then_some(()));
        left.await.expect("the node no longer leads");
        self.leader().await;
    }

    /// Waits until every node has a vote. Without that, the loss of one more node would stop the cluster.
    async fn every_node_votes(&self) {
        let api = self.nodes[self.leader().await].api();
        eventually("every node has a vote", async || {
            let answer = api.read("sys/storage/raft/configuration").await;
            let servers = answer.data("config")["servers"].as_array()?.clone();
            let voters = servers.iter().filter(|server| server["voter"] == true).count();
            (voters == NODES).then_some(())
        })
        .await;
    }
}

impl Host {
    /// Waits until a standby knows the new mount.
    async fn knows_the_mount(&self) {
        eventually("the node serves the mount", async || {
            (self.api().read("openai/roles/my-role").await.status == 200).then_some(())
        })
        .await;
    }
}
