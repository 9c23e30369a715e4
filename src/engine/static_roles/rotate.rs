//! Replaces a static role's key. The same for the tick and by hand. A rotation by hand that fails is stored in the role
//! as any other failure, and the worker makes up for it.
//!
//! *Guarantees:* the caller holds the role's lock, and a marker of the role has come. The new key's name stands in the
//! stored record before OpenAI is asked. One write brings the new key in and moves the old one to those that end. So a
//! crash at any point leaves either the old key as it was, and the new one to a look-up by its name, or the new key in
//! place and the old one to the worker. A write of the role that failed may still have happened: nothing is ended then,
//! and nothing more is written; the worker decides by what storage says later.
//!
//! *Assumptions:* the claim of an account is void unless a stored role names it (`owners`).

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::record::{Asked, Current, Ending, STATIC_ROLES, StaticRole};
use super::settings::{Method, Settings};
use super::stored;
use crate::engine::accounts::claims;
use crate::engine::accounts::lookup::Sought;
use crate::engine::accounts::making::Making;
use crate::engine::accounts::owner::Owner;
use crate::engine::creds::issuer::{Failure, Left, Made};
use crate::engine::creds::{deletion, issuer};
use crate::engine::failpoint::failpoint;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::telemetry::events;
use crate::engine::telemetry::events::EventKind;
use crate::engine::telemetry::metrics::{RotationKind, RotationResult};
use crate::engine::time::{key_lifetime, seconds};
use crate::engine::{Engine, Error};
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, Client, ServiceAccountId, Urgency};

/// As long as each call of a request waits for its turn; Vault gives a request 90 s.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);
/// As many replaced keys may wait for their end; more would be a flood of live keys, as where OpenAI makes keys but
/// ends none.
const MOST_ENDING: usize = 20;

/// What a piece of work on one role needs.
pub(in crate::engine) struct Work<'a> {
    pub(in crate::engine) engine: &'a Engine,
    pub(in crate::engine) storage: &'a dyn Storage,
    pub(in crate::engine) name: &'a str,
    /// Of the role's organization.
    pub(in crate::engine) client: Client,
    /// As long as each call waits for its turn.
    pub(in crate::engine) max_wait: Duration,
}

/// What OpenAI made, and the unique name it was asked for by.
pub(super) struct NewKey {
    made: Made,
    unique_name: String,
    /// How long it lives at OpenAI; zero is for ever.
    key_ttl: Duration,
}

impl Work<'_> {
    pub(super) fn owner(&self) -> Owner {
        Owner::StaticRole(self.name.to_owned())
    }

    /// A new unique name, of a key or of an account.
    pub(super) fn new_name(&self, settings: &Settings) -> String {
        ServiceAccountName::beginning(&settings.api_key_name, &self.engine.tag, &mut rand::rng()).to_string()
    }
}

/// Asks OpenAI for what the stored record of the role says is being made. The caller stores what came of it: if nothing
/// is left at OpenAI, the role no longer names it as being made.
pub(super) async fn ask(work: &Work<'_>, role: &mut StaticRole, making: &Making) -> Result<NewKey, Error> {
    let key_ttl = role.settings.key_ttl;
    let (project, account) = (role.account_project_id.clone(), making.service_account_id.as_ref());
    let sought = Sought { project: &project, account, name: &making.name };
    let client = work.client.for_work(Urgency::Rotation, work.max_wait);
    // Without key_ttl a key lives until its role replaces it.
    let expires_in = Some(key_ttl).filter(|ttl| !ttl.is_zero());
    match issuer::issue(&client, &sought, expires_in).await {
        Ok(made) => {
            let key = NewKey { made, unique_name: making.name.clone(), key_ttl };
            confirm(work, role, making, &key).await?;
            Ok(key)
        }
        Err(Failure { error, left }) => {
            if left != Left::Unknown {
                role.making.end(&making.name);
                work.engine.first_seen.forget(&making.name);
            }
            let error = on_account(making.service_account_id.as_ref(), error);
            Err(key_lifetime::explained(error, || advice(key_ttl)))
        }
    }
}

/// Takes the new key back if the stored record is not this role's any more, or does not name the key as being made: as
/// where another node deleted the role, and wrote one of the same name.
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
    stored::mark(work.storage, work.name, work.engine.certain_time()).await?;
    attempt(work, role, grace, Some(Asked { at: now.trunc_subsecs(0), grace })).await
}

