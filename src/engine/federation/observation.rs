//! The federation in `health` and the metrics: from storage, and from the exchanges of this process.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::record::{Federation, ONLY};
use super::rotation;
use crate::engine::Engine;

/// A failure is told after this time: one that lasts for a moment is tried again by itself.
const TOLERATED: Duration = Duration::from_secs(120);
/// A rotation that waits for longer is told.
const ROTATION: Duration = Duration::from_secs(600);

/// The state of the federation.
#[derive(Debug, Default)]
pub(in crate::engine) struct Observation {
    /// True if the mount is an issuer.
    pub(in crate::engine) is_configured: bool,
    /// Age of the signing key.
    pub(in crate::engine) key_age: Duration,
    /// Roles whose tokens OpenAI refuses.
    pub(in crate::engine) refused: usize,
    /// Problems, in words.
    pub(in crate::engine) reasons: Vec<String>,
}

/// Reads no storage: the list of what waits, which the caller reads first, has the federation's record brought into
/// memory.
pub(in crate::engine) fn observe(engine: &Engine, now: DateTime<Utc>) -> Observation {
    let Some(federation) = engine.federation.stored.peek(ONLY) else {
        return Observation::default();
    };
    let refused = engine.federation.exchanges.refused();
    let mut reasons: Vec<String> = refused
        .iter()
        .filter(|(_, refused)| is_older(refused.since, now, TOLERATED))
        .map(|(role, refused)| format!("OpenAI refuses the tokens of role {role}: {}", refused.error))
        .collect();
    let failing = engine.federation.exchanges.outcomes().failing_since;
    if failing.is_some_and(|since| is_older(since, now, TOLERATED)) {
        reasons.push(
            "no token exchange has succeeded for some minutes: OpenAI or token_endpoint fails".to_owned(),
        );
    }
    reasons.extend(of_record(&federation, now));
    Observation {
        is_configured: true,
        key_age: (now - federation.current.made).to_std().unwrap_or_default(),
        refused: refused.len(),
        reasons,
    }
}

fn of_record(federation: &Arc<Federation>, now: DateTime<Utc>) -> Vec<String> {
    let begun = federation.next.as_ref().map(|next| next.key.made);
    let waits_for = rotation::waits_for(federation)
        .filter(|_| begun.is_some_and(|begun| is_older(begun, now, ROTATION)))
        .map(|what| format!("the rotation of the signing key waits for {what}"));
    let foreign = (!federation.foreign_kids.is_empty()).then(|| {
        format!(
            "the workload identity provider has keys that this mount did not upload ({}): another mount uses the same \
             provider, or this one was restored from a backup; remove them at OpenAI if nobody uses them",
            federation.foreign_kids.join(", ")
        )
    });
    waits_for.into_iter().chain(foreign).collect()
}

fn is_older(since: DateTime<Utc>, now: DateTime<Utc>, than: Duration) -> bool {
    (now - since).to_std().is_ok_and(|age| age > than)
}
