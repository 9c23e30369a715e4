//! What operators see of one mount as Prometheus metrics.
//!
//! Counters are kept here and start at zero with the process; levels ([`Level`]) are computed by the caller from
//! storage before each reading, so that they are right at once after a failover. No label grows without bound, and
//! recording to what is known already allocates nothing. It knows nothing of HTTP, storage or OpenAI's client.

mod family;
mod labels;
mod merge;
mod registry;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use family::Family;
pub use labels::{CheckOutResult, Level, RotationKind, RotationResult};
pub use merge::merge;
use registry::{Metric, Registry};

/// At most so many roles, and as many sets and projects, have numbers of their own.
pub const MAX_LABELS: usize = 1000;

/// There are fewer calls and codes than this; more would be a fault of ours.
const MAX_ENDPOINTS: usize = 64;

// The first four names are promised as they are; the counters that came later end in `_total`, as Prometheus wants it.
const ISSUED: Metric = Metric { name: "openai_creds_issued", help: "Dynamic credentials issued." };
const REVOKED: Metric = Metric { name: "openai_creds_revoked", help: "Dynamic credentials revoked." };
const ERRORS: Metric = Metric {
    name: "openai_api_error",
    help: "Calls to OpenAI that failed, by HTTP status or kind of failure.",
};
const QUOTA: Metric = Metric {
    name: "openai_quota_used",
    help: "US cents that OpenAI charged the project since the day on which tracking began.",
};
const LATENCY: Metric =
    Metric { name: "openai_api_request_seconds", help: "How long OpenAI took to answer a call." };
const WAIT: Metric = Metric {
    name: "openai_api_wait_seconds",
    help: "How long a call waited for its turn before it was sent.",
};
const RETRIES: Metric =
    Metric { name: "openai_api_retries_total", help: "Calls to OpenAI that repeated an earlier one." };
const THROTTLED: Metric = Metric {
    name: "openai_api_throttled_total",
    help: "Calls refused unsent because their turn would have come too late.",
};
const ROTATIONS: Metric = Metric { name: "openai_rotations_total", help: "Rotations of keys." };
const CHECK_OUTS: Metric = Metric { name: "openai_check_outs_total", help: "Check-outs from library sets." };
const ACCOUNTS: Metric = Metric { name: "openai_library_accounts", help: "Accounts of library sets." };
const BUILD: Metric = Metric { name: "openai_build_info", help: "Version and commit of this plugin." };

/// One mount's metrics.
pub struct Metrics {
    registry: Registry,
    roles: Family<Role>,
    projects: Family<Counter>,
    endpoints: Family<Endpoint>,
    waits: Family<Histogram>,
    sets: Family<Set>,
    rotations: [[Counter; RotationResult::ALL.len()]; RotationKind::ALL.len()],
    levels: [Gauge; Level::ALL.len()],
}

/// One attempt at a call to OpenAI that is over.
#[derive(Clone, Copy, Debug)]
pub struct ApiAttempt<'a> {
    /// Which call, in a word of a closed set.
    pub endpoint: &'static str,
    /// For what kind of work, in a word of a closed set.
    pub urgency: &'static str,
    /// The HTTP status or kind of failure, if it failed.
    pub failure: Option<&'a str>,
    /// From sending to the end of the answer.
    pub latency: Duration,
    /// How long it waited for its turn.
    pub wait: Duration,
    /// Whether it repeated an earlier attempt.
    pub is_retry: bool,
}

#[derive(Clone)]
struct Role {
    issued: Counter,
    revoked: Counter,
}

#[derive(Clone)]
struct Endpoint {
    latency: Histogram,
    retries: Counter,
    throttled: Counter,
    errors: Arc<Family<Counter>>,
}

#[derive(Clone)]
struct Set {
    check_outs: [Counter; CheckOutResult::ALL.len()],
    free: Gauge,
    out: Gauge,
    missing: Gauge,
}

impl Metrics {
    /// The metrics of a new mount of this version of the plugin.
    pub fn new(version: &str, commit: &str) -> Self {
        let registry = Registry::new();
        registry.gauge(BUILD, &[("version", version), ("commit", commit)]).set(1.0);
        Self {
            roles: Family::of_at_most(MAX_LABELS),
            projects: Family::of_at_most(MAX_LABELS),
            sets: Family::of_at_most(MAX_LABELS),
            endpoints: Family::of_at_most(MAX_ENDPOINTS),
            waits: Family::of_at_most(MAX_ENDPOINTS),
            rotations: rotations(&registry),
            levels: Level::ALL
                .map(|level| registry.gauge(Metric { name: level.name(), help: level.help() }, &[])),
            registry,
        }
    }

