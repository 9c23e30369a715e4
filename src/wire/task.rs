//! Isolates the work of a call: from its panic, and from a caller that goes away.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The work panicked. The message is left to the panic hook, because the message can quote data of the request.
#[derive(Debug)]
pub(super) struct Panicked;

/// Runs `work` in its own task to the end, even if the caller goes away. The token given to `work` is cancelled when
/// the server drops the call: on its time limit, or when its client hangs up (PROTOCOL 8.1).
pub(super) async fn detached<F>(work: impl FnOnce(CancellationToken) -> F) -> Result<F::Output, Status>
where
    F: Future<Output: Send> + Send + 'static,
{
    let cancelled = CancellationToken::new();
    let caller = cancelled.clone().drop_guard();
    let outcome = tokio::spawn(work(cancelled)).await;
    caller.disarm();
    outcome.map_err(|_| Status::internal("the plugin is shutting down"))
}

/// Converts a panic of `work` into a value. State that is shared with other calls is behind locks, which a panic releases.
pub(super) fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, Panicked>> {
    AssertUnwindSafe(work).catch_unwind().map(|outcome| outcome.map_err(|_| Panicked))
}

#[cfg(test)]
mod tests {
    use std::future;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_ended_is_not_told_that_its_caller_is_gone() {
        let token = detached(|cancelled| async { cancelled }).await.unwrap();
        assert!(!token.is_cancelled());
    }

    #[tokio::test]
    async fn work_goes_on_when_its_caller_is_gone_and_knows_it() {
        let (done, finished) = oneshot::channel();
        let work = detached(|cancelled| async move {
            cancelled.cancelled().await;
            done.send(()).unwrap();
        });
        tokio::select! {
            biased;
            _ = work => panic!("the work waits until its caller is gone"),
            () = future::ready(()) => {}
        }
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_a_value() {
        assert!(caught(async { panic!("on purpose") }).await.is_err());
        assert!(matches!(caught(async { 5 }).await, Ok(5)));
    }
}
