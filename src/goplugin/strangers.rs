//! Tells the log of connections that are not the host's, in few lines however many there are.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// The connections that were turned away.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Strangers {
    /// One more was turned away. Nothing of what it sent is logged.
    pub(super) fn turned_away(&self, reason: &impl Display) {
        if let Some(others) = self.others_to_tell() {
            tracing::warn!(%reason, others, "turned away a connection that is not the host's");
        }
    }

    /// How many came since the last line, if it is time for one.
    fn others_to_tell(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| last.elapsed() < PAUSE) {
            told.untold += 1;
            return None;
        }
        told.last = Some(Instant::now());
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_strangers_is_one_line_and_the_next_line_counts_them() {
        let strangers = Strangers::default();
        let told: Vec<_> = (0..100_000).filter_map(|_| strangers.others_to_tell()).collect();
        assert_eq!(told, [0]);
        tokio::time::advance(PAUSE).await;
        assert_eq!(strangers.others_to_tell(), Some(99_999));
        assert_eq!(strangers.others_to_tell(), None);
    }
}
