//! The federation in `health` and the metrics: from storage, and from the exchanges of this process.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::record::{Federation, ONLY};
use super::rotation;
use crate::engine::telemetry::openai_status::Outcomes;
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};

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

/// The present state, from the record and from the exchanges of this process.
pub(in crate::engine) async fn observe(
    engine: &Engine,
    storage: &dyn Storage,
    now: DateTime<Utc>,
) -> Result<Observation, Error> {
    let federation = StorageError::readable(engine.federation.stored.get(storage, ONLY).await)?;
    let Some(federation) = federation else { return Ok(Observation::default()) };
    let refused = engine.federation.exchanges.refused();
    let mut reasons: Vec<String> = refused
        .iter()
        .filter(|(_, refused)| is_older(refused.since, now, TOLERATED))
        .map(|(role, refused)| format!("OpenAI refuses the tokens of role {role}: {}", refused.error))
        .collect();
    if is_outage(&engine.federation.exchanges.outcomes()) {
        reasons.push(
            "no token exchange has succeeded for some minutes: OpenAI or token_endpoint fails".to_owned(),
        );
    }
    reasons.extend(of_record(&federation, now));
    Ok(Observation {
        is_configured: true,
        key_age: (now - federation.current.made).to_std().unwrap_or_default(),
        refused: refused.len(),
        reasons,
    })
}

/// True if exchanges have failed for some time. A single failure proves no outage, because nothing repeats an exchange.
fn is_outage(outcomes: &Outcomes) -> bool {
    let last = outcomes.last_failure.as_ref().map(|failure| failure.at);
    outcomes.failing_since.zip(last).is_some_and(|(since, last)| is_older(since, last, TOLERATED))
}

fn of_record(federation: &Arc<Federation>, now: DateTime<Utc>) -> Vec<String> {
    let begun = federation.next.as_ref().map(|next| next.key.made);
    let waits_for = rotation::waits_for(federation)
        .filter(|_| begun.is_some_and(|begun| is_older(begun, now, ROTATION)))
        .map(|what| format!("the rotation of the signing key waits for {what}"));
    let foreign = (!federation.foreign_kids.is_empty()).then(|| {
        format!(
            "at its last change the workload identity provider had keys that this mount did not upload ({}): another \
             mount uses the same provider, or this one was restored from a backup; remove them at OpenAI if nobody \
             uses them, and then rotate the signing key",
            federation.foreign_kids.join(", ")
        )
    });
    waits_for.into_iter().chain(foreign).collect()
}

fn is_older(since: DateTime<Utc>, now: DateTime<Utc>, than: Duration) -> bool {
    (now - since).to_std().is_ok_and(|age| age > than)
}
