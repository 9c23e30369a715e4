//! Runs one call's work so that neither its panic nor its caller's going away reaches anything else.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The work panicked. What it said is left to the panic hook: it may quote what it worked on.
#[derive(Debug)]
pub(super) struct Panicked;

/// Runs `work` in a task of its own, to its end even when the caller goes away. `work` is given a token that is
/// cancelled when that happens: the server drops the call on its own time limit or when its client hangs up
/// (PROTOCOL 8.1).
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

/// Turns a panic of `work` into a value. What it shares with other calls is behind locks, which tell of a panic
/// themselves.
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
            _ = work => panic!("the work waits for its caller to go"),
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
