//! Logs rejected connections with a limited rate.

use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The shortest time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The rejected connections.
#[derive(Debug, Default)]
pub(super) struct RejectionLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unlogged: u64,
}

impl RejectionLog {
    /// Logs or counts one rejected connection. Data from the peer is never logged.
    pub(super) fn record(&self, reason: &impl Display) {
        if let Some(unlogged) = self.unlogged_if_due() {
            tracing::warn!(%reason, unlogged, "rejected a connection that is not the host's");
        }
    }

    /// The number of rejections since the last line, or `None` if the next line is not due yet.
    fn unlogged_if_due(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            state.unlogged += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_rejections_is_one_line_and_the_next_line_counts_them() {
        let rejections = RejectionLog::default();
        let counts: Vec<_> = (0..100_000).filter_map(|_| rejections.unlogged_if_due()).collect();
        assert_eq!(counts, [0]);
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(rejections.unlogged_if_due(), Some(99_999));
        assert_eq!(rejections.unlogged_if_due(), None);
    }
}
