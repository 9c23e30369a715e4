//! `tidy`: finds accounts and keys at OpenAI that have this mount's tag and no owner here, and removes them unless the
//! run is a dry run. A restored backup leaves such accounts and keys.

mod admin_keys;
mod run;
mod status;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use self::status::Options;
pub(in crate::engine) use self::status::Tidying;
use crate::engine::config::clients;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, Path, ResponseField};
use crate::logical::{Data, Operation, Response};

static DRY_RUN: Field<bool> =
    Field::new("dry_run", "Only report what would be removed. Removal needs dry_run=false.").default(true);
static MIN_AGE: Field<Duration> =
    Field::new("min_age", "Age below which accounts and keys are left alone.").default(86_400);

const HELP: Help = Help {
    synopsis: "Find and remove accounts and keys at OpenAI that this mount created and that nothing owns any more.",
    description: "\
Looks for service accounts and API keys whose names end in this mount's tag (see info), in every project that a project, \
role, static role or library set names. It finds those that no lease, static role, library set or role names. A restored \
backup leaves such accounts and keys. A found key may be on another account; then only the key is removed. It also looks \
for admin keys that a rotation created, except the one in use. Without dry_run=false nothing is removed. An account or key \
without the tag is never touched.

It runs in the background, one run at a time, with lower priority than other calls of OpenAI; tidy/status shows its \
progress. Do not remove anything from a copy of a server whose original still runs: both have the same tag. It is refused \
on a mount that performance replication shares with other clusters.

    $ vault write -f openai/tidy
    $ vault read openai/tidy/status
    $ vault write openai/tidy dry_run=false min_age=48h",
};

const STATUS_HELP: Help = Help {
    synopsis: "Read the state and the results of the last run of tidy.",
    description: "\
The node that ran tidy knows it until the plugin's process ends. It is inactive before the first run.

    $ vault read openai/tidy/status",
};

const STARTED: &[ResponseField] = &[
    ResponseField::new::<String>("state", "Always running."),
    ResponseField::new::<bool>("dry_run", "True if nothing is removed."),
    ResponseField::new::<Duration>(
        "min_age",
        "The age below which accounts and keys are left alone, in seconds.",
    ),
];

const STATUS: &[ResponseField] = &[
    ResponseField::new::<String>("state", "inactive, running, finished, failed or stopped."),
    ResponseField::new::<DateTime<Utc>>("started", "Time at which the run began."),
    ResponseField::new::<DateTime<Utc>>("finished", "Time at which the run ended."),
    ResponseField::new::<bool>("dry_run", "True if nothing is removed."),
    ResponseField::new::<Duration>(
        "min_age",
        "The age below which accounts and keys are left alone, in seconds.",
    ),
    ResponseField::new::<i64>("looked_at", "Number of accounts that were examined."),
    ResponseField::new::<i64>("keys_looked_at", "Number of API keys and admin keys that were examined."),
    ResponseField::new::<i64>("found_count", "Number of accounts and keys that nothing owns."),
    ResponseField::new::<Vec<Data>>(
        "found",
        "The first 1000 of them: kind (account, key or admin_key), name, id, created_at; project_id except \
        for an admin key; service_account_id for a key.",
    ),
    ResponseField::new::<i64>("removed", "Number of accounts and keys that were removed."),
    ResponseField::new::<i64>("failed", "Number of projects, accounts or keys that failed."),
    ResponseField::new::<String>("last_error", "Reason of the last failure."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("tidy", HELP)
            .field(&DRY_RUN)
            .field(&MIN_AGE)
            .on(Operation::Update, start)
            .responds(Operation::Update, STARTED),
        // Only the node of the run knows its status.
        Path::new("tidy/status", STATUS_HELP)
            .on(Operation::Read, status)
            .forward(Operation::Read)
            .responds(Operation::Read, STATUS),
    ]
}

async fn start(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let options = Options { dry_run: call.get(&DRY_RUN)?, min_age: call.get(&MIN_AGE)? };
    clients::configured(&engine, &**call.storage()).await?;
    if engine.system.is_shared().await? {
        return Err(Error::Replicated);
    }
    if !engine.tidying.begin(&options, engine.now()) {
        return Err(Error::TidyRunning);
    }
    tokio::spawn(run::in_background(engine, Arc::clone(call.storage()), options));
    Ok(Some(Response::of([
        ("state", Value::from("running")),
        ("dry_run", options.dry_run.into()),
        ("min_age", options.min_age.as_secs().into()),
    ])))
}

async fn status(engine: Arc<Engine>, _: Call) -> Result<Option<Response>, Error> {
    let status: Data = engine.tidying.view();
    Ok(Some(Response::new(status)))
}
