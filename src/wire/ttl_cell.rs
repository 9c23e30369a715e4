//! A cell for an answer of the server that stays valid for a short time. A burst of requests asks the server once.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// The lifetime of an answer. A change of tuning or replication is seen with this delay. The delay is safe: the server
/// itself caps leases and refuses writes on read-only nodes.
const TTL: Duration = Duration::from_secs(1);

/// The last answer, while it is valid.
#[derive(Debug, Default)]
pub(super) struct TtlCell<T> {
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Copy> TtlCell<T> {
    /// The last answer if it is still valid, and otherwise the result of `fetch`.
    pub(super) async fn get_or_fetch<E>(&self, fetch: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if let Some(answer) = self.fresh() {
            return Ok(answer);
        }
        let fetched_at = Instant::now();
        let answer = fetch.await?;
        *self.last.lock() = Some((fetched_at, answer));
        Ok(answer)
    }

    fn fresh(&self) -> Option<T> {
        let last = self.last.lock();
        last.filter(|(fetched_at, _)| fetched_at.elapsed() < TTL).map(|(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_asked_for_again_when_it_is_a_second_old() {
        let cell = TtlCell::default();
        let fetch = |answer: u8| cell.get_or_fetch(async move { Ok::<_, ()>(answer) });
        assert_eq!((fetch(1).await, fetch(2).await), (Ok(1), Ok(1)));
        tokio::time::advance(TTL).await;
        assert_eq!(fetch(3).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_kept() {
        let cell = TtlCell::default();
        assert_eq!(cell.get_or_fetch(async { Err::<u8, _>("no") }).await, Err("no"));
        assert_eq!(cell.get_or_fetch(async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}
