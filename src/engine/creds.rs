//! `creds/:name`: a key for each lease, and its end.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future;
use serde_json::Value;

use super::clients::Configured;
use super::failpoint::{failpoint, shortened};
use super::issuer::{self, Handed, Made, Order, Owner};
use super::ledger::{self, LEDGER};
use super::roles::Role;
use super::{Engine, Error, backoff, rfc3339, seconds};
use crate::framework::{Call, Field, Help, LeaseCall, LeaseType, Name, Path, Pending, ResponseField, Tick};
use crate::logical::{Operation, Response, Storage};
use crate::openai::{self, Client, Urgency};

pub(super) static CREDENTIAL: LeaseType = LeaseType::new("service_account_key");

/// As long as a read waits for OpenAI; Vault gives up after 90 s.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long Vault has for its own revocation before the tick removes what ended.
const GRACE: Duration = Duration::from_secs(120);
/// As long as one removal waits for OpenAI; what is left waits for the next tick.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(5);
/// As many removals go on at once.
const ABREAST: usize = 8;
/// As many ended credentials as one tick takes on.
const MOST_PER_TICK: usize = 1_000;

static NAME: Field<Name> = Field::new("name", "Name of the role.");
static TTL: Field<Duration> =
    Field::new("ttl", "How long this credential lives; the role's ttl if not given, at most its max_ttl.")
        .query();

const HELP: Help = Help {
    synopsis: "Make an OpenAI API key for a role.",
    description: "\
Makes a service account with a key, or a key on the role's account. It lives as long as its lease, which cannot be \
renewed: ask again before it ends.

    $ vault read openai/creds/app
    $ vault read openai/creds/app ttl=30m",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("api_key", "The key.").sensitive(),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<String>("service_account", "Name of the service account."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<DateTime<Utc>>(
        "expires_at",
        "When OpenAI ends the key by itself, should the lease be lost.",
    ),
];

pub(super) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("creds/:name", HELP)
            .field(&NAME)
            .field(&TTL)
            .on(Operation::Read, read)
            .on(Operation::Update, read)
            .forward(Operation::Read)
            .responds(Operation::Read, ANSWER)
            .responds(Operation::Update, ANSWER),
    ]
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (call.storage(), call.get(&NAME)?);
    let role = engine.roles.get(&**storage, &name).await?;
    let role = role.ok_or_else(|| Error::NotFound { kind: "role", name: name.to_string() })?;
    let ttl = ttl(&engine, &role, call.sent(&TTL)?).await?;
    let configured = engine.configured(&**storage).await?;
    let project_id = engine.project_id(&**storage, &role.project, role.project_id.as_ref()).await?;

    let account_name = role.new_name(&engine.tag, &name)?;
    let now = Utc::now();
    let ends = now + ttl;
    let place = ledger::place(ends, &account_name);
    let expires_in = (ttl + configured.config.key_expiry_margin).min(issuer::LONGEST_EXPIRY);
    let order = Order {
        project_id: &project_id,
        account: role.service_account_id.as_ref(),
        name: account_name.clone(),
        expires_in: Some(expires_in),
        scopes: &role.scopes,
        owner: Owner::Ledger(place.clone()),
    };
    let Configured { config, client } = configured;
    let client = client.for_work(Urgency::Issue, PATIENCE);
    let (made, pending) = issuer::issue(&client, &config.organization_id, storage, order).await?;

    let handed = Handed {
        organization_id: config.organization_id.clone(),
        project_id: project_id.clone(),
        service_account_id: made.service_account_id.clone(),
        api_key_id: made.key.id.clone(),
        name: account_name,
        with_account: role.service_account_id.is_none(),
        role: name.to_string(),
        ends,
        expires: Some(made.key.expires_at.unwrap_or(now + expires_in)),
    };
    let entry = ledger::Entry { handed: handed.clone(), failures: 0, last_error: None, retry_at: None };
    if let Err(error) = LEDGER.put(&**storage, &place, &entry).await {
        failpoint!("creds.not_recorded");
        return Err(take_back(&client, &handed, pending, error.into()).await);
    }
    failpoint!("creds.recorded");
    issuer::forget(pending).await;
    failpoint!("creds.committed");
    engine.metrics.credential_issued(&name);
    let lease = CREDENTIAL.grant(&handed, ttl, Duration::ZERO, false)?;
    Ok(Some(answer(made, &handed).with_lease(lease)))
}

fn answer(made: Made, handed: &Handed) -> Response {
    let expires = handed.expires.map(rfc3339::text).unwrap_or_default();
    Response::of([
        ("api_key", Value::from(made.key.value.expose())),
        ("api_key_id", Value::from(handed.api_key_id.as_str())),
        ("service_account", Value::from(handed.name.as_str())),
        ("service_account_id", Value::from(handed.service_account_id.as_str())),
        ("expires_at", Value::from(expires)),
    ])
}

