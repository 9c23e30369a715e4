//! An OpenAI in simulated time: its rate limits, and the calls that arrived.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::super::call::Kind;
use super::super::limiter::Limiter;
use super::super::retry::{CallOptions, with_retries};
use super::super::retry_after::in_message;
use super::super::{Call, Error, Refusal, Urgency};

/// Rate limit of the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    None,
    /// A token bucket.
    Bucket {
        per_second: f64,
        burst: f64,
    },
    /// A fixed window.
    Window {
        calls: usize,
        span: Duration,
    },
    /// Random refusals, in percent of the calls.
    Random {
        percent: u32,
    },
    /// A sliding window that counts refused calls too, so a client that keeps calling is never admitted.
    Strict {
        calls: usize,
        span: Duration,
    },
    /// A sliding window of the calls that were allowed.
    Sliding {
        calls: usize,
        span: Duration,
    },
}

pub(super) struct Simulation {
    pub(super) limiter: Limiter,
    state: Mutex<State>,
    latency: Duration,
    sends_retry_after: bool,
}

struct State {
    /// Limit of all calls together.
    limit: Limit,
    /// Limits of single kinds.
    kinds: HashMap<Kind, Limit>,
    rng: StdRng,
    failing: bool,
    tokens: f64,
    refilled: Instant,
    seen: Vec<Seen>,
}

/// One call that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) kind: Kind,
    pub(super) status: u16,
}

/// Results of the clients.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) served: usize,
    pub(super) refused: usize,
}

impl Simulation {
    pub(super) fn new(limit: Limit, latency: Duration) -> Self {
        let now = Instant::now();
        let tokens = if let Limit::Bucket { burst, .. } = limit { burst } else { 0.0 };
        let rng = StdRng::seed_from_u64(0);
        let state = State {
            limit,
            kinds: HashMap::new(),
            rng,
            failing: false,
            tokens,
            refilled: now,
            seen: Vec::new(),
        };
        Self {
            limiter: Limiter::with_jitter(0, || 0.5),
            state: Mutex::new(state),
            latency,
            sends_retry_after: false,
        }
    }

    pub(super) fn capped(per_minute: u32) -> Self {
        Self {
            limiter: Limiter::with_jitter(per_minute, || 0.5),
            ..Self::new(Limit::None, Duration::from_millis(5))
        }
    }

    /// Tells the wait time in the message of each 429.
    pub(super) fn with_retry_after(self) -> Self {
        Self { sends_retry_after: true, ..self }
    }

    /// The same with another random seed.
    pub(super) fn seeded(self, seed: u64) -> Self {
        self.state.lock().unwrap().rng = StdRng::seed_from_u64(seed);
        self
    }

    pub(super) fn set_limit(&self, limit: Limit) {
        self.state.lock().unwrap().limit = limit;
    }

    /// Limits this kind by itself.
    pub(super) fn limit_kind(&self, kind: Kind, limit: Limit) {
        self.state.lock().unwrap().kinds.insert(kind, limit);
    }

