//! The rotation of the signing key.
//!
//! 1. The new key is stored beside the current one.
//! 2. OpenAI gets the new public key beside those it has. By hand, an operator uploads it.
//! 3. A token of the new key is exchanged. OpenAI may see the new key late, so this is repeated.
//! 4. The new key signs. The replaced key stays at OpenAI until no token that it signed lives.
//! 5. The replaced key is removed from OpenAI.
//!
//! *Guarantees:* a new key signs only after OpenAI has taken a token of it. Without a role to try, the new key signs ten
//! minutes after its upload. A crash between two steps repeats the last one. *Assumptions:* the caller holds the lock of
//! the record, and the provider is registered.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::exchange;
use super::provider::{self, Work};
use super::record::{EndingKey, Federation, Key, NextKey};
use super::role::FederatedRole;
use super::role_writes::LONGEST_TTL;
use crate::engine::failpoint::failpoint;
use crate::engine::telemetry::events::EventKind;
use crate::engine::telemetry::metrics::{RotationKind, RotationResult};
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::ExchangeError;

/// After its last token has ended, a replaced key stays at OpenAI for this time more, for clocks that differ.
const MARGIN: TimeDelta = TimeDelta::minutes(5);
/// Without a role nothing can be exchanged. Then the new key signs after this time, in which OpenAI sees it.
const VISIBLE_AFTER: TimeDelta = TimeDelta::minutes(10);
/// Lifetime of a token that only proves its key.
const PROOF: Duration = Duration::from_secs(60);
/// Maximum number of roles to try at once. Somebody may have changed the rule of one at OpenAI.
const MOST_TRIES: usize = 3;
/// Pauses between the proofs while an operator waits, in seconds.
const PAUSES: [u64; 4] = [1, 2, 4, 8];

/// Result of a proof of the new key.
enum Proof {
    Good,
    /// There is no role whose account could be asked for.
    NoRole,
    /// OpenAI does not take the key, or not yet.
    Not(Error),
}

/// Begins a rotation, unless one is under way. The caller stores the record.
pub(super) fn begin(federation: &mut Federation, now: DateTime<Utc>) -> Result<(), Error> {
    if federation.next.is_none() {
        federation.next = Some(NextKey { key: Key::new(now)?, uploaded: None });
        federation.retry.succeeded();
    }
    Ok(())
}

/// Does the next steps of a rotation, and stores each. A rotation that waits does not delay the removal of earlier keys.
pub(super) async fn advance(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let rotated = if federation.next.is_some() { use_next(work, federation).await } else { Ok(()) };
    // A write whose outcome is unknown is not followed by another one.
    if matches!(rotated, Err(Error::Storage(_))) {
        return rotated;
    }
    rotated.and(remove_ended(work, federation).await)
}

/// Uploads and proves the new key, which then signs.
async fn use_next(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    upload(work, federation).await?;
    match prove(work, federation).await? {
        Proof::Good => replace(work, federation).await,
        Proof::NoRole if is_visible(federation, work.engine.certain_time()) => {
            replace(work, federation).await
        }
        Proof::NoRole if federation.provider.is_managed() => Ok(()),
        // By hand nothing else tells that the key was uploaded.
        Proof::NoRole => Err(Error::field("no enabled role with access tokens is there to prove the key")),
        Proof::Not(error) => Err(error),
    }
}

/// Like [`advance`], for a request that waits. A refused proof is repeated for some seconds, as OpenAI may see the key
/// late. By hand no proof is repeated, as an operator first has to upload the key.
pub(super) async fn advance_now(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let mut outcome = advance(work, federation).await;
    for pause in PAUSES {
        if !federation.provider.is_managed() || !is_refused(&outcome) {
            break;
        }
        work.engine.clock.pause(Duration::from_secs(pause)).await;
        outcome = advance(work, federation).await;
    }
    outcome
}

fn is_refused(outcome: &Result<(), Error>) -> bool {
    matches!(outcome, Err(Error::Exchange { error: ExchangeError::Refused(_), .. }))
}