    /// A role's credential was issued.
    pub fn credential_issued(&self, role: &str) {
        self.role(role).issued.increment(1);
    }

    /// A role's credential was revoked.
    pub fn credential_revoked(&self, role: &str) {
        self.role(role).revoked.increment(1);
    }

    /// A project has used so much in all; less than was told before changes nothing.
    pub fn quota_used(&self, project: &str, total: u64) {
        let register = |project: &str| self.registry.counter(QUOTA, &[("project", project)]);
        self.projects.member(project, register).absolute(total);
    }

    /// An attempt at a call to OpenAI is over.
    pub fn api_attempt(&self, attempt: &ApiAttempt<'_>) {
        let ApiAttempt { endpoint, urgency, failure, latency, wait, is_retry } = *attempt;
        let handles = self.endpoint(endpoint);
        self.registry.record(&handles.latency, latency);
        handles.retries.increment(is_retry.into());
        if let Some(code) = failure {
            let register =
                |code: &str| self.registry.counter(ERRORS, &[("endpoint", endpoint), ("code", code)]);
            handles.errors.member(code, register).increment(1);
        }
        let register = |urgency: &str| self.registry.histogram(WAIT, &[("urgency", urgency)]);
        self.registry.record(&self.waits.member(urgency, register), wait);
    }

    /// A call to OpenAI was refused unsent.
    pub fn api_throttled(&self, endpoint: &'static str) {
        self.endpoint(endpoint).throttled.increment(1);
    }

    /// A rotation ended.
    pub fn rotated(&self, kind: RotationKind, result: RotationResult) {
        self.rotations[kind as usize][result as usize].increment(1);
    }

    /// A check-out ended.
    pub fn checked_out(&self, set: &str, result: CheckOutResult) {
        self.set(set).check_outs[result as usize].increment(1);
    }

    /// So many accounts of a set are free, so many are lent, and so many are missing at OpenAI.
    pub fn library_accounts(&self, set: &str, free: u32, out: u32, missing: u32) {
        let handles = self.set(set);
        handles.free.set(free);
        handles.out.set(out);
        handles.missing.set(missing);
    }

    /// A number is now this.
    pub fn level(&self, level: Level, value: f64) {
        self.levels[level as usize].set(value);
    }

    /// Bounds what histograms keep. To be called now and then (by the tick), as nobody may ever read the metrics.
    pub fn upkeep(&self) {
        self.registry.upkeep();
    }

    /// All metrics as Prometheus text. It is never empty and full of spaces and `#`, so Vault does not take it for
    /// base64 (PROTOCOL 8.6).
    pub fn render(&self) -> String {
        self.registry.render()
    }

    fn role(&self, role: &str) -> Role {
        self.roles.member(role, |role| Role {
            issued: self.registry.counter(ISSUED, &[("role", role)]),
            revoked: self.registry.counter(REVOKED, &[("role", role)]),
        })
    }

    fn endpoint(&self, endpoint: &'static str) -> Endpoint {
        self.endpoints.member(endpoint, |endpoint| Endpoint {
            latency: self.registry.histogram(LATENCY, &[("endpoint", endpoint)]),
            retries: self.registry.counter(RETRIES, &[("endpoint", endpoint)]),
            throttled: self.registry.counter(THROTTLED, &[("endpoint", endpoint)]),
            errors: Arc::new(Family::of_at_most(MAX_ENDPOINTS)),
        })
    }

    fn set(&self, set: &str) -> Set {
        self.sets.member(set, |set| Set {
            check_outs: CheckOutResult::ALL.map(|result| {
                self.registry.counter(CHECK_OUTS, &[("set", set), ("result", result.as_str())])
            }),
            free: self.registry.gauge(ACCOUNTS, &[("set", set), ("state", "free")]),
            out: self.registry.gauge(ACCOUNTS, &[("set", set), ("state", "out")]),
            missing: self.registry.gauge(ACCOUNTS, &[("set", set), ("state", "missing")]),
        })
    }
}

fn rotations(registry: &Registry) -> [[Counter; RotationResult::ALL.len()]; RotationKind::ALL.len()] {
    RotationKind::ALL.map(|kind| {
        RotationResult::ALL.map(|result| {
            registry.counter(ROTATIONS, &[("kind", kind.as_str()), ("result", result.as_str())])
        })
    })
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