    pub(super) fn fail(&self, failing: bool) {
        self.state.lock().unwrap().failing = failing;
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Number of calls since this time whose status matches.
    pub(super) fn count(&self, since: Instant, status: impl Fn(u16) -> bool) -> usize {
        self.seen().iter().filter(|seen| seen.at >= since && status(seen.status)).count()
    }

    /// Number of calls of this kind, and how many of them a limit refused.
    pub(super) fn of_kind(&self, kind: Kind) -> (usize, usize) {
        let seen = self.seen();
        let of_kind: Vec<_> = seen.iter().filter(|seen| seen.kind == kind).collect();
        (of_kind.len(), of_kind.iter().filter(|seen| seen.status == 429).count())
    }

    /// Makes one call through the limiter.
    pub(super) async fn call(&self, call: Call, urgency: Urgency, max_wait: Duration) -> Result<(), Error> {
        let options = CallOptions { call, urgency, max_wait };
        with_retries(&self.limiter, options, async |_| self.attempt(call).await).await
    }

    /// Runs this many clients, each with sequential calls, for this time.
    pub(super) async fn clients(
        &self,
        count: usize,
        urgency: Urgency,
        max_wait: Duration,
        time: Duration,
    ) -> Tally {
        let end = Instant::now() + time;
        let call = if urgency == Urgency::Check { Call::ListKeys } else { Call::CreateServiceAccount };
        let client = async || {
            let mut tally = Tally::default();
            while Instant::now() < end {
                match self.call(call, urgency, max_wait).await {
                    Ok(()) => tally.served += usize::from(Instant::now() <= end),
                    Err(error) => {
                        assert!(!error.is_unknown_outcome(), "{error}");
                        tally.refused += 1;
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
            tally
        };
        let tallies = futures_util::future::join_all((0..count).map(|_| client())).await;
        tallies.iter().fold(Tally::default(), |all, one| Tally {
            served: all.served + one.served,
            refused: all.refused + one.refused,
        })
    }

    async fn attempt(&self, call: Call) -> Result<(), Error> {
        sleep(self.latency / 2).await;
        let (status, retry_after) = self.state.lock().unwrap().decide(call.kind());
        sleep(self.latency / 2).await;
        if status == 200 {
            return Ok(());
        }
        let message = (status != 500).then(|| match retry_after {
            Some(wait) if self.sends_retry_after => format!(
                "You've exceeded the rate limit, please slow down and try again after {:.3} seconds.",
                wait.as_secs_f64()
            ),
            _ => "You've exceeded the rate limit, please slow down and try again later.".to_owned(),
        });
        let retry_after = message.as_deref().and_then(in_message);
        let (code, param, request_id, hint) = (None, None, None, None);
        let is_from_openai = message.is_some();
        Err(Box::new(Refusal {
            call,
            status,
            is_from_openai,
            message,
            code,
            param,
            request_id,
            retry_after,
            hint,
            should_retry: None,
            key_is_new: false,
            date: None,
        })
        .into())
    }
}

impl State {
    fn decide(&mut self, kind: Kind) -> (u16, Option<Duration>) {
        let now = Instant::now();
        let wait = if self.failing { None } else { self.wait(kind, now) };
        let status = match wait {
            _ if self.failing => 500,
            Some(_) => 429,
            None => 200,
        };
        self.seen.push(Seen { at: now, kind, status });
        (status, wait)
    }

    /// Wait time of a refused call; `None` if the call is allowed.
    fn wait(&mut self, kind: Kind, now: Instant) -> Option<Duration> {
        if let Some(&limit) = self.kinds.get(&kind)
            && let Some(wait) = self.wait_for(limit, now, |seen| seen.kind == kind)
        {
            return Some(wait);
        }
        self.wait_for(self.limit, now, |_| true)
    }

    fn wait_for(&mut self, limit: Limit, now: Instant, counts: impl Fn(&Seen) -> bool) -> Option<Duration> {
        let counted = || self.seen.iter().rev().filter(|seen| counts(seen));
        match limit {
            Limit::None => None,
            Limit::Bucket { per_second, burst } => {
                let came = now.duration_since(self.refilled).as_secs_f64() * per_second;
                (self.tokens, self.refilled) = ((self.tokens + came).min(burst), now);
                if self.tokens < 1.0 {
                    return Some(Duration::from_secs_f64((1.0 - self.tokens) / per_second));
                }
                self.tokens -= 1.0;
                None
            }
            Limit::Window { calls, span } => {
                let into = Duration::from_nanos(
                    (now.duration_since(self.refilled).as_nanos() % span.as_nanos()) as u64,
                );
                let since = now - into;
                let allowed = counted().take_while(|seen| seen.at >= since).filter(|seen| seen.status == 200);
                (allowed.count() >= calls).then(|| span.saturating_sub(into))
            }
            Limit::Random { percent } => {
                (self.rng.random_range(0..100) < percent).then_some(Duration::from_secs(1))
            }
            Limit::Strict { calls, span } => {
                let recent = counted().take_while(|seen| now.duration_since(seen.at) < span).count();
                (recent >= calls).then_some(span)
            }
            Limit::Sliding { calls, span } => {
                let oldest = counted().filter(|seen| seen.status == 200).nth(calls.checked_sub(1)?)?;
                let passed = now.duration_since(oldest.at);
                (passed < span).then(|| span.saturating_sub(passed))
            }
        }
    }
}
