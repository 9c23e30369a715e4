//! Replaces a static role's key, and ends what was replaced. The same for the tick and by hand. A rotation by hand that
//! fails is stored in the role as any other failure, and the tick makes up for it.
//!
//! *Guarantees:* the caller holds the role's lock. A write-ahead entry stands before OpenAI is asked; the new key is
//! stored, with the old one as retiring, before the old one is touched; what retires stays in the record until OpenAI
//! says that it is gone. So a crash at any point leaves either the old key as it was, and the new one to the sweep, or
//! the new key in place and the old one to the next tick. A write of the role that failed may still have happened:
//! nothing is taken back then, and nothing more is written: what is stored decides.
//!
//! *Assumptions:* the claim of an account is void unless a stored role names it (`owners`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::Instant;

use super::record::{Asked, Current, Retiring, STATIC_ROLES, StaticRole};
use super::settings::Method;
use super::stored;
use crate::engine::events::Happening;
use crate::engine::failpoint::failpoint;
use crate::engine::issuer::{self, Made, Order, Owner};
use crate::engine::metrics::{RotationKind, RotationResult};
use crate::engine::names::ServiceAccountName;
use crate::engine::owners::AccountOwner;
use crate::engine::{Engine, Error, endings, key_lifetime, live_keys, seconds};
use crate::framework::Pending;
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, Client, LONGEST_EXPIRY, OrganizationId, ProjectId, ServiceAccountId, Urgency};

/// As many replaced keys may wait for their end; more would be a flood of live keys, as where OpenAI makes keys but
/// ends none.
const MOST_RETIRING: usize = 20;

/// What a piece of work on one role needs.
pub(in crate::engine) struct Work<'a> {
    pub(in crate::engine) engine: &'a Engine,
    pub(in crate::engine) storage: &'a Arc<dyn Storage>,
    pub(in crate::engine) name: &'a str,
    /// Of the role's organization.
    pub(in crate::engine) client: Client,
    /// As long as each call waits for its turn.
    pub(in crate::engine) patience: Duration,
}

/// Where keys are made, and what their names begin with.
pub(super) struct Place<'a> {
    pub(super) organization_id: &'a OrganizationId,
    pub(super) project_id: &'a ProjectId,
    pub(super) key_name: &'a str,
    /// How long OpenAI lets the key live; zero is for ever.
    pub(super) key_ttl: Duration,
}

/// What OpenAI made, and the unique name it was asked for by.
pub(super) struct NewKey {
    made: Made,
    unique_name: String,
}

/// A key of a role, and whether its account goes with it.
pub(super) struct Held<'a> {
    pub(super) account: &'a ServiceAccountId,
    pub(super) key: &'a ApiKeyId,
    pub(super) with_account: bool,
    /// When the key was made, where that was kept.
    pub(super) made: Option<DateTime<Utc>>,
}

enum Treated {
    Limited,
    Gone,
}

impl Work<'_> {
    pub(super) fn owner(&self) -> AccountOwner {
        AccountOwner::StaticRole(self.name.to_owned())
    }

    /// For what ends keys.
    pub(super) fn ending(&self) -> Client {
        self.client.for_work(Urgency::Revocation, self.patience)
    }

    /// A first or next key for a role, on this account or with a new one. The caller stores the role that names it,
    /// then commits the [`Pending`].
    pub(super) async fn make_key(
        &self,
        place: &Place<'_>,
        account: Option<&ServiceAccountId>,
    ) -> Result<(NewKey, Pending), Error> {
        let unique_name =
            ServiceAccountName::beginning(place.key_name, &self.engine.tag, &mut rand::rng()).to_string();
        let order = Order {
            project_id: place.project_id,
            account,
            name: unique_name.clone(),
            // Without one it lives until its role replaces it.
            expires_in: Some(place.key_ttl).filter(|ttl| !ttl.is_zero()),
            scopes: &[],
            owner: Owner::StaticRole(self.name.to_owned()),
        };
        let client = self.client.for_work(Urgency::Rotation, self.patience);
        match issuer::issue(&client, place.organization_id, self.storage, order).await {
            Ok((made, pending)) => Ok((NewKey { made, unique_name }, pending)),
            Err(error) => {
                let error = on_account(account, error);
                Err(key_lifetime::explained(error, || advice(place.key_ttl)))
            }
        }
    }

    /// Gives an account up that no stored role of this name names any more. A claim that stays is void.
    pub(super) async fn release(&self, account: &ServiceAccountId) {
        let _ = self.engine.release(&**self.storage, account, &self.owner()).await;
    }
}

