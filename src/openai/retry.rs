//! Repeats calls within their maximum wait. A call is repeated only if OpenAI did not execute it, or if a second
//! execution does no harm.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::call::Effect;
use super::limiter::{Deadlines, Limiter, TooLate};
use super::pace::Verdict;
use super::{Call, Error, Urgency};

/// Delay before a repeat. The delay doubles with each repeat; jitter shortens it by up to a half.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);

/// Call, purpose and maximum wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub(super) call: Call,
    pub(super) urgency: Urgency,
    pub(super) max_wait: Duration,
}

/// Wait time and number of repeats before an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptInfo {
    pub(super) wait: Duration,
    pub(super) retries: u32,
}

/// Runs `attempt` each time the limiter admits it, until the result is final or the maximum wait ends.
pub(super) async fn with_retries<T, F: Future<Output = Result<T, Error>>>(
    limiter: &Limiter,
    options: CallOptions,
    attempt: impl Fn(AttemptInfo) -> F,
) -> Result<T, Error> {
    let begun = Instant::now();
    let deadlines = Deadlines {
        usual: begun + options.max_wait,
        in_outage: begun + options.urgency.max_wait_in_outage(options.max_wait),
    };
    let waiter = limiter.waiter(options.call.kind(), options.urgency, deadlines);
    let mut failure = None;
    let mut retries = 0;
    loop {
        let waiting = Instant::now();
        let permit = match waiter.acquire().await {
            Ok(permit) => permit,
            Err(late) => return Err(failure.unwrap_or_else(|| refused(late))),
        };
        let result = attempt(AttemptInfo { wait: waiting.elapsed(), retries }).await;
        permit.settle(verdict(&result));
        let error = match result {
            Err(error) if may_repeat(options.call, &error) => error,
            result => return result,
        };
        // A rate limit is waited out in the queue. Other failures have a delay.
        if error.status() != Some(429) {
            let wait = backoff(retries, rand::random());
            let is_new = matches!(&error, Error::Refused(refusal) if refusal.key_is_new);
            if Instant::now() + wait > if is_new { deadlines.usual } else { deadlines.in_outage } {
                return Err(error);
            }
            failure = Some(error);
            sleep(wait).await;
        }
        retries += 1;
    }
}

/// True if a repeat does no harm and may succeed.
fn may_repeat(call: Call, error: &Error) -> bool {
    match error {
        Error::NotFoundYet(_)
        | Error::Throttled { .. }
        | Error::Unavailable { .. }
        | Error::Untrusted { .. }
        | Error::Malformed { .. } => false,
        // OpenAI did not execute the call.
        Error::Unreachable { .. } => true,
        Error::Refused(refusal) if refusal.key_is_new => true,
        // OpenAI says that a repeat cannot succeed.
        Error::Refused(refusal) if refusal.should_retry == Some(false) => false,
        Error::Refused(refusal) if refusal.status == 429 => true,
        // A wrong endpoint answers 404 for every call, so a read fails at once. Deletions are repeated.
        Error::Refused(refusal) if refusal.status == 404 => {
            error.is_transient() && call.effect() == Effect::Idempotent
        }
        Error::Refused(_) | Error::TimedOut { .. } | Error::Cut { .. } => {
            let may_succeed =
                error.is_transient() || error.status() == Some(409) || error.should_retry() == Some(true);
            may_succeed && call.effect() != Effect::Creation
        }
    }
}

/// Error of a call that the limiter did not admit in time.
fn refused(late: TooLate) -> Error {
    let TooLate { wait: retry_after, outage } = late;
    if outage { Error::Unavailable { retry_after } } else { Error::Throttled { retry_after } }
}

fn verdict<T>(result: &Result<T, Error>) -> Verdict {
    let Err(error) = result else { return Verdict::Allowed };
    match error.status() {
        Some(429) => Verdict::Limited(error.retry_after()),
        // With `Retry-After`, these statuses are rate limits.
        Some(503 | 529) if error.retry_after().is_some() => Verdict::Limited(error.retry_after()),
        _ if error.is_transient() || matches!(error, Error::Untrusted { .. }) => Verdict::Failed,
        _ => Verdict::Allowed,
    }
}

fn backoff(retries: u32, jitter: f64) -> Duration {
    (FIRST * 2_u32.pow(retries.min(10))).min(LONGEST).mul_f64(1.0 - jitter / 2.0)
}