/// The time that a credential lives: never above what the role or the mount allows.
async fn ttl(engine: &Engine, role: &Role, asked: Option<Duration>) -> Result<Duration, Error> {
    let ttl = asked.unwrap_or(role.ttl);
    if ttl.is_zero() {
        return Err(Error::field("ttl must be at least 1s"));
    }
    if ttl > role.max_ttl {
        return Err(Error::field(format!(
            "ttl must not be above the role's max_ttl: {} is more than {}",
            seconds::text(ttl),
            seconds::text(role.max_ttl)
        )));
    }
    Ok(ttl.min(engine.system.max_lease_ttl().await?))
}

/// Ends what could not be recorded. The write-ahead entry stays if that fails.
async fn take_back(client: &Client, handed: &Handed, pending: Pending, error: Error) -> Error {
    if issuer::take_back(client, handed).await.is_err() {
        return Error::LeftBehind(Box::new(error));
    }
    failpoint!("creds.taken_back");
    issuer::forget(pending).await;
    error
}

/// Vault ends the lease.
pub(super) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), Error> {
    let handed: Handed = call.internal()?;
    let storage = &*call.request.storage;
    if let Err(error) = end(&engine, storage, &handed).await {
        // OpenAI has ended the key by itself: the lease is over. The tick removes the account by the ledger.
        return if handed.is_expired(Utc::now()) { Ok(()) } else { Err(error) };
    }
    failpoint!("revoke.ended");
    LEDGER.delete(storage, &ledger::place(handed.ends, &handed.name)).await?;
    failpoint!("revoke.forgotten");
    engine.metrics.credential_revoked(&handed.role);
    Ok(())
}

/// Ends it, waiting for OpenAI as long as the caller does.
async fn end(engine: &Engine, storage: &dyn Storage, handed: &Handed) -> Result<(), Error> {
    // What is dead already is only tidied up, which must not hold up what still lives.
    let patience = if handed.is_expired(Utc::now()) { Duration::ZERO } else { PATIENCE };
    end_within(engine, storage, handed, patience).await
}

async fn end_within(
    engine: &Engine,
    storage: &dyn Storage,
    handed: &Handed,
    patience: Duration,
) -> Result<(), Error> {
    let client = engine.client_of(storage, &handed.organization_id).await?;
    issuer::retire(&client.for_work(Urgency::Revocation, patience), handed).await.map_err(Error::Revocation)
}

/// Part of the tick: removes what outlived its own end, because its lease was lost or its account could not be
/// removed then. One failure never stops the rest; only when OpenAI takes no more calls, all wait for the next tick.
pub(super) async fn remove_ended(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let now = Utc::now();
    let places = ledger::ended(&*tick.storage, now - grace(), MOST_PER_TICK).await?;
    for some in places.chunks(ABREAST) {
        if tick.is_over() {
            break;
        }
        let removals = some.iter().map(|place| remove(engine, tick, place, now));
        for removal in future::join_all(removals).await {
            if removal? == Removal::NoRoom {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What came of one removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    /// Done, not due, or to be tried again by itself.
    Settled,
    /// OpenAI takes no more calls now, whatever they are about.
    NoRoom,
}

async fn remove(engine: &Engine, tick: &Tick, place: &str, now: DateTime<Utc>) -> Result<Removal, Error> {
    let storage = &*tick.storage;
    let Some(mut entry) = LEDGER.get(storage, place).await? else { return Ok(Removal::Settled) };
    if entry.retry_at.is_some_and(|at| at > now) {
        return Ok(Removal::Settled);
    }
    match end_within(engine, storage, &entry.handed, REMOVAL_PATIENCE).await {
        Ok(()) => {
            failpoint!("tick.ended");
            LEDGER.delete(storage, place).await?;
        }
        Err(Error::Revocation(openai::Error::Throttled { .. } | openai::Error::Unavailable { .. })) => {
            return Ok(Removal::NoRoom);
        }
        Err(error) => {
            entry.failures += 1;
            entry.last_error = Some(error.to_string());
            entry.retry_at = Some(backoff::retry_at(place, entry.failures, now, Duration::ZERO));
            LEDGER.put(storage, place, &entry).await?;
        }
    }
    Ok(Removal::Settled)
}

/// Vault's own revocation comes first; it needs a moment.
fn grace() -> chrono::TimeDelta {
    chrono::TimeDelta::seconds(shortened!("OPENAI_LEDGER_GRACE", GRACE).as_secs().cast_signed())
}