impl Retiring {
    pub(super) fn held(&self) -> Held<'_> {
        let Self { service_account_id: account, api_key_id: key, with_account, made, .. } = self;
        Held { account, key, with_account: *with_account, made: *made }
    }

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

impl Current {
    pub(super) fn held(&self) -> Held<'_> {
        let Self { service_account_id: account, api_key_id: key, made_account, last_rotation, .. } = self;
        Held { account, key, with_account: *made_account, made: Some(*last_rotation) }
    }

    pub(super) fn new(key: NewKey, service_account: String, made_account: bool, now: DateTime<Utc>) -> Self {
        let NewKey { made, unique_name } = key;
        Self {
            service_account_id: made.service_account_id,
            service_account,
            made_account,
            api_key_id: made.key.id,
            unique_name,
            api_key: made.key.value,
            last_rotation: now.trunc_subsecs(0),
        }
    }

    /// What comes after this one: on the same account, or with a new one of the key's name.
    fn succeeded_by(&self, key: NewKey, new_account: bool, now: DateTime<Utc>) -> Self {
        let service_account = if new_account { &key.unique_name } else { &self.service_account };
        let service_account = service_account.clone();
        Self::new(key, service_account, new_account || self.made_account, now)
    }
}

/// What to change where OpenAI refuses how long the key would live.
fn advice(key_ttl: Duration) -> String {
    if key_ttl.is_zero() {
        return "without key_ttl the key of a static role has no end at OpenAI: set key_ttl".to_owned();
    }
    format!("the key lives for the role's key_ttl, which is {}: change that", seconds::text(key_ttl))
}

/// A key cannot be made on an account that was deleted behind our back.
fn on_account(account: Option<&ServiceAccountId>, error: Error) -> Error {
    match (account, error) {
        (Some(account), Error::KeyCreation(error)) if error.is_gone() => {
            Error::AccountGone { account: account.clone(), error }
        }
        (_, error) => error,
    }
}

/// Rotates the role because somebody asks for it.
pub(in crate::engine) async fn rotate_by_hand(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
) -> Result<Option<ApiKeyId>, Error> {
    let now = work.engine.now();
    // By both clocks: a marker of a clock that is ahead would stand in a future that does not come for long.
    stored::mark(&**work.storage, work.name, work.engine.certain_time()).await?;
    let outcome = rotate(work, role, grace).await;
    if outcome.as_ref().is_err_and(is_the_roles_failure) {
        role.asked = Some(Asked { at: now.trunc_subsecs(0), grace });
        // If it cannot be stored, the caller alone knows of the failure.
        let _ = STATIC_ROLES.put(&**work.storage, work.name, role).await;
    }
    outcome
}

/// Rotates the role, which is then as it is stored; answers the key whose grace had to end early for it. If that
/// fails, the role is as it was, but for the failure, which the caller stores.
pub(in crate::engine) async fn rotate(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
) -> Result<Option<ApiKeyId>, Error> {
    let outcome = replace(work, role, grace).await;
    let result = match &outcome {
        Ok(_) => RotationResult::Done,
        // Put off, or another node's to do.
        Err(error) if error.is_unsent() || matches!(error, Error::Storage(StorageError::ReadOnly)) => {
            return outcome;
        }
        Err(_) => RotationResult::Failed,
    };
    if let Err(error) = outcome.as_ref()
        && is_the_roles_failure(error)
    {
        role.retry.failed(work.name, error, work.engine.now(), role.longest_wait()?);
    }
    work.engine.metrics.rotated(RotationKind::StaticRole, result);
    let happening = if outcome.is_ok() { Happening::Rotate } else { Happening::RotateFail };
    work.engine.tell(happening, &format!("static-creds/{}", work.name));
    outcome
}

