//! The Prometheus metrics of one mount.
//!
//! Counters start at zero with the process. The caller computes the gauges in `levels` from storage before each reading,
//! so they are correct immediately after a failover. The number of label values is bounded.

mod family;
mod labels;
pub(in crate::engine) mod levels;
mod merge;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;

use family::Family;
pub use labels::{CheckOutResult, ExchangeResult, RotationKind, RotationResult};
pub use merge::merge;
use metrics::{Counter, Gauge, Histogram};
pub use registry::Metric;
use registry::Registry;

use crate::openai::{Attempt, Urgency};

/// Prometheus' text format.
pub(in crate::engine) const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// Maximum number of roles, of sets and of projects with their own series.
pub const MAX_LABELS: usize = 1000;

/// Maximum number of endpoints and of codes with their own series. The program uses fewer.
const MAX_ENDPOINTS: usize = 64;

// The first four names are promised to users. The other counters end in `_total`, by Prometheus' convention.
const ISSUED: Metric = Metric { name: "openai_creds_issued", help: "Dynamic credentials issued." };
const REVOKED: Metric = Metric { name: "openai_creds_revoked", help: "Dynamic credentials revoked." };
const ERRORS: Metric =
    Metric { name: "openai_api_error", help: "Failed calls to OpenAI, by HTTP status or kind of failure." };
const QUOTA: Metric = Metric {
    name: "openai_quota_used",
    help: "US cents that OpenAI has charged the project since the first tracked day.",
};
const OWNER_COSTS: Metric = Metric {
    name: "openai_owner_costs_cents_total",
    help: "US cents that OpenAI has charged the accounts of a static role, a library set or a role.",
};
const LIVE: Metric = Metric {
    name: "openai_live_credentials",
    help: "Dynamic credentials whose end has not come. Absent until a new process has read the ledger.",
};
const LATENCY: Metric = Metric { name: "openai_api_request_seconds", help: "Duration of a call to OpenAI." };
const WAIT: Metric = Metric {
    name: "openai_api_wait_seconds",
    help: "Time that a call waited in the rate limiter before it was sent.",
};
const RETRIES: Metric = Metric { name: "openai_api_retries_total", help: "Retries of calls to OpenAI." };
const THROTTLED: Metric = Metric {
    name: "openai_api_throttled_total",
    help: "Calls refused unsent because the rate limiter would have sent them too late.",
};
const ROTATIONS: Metric = Metric { name: "openai_rotations_total", help: "Rotations of keys." };
const CHECK_OUTS: Metric = Metric { name: "openai_check_outs_total", help: "Check-outs from library sets." };
const EXCHANGES: Metric = Metric {
    name: "openai_token_exchanges_total",
    help: "Exchanges of a signed token for an access token, by role.",
};
const IDENTITY_TOKENS: Metric =
    Metric { name: "openai_identity_tokens_total", help: "Identity tokens signed for readers." };
const ACCOUNTS: Metric = Metric { name: "openai_library_accounts", help: "Accounts of library sets." };
const BUILD: Metric = Metric { name: "openai_build_info", help: "Version and commit of this plugin." };

/// The metrics of one mount.
pub struct Metrics {
    registry: Registry,
    roles: Family<Role>,
    live: Family<Gauge>,
    projects: Family<Counter>,
    owners: Family<Counter>,
    endpoints: Family<Endpoint>,
    waits: Family<Histogram>,
    sets: Family<Set>,
    federated_roles: Family<FederatedRole>,
    rotations: [[Counter; RotationResult::ALL.len()]; RotationKind::ALL.len()],
}

#[derive(Clone)]
struct Role {
    issued: Counter,
    revoked: Counter,
}

#[derive(Clone)]
struct FederatedRole {
    exchanges: [Counter; ExchangeResult::ALL.len()],
    identity_tokens: Counter,
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
    /// The metrics of a new mount.
    pub fn new(version: &str, commit: &str) -> Self {
        let registry = Registry::new();
        registry.gauge(BUILD, &[("version", version), ("commit", commit)]).set(1.0);
        Self {
            roles: Family::of_at_most(MAX_LABELS),
            live: Family::of_at_most(MAX_LABELS),
            projects: Family::of_at_most(MAX_LABELS),
            owners: Family::of_at_most(MAX_LABELS),
            sets: Family::of_at_most(MAX_LABELS),
            federated_roles: Family::of_at_most(MAX_LABELS),
            endpoints: Family::of_at_most(MAX_ENDPOINTS),
            waits: Family::of_at_most(MAX_ENDPOINTS),
            rotations: rotations(&registry),
            registry,
        }
    }

    /// Counts an issued credential.
    pub fn credential_issued(&self, role: &str) {
        self.role(role).issued.increment(1);
    }

