//! Rotates a static role's key, for the tick and by hand. A rotation by hand that fails is stored in the role, and the
//! worker repeats it. A rotation by hand that a crash cuts off is not stored, and nobody repeats it.
//!
//! *Guarantees:* the caller holds the role's lock, and after a crash the worker comes to the role: a marker of the role is
//! due, or the worker reconciles all owners. The new key's name is stored in `making` before OpenAI creates the key. One
//! write makes the new key current and moves the old key to `ending`. A failed write may still have succeeded: then
//! nothing is deleted and nothing more is written, and the worker decides by the stored record.
//!
//! If the plugin or the server dies, the last completed step decides:
//! 1. *The new name is stored in `making`*, and OpenAI may have created the key, or the account with the key. Nobody
//!    has the new key, and readers get the old one. The next tick repeats a due rotation under another name, but no
//!    rotation by hand. Some three minutes later the tick looks the name up and deletes the key or account.
//!    Storage may be outdated, so a key that was ever used ends later (`end_later`).
//! 2. *The new account is claimed*, with `rotation_method=account` only. The same, and the claim is released.
//! 3. *The role is stored with the new key as `current` and the old key in `ending`*, and OpenAI may have ended or
//!    limited the old key. Readers get the new key. The next tick deletes the old key, or sets the key's end at OpenAI
//!    and deletes the key after the grace period. An account that a rotation created is deleted with its key.
//!
//! *Assumptions:* a claim is void if no stored role names its account (`claims`).

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::record::{Asked, Current, Ending, STATIC_ROLES, StaticRole};
use super::settings::{Method, Settings};
use super::stored;
use crate::engine::accounts::claims;
use crate::engine::accounts::deletion;
use crate::engine::accounts::lookup::UniqueName;
use crate::engine::accounts::making::Making;
use crate::engine::accounts::owner::Owner;
use crate::engine::creds::issuer;
use crate::engine::creds::issuer::{Created, Failure, Remains};
use crate::engine::failpoint::failpoint;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::telemetry::events::EventKind;
use crate::engine::telemetry::metrics::{RotationKind, RotationResult};
use crate::engine::time::{key_lifetime, seconds};
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, Client, ServiceAccountId, Urgency};

/// Maximum wait of each call of a request for its turn at OpenAI. Vault cancels a request after 90 s.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);
/// Maximum number of replaced keys. It bounds the live keys if OpenAI creates keys but deletes none.
const MOST_ENDING: usize = 20;

/// The context of work on one role.
pub(in crate::engine) struct Work<'a> {
    pub(in crate::engine) engine: &'a Engine,
    pub(in crate::engine) storage: &'a dyn Storage,
    pub(in crate::engine) name: &'a str,
    /// The client for the role's organization.
    pub(in crate::engine) client: Client,
    /// Maximum wait of each call for its turn at OpenAI.
    pub(in crate::engine) max_wait: Duration,
}

/// A new key with its unique name.
pub(super) struct NewKey {
    made: Created,
    unique_name: String,
    /// The key's lifetime at OpenAI; zero for no expiry.
    key_ttl: Duration,
}

impl Work<'_> {
    pub(super) fn owner(&self) -> Owner {
        Owner::StaticRole(self.name.to_owned())
    }

    /// The same work with this maximum wait of each call.
    pub(super) fn within(&self, max_wait: Duration) -> Self {
        Self { client: self.client.clone(), max_wait, ..*self }
    }

    /// A new unique name for a key or an account.
    pub(super) fn new_name(&self, settings: &Settings) -> String {
        ServiceAccountName::beginning(&settings.api_key_name, &self.engine.tag, &mut rand::rng()).to_string()
    }
}

/// Creates the key, or the account with a key, of an entry in the stored role's `making`. The caller stores the outcome.
/// If the creation failed and nothing is left at OpenAI, the entry is removed from `role`.
pub(super) async fn make_key(
    work: &Work<'_>,
    role: &mut StaticRole,
    making: &Making,
) -> Result<NewKey, Error> {
    let key_ttl = role.settings.key_ttl;
    let (project, account) = (role.account_project_id.clone(), making.service_account_id.as_ref());
    let unique_name = UniqueName { project: &project, account, name: &making.name };
    let client = work.client.for_work(Urgency::Rotation, work.max_wait);
    // Without key_ttl a key lives until its role replaces it.
    let expires_in = Some(key_ttl).filter(|ttl| !ttl.is_zero());
    match issuer::create_or_undo(&client, &unique_name, expires_in).await {
        Ok(made) => {
            let key = NewKey { made, unique_name: making.name.clone(), key_ttl };
            confirm(work, role, making, &key).await?;
            Ok(key)
        }
        Err(Failure { error, remains }) => {
            if remains == Remains::Nothing {
                role.making.end(&making.name);
                work.engine.accounts.first_seen.forget(&making.name);
            }
            let error = on_account(making.service_account_id.as_ref(), error);
            Err(key_lifetime::explained(error, || advice(key_ttl)))
        }
    }
}

