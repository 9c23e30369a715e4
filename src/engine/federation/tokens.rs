//! `creds/:name` of a role with access tokens, and `identity-token/:name`.
//!
//! A read is answered by any node, writes nothing and has no lease: OpenAI cannot end a single token, so a lease that says
//! "revoked" would be wrong. `ttl` and `rotation_period` tell agents when to read again.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::exchange;
use super::record::{Federation, ONLY};
use super::role::FederatedRole;
use crate::engine::config::metadata;
use crate::engine::telemetry::events::EventKind;
use crate::engine::time::{rfc3339, seconds};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Operation, Response, Storage};
use crate::openai::ServiceAccountId;

static NAME: Field<Name> = Field::new("name", "Name of a role with credential_type=access_token.");
static TTL: Field<Duration> =
    Field::new("ttl", "Lifetime of this token, at most the role's ttl. Default: the role's ttl.").query();

const HELP: Help = Help {
    synopsis: "Sign an identity token of a role, which an OpenAI SDK exchanges for access tokens.",
    description: "\
The application's SDK exchanges the token at OpenAI and renews by itself. OpenAI is not called here, so this works while \
OpenAI cannot be reached. No access token lives longer than the identity token that it was given for.

    $ vault read -field=identity_token openai/identity-token/app",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("identity_token", "The signed token.").sensitive(),
    ResponseField::new::<String>("identity_provider_id", "OpenAI's id of the workload identity provider."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<DateTime<Utc>>("expires_at", "Time at which the token ends."),
    ResponseField::new::<Duration>("rotation_period", "Lifetime of a token, in seconds."),
    ResponseField::new::<Duration>("ttl", "Seconds until clients should read again."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("identity-token/:name", HELP)
            .field(&NAME)
            .field(&TTL)
            .on(Operation::Read, read)
            .responds(Operation::Read, ANSWER),
    ]
}

/// The answer of `creds/:name`.
pub(in crate::engine) async fn access_token(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &FederatedRole,
    requested: Option<Duration>,
) -> Result<Response, Error> {
    let (federation, account, ttl) = usable(engine, storage, name, role, requested).await?;
    let granted = exchange::exchange(engine, storage, &federation, name, role, ttl).await;
    let granted =
        granted.inspect_err(|_| engine.events.emit(EventKind::CredsCreateFail, &format!("creds/{name}")))?;
    engine.metrics.credential_issued(name);
    let now = engine.now();
    Ok(Response::of([
        ("access_token", Value::from(granted.value.expose())),
        ("token_type", "Bearer".into()),
        ("expires_at", rfc3339::text(granted.expires_at).into()),
        ("scope", granted.scope.unwrap_or_default().into()),
        ("service_account_id", account.as_str().into()),
        ("project_id", role.account_project_id.as_str().into()),
        ("role", name.into()),
        (metadata::ECHO, metadata::shown(&role.settings.metadata)),
        ("last_vault_rotation", rfc3339::text(now).into()),
        ("rotation_period", ttl.as_secs().into()),
        ("ttl", read_again(granted.expires_at - exchange::time_of_token(engine)).into()),
    ]))
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let role = engine.federation.roles.get(storage, &name).await?;
    let role = role.ok_or_else(|| {
        let name = name.to_string();
        Error::field(format!("role {name:?} not found, or its credential_type is not access_token"))
    })?;
    let (federation, account, ttl) = usable(&engine, storage, &name, &role, call.sent(&TTL)?).await?;
    let token = exchange::sign_now(&engine, &federation, &federation.current.key, &role, ttl)?;
    engine.metrics.identity_token_signed(&name);
    let provider = federation.provider.id().map_or("", |id| id.as_str());
    Ok(Some(Response::of([
        ("identity_token", Value::from(token.expose())),
        ("identity_provider_id", provider.into()),
        ("service_account_id", account.as_str().into()),
        ("expires_at", rfc3339::text(token.expires_at()).into()),
        ("rotation_period", ttl.as_secs().into()),
        ("ttl", read_again(token.expires_at() - token.signed_at()).into()),
    ])))
}

/// The federation, the account and the lifetime, if the role hands out tokens now.
async fn usable(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &FederatedRole,
    requested: Option<Duration>,
) -> Result<(Arc<Federation>, ServiceAccountId, Duration), Error> {
    let federation = engine.federation.stored.get(storage, ONLY).await?.ok_or(Error::NotFederated)?;
    if !role.settings.enabled {
        return Err(Error::field(format!("role {name:?} is disabled: an operator set enabled=false")));
    }
    let account = role.account().filter(|_| role.is_registered() && federation.provider.id().is_some());
    let Some(account) = account else {
        let why = role.retry.last_error.as_deref().unwrap_or("its creation is under way, or was interrupted");
        return Err(Error::field(format!(
            "role {name:?} is not registered at OpenAI yet, which Vault repeats: {why}"
        )));
    };
    let ttl = requested.unwrap_or(role.settings.ttl);
    if ttl.is_zero() || ttl > role.settings.ttl {
        return Err(Error::field(format!(
            "ttl must be from 1s to the role's ttl, which is {}, not {}",
            seconds::text(role.settings.ttl),
            seconds::text(ttl)
        )));
    }
    Ok((federation, account.clone(), ttl))
}

/// Seconds after which a client reads again: two thirds of what is left, so that the next token is there in time.
fn read_again(left: TimeDelta) -> u64 {
    (left.num_seconds().max(0).unsigned_abs() * 2 / 3).max(1)
}
