//! Rules for calls (limits, faults, latency) and the log of their outcomes.
//!
//! This file decides and counts. `exchange` waits and answers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::fault::{Action, Fault, When};
use super::limit::{Limit, Window};
use super::reply::{Outcome, Reply};

/// Maximum number of calls in the log.
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
    /// End time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Method.
    pub method: String,
    /// Path below `/v1`.
    pub path: String,
    /// Status; 0 for a closed connection.
    pub status: u16,
}

/// Plan for one call.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Wait before the work.
    pub wait_before: Duration,
    /// Wait after the work.
    pub wait_after: Duration,
    /// Failure, before or after the work.
    pub fault: Option<(When, Action)>,
}

impl Traffic {
    /// Only this latency, without other rules.
    pub fn new(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }

    /// Applies the rules to a call: a refusal by a limit, or the plan for the call.
    pub fn arrive(&mut self, call: &Call, now: Duration) -> Result<Plan, Reply> {
        for window in &mut self.limits {
            if let Err(wait) = window.take(call, now) {
                return Err(window.limit().retry.reply(wait, now));
            }
        }
        Ok(self.plan(call))
    }

    /// Records the outcome of a call.
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

    /// Adds a fault. The number identifies the fault for [`Traffic::remove_fault`].
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        self.last_fault += 1;
        self.faults.push((self.last_fault, fault));
        self.last_fault
    }

    /// Removes one fault; false if the fault does not exist.
    pub fn remove_fault(&mut self, number: u64) -> bool {
        let before = self.faults.len();
        self.faults.retain(|(known, _)| *known != number);
        self.faults.len() < before
    }

    /// Number of faults.
    pub fn faults(&self) -> usize {
        self.faults.len()
    }

    /// Removes every fault.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Sets a limit. It replaces a limit for the same calls.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limits.retain(|window| !window.limit().same_calls(&limit));
        self.limits.push(Window::new(limit));
    }

    /// Removes every limit.
    pub fn clear_limits(&mut self) {
        self.limits.clear();
    }

    /// Sets the latency of every call.
    pub fn set_latency(&mut self, latency: Duration) {
        self.latency = latency;
    }

    /// Calls by endpoint and status.
    pub fn calls(&self) -> &BTreeMap<&'static str, BTreeMap<u16, u64>> {
        &self.calls
    }

    /// The latest calls, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.log.iter().cloned().collect()
    }

    /// Empties the log.
    pub fn forget_log(&mut self) {
        self.log = VecDeque::new();
    }
}
