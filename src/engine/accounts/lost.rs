//! Looks for the objects of creations whose answer was lost.
//!
//! *Guarantees:* an object counts as absent only after no request can still make it and OpenAI surely lists it. In the
//! mount's last tick a creation may be younger. Then the look-up waits for OpenAI's lists, and absence proves nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::lookup::{Look, UniqueName};
use super::making::Making;
use crate::engine::{Engine, Error};
use crate::openai::{self, Client};

/// Maximum time until OpenAI lists a new object: the observed 20 s, plus the duration of the creation call.
pub(in crate::engine) const LONGEST_LAG: Duration = Duration::from_secs(25);

/// Looks for the account or key of this creation.
pub(in crate::engine) async fn find(
    engine: &Engine,
    client: &Client,
    making: &Making,
) -> Result<Look, openai::Error> {
    let Some(project) = &making.project_id else { return Ok(Look::Done(None)) };
    wait_until_listed(engine, &making.name, Some(making.since)).await;
    let (account, first_seen) = (making.service_account_id.as_ref(), &engine.accounts.first_seen);
    let unique_name = UniqueName { project, account, name: &making.name };
    match engine.accounts.listings.find(client, &unique_name, first_seen.age(&making.name)).await {
        Ok(Look::Done(None)) if !first_seen.has_settled(&making.name, false) => Ok(Look::Later),
        look => look,
    }
}

/// In the mount's last tick, waits until OpenAI surely lists the object of this name. Any other tick has a later one.
pub(in crate::engine) async fn wait_in_last_tick(engine: &Engine, name: &str) -> Result<(), Error> {
    if engine.system.tainted().await? {
        wait_until_listed(engine, name, None).await;
    }
    Ok(())
}

/// Waits until OpenAI surely lists the object of this name, if OpenAI made the object. `since` is the time of the creation,
/// if a record has it.
pub(in crate::engine) async fn wait_until_listed(engine: &Engine, name: &str, since: Option<DateTime<Utc>>) {
    let recorded = since.and_then(|since| (engine.now() - since).to_std().ok()).unwrap_or_default();
    let left = LONGEST_LAG.saturating_sub(recorded.max(engine.accounts.first_seen.age(name)));
    if !left.is_zero() {
        engine.clock.pause(left).await;
    }
}
