//! `config/check`: asks OpenAI now, with the stored key.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::config::clients::{self, Configured};
use crate::engine::config::configuration::Config;
use crate::engine::config::{admin_reconcile, key_records};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField};
use crate::logical::{Operation, Response};
use crate::openai::{self, AdminKeyId, AdminKeyRecord, Client, Denial, Urgency};

/// Maximum duration of each of the two calls.
const MAX_WAIT: Duration = Duration::from_secs(4);

const HELP: Help = Help {
    synopsis: "Ask OpenAI now whether the stored admin key works.",
    description: "\
Reads the admin key's own record at OpenAI with the stored key, and tells if the key may also change something. For that \
it asks OpenAI to delete an admin key that does not exist, which changes nothing. A failure is part of the answer: error \
says what is wrong, and the read itself succeeds.

    $ vault read openai/config/check",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<bool>("reachable", "OpenAI answered."),
    ResponseField::new::<bool>(
        "admin_key_accepted",
        "OpenAI accepts the admin key; absent where OpenAI did not say.",
    ),
    ResponseField::new::<String>("may_write", "yes, no, or unknown: if the key may change something."),
    ResponseField::new::<String>("error", "The fault; empty without one."),
    ResponseField::new::<String>("organization_id", "The organization that was asked about."),
    ResponseField::new::<String>("api_endpoint", "URL of OpenAI's API."),
    ResponseField::new::<String>("admin_api_key_id", "OpenAI's id of the admin key, where it is known."),
    ResponseField::new::<String>(
        "admin_api_key_expires_at",
        "Time at which the admin key expires at OpenAI; empty for never, or where that is not known.",
    ),
    ResponseField::new::<String>(
        "admin_key_last_used_at",
        "Time at which OpenAI last saw the admin key; empty where that is not known.",
    ),
    ResponseField::new::<i64>("duration_ms", "Time that OpenAI took, in milliseconds."),
];

/// Permission of a key to change something at OpenAI.
pub(in crate::engine) enum MayWrite {
    Yes,
    /// OpenAI does not let the key do it.
    No(openai::Error),
    /// OpenAI did not say.
    Unknown(openai::Error),
}

pub(in crate::engine) fn path() -> Path<Engine> {
    Path::new("config/check", HELP).on(Operation::Read, read).responds(Operation::Read, ANSWER)
}

/// Tests if the client's key may change something: deletes an admin key that does not exist.
pub(in crate::engine) async fn may_write(client: &Client) -> MayWrite {
    let missing = format!("key_{}", Uuid::new_v4().simple());
    let Ok(missing) = missing.parse::<AdminKeyId>() else { return MayWrite::Yes };
    match admin_reconcile::end(client, &missing).await {
        Ok(()) => MayWrite::Yes,
        Err(error) if matches!(error.denial(), Some(Denial::Call)) => MayWrite::No(error),
        Err(error) => MayWrite::Unknown(error),
    }
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let Configured { config, client } = clients::configured(&engine, &**call.storage()).await?;
    let client = client.for_work(Urgency::Check, MAX_WAIT);
    let begun = Instant::now();
    let known = key_records::current(&config, &client).await;
    let may_write = match &known {
        Ok(_) => Some(may_write(&client).await),
        Err(_) => None,
    };
    let took = begun.elapsed();
    Ok(Some(view(&config, &known, may_write.as_ref(), took)))
}

fn view(
    config: &Config,
    known: &Result<Option<AdminKeyRecord>, openai::Error>,
    may_write: Option<&MayWrite>,
    took: Duration,
) -> Response {
    let record = known.as_ref().ok().and_then(Option::as_ref);
    let (word, error) = match (known, may_write) {
        (Err(error), _) | (_, Some(MayWrite::Unknown(error))) => ("unknown", error.to_string()),
        (_, Some(MayWrite::No(error))) => ("no", Error::ReadOnlyKey(error.clone()).to_string()),
        (_, Some(MayWrite::Yes)) => ("yes", String::new()),
        (_, None) => ("unknown", String::new()),
    };
    // A limit is OpenAI's answer to this call or to an earlier one.
    let is_answer = |error: &openai::Error| error.status().is_some() || error.is_limited();
    let time = |time: Option<_>| Value::from(time.map(rfc3339::text).unwrap_or_default());
    let id = record.map_or_else(|| config.admin_api_key_id.as_ref(), |record| Some(&record.id));
    let mut response = Response::of([
        ("reachable", Value::from(known.as_ref().err().is_none_or(is_answer))),
        ("may_write", word.into()),
        ("error", error.into()),
        ("organization_id", config.organization_id.as_str().into()),
        ("api_endpoint", config.api_endpoint.as_str().into()),
        ("admin_api_key_id", id.map_or("", AdminKeyId::as_str).into()),
        ("admin_api_key_expires_at", time(record.and_then(|record| record.expires_at))),
        ("admin_key_last_used_at", time(record.and_then(|record| record.last_used_at))),
        ("duration_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into()),
    ]);
    if let Some(is_accepted) = is_accepted(known) {
        response.data.insert("admin_key_accepted".to_owned(), is_accepted.into());
    }
    response
}

/// True if OpenAI accepts the admin key; `None` if OpenAI did not say: a limit, an outage, a proxy.
fn is_accepted(known: &Result<Option<AdminKeyRecord>, openai::Error>) -> Option<bool> {
    match known {
        Ok(_) => Some(true),
        Err(error) => error.is_unauthorized().then_some(false),
    }
}
