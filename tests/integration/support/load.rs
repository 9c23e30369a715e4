//! Clients that read credentials in a loop, from any node that answers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::Api;

/// Pause of a client after a refusal.
const PAUSE: Duration = Duration::from_millis(100);

/// Running clients.
pub(crate) struct Load {
    stop: CancellationToken,
    clients: JoinSet<Tally>,
}

/// Results of the reads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Ids of the issued accounts.
    pub(crate) accounts: Vec<String>,
    /// Number of refusals by status and message.
    pub(crate) refusals: BTreeMap<String, usize>,
    /// Reads whose connection broke.
    pub(crate) unanswered: usize,
}

impl Load {
    /// Starts clients that read `path`. Each client starts at one of the nodes and moves to the next node after a
    /// failure.
    pub(crate) fn start(nodes: &[&Api], path: &str, clients: usize) -> Self {
        let stop = CancellationToken::new();
        let mut load = Self { stop: stop.clone(), clients: JoinSet::new() };
        for number in 0..clients {
            let nodes: Vec<_> = nodes.iter().map(|api| (*api).clone()).collect();
            load.clients.spawn(read_until(stop.clone(), nodes, path.to_owned(), number));
        }
        load
    }

    /// Stops the clients and sums up their results.
    pub(crate) async fn end(mut self) -> Tally {
        self.stop.cancel();
        let mut all = Tally::default();
        while let Some(tally) = self.clients.join_next().await {
            all.add(tally.expect("a client does not panic"));
        }
        all
    }
}

async fn read_until(stop: CancellationToken, nodes: Vec<Api>, path: String, first: usize) -> Tally {
    let (mut tally, mut node) = (Tally::default(), first);
    while !stop.is_cancelled() {
        match nodes[node % nodes.len()].try_send("GET", &path, None).await {
            Ok(answer) if answer.status == 200 => tally.accounts.push(answer.text("service_account_id")),
            Ok(answer) => {
                tally.refused(format!("{}: {}", answer.status, answer.body["errors"]));
                node += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {
                tally.unanswered += 1;
                node += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    tally
}

impl Tally {
    pub(crate) fn refused_reads(&self) -> usize {
        self.refusals.values().sum()
    }

    fn refused(&mut self, words: String) {
        *self.refusals.entry(words).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        self.accounts.extend(other.accounts);
        self.unanswered += other.unanswered;
        for (words, count) in other.refusals {
            *self.refusals.entry(words).or_default() += count;
        }
    }
}
