//! Ends keys that were replaced, and those of a role that was deleted.
//!
//! *Guarantees:* the caller holds the role's lock. A key stays in the record until OpenAI says that the key is gone. The
//! current key is never among them. An account goes with its key only if a rotation made the account, no other owner
//! claims the account, and nobody else has a live key on it.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::Instant;

use super::record::{Ending, StaticRole};
use super::rotate::Work;
use super::stored;
use crate::engine::Error;
use crate::engine::accounts::retry::RetryState;
use crate::engine::accounts::{claims, live_keys};
use crate::engine::config::clients;
use crate::engine::creds::deletion;
use crate::engine::failpoint::failpoint;
use crate::engine::time::key_lifetime;
use crate::openai::{ApiKeyId, Client, LONGEST_EXPIRY, ProjectId, ServiceAccountId, Urgency};

/// What became of a key whose time had come.
enum Treated {
    /// OpenAI ends it when its grace is over.
    Limited,
    Gone,
}

/// A set of keys to end.
struct Endings<'a> {
    project: &'a ProjectId,
    /// Every key of the role.
    ours: Vec<ApiKeyId>,
    /// What surely has passed; each key of a role that was deleted ends at once.
    passed: DateTime<Utc>,
}

/// Limits or ends the keys whose time has come, and stores what came of it. What fails stays in the record for a later
/// tick. Answers the first failure.
pub(in crate::engine) async fn settle(
    work: &Work<'_>,
    role: &mut StaticRole,
) -> Result<Option<Error>, Error> {
    treat_due(work, role, true).await
}

/// The same for the worker, which looks again when the role says. A grace that was only made known to OpenAI is stored
/// with the next change: if the process dies before, OpenAI is told again.
pub(super) async fn settle_in_turn(work: &Work<'_>, role: &mut StaticRole) -> Result<Option<Error>, Error> {
    treat_due(work, role, false).await
}

async fn treat_due(
    work: &Work<'_>,
    role: &mut StaticRole,
    keeps_limits: bool,
) -> Result<Option<Error>, Error> {
    let now = work.engine.now();
    let passed = if role.current.is_some() { work.engine.certain_time() } else { DateTime::<Utc>::MAX_UTC };
    let latest = work.engine.latest_time();
    let put_right = role.ending.iter_mut().filter_map(|old| old.put_right(latest).then_some(())).count();
    // OpenAI knows the end of a limited key: until that has surely passed there is nothing to do.
    let waits = |old: &Ending| old.next(now) > now || old.limited && old.ends > passed;
    let ours = role.keys().map(|(key, _)| key.clone()).collect();
    let (waiting, due): (Vec<_>, Vec<_>) = std::mem::take(&mut role.ending).into_iter().partition(waits);
    role.ending = waiting;
    if due.is_empty() && put_right == 0 {
        return Ok(None);
    }
    let project = role.account_project_id.clone();
    let endings = Endings { project: &project, ours, passed };
    let (mut ended, mut failure, deadline) = (Vec::new(), None, Instant::now() + work.max_wait);
    let mut is_changed = keeps_limits || put_right > 0;
    for mut old in due {
        let max_wait = deadline.saturating_duration_since(Instant::now());
        if max_wait.is_zero() && !work.max_wait.is_zero() {
            role.ending.push(old);
            continue;
        }
        let work = &Work { client: work.client.clone(), max_wait, ..*work };
        clients::note_made(
            work.engine,
            &[old.service_account_id.as_str(), old.api_key_id.as_str()],
            old.made,
        );
        is_changed |= old.retry != RetryState::default();
        match endings.treat(work, &mut old).await {
            Ok(Treated::Gone) => {
                is_changed = true;
                ended.push(old.service_account_id);
            }
            Ok(Treated::Limited) => role.ending.push(old),
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

/// Limiting or ending the key failed. A failure to limit does not put off the end.
pub(in crate::engine) fn note_failure(old: &mut Ending, error: &Error, now: DateTime<Utc>) {
    let until_the_end = (old.ends - now).to_std().unwrap_or_default();
    old.retry.failed_by(&old.unique_name, error, now, until_the_end);
}

impl Endings<'_> {
    /// Has OpenAI end the key when its grace is over, or ends it now.
    async fn treat(&self, work: &Work<'_>, old: &mut Ending) -> Result<Treated, Error> {
        let left = (old.ends - self.passed).to_std().unwrap_or_default();
        if left.is_zero() {
            self.end(work, old).await?;
            return Ok(Treated::Gone);
        }
        // OpenAI counts in whole seconds, and by its own clock.
        let expires_in = Duration::from_secs(left.min(old.longest_grace()).as_secs().max(1));
        match work.ending().update_key(self.project, &old.api_key_id, None, Some(expires_in)).await {
            Ok(_) => {}
            Err(error) if error.is_gone() && old.with_account => {}
            Err(error) if error.is_gone() => return Ok(Treated::Gone),
            Err(error) => {
                return Err(key_lifetime::explained(Error::Revocation(error), || advice(work.name)));
            }
        }
        old.limited = true;
        old.retry.succeeded();
        Ok(Treated::Limited)
    }

    /// Ends a key, or the account that Vault made for it. An account that somebody else has a key on, or claims, stays
    /// without this key.
    async fn end(&self, work: &Work<'_>, old: &Ending) -> Result<(), Error> {
        let (client, project, account) = (work.ending(), self.project, &old.service_account_id);
        if !old.with_account {
            return deletion::end_key(&client, project, &old.api_key_id).await.map_err(Error::Revocation);
        }
        let _no_claim = work.engine.locks.lock(&claims::lock(account)).await;
        let refused = match self.refuse_claimed(work, account).await {
            Ok(()) => self.refuse_used(work, account).await,
            refused => refused,
        };
        if let Err(error) = refused {
            deletion::end_key(&client, project, &old.api_key_id).await.map_err(Error::Revocation)?;
            return Err(error);
        }
        deletion::end_account(&client, project, account).await.map_err(Error::Revocation)
    }

    /// Refuses an account that another owner claims.
    async fn refuse_claimed(&self, work: &Work<'_>, account: &ServiceAccountId) -> Result<(), Error> {
        let mut claimants = claims::claimants(work.storage, account).await?.into_iter();
        match claimants.find(|owner| *owner != work.owner()) {
            Some(owner) => Err(Error::AccountInUse { account: account.clone(), owner: owner.described() }),
            None => Ok(()),
        }
    }

    /// Refuses an account that has a live key which is not ours.
    async fn refuse_used(&self, work: &Work<'_>, account: &ServiceAccountId) -> Result<(), Error> {
        let (client, accounts) = (work.ending(), HashSet::from([account]));
        let listed =
            live_keys::of_accounts(&client, self.project, &accounts, || work.engine.certain_time()).await;
        let keys = match listed {
            Err(error) if deletion::went_with_project(&client, self.project, &error).await => return Ok(()),
            keys => keys.map_err(Error::Revocation)?,
        };
        match keys.into_iter().find(|key| !self.ours.contains(&key.id)) {
            Some(key) => Err(Error::AccountHasKeys { account: account.clone(), key: key.id }),
            None => Ok(()),
        }
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

    /// Puts right an end that was stored under a clock that was ahead: none lies further ahead than the whole grace.
    fn put_right(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.ends;
        self.ends = before.min((now + self.longest_grace()).trunc_subsecs(0) + TimeDelta::seconds(1));
        self.ends != before
    }
}

impl Work<'_> {
    /// The client for what ends keys.
    fn ending(&self) -> Client {
        self.client.for_work(Urgency::Revocation, self.max_wait)
    }
}
