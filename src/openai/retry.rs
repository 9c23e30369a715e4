//! Repeats a call that surely was not carried out, or may be carried out twice, as long as its caller has patience.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::call::Effect;
use super::limiter::{Deadlines, Limiter, TooLate};
use super::rate_limiter::Verdict;
use super::{Call, Error, Urgency};

/// The wait before a failed call is repeated, which doubles; each is shortened at random by up to a half.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(8);

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub(super) call: Call,
    pub(super) urgency: Urgency,
    pub(super) max_wait: Duration,
}

/// What went before an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptInfo {
    pub(super) wait: Duration,
    pub(super) retries: u32,
}

/// Sends with `attempt` in its turn, again where that is safe, until an answer stands or patience ends.
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
    let waiter = limiter.waiter(options.urgency, deadlines);
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
        // A limit is waited out in the queue; a failure also has a wait of its own.
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

/// Whether a second attempt can do no harm and may do better.
fn may_repeat(call: Call, error: &Error) -> bool {
    match error {
        Error::NotFoundYet(_)
        | Error::Throttled { .. }
        | Error::Unavailable { .. }
        | Error::Untrusted { .. }
        | Error::Malformed { .. } => false,
        // Not carried out.
        Error::Unreachable { .. } => true,
        Error::Refused(refusal) if refusal.status == 429 || refusal.key_is_new => true,
        // A wrong endpoint answers so for ever, which whoever looks something up is told at once. A deletion goes on.
        Error::Refused(refusal) if refusal.status == 404 => {
            error.is_transient() && call.effect() == Effect::Idempotent
        }
        Error::Refused(_) | Error::TimedOut { .. } | Error::Cut { .. } => {
            error.is_transient() && call.effect() != Effect::Creation
        }
    }
}

/// What a call is told that was not let out.
fn refused(late: TooLate) -> Error {
    let TooLate { wait: retry_after, outage } = late;
    if outage { Error::Unavailable { retry_after } } else { Error::Throttled { retry_after } }
}

fn verdict<T>(result: &Result<T, Error>) -> Verdict {
    let Err(error) = result else { return Verdict::Allowed };
    match error.status() {
        Some(429) => Verdict::Limited(error.retry_after()),
        // With a time to come back, it is the pace that OpenAI minds.
        Some(503 | 529) if error.retry_after().is_some() => Verdict::Limited(error.retry_after()),
        _ if error.is_transient() || matches!(error, Error::Untrusted { .. }) => Verdict::Failed,
        _ => Verdict::Allowed,
    }
}

fn backoff(retries: u32, jitter: f64) -> Duration {
    (FIRST * 2_u32.pow(retries.min(10))).min(LONGEST).mul_f64(1.0 - jitter / 2.0)
}
