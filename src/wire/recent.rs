//! An answer of the server that stays good for a moment, so that a burst of requests asks once.

use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};

/// How long an answer is good. A change of tuning or replication is seen this much later; what must not go wrong in
/// between is held by the server itself, which caps leases and refuses writes where it may not write.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The last answer, while it is good.
#[derive(Debug, Default)]
pub(super) struct Recent<T> {
    last: Mutex<Option<(Instant, T)>>,
}

impl<T: Copy> Recent<T> {
    /// The last answer if it is still good, else what `ask` answers.
    pub(super) async fn or_ask<E>(&self, ask: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        if let Some(answer) = self.good() {
            return Ok(answer);
        }
        let asked = Instant::now();
        let answer = ask.await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, answer));
        Ok(answer)
    }

    fn good(&self) -> Option<T> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(asked, _)| asked.elapsed() < GOOD_FOR).map(|(_, answer)| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_asked_for_again_when_it_is_a_second_old() {
        let recent = Recent::default();
        let ask = |answer: u8| recent.or_ask(async move { Ok::<_, ()>(answer) });
        assert_eq!((ask(1).await, ask(2).await), (Ok(1), Ok(1)));
        tokio::time::advance(GOOD_FOR).await;
        assert_eq!(ask(3).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_not_kept() {
        let recent = Recent::default();
        assert_eq!(recent.or_ask(async { Err::<u8, _>("no") }).await, Err("no"));
        assert_eq!(recent.or_ask(async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}
