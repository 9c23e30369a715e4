//! Waiting for what another process will do: ask again until it is so, and fail with a sentence when it never
//! is.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine with two cores; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// The first answer of `probe`; `what` completes the sentence "never happened: ...".
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened in {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}