/// Whether a failed rotation is to be stored in the role. What was not sent says nothing of the role. After a storage
/// write that failed nobody knows what is stored: the record must not be written over.
pub(in crate::engine) fn is_the_roles_failure(error: &Error) -> bool {
    match error {
        Error::Storage(_) => false,
        Error::LeftBehind(inner) => is_the_roles_failure(inner),
        error => !error.is_unsent(),
    }
}

/// Makes room for one more replaced key. Where as many wait as may, the oldest that is still in its grace ends now:
/// rotations that came later replaced it. Where OpenAI ends none, there is no room.
fn make_room(role: &mut StaticRole, certain: DateTime<Utc>) -> Result<Option<ApiKeyId>, Error> {
    let count = role.retiring.len();
    if count < MOST_RETIRING {
        return Ok(None);
    }
    let mut in_grace = role.retiring.iter_mut().filter(|old| old.ends > certain);
    let oldest = in_grace.next().filter(|_| count == MOST_RETIRING);
    let oldest = oldest.ok_or(Error::ReplacedKeysLeft(count))?;
    oldest.ends = certain;
    Ok(Some(oldest.api_key_id.clone()))
}

/// What is said of a key whose grace had to end early.
pub(in crate::engine) fn ended_early(key: &ApiKeyId) -> String {
    format!(
        "replaced key {key} is ended before its grace was over: {MOST_RETIRING} replaced keys were waiting for their \
         end, and this one was the oldest"
    )
}

async fn replace(work: &Work<'_>, role: &mut StaticRole, grace: Duration) -> Result<Option<ApiKeyId>, Error> {
    let mut rotated = role.clone();
    let cut_short = make_room(&mut rotated, work.engine.certain_time())?;
    let place = Place {
        organization_id: &role.organization_id,
        project_id: &role.account_project_id,
        key_name: &role.settings.api_key_name,
        key_ttl: role.settings.key_ttl,
    };
    let account = match role.settings.rotation_method {
        Method::Key => Some(&role.current.service_account_id),
        Method::Account => None,
    };
    let new_account = account.is_none();
    let (key, pending) = work.make_key(&place, account).await?;
    let now = work.engine.now();
    let new = role.current.succeeded_by(key, new_account, now);
    rotated.replace_current(new, grace, grace_ends(work.engine, grace));
    let stored = store_new(work, &rotated, new_account).await;
    stored.map_err(|error| Error::LeftBehind(Box::new(error)))?;
    failpoint!("rotate.stored");
    issuer::forget(pending).await;
    failpoint!("rotate.committed");
    let old = std::mem::replace(role, rotated).current.service_account_id;
    if !role.names_account(&old) {
        work.release(&old).await;
    }
    Ok(cut_short)
}

/// When a key that is replaced now ends. OpenAI's answer with the new key has just told its time, by which a grace counts
/// where the clocks differ; no grace has ended by both clocks.
fn grace_ends(engine: &Engine, grace: Duration) -> DateTime<Utc> {
    if grace.is_zero() { engine.certain_time() } else { engine.now() + grace }
}

/// A new account is claimed before the role that names it is stored.
async fn store_new(work: &Work<'_>, role: &StaticRole, new_account: bool) -> Result<(), Error> {
    if new_account {
        work.engine.claim(&**work.storage, &role.current.service_account_id, &work.owner()).await?;
        failpoint!("rotate.claimed");
    }
    Ok(STATIC_ROLES.put(&**work.storage, work.name, role).await?)
}

