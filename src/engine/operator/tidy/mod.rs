//! `tidy`: finds accounts and keys at OpenAI that carry this mount's tag and that nothing here owns any more, and removes
//! them if it is told to. They are what a restored backup leaves behind.

mod admin_keys;
mod run;
mod status;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::status::Order;
pub(in crate::engine) use self::status::Tidying;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Data, Operation, Response};

static DRY_RUN: Field<bool> =
    Field::new("dry_run", "Only tell what would be removed. Removing needs dry_run=false.").default(true);
static MIN_AGE: Field<Duration> =
    Field::new("min_age", "Leave alone what OpenAI made less than this long ago.").default(86_400);

const HELP: Help = Help {
    synopsis: "Find accounts and keys at OpenAI that this mount made and nothing owns any more, and remove them.",
    description: "\
Looks through every project that project/, roles, static roles and library sets name, for service accounts and API keys \
whose name ends in this mount's tag (info shows it) and that no lease's record, static role, library set or role's \
service_account_id names. A key may be on an account that this mount did not make; only the key is then removed. It \
looks for admin keys that a rotation made, too, and leaves the one in use. Such accounts and keys are left where a \
restored backup knows nothing of them. Without dry_run=false nothing is removed. \
An account or key without the tag is never touched.

It runs in the background, one run at a time, behind everything else that asks OpenAI; tidy/status tells how far it is. \
Do not remove anything from a copy of a server whose original still runs: they share the tag. On a mount that \
performance replication shares with other clusters it is refused.

    $ vault write -f openai/tidy
    $ vault read openai/tidy/status
    $ vault write openai/tidy dry_run=false min_age=48h",
};

const STATUS_HELP: Help = Help {
    synopsis: "Tell what the last run of tidy found and did, or how far it is.",
    description: "\
Known to the node that ran it, until its process ends; inactive before the first run.

    $ vault read openai/tidy/status",
};

const STARTED: &[ResponseField] = &[
    ResponseField::new::<String>("state", "running."),
    ResponseField::new::<bool>("dry_run", "Whether nothing is removed."),
    ResponseField::new::<Duration>(
        "min_age",
        "The age below which accounts and keys are left alone, in seconds.",
    ),
];

const STATUS: &[ResponseField] = &[
    ResponseField::new::<String>("state", "inactive, running, finished, failed or stopped."),
    ResponseField::new::<DateTime<Utc>>("started", "When the run began."),
    ResponseField::new::<DateTime<Utc>>("finished", "When it ended."),
    ResponseField::new::<bool>("dry_run", "Whether nothing is removed."),
    ResponseField::new::<Duration>(
        "min_age",
        "The age below which accounts and keys are left alone, in seconds.",
    ),
    ResponseField::new::<i64>("looked_at", "How many accounts were looked at."),
    ResponseField::new::<i64>("keys_looked_at", "How many API keys and admin keys were looked at."),
    ResponseField::new::<i64>("found_count", "How many accounts and keys nothing owns."),
    ResponseField::new::<Vec<Data>>(
        "found",
        "The first 1000 of these: kind (account, key or admin_key), name, id, created_at; project_id but for an admin key; \
         of a key service_account_id.",
    ),
    ResponseField::new::<i64>("removed", "How many were removed."),
    ResponseField::new::<i64>("failed", "How many projects, accounts or keys could not be dealt with."),
    ResponseField::new::<String>("last_error", "Why, the last time."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("tidy", HELP)
            .field(&DRY_RUN)
            .field(&MIN_AGE)
            .on(Operation::Update, start)
            .responds(Operation::Update, STARTED),
        // The node that runs it knows.
        Path::new("tidy/status", STATUS_HELP)
            .on(Operation::Read, status)
            .forward(Operation::Read)
            .responds(Operation::Read, STATUS),
    ]
}

async fn start(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let order = Order { dry_run: call.get(&DRY_RUN)?, min_age: call.get(&MIN_AGE)? };
    engine.configured(&**call.storage()).await?;
    if engine.system.is_shared().await? {
        return Err(Error::Replicated);
    }
    if !engine.tidying.begin(&order, engine.now()) {
        return Err(Error::TidyRunning);
    }
    tokio::spawn(run::in_background(engine, Arc::clone(call.storage()), order));
    Ok(Some(Response::of([
        ("state", Value::from("running")),
        ("dry_run", order.dry_run.into()),
        ("min_age", order.min_age.as_secs().into()),
    ])))
}

async fn status(engine: Arc<Engine>, _: Call) -> Result<Option<Response>, Error> {
    let status: Data = engine.tidying.view();
    Ok(Some(Response::new(status)))
}
