//! Deletes replaced keys, and the keys of a deleted role.
//!
//! *Guarantees:* the caller holds the role's lock. A key stays in the record until OpenAI confirms that the key is gone.
//! The current key is never deleted. An account is deleted with the last of its replaced keys under three conditions: a
//! rotation created the account, no other owner claims it, and nobody else has a live key on it.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::Instant;

use super::record::{Ending, StaticRole};
use super::rotate::Work;
use super::stored;
use crate::engine::Error;
use crate::engine::accounts::deletion;
use crate::engine::accounts::retry::RetryState;
use crate::engine::accounts::{claims, live_keys};
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::time::key_lifetime;
use crate::openai::{ApiKeyId, Client, LONGEST_EXPIRY, ProjectId, Urgency};

/// The outcome for one key.
enum Outcome {
    /// OpenAI ends the key at the end of its grace period. OpenAI takes no end above a year, so a later tick sets a later end.
    Limited,
    Deleted,
}

/// The context for the keys of one role.
struct Keys<'a> {
    project: &'a ProjectId,
    /// All keys of the role.
    ours: Vec<ApiKeyId>,
    /// The earlier of both clocks; the end of time for a deleted role, so that all its keys are over.
    passed: DateTime<Utc>,
}

/// Does the due work on replaced keys, and stores the outcome. A key in its grace period gets its end at OpenAI
/// ("limited"); a key after its grace period is deleted. A failed key stays in the record for a later tick, as does a
/// key for which no time was left. Returns the first failure.
pub(in crate::engine) async fn end_due_keys(
    work: &Work<'_>,
    role: &mut StaticRole,
) -> Result<Option<Error>, Error> {
    treat_due(work, role, true).await
}

/// The same for the worker. If the only change is a key's end at OpenAI, the record is not stored now but with its next
/// change. After a crash, the end is set at OpenAI again.
pub(super) async fn end_due_keys_in_tick(
    work: &Work<'_>,
    role: &mut StaticRole,
) -> Result<Option<Error>, Error> {
    treat_due(work, role, false).await
}

async fn treat_due(
    work: &Work<'_>,
    role: &mut StaticRole,
    keeps_limits: bool,
) -> Result<Option<Error>, Error> {
    let now = work.engine.now();
    let passed = if role.current.is_some() { work.engine.certain_time() } else { DateTime::<Utc>::MAX_UTC };
    let latest = work.engine.times.latest_known();
    let is_corrected = |old: &mut Ending| latest.is_some_and(|latest| old.correct_end(latest));
    let corrected = role.ending.iter_mut().filter_map(|old| is_corrected(old).then_some(())).count();
    role.leave_accounts_to_last_keys();
    // A limited key needs no work until its end has surely passed.
    let waits = |old: &Ending| old.next(now) > now || old.limited && old.ends > passed;
    let ours = role.keys().map(|(key, _)| key.clone()).collect();
    if role.ending.iter().all(waits) && corrected == 0 {
        return Ok(None);
    }
    let project = role.account_project_id.clone();
    let keys = Keys { project: &project, ours, passed };
    let (mut ended, mut failure, deadline) = (Vec::new(), None, Instant::now() + work.max_wait);
    let mut is_changed = keeps_limits || corrected > 0;
    for mut old in std::mem::take(&mut role.ending) {
        let max_wait = deadline.saturating_duration_since(Instant::now());
        if waits(&old) {
            role.ending.push(old);
            continue;
        }
        if max_wait.is_zero() && !work.max_wait.is_zero() {
            failure.get_or_insert(Error::NoTimeLeft);
            role.ending.push(old);
            continue;
        }
        let work = &work.within(max_wait);
        clients::note_made(
            work.engine,
            &[old.service_account_id.as_str(), old.api_key_id.as_str()],
            old.made,
        );
        is_changed |= old.retry != RetryState::default();
        match keys.limit_or_delete(work, &mut old).await {
            Ok(Outcome::Deleted) => {
                is_changed = true;
                ended.push(old.service_account_id);
            }
            Ok(Outcome::Limited) => role.ending.push(old),
            Err(error) => {
                is_changed = true;
                note_failure(&mut old, &error, now);
                role.ending.push(old);
                failure.get_or_insert(error);
            }
        }
    }
    failpoint!("rotate.old_treated");
    if !is_changed {
        return Ok(None);
    }
    stored::store(work.engine, work.storage, work.name, role, &ended).await?;
    failpoint!("rotate.settled");
    Ok(failure)
}