/// Rotates the role, which is then as it is stored; answers the key whose grace had to end early for it. If that fails,
/// the role is as it was, but for the failure.
pub(in crate::engine) async fn rotate(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
) -> Result<Option<ApiKeyId>, Error> {
    attempt(work, role, grace, None).await
}

/// A failure that is the role's own is stored in the role; then the worker makes up for what was `asked`.
async fn attempt(
    work: &Work<'_>,
    role: &mut StaticRole,
    grace: Duration,
    asked: Option<Asked>,
) -> Result<Option<ApiKeyId>, Error> {
    let outcome = replace(work, role, grace).await;
    let Err(error) = &outcome else {
        work.engine.metrics.rotated(RotationKind::StaticRole, RotationResult::Done);
        let (path, labels) = (format!("static-creds/{}", work.name), &role.settings.metadata);
        events::emit_with(work.engine, EventKind::Rotate, &path, labels);
        return outcome;
    };
    if is_the_roles_failure(error) {
        role.retry.failed_by(work.name, error, work.engine.now(), role.longest_wait()?);
        role.asked = asked.or(role.asked);
    }
    if !of_storage(error) {
        // What storage does not take is looked up by the worker, by the name that stays on record.
        let _ = STATIC_ROLES.put(work.storage, work.name, role).await;
    }
    // Put off, or another node's to do.
    if !error.is_unsent() && !matches!(error, Error::Storage(StorageError::ReadOnly)) {
        work.engine.metrics.rotated(RotationKind::StaticRole, RotationResult::Failed);
        let (path, labels) = (format!("static-creds/{}", work.name), &role.settings.metadata);
        events::emit_with(work.engine, EventKind::RotateFail, &path, labels);
    }
    outcome
}

/// Tells if the record must not be written over: the outcome of a write is not known, or the record is another role's.
fn of_storage(error: &Error) -> bool {
    match error {
        Error::Storage(_) | Error::Superseded(_) => true,
        Error::LeftBehind(inner) => of_storage(inner),
        _ => false,
    }
}

/// Tells if a failed rotation is the role's own failure. A call that was not sent says nothing of the role.
pub(in crate::engine) fn is_the_roles_failure(error: &Error) -> bool {
    !of_storage(error) && !error.is_unsent()
}

/// Makes room for one more replaced key. Where as many wait as may, the oldest that is still in its grace ends now:
/// rotations that came later replaced it. Where OpenAI ends none, there is no room.
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

/// What is said of a key whose grace had to end early.
pub(in crate::engine) fn ended_early(key: &ApiKeyId) -> String {
    format!(
        "replaced key {key} is ended before its grace was over: {MOST_ENDING} replaced keys were waiting for their \
         end, and this one was the oldest"
    )
}

async fn replace(work: &Work<'_>, role: &mut StaticRole, grace: Duration) -> Result<Option<ApiKeyId>, Error> {
    let (storage, mut ending) = (work.storage, role.ending.clone());
    let cut_short = make_room(&mut ending, work.engine.certain_time())?;
    let old = role.current(work.name)?.service_account_id.clone();
    let account = Some(&old).filter(|_| role.settings.rotation_method == Method::Key);
    let making = role.begin_making(work.new_name(&role.settings), account, work.engine.now())?;
    work.engine.first_seen.begin(&making.name);
    STATIC_ROLES.put(storage, work.name, role).await?;
    failpoint!("rotate.begun");
    let key = ask(work, role, &making).await?;
    let new = role.current(work.name)?.succeeded_by(key, account.is_none(), work.engine.now());
    let mut rotated = StaticRole { ending, ..role.clone() };
    rotated.replace_current(new, grace, grace_ends(work.engine, grace));
    store_new(work, &rotated, account.is_none()).await.map_err(|error| Error::LeftBehind(Box::new(error)))?;
    failpoint!("rotate.stored");
    work.engine.first_seen.forget(&making.name);
    *role = rotated;
    if !role.names_account(&old) {
        // A claim that stays is void.
        let _ = claims::release(work.engine, storage, &old, &work.owner()).await;
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
    let account = &role.current(work.name)?.service_account_id;
    if new_account {
        claims::claim(work.engine, work.storage, account, &work.owner()).await?;
        failpoint!("rotate.claimed");
    }
    Ok(STATIC_ROLES.put(work.storage, work.name, role).await?)
}