/// The reason why a started rotation is not complete, in words.
pub(super) fn waits_for(federation: &Federation) -> Option<String> {
    let next = federation.next.as_ref()?;
    let kid = next.key.key.kid();
    let why = federation.retry.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    Some(match (federation.provider.is_managed(), next.uploaded) {
        (true, None) => format!("the upload of key {kid} to OpenAI{why}"),
        (true, Some(_)) => format!("a token exchange with key {kid}, which OpenAI may see late{why}"),
        (false, _) => format!("the upload of jwks with key {kid} by an operator{why}"),
    })
}

async fn upload(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    if !federation.provider.is_managed()
        || federation.next.as_ref().is_none_or(|next| next.uploaded.is_some())
    {
        return Ok(());
    }
    provider::upload_next(work, federation).await?;
    if let Some(next) = &mut federation.next {
        // By OpenAI's clock if ours is wrong: OpenAI has just told its time.
        next.uploaded = Some(work.engine.now());
    }
    work.put(federation).await
}

/// True if OpenAI surely sees the uploaded key. False by hand, where Vault does not know the time of the upload.
fn is_visible(federation: &Federation, certain: DateTime<Utc>) -> bool {
    let uploaded = federation.next.as_ref().and_then(|next| next.uploaded);
    uploaded.is_some_and(|uploaded| uploaded + VISIBLE_AFTER <= certain)
}

/// Exchanges a token of the new key for one of a role's account.
async fn prove(work: &Work<'_>, federation: &Federation) -> Result<Proof, Error> {
    let Some(next) = &federation.next else { return Ok(Proof::NoRole) };
    let (roles, mut failure) = (usable_roles(work.engine, work.storage).await?, None);
    // After a failure the next roles have their turn.
    let first = MOST_TRIES.saturating_mul(federation.retry.failures as usize) % roles.len().max(1);
    for role in roles.iter().cycle().skip(first).take(MOST_TRIES.min(roles.len())) {
        match exchange::once(work.engine, work.storage, federation, &next.key.key, role, PROOF).await {
            Ok(_) => {
                failpoint!("federation.proved");
                return Ok(Proof::Good);
            }
            Err(error @ Error::Exchange { .. }) => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok(failure.map_or(Proof::NoRole, Proof::Not))
}

async fn usable_roles(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Arc<FederatedRole>>, Error> {
    let roles = engine.federation.roles.all(storage).await?.into_iter().map(|(_, role)| role);
    Ok(roles.filter(|role| role.settings.enabled && role.is_registered()).collect())
}

/// The new key signs from now on.
async fn replace(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let Some(next) = federation.next.take() else { return Ok(()) };
    let old = std::mem::replace(&mut federation.current, next.key);
    federation.current.made = work.engine.now().trunc_subsecs(0);
    let lives_for = TimeDelta::from_std(LONGEST_TTL).unwrap_or_default() + MARGIN;
    federation.ending.push(EndingKey {
        kid: old.key.kid().to_owned(),
        jwk: old.key.public_jwk(),
        // By OpenAI's clock if ours is wrong.
        ends: work.engine.now() + lives_for,
    });
    federation.retry.succeeded();
    work.put(federation).await?;
    failpoint!("federation.replaced");
    work.engine.metrics.rotated(RotationKind::SigningKey, RotationResult::Done);
    work.engine.events.emit(EventKind::Rotate, "config/federation");
    Ok(())
}

/// Tells that an attempt failed. The record, which the caller stores, has the reason.
pub(super) fn failed(engine: &Engine) {
    engine.metrics.rotated(RotationKind::SigningKey, RotationResult::Failed);
    engine.events.emit(EventKind::RotateFail, "config/federation");
}

/// Removes replaced keys whose last token has ended.
async fn remove_ended(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let ended = ended(federation, work.engine);
    if ended.is_empty() {
        return Ok(());
    }
    provider::remove_keys(work, federation, &ended).await?;
    federation.ending.retain(|key| !ended.contains(&key.kid));
    work.put(federation).await
}

/// The ids of replaced keys whose last token has ended.
pub(super) fn ended(federation: &Federation, engine: &Engine) -> Vec<String> {
    // By hand nothing is removed at OpenAI, and perhaps no call has told OpenAI's time.
    let passed = if federation.provider.is_managed() { engine.certain_time() } else { engine.now() };
    federation.ending.iter().filter(|key| key.ends <= passed).map(|key| key.kid.clone()).collect()
}
