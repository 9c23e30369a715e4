//! What happens to calls on their way: limits, faults, latency; and the record of how each ended.
//!
//! Decides and counts; sleeping and answering are the exchange's job.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::fault::{Action, Fault, When};
use super::limit::{Limit, Window};
use super::refusal::Refusal;
use super::reply::{Outcome, Reply};

/// How many calls the log keeps.
const LOG: usize = 10_000;

/// Rules and records.
#[derive(Debug, Default)]
pub struct Traffic {
    faults: Vec<(u64, Fault)>,
    limits: Vec<Window>,
    latency: Duration,
    calls: BTreeMap<&'static str, BTreeMap<u16, u64>>,
    log: VecDeque<Logged>,
    last_fault: u64,
}

/// One call that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its method.
    pub method: String,
    /// Its path below `/v1`.
    pub path: String,
    /// Its status; 0 for a connection that was closed instead.
    pub status: u16,
}

/// What will happen to one call.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// To wait before the work.
    pub wait_before: Duration,
    /// To wait after the work.
    pub wait_after: Duration,
    /// What goes wrong, and whether the work is done.
    pub fault: Option<(When, Action)>,
}

impl Traffic {
    /// No rules but this latency.
    pub fn new(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// Lets a call in: refused by a limit, or with what will happen to it.
    pub fn arrive(&mut self, call: &Call, now: Duration) -> Result<Plan, Reply> {
        for window in &mut self.limits {
            if let Err(wait) = window.take(call, now) {
                let reply = Reply::of(Err(Refusal::limited(wait)));
                let header = window.limit().retry.header(wait, now);
                return Err(header.map_or(reply.clone(), |(name, value)| reply.with(name, value)));
            }
        }
        Ok(self.plan(call))
    }

    /// Records how a call ended.
    pub fn leave(&mut self, endpoint: &'static str, call: &Call, outcome: &Outcome, now: Duration) {
        let status = match outcome {
            Outcome::Complete(reply) | Outcome::Cut(reply) => reply.status,
            Outcome::Dropped => 0,
        };
        *self.calls.entry(endpoint).or_default().entry(status).or_default() += 1;
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        let (method, path) = (call.method.clone(), call.path.clone());
        self.log.push_back(Logged { at_ms: now.as_millis() as u64, method, path, status });
    }

    fn plan(&mut self, call: &Call) -> Plan {
        let mut plan = Plan { wait_after: self.latency, ..Plan::default() };
        for (_, fault) in &mut self.faults {
            if !fault.applies_to(call) || !fault.hit() {
                continue;
            }
            match (&fault.action, fault.when) {
                (Action::Delay { ms }, When::Before) => plan.wait_before += Duration::from_millis(*ms),
                (Action::Delay { ms }, When::After) => plan.wait_after += Duration::from_millis(*ms),
                (action, when) => {
                    let when = if action.needs_the_answer() { When::After } else { when };
                    plan.fault = Some((when, action.clone()));
                    break;
                }
            }
        }
        self.faults.retain(|(_, fault)| !fault.is_exhausted());
        plan
    }

    /// Adds a fault; the number is for [`Traffic::remove_fault`].
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        self.last_fault += 1;
        self.faults.push((self.last_fault, fault));
        self.last_fault
    }

    /// Takes one fault away; false if it is not there (any more).
    pub fn remove_fault(&mut self, number: u64) -> bool {
        let before = self.faults.len();
        self.faults.retain(|(known, _)| *known != number);
        self.faults.len() < before
    }

    /// How many faults there are.
    pub fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Takes every fault away.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Sets a limit, in place of one about the same calls.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limits.retain(|window| !window.limit().same_calls(&limit));
        self.limits.push(Window::new(limit));
    }

    /// Takes every limit away.
    pub fn clear_limits(&mut self) {
        self.limits.clear();
    }

    /// How long every call takes.
    pub fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
    }

    /// Calls by endpoint and status.
    pub fn calls(&self) -> &BTreeMap<&'static str, BTreeMap<u16, u64>> {
        &self.calls
    }

    /// The last calls, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.log.iter().cloned().collect()
    }

    /// Empties the log.
    pub fn forget_log(&mut self) {
        self.log = VecDeque::new();
    }
}