/// Deletes the new key again if the stored record is another role's, or if its `making` lacks the key. Another node may
/// have deleted the role and written one of the same name.
async fn confirm(work: &Work<'_>, role: &StaticRole, making: &Making, key: &NewKey) -> Result<(), Error> {
    let stored = stored::get(work.storage, work.name).await;
    let stored = stored.map_err(|error| Error::LeftBehind(Box::new(error.into())))?;
    if stored.is_some_and(|stored| stored.id == role.id && stored.making.names(&making.name)) {
        return Ok(());
    }
    let (account, with_account) = (&key.made.service_account_id, making.service_account_id.is_none());
    let client = work.client.for_work(Urgency::Revocation, work.max_wait);
    let project = &role.account_project_id;
    let taken_back = deletion::end(&client, project, account, &key.made.key.id, with_account).await;
    let superseded = Error::Superseded(work.name.to_owned());
    Err(if taken_back.is_ok() { superseded } else { Error::LeftBehind(Box::new(superseded)) })
}

impl Current {
    pub(super) fn new(key: NewKey, service_account: String, made_account: bool, now: DateTime<Utc>) -> Self {
        let NewKey { made, unique_name, key_ttl } = key;
        Self {
            service_account_id: made.service_account_id,
            service_account,
            made_account,
            api_key_id: made.key.id,
            unique_name,
            api_key: made.key.value,
            last_rotation: now.trunc_subsecs(0),
            key_ttl,
        }
    }

    /// The next current key: on the same account, or on a new account with the key's unique name.
    fn succeeded_by(&self, key: NewKey, new_account: bool, now: DateTime<Utc>) -> Self {
        let service_account = if new_account { &key.unique_name } else { &self.service_account };
        let service_account = service_account.clone();
        Self::new(key, service_account, new_account || self.made_account, now)
    }
}

/// Advice after OpenAI refused the key's lifetime.
fn advice(key_ttl: Duration) -> String {
    if key_ttl.is_zero() {
        return "without key_ttl the key of a static role has no end at OpenAI: set key_ttl".to_owned();
    }
    format!("the key lives for the role's key_ttl, which is {}: change that", seconds::text(key_ttl))
}

/// Names the account if somebody deleted it at OpenAI.
fn on_account(account: Option<&ServiceAccountId>, error: Error) -> Error {
    match (account, error) {
        (Some(account), Error::KeyCreation(error)) if error.is_gone() => {
            Error::AccountGone { account: account.clone(), error }
        }
        (_, error) => error,
    }
}

/// Rotates the role for a request.
pub(in crate::engine) async fn rotate_by_hand(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
) -> Result<Option<ApiKeyId>, Error> {
    let now = work.engine.now();
    // The earlier of both clocks: under a clock that is ahead, the marker would lie far in the future.
    stored::mark(work.storage, work.name, work.engine.certain_time()).await?;
    rotate(work, role, grace, Some(Asked { at: now.trunc_subsecs(0), grace })).await
}

/// Rotates the role in storage and in memory. Returns the replaced key whose grace period ended early, if one did. After
/// a failure the role is unchanged except for its retry state. The worker repeats a failed rotation by hand (`asked`).
pub(super) async fn rotate(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
    asked: Option<Asked>,
) -> Result<Option<ApiKeyId>, Error> {
    let outcome = replace(work, role, grace).await;
    let Err(error) = &outcome else {
        work.engine.metrics.rotated(RotationKind::StaticRole, RotationResult::Done);
        let (path, labels) = (format!("static-creds/{}", work.name), &role.settings.metadata);
        work.engine.events.emit_with(EventKind::Rotate, &path, labels);
        return outcome;
    };
    // The worker also repeats a rotation by hand that the rate limit held up.
    role.asked = asked.or(role.asked);
    if is_the_roles_failure(error) {
        role.retry.failed_by(work.name, error, work.engine.now(), role.longest_wait()?);
    }
    if !of_storage(error) {
        // Best effort: if storage fails, the name stays in the stored record, and the worker looks it up.
        let _ = STATIC_ROLES.put(work.storage, work.name, role).await;
    }
    // An unsent call or a read-only node is no failed rotation: the worker or another node does it.
    if !error.is_unsent() && !matches!(error, Error::Storage(StorageError::ReadOnly)) {
        work.engine.metrics.rotated(RotationKind::StaticRole, RotationResult::Failed);
        let (path, labels) = (format!("static-creds/{}", work.name), &role.settings.metadata);
        work.engine.events.emit_with(EventKind::RotateFail, &path, labels);
    }
    outcome
}