    /// Counts a revoked credential.
    pub fn credential_revoked(&self, role: &str) {
        self.role(role).revoked.increment(1);
    }

    /// Sets the numbers of live credentials of these roles. Roles without a series of their own share one.
    pub fn live_credentials(&self, numbers: &[(String, u64)]) {
        let member = |role: &str| self.live.member(role, |role| self.registry.gauge(LIVE, &[("role", role)]));
        let mut sums: BTreeMap<&str, (Gauge, u64)> = BTreeMap::new();
        for (role, number) in numbers {
            let gauge = member(role);
            sums.entry(self.live.label(role)).or_insert((gauge, 0)).1 += number;
        }
        for (gauge, sum) in sums.into_values() {
            gauge.set(u32::try_from(sum).unwrap_or(u32::MAX));
        }
    }

    /// Sets the total costs of a project. A smaller total than before changes nothing.
    pub fn quota_used(&self, project: &str, total: u64) {
        let register = |project: &str| self.registry.counter(QUOTA, &[("project", project)]);
        self.projects.member(project, register).absolute(total);
    }

    /// Sets the total costs of an owner of accounts. A smaller total than before changes nothing.
    pub fn owner_costs(&self, owner: &str, total: u64) {
        let register = |owner: &str| self.registry.counter(OWNER_COSTS, &[("owner", owner)]);
        self.owners.member(owner, register).absolute(total);
    }

    /// Records an attempt of a call to OpenAI.
    pub fn api_attempt(&self, attempt: &Attempt) {
        let endpoint = attempt.call.as_str();
        let handles = self.endpoint(endpoint);
        self.registry.record(&handles.latency, attempt.latency);
        handles.retries.increment((attempt.retries > 0).into());
        if !attempt.outcome.is_success() {
            let register =
                |code: &str| self.registry.counter(ERRORS, &[("endpoint", endpoint), ("code", code)]);
            handles.errors.member(&attempt.outcome.label(), register).increment(1);
        }
        let register = |urgency: &str| self.registry.histogram(WAIT, &[("urgency", urgency)]);
        self.registry.record(&self.waits.member(label(attempt.urgency), register), attempt.wait);
    }

    /// Counts a call to OpenAI that was refused unsent.
    pub fn api_throttled(&self, endpoint: &'static str) {
        self.endpoint(endpoint).throttled.increment(1);
    }

    /// Counts a rotation.
    pub fn rotated(&self, kind: RotationKind, result: RotationResult) {
        self.rotations[kind as usize][result as usize].increment(1);
    }

    /// Counts a check-out.
    pub fn checked_out(&self, set: &str, result: CheckOutResult) {
        self.set(set).check_outs[result as usize].increment(1);
    }

    /// Counts an exchange of a role's token.
    pub fn token_exchanged(&self, role: &str, result: ExchangeResult) {
        self.federated_role(role).exchanges[result as usize].increment(1);
    }

    /// Counts a signed token that a reader received.
    pub fn identity_token_signed(&self, role: &str) {
        self.federated_role(role).identity_tokens.increment(1);
    }

    /// Sets the numbers of a set's accounts that are free, checked out, and missing at OpenAI.
    pub fn library_accounts(&self, set: &str, free: u32, out: u32, missing: u32) {
        let handles = self.set(set);
        handles.free.set(free);
        handles.out.set(out);
        handles.missing.set(missing);
    }

    /// Sets one of the `levels`.
    pub fn level(&self, level: Metric, value: f64) {
        self.registry.gauge(level, &[]).set(value);
    }

    /// Bounds the memory of histograms. The tick calls this, because nobody may ever read the metrics.
    pub fn upkeep(&self) {
        self.registry.upkeep();
    }

    /// All metrics as Prometheus text. The text always contains spaces and `#`, so Vault does not decode it as base64
    /// (PROTOCOL 8.6).
    pub fn render(&self) -> String {
        self.registry.render()
    }

    fn role(&self, role: &str) -> Role {
        self.roles.member(role, |role| Role {
            issued: self.registry.counter(ISSUED, &[("role", role)]),
            revoked: self.registry.counter(REVOKED, &[("role", role)]),
        })
    }

    fn federated_role(&self, role: &str) -> FederatedRole {
        self.federated_roles.member(role, |role| FederatedRole {
            exchanges: ExchangeResult::ALL.map(|result| {
                self.registry.counter(EXCHANGES, &[("role", role), ("result", result.as_str())])
            }),
            identity_tokens: self.registry.counter(IDENTITY_TOKENS, &[("role", role)]),
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

/// The label's value.
fn label(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Revocation => "revocation",
        Urgency::Rotation => "rotation",
        Urgency::Issue => "issue",
        Urgency::Check => "check",
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