/// Limits or ends what retires, as far as its time has come, and stores what came of it, with the marker where it
/// belongs now. What fails stays in the role for a later tick. `changed` says that the role is to be stored anyway.
pub(in crate::engine) async fn settle(
    work: &Work<'_>,
    role: &mut StaticRole,
    changed: bool,
) -> Result<(), Error> {
    let (now, certain) = (work.engine.now(), work.engine.certain_time());
    let ours = role.keys().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    let latest = work.engine.latest_time();
    let put_right = role.retiring.iter_mut().filter_map(|old| old.put_right(latest).then_some(())).count();
    // OpenAI knows the end of a limited key: until that has come by both clocks there is nothing to do.
    let waits = |old: &Retiring| old.next(now) > now || old.limited && old.ends > certain;
    let (waiting, due): (Vec<_>, Vec<_>) = std::mem::take(&mut role.retiring).into_iter().partition(waits);
    role.retiring = waiting;
    let changed = changed || put_right > 0 || !due.is_empty();
    let (mut ended, deadline) = (Vec::new(), Instant::now() + work.patience);
    for mut old in due {
        let patience = deadline.saturating_duration_since(Instant::now());
        if patience.is_zero() && !work.patience.is_zero() {
            role.retiring.push(old);
            continue;
        }
        let work = &Work { client: work.client.clone(), patience, ..*work };
        work.engine.note_made(&[old.service_account_id.as_str(), old.api_key_id.as_str()], old.made);
        match treat(work, &role.account_project_id, &mut old, &ours, certain).await {
            Ok(Treated::Gone) => ended.push(old.service_account_id),
            Ok(Treated::Limited) => role.retiring.push(old),
            Err(error) => {
                note_failure(&mut old, &error, now);
                role.retiring.push(old);
            }
        }
    }
    if changed {
        failpoint!("rotate.old_treated");
        STATIC_ROLES.put(&**work.storage, work.name, role).await?;
        failpoint!("rotate.settled");
    }
    for account in ended.iter().filter(|account| !role.names_account(account)) {
        work.release(account).await;
    }
    Ok(())
}

/// Limiting or ending the key failed. A failure to limit does not put off the end.
pub(in crate::engine) fn note_failure(old: &mut Retiring, error: &Error, now: DateTime<Utc>) {
    let until_the_end = (old.ends - now).to_std().unwrap_or_default();
    old.retry.failed(&old.unique_name, error, now, until_the_end);
}

/// Has OpenAI end the key when its grace is over, or ends it now.
async fn treat(
    work: &Work<'_>,
    project: &ProjectId,
    old: &mut Retiring,
    ours: &[ApiKeyId],
    certain: DateTime<Utc>,
) -> Result<Treated, Error> {
    let left = (old.ends - certain).to_std().unwrap_or_default();
    if left.is_zero() {
        end(work, project, &old.held(), ours).await?;
        return Ok(Treated::Gone);
    }
    // OpenAI counts in whole seconds, and by its own clock.
    let expires_in = Duration::from_secs(left.min(old.longest_grace()).as_secs().max(1));
    match work.ending().update_key(project, &old.api_key_id, None, Some(expires_in)).await {
        Ok(_) => {}
        Err(error) if error.is_gone() && old.with_account => {}
        Err(error) if error.is_gone() => return Ok(Treated::Gone),
        Err(error) => return Err(Error::Revocation(error)),
    }
    old.limited = true;
    old.retry.succeeded();
    Ok(Treated::Limited)
}

/// Ends a key, or the account that Vault made for it. An account that somebody else has a key on, one that is not
/// among `ours`, stays without this key.
pub(super) async fn end(
    work: &Work<'_>,
    project: &ProjectId,
    held: &Held<'_>,
    ours: &[ApiKeyId],
) -> Result<(), Error> {
    let (client, Held { account, key, with_account, .. }) = (work.ending(), held);
    if *with_account && let Err(error) = refuse_used(work, project, account, ours).await {
        endings::end_key(&client, project, key).await.map_err(Error::Revocation)?;
        return Err(error);
    }
    endings::end(&client, project, account, key, *with_account).await.map_err(Error::Revocation)
}

/// Refuses an account that has a live key which is not among `ours`.
async fn refuse_used(
    work: &Work<'_>,
    project: &ProjectId,
    account: &ServiceAccountId,
    ours: &[ApiKeyId],
) -> Result<(), Error> {
    let (client, accounts) = (work.ending(), HashSet::from([account]));
    let keys = match live_keys::of_accounts(&client, project, &accounts, || work.engine.certain_time()).await
    {
        Err(error) if endings::went_with_project(&client, project, &error).await => return Ok(()),
        keys => keys.map_err(Error::Revocation)?,
    };
    match keys.into_iter().find(|key| !ours.contains(&key.id)) {
        Some(key) => Err(Error::AccountHasKeys { account: account.clone(), key: key.id }),
        None => Ok(()),
    }
}