/// True if the record must not be overwritten: a write has an unknown outcome, or the record is another role's.
pub(super) fn of_storage(error: &Error) -> bool {
    match error {
        Error::Storage(_) | Error::Superseded(_) => true,
        Error::LeftBehind(inner) => of_storage(inner),
        _ => false,
    }
}

/// True if the failure concerns this role. An unsent call or a failure of storage does not.
pub(in crate::engine) fn is_the_roles_failure(error: &Error) -> bool {
    !of_storage(error) && !error.is_unsent()
}

/// Makes room for one more replaced key. If the list is full, the oldest key in its grace period is due now. If OpenAI
/// deletes no keys, there is no room.
fn make_room(ending: &mut [Ending], certain: DateTime<Utc>) -> Result<Option<ApiKeyId>, Error> {
    let count = ending.len();
    if count < MOST_ENDING {
        return Ok(None);
    }
    let mut in_grace = ending.iter_mut().filter(|old| old.ends > certain);
    let oldest = in_grace.next().filter(|_| count == MOST_ENDING);
    let oldest = oldest.ok_or(Error::ReplacedKeysLeft(count))?;
    oldest.ends = certain;
    Ok(Some(oldest.api_key_id.clone()))
}

/// The warning about a replaced key whose grace period ended early.
pub(in crate::engine) fn ended_early(key: &ApiKeyId) -> String {
    format!(
        "replaced key {key} is ended before its grace was over: at most {MOST_ENDING} replaced keys are kept, and \
         this one was the oldest"
    )
}

async fn replace(work: &Work<'_>, role: &mut StaticRole, grace: Duration) -> Result<Option<ApiKeyId>, Error> {
    let (storage, mut ending) = (work.storage, role.ending.clone());
    let cut_short = make_room(&mut ending, work.engine.certain_time())?;
    let old = role.current(work.name)?.service_account_id.clone();
    let account = Some(&old).filter(|_| role.settings.rotation_method == Method::Key);
    let making = role.begin_making(work.new_name(&role.settings), account, work.engine.now())?;
    work.engine.accounts.first_seen.begin(&making.name);
    STATIC_ROLES.put(storage, work.name, role).await?;
    failpoint!("rotate.begun");
    let key = make_key(work, role, &making).await?;
    let new = role.current(work.name)?.succeeded_by(key, account.is_none(), work.engine.now());
    let mut rotated = StaticRole { ending, ..role.clone() };
    rotated.replace_current(new, grace, grace_ends(work.engine, grace));
    store_new(work, &rotated, account.is_none()).await.map_err(|error| Error::LeftBehind(Box::new(error)))?;
    failpoint!("rotate.stored");
    work.engine.accounts.first_seen.forget(&making.name);
    *role = rotated;
    if !role.names_account(&old) {
        // A claim that stays is void.
        let _ = claims::release(&work.engine.locks, storage, &old, &work.owner()).await;
    }
    Ok(cut_short)
}

/// The end of a key that is replaced now. Without a grace period, both clocks are past the end. With a grace period, the
/// time counts by our clock, which OpenAI's response with the new key has just corrected.
fn grace_ends(engine: &Engine, grace: Duration) -> DateTime<Utc> {
    if grace.is_zero() { engine.certain_time() } else { engine.now() + grace }
}

/// A new account is claimed before the role that names it is stored.
async fn store_new(work: &Work<'_>, role: &StaticRole, new_account: bool) -> Result<(), Error> {
    let account = &role.current(work.name)?.service_account_id;
    if new_account {
        claims::claim(work.engine, work.storage, account, &work.owner()).await?;
        failpoint!("rotate.claimed");
    }
    Ok(STATIC_ROLES.put(work.storage, work.name, role).await?)
}
