//! `static-creds/:name` answers the key of a static role. `static-creds/:name/rotate` rotates the key now.
//!
//! Each node answers a read, with one read of storage and no call to OpenAI. The answer has the fields that Vault Agent,
//! consul-template and the Vault Secrets Operator use. Except `ttl`, it is constant until the next rotation.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ending::{end_due_keys, trouble};
use super::record::StaticRole;
use super::rotate::{self, MAX_WAIT, Work};
use super::settings::check_grace;
use super::stored;
use crate::engine::config::{clients, metadata};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Name, Path, ResponseField};
use crate::logical::{Operation, Response};

static NAME: Field<Name> = Field::new("name", "Name of the static role.");
static GRACE: Field<Duration> = Field::new(
    "grace_period",
    "Time for which the replaced key still works; 0 ends it now. Default: the role's grace_period, or 0 if \
    the role was written without one.",
);

const HELP: Help = Help {
    synopsis: "Read the key of a static role.",
    description: "\
The key has no lease. ttl is the number of seconds until clients should read again: until the next rotation, at most the \
role's ttl.

    $ vault read openai/static-creds/app",
};

const ROTATE_HELP: Help = Help {
    synopsis: "Rotate the key of a static role now.",
    description: "\
Answers the new key. The replaced key is deleted, or works for grace_period longer. A failed rotation is counted in the \
role's rotation_failures, and Vault retries it until it succeeds. Vault also retries a rotation for which OpenAI's rate \
limit had no room. At most twenty replaced keys are kept: another rotation ends the oldest early, with a warning.

    $ vault write -f openai/static-creds/app/rotate
    $ vault write openai/static-creds/app/rotate grace_period=10m",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("api_key", "The key.").sensitive(),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<String>("service_account", "Name of the service account."),
    ResponseField::new::<String>("last_rotation", "Time at which the key was created."),
    ResponseField::new::<String>("last_vault_rotation", "The same as last_rotation."),
    ResponseField::new::<Duration>(
        "rotation_period",
        "Planned lifetime of the key, in seconds; one year if it is rotated by hand only.",
    ),
    ResponseField::new::<Duration>("ttl", "Seconds until clients should read again."),
    ResponseField::new::<String>("role", "Name of the static role."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project."),
    metadata::ECHO_ANSWER,
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("static-creds/:name", HELP)
            .also("static-cred/:name")
            .field(&NAME)
            .on(Operation::Read, read)
            .responds(Operation::Read, ANSWER),
        Path::new("static-creds/:name/rotate", ROTATE_HELP)
            .also("rotate-role/:name")
            .field(&NAME)
            .field(&GRACE)
            .on(Operation::Update, rotate)
            .responds(Operation::Update, ANSWER),
    ]
}

fn answer(engine: &Engine, role: &StaticRole, name: &str) -> Result<Response, Error> {
    let key = role.current(name)?;
    // By the clock whose next window opens first, so that no reader comes back too late.
    let ttl = role.told_ttl(name, engine.latest_time())?.min(role.told_ttl(name, engine.now())?);
    let made = rfc3339::text(key.last_rotation);
    Ok(Response::of([
        ("api_key", Value::from(key.api_key.expose())),
        ("api_key_id", key.api_key_id.as_str().into()),
        ("service_account_id", key.service_account_id.as_str().into()),
        ("service_account", key.service_account.as_str().into()),
        ("last_rotation", made.as_str().into()),
        ("last_vault_rotation", made.as_str().into()),
        ("rotation_period", role.told_period()?.as_secs().into()),
        ("ttl", ttl.as_secs().into()),
        ("role", name.into()),
        ("project_id", role.account_project_id.as_str().into()),
        (metadata::ECHO, metadata::shown(&role.settings.metadata)),
    ]))
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let name = call.get(&NAME)?;
    let role = stored::find(&**call.storage(), &name).await?;
    answer(&engine, &role, &name).map(Some)
}

async fn rotate(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (&**call.storage(), call.get(&NAME)?);
    let asked = call.sent(&GRACE)?;
    check_grace(asked.unwrap_or_default())?;
    let _alone = engine.locks.lock(&stored::lock(&name)).await;
    let mut role = stored::find(storage, &name).await?;
    let client = clients::client_of(&engine, storage, &role.organization_id).await?;
    let work = Work { engine: &engine, storage, name: &name, client, max_wait: MAX_WAIT };
    let grace = asked.unwrap_or_else(|| role.settings.grace_by_hand());
    let cut_short = rotate::rotate_by_hand(&work, &mut role, grace).await?;
    // The rotation has succeeded; a failure with the old key is only a warning.
    let ended = end_due_keys(&work, &mut role).await;
    let mut answer = answer(&engine, &role, &name)?;
    if let Some(key) = cut_short {
        answer = answer.with_warning(rotate::ended_early(&key));
    }
    let trouble = ended.map_or_else(|error| Some(error.to_string()), |failure| trouble(&role, failure));
    Ok(Some(match trouble {
        Some(trouble) => answer.with_warning(format!(
            "the end of the replaced key is not complete yet; Vault retries: {trouble}"
        )),
        None => answer,
    }))
}
