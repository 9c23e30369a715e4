//! `creds/:name`: a key for each lease. How it ends is `credential_end`'s.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::clients::Configured;
use super::events::Happening;
use super::failpoint::failpoint;
use super::issuer::{self, Made, Order, Owner};
use super::ledger::{self, Handed, LEDGER};
use super::roles::Role;
use super::{Engine, Error, rfc3339, seconds};
use crate::framework::{Call, Field, Help, LeaseType, Name, Path, Pending, ResponseField};
use crate::logical::{Operation, Response};
use crate::openai::{Client, LONGEST_EXPIRY, Urgency};

pub(super) static CREDENTIAL: LeaseType = LeaseType::new("service_account_key");

/// As long as a read waits for OpenAI; Vault gives up after 90 s.
const PATIENCE: Duration = Duration::from_secs(45);

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
    let now = engine.now();
    let ends = now + ttl;
    let place = ledger::place(ends, &account_name);
    let expires_in = ttl.saturating_add(configured.config.key_expiry_margin).min(LONGEST_EXPIRY);
    let order = Order {
        project_id: &project_id,
        account: role.service_account_id.as_ref(),
        name: account_name.clone(),
        expires_in: Some(expires_in),
        scopes: &role.scopes,
        owner: Owner::Ledger(place.clone()),
        answers: Some(&engine.answers),
    };
    let Configured { config, client } = configured;
    let client = client.for_work(Urgency::Issue, PATIENCE);
    let issued = issuer::issue(&client, &config.organization_id, storage, order).await;
    let (made, pending) =
        issued.inspect_err(|_| engine.tell(Happening::CredsCreateFail, &format!("creds/{name}")))?;

    let handed = Handed {
        organization_id: config.organization_id.clone(),
        project_id: project_id.clone(),
        service_account_id: made.service_account_id.clone(),
        api_key_id: made.key.id.clone(),
        name: account_name.clone(),
        with_account: role.service_account_id.is_none(),
        role: name.to_string(),
        ends,
        expires: Some(made.key.expires_at.unwrap_or(now + expires_in)),
    };
    if let Err(error) = LEDGER.put(&**storage, &place, &ledger::Entry::new(handed.clone())).await {
        failpoint!("creds.not_recorded");
        return Err(take_back(&client, &handed, pending, error.into()).await);
    }
    failpoint!("creds.recorded");
    let departure = engine.answers.give(&account_name, pending).await;
    let departure = departure.map_err(|error| Error::LeftBehind(Box::new(error.into())))?;
    failpoint!("creds.promised");
    engine.metrics.credential_issued(&name);
    engine.tell(Happening::CredsCreate, &format!("creds/{name}"));
    let lease = CREDENTIAL.grant(&handed, ttl, Duration::ZERO, false)?;
    Ok(Some(answer(made, &handed).with_lease(lease).departing(departure)))
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
