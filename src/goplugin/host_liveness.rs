//! Detects a host that is gone by the number of its authenticated connections. A killed host sends no Shutdown, and the
//! plugin would outlive it (PROTOCOL 6.5).

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The longest wait for the host's first connection. A go-plugin host waits as long for its plugin.
const FIRST_MAX_WAIT: Duration = Duration::from_secs(60);
/// The longest time without a connection. The host can reconnect within this time.
const RECONNECT_MAX_WAIT: Duration = Duration::from_secs(5);

/// The number of connections from the host. Clones share the count.
#[derive(Clone, Default)]
pub(super) struct HostLiveness(watch::Sender<usize>);

/// Counts one connection of the host until it is dropped.
pub(super) struct ConnectionGuard(HostLiveness);

impl HostLiveness {
    /// Adds a connection to the count.
    pub(super) fn track_connection(&self) -> ConnectionGuard {
        self.0.send_modify(|connections| *connections += 1);
        ConnectionGuard(self.clone())
    }

    /// Returns when the host is gone: it made no first connection, or did not reconnect in time.
    pub(super) async fn host_gone(&self) {
        let mut connections = self.0.subscribe();
        let mut max_wait = FIRST_MAX_WAIT;
        // `self` holds the sender, so `wait_for` fails only by the timeout.
        while timeout(max_wait, connections.wait_for(|connections| *connections > 0)).await.is_ok() {
            let _ = connections.wait_for(|connections| *connections == 0).await;
            max_wait = RECONNECT_MAX_WAIT;
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|connections| *connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_that_never_comes_is_awaited_for_a_minute() {
        let start = Instant::now();
        HostLiveness::default().host_gone().await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_left_may_come_back_for_a_few_seconds() {
        let liveness = HostLiveness::default();
        let start = Instant::now();
        let visits = async {
            let first = liveness.track_connection();
            sleep(Duration::from_secs(100)).await;
            drop(first);
            sleep(Duration::from_secs(4)).await;
            let second = liveness.track_connection();
            sleep(Duration::from_secs(100)).await;
            drop(second);
        };
        tokio::join!(visits, liveness.host_gone());
        assert_eq!(start.elapsed().as_secs(), 100 + 4 + 100 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_with_one_connection_left_is_there() {
        let liveness = HostLiveness::default();
        let (_stays, leaves) = (liveness.track_connection(), liveness.track_connection());
        drop(leaves);
        assert!(timeout(Duration::from_secs(3600), liveness.host_gone()).await.is_err());
    }
}
