//! Bounded waiting for another process: polls a condition and fails with a sentence.

use std::time::{Duration, Instant};

/// Longer than any step on a busy machine with two cores. Only a failing test waits this long.
const MAX_WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The first answer of `probe`. `what` completes the sentence "never happened: ...".
pub(crate) async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = within(MAX_WAIT, probe).await;
    answer.unwrap_or_else(|| panic!("never happened in {} s: {what}", MAX_WAIT.as_secs()))
}

/// The first answer of `probe` within this time, if any.
pub(crate) async fn within<T>(time: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let answer = probe().await;
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