/// The reason why a key is not ended or limited yet: a stored one, or else this failure.
pub(super) fn trouble(role: &StaticRole, failure: Option<Error>) -> Option<String> {
    role.trouble_with_replaced().or_else(|| failure.map(|error| error.to_string()))
}

/// Records a failure to limit or delete the key. The next try is not after the key's end, so that a failure to limit does
/// not delay the deletion. If the organization is out of reach, the next try is an hour later in any case.
pub(in crate::engine) fn note_failure(old: &mut Ending, error: &Error, now: DateTime<Utc>) {
    let until_the_end = (old.ends - now).to_std().unwrap_or_default();
    old.retry.failed_by(&old.unique_name, error, now, until_the_end);
}

impl Keys<'_> {
    /// Sets the key's end at OpenAI, or deletes the key after its end.
    async fn limit_or_delete(&self, work: &Work<'_>, old: &mut Ending) -> Result<Outcome, Error> {
        let left = (old.ends - self.passed).to_std().unwrap_or_default().min(old.longest_grace());
        if left.is_zero() {
            self.delete(work, old).await?;
            return Ok(Outcome::Deleted);
        }
        if left > LONGEST_EXPIRY {
            return Ok(Outcome::Limited);
        }
        // OpenAI takes whole seconds from now, by its own clock.
        let expires_in = Duration::from_secs(left.as_secs().max(1));
        match work.ending().update_key(self.project, &old.api_key_id, None, Some(expires_in)).await {
            Ok(_) => {}
            Err(error) if error.is_gone() && old.with_account => {}
            Err(error) if error.is_gone() => return Ok(Outcome::Deleted),
            Err(error) => {
                return Err(key_lifetime::explained(Error::Revocation(error), || advice(work.name)));
            }
        }
        old.limited = true;
        old.retry.succeeded();
        Ok(Outcome::Limited)
    }

    /// Deletes a key, or the account that Vault created with it. An account that another owner claims, or that has a key of
    /// somebody else, loses only this key.
    async fn delete(&self, work: &Work<'_>, old: &Ending) -> Result<(), Error> {
        let (client, project, account) = (work.ending(), self.project, &old.service_account_id);
        if !old.with_account {
            return deletion::end_key(&client, project, &old.api_key_id).await.map_err(Error::Revocation);
        }
        let _no_claim = claims::lock(&work.engine.locks, account).await;
        let refused = match claims::refuse_claimed(work.engine, work.storage, account, &work.owner()).await {
            Ok(()) => {
                let within = live_keys::MAX_WAIT.min(work.max_wait);
                live_keys::refuse_used(work.engine, &client, project, account, &self.ours, within).await
            }
            refused => refused,
        };
        if let Err(error) = refused {
            deletion::end_key(&client, project, &old.api_key_id).await.map_err(Error::Revocation)?;
            return Err(error);
        }
        deletion::end_account(&client, project, account).await.map_err(Error::Revocation)
    }
}

/// The setting that decides until when a replaced key lives.
fn advice(role: &str) -> String {
    format!(
        "a replaced key lives for its grace period: lower grace_period of static role {role:?}; Vault ends this key"
    )
}

impl Ending {
    fn longest_grace(&self) -> Duration {
        self.grace.unwrap_or(LONGEST_EXPIRY)
    }

    /// Corrects an end that was stored while the clock was ahead. It may be at most one grace period after `now`. Returns
    /// true if the end changed.
    fn correct_end(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.ends;
        self.ends = before.min((now + self.longest_grace()).trunc_subsecs(0) + TimeDelta::seconds(1));
        self.ends != before
    }
}

impl Work<'_> {
    /// The client for deletions.
    fn ending(&self) -> Client {
        self.client.for_work(Urgency::Revocation, self.max_wait)
    }
}
