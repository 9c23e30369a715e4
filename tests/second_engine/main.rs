//! A second secrets engine on the lower rooms alone: one path, one lease type, one metric, and nothing of OpenAI.
//! `docs/framework.md` explains how to write one; a test mounts this one on a real server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use openai_secrets::framework::{Backend, Call, Engine, Field, Help, LeaseCall, LeaseType, Name, Path};
use openai_secrets::goplugin::{self, Cookie, Plugin};
use openai_secrets::logical::{self, Entry, Error, Factory, Operation, Response, Setup};
use openai_secrets::wire;
use serde_json::{Value, json};

static NAME: Field<Name> = Field::new("name", "Name of the visitor.");
/// A visitor's pass. The lease holds where the pass is stored.
static LEASE: LeaseType = LeaseType::new("pass");

const TTL: Duration = Duration::from_secs(600);
const PASS: Help =
    Help { synopsis: "Issue a pass.", description: "The pass is deleted when its lease ends." };
const METRICS_HELP: Help = Help { synopsis: "Read the metrics.", description: "Prometheus' text format." };

/// One mount.
struct Passes {
    metrics: PrometheusRecorder,
}

struct Mounts;

impl Engine for Passes {}

impl Factory for Mounts {
    fn mount(&self, setup: Setup) -> Result<Arc<dyn logical::Backend>, Error> {
        let engine = Arc::new(Passes { metrics: PrometheusBuilder::new().build_recorder() });
        let paths = vec![
            Path::new("pass/:name", PASS).field(&NAME).on(Operation::Read, issue).forward(Operation::Read),
            Path::new("metrics", METRICS_HELP).on(Operation::Read, metrics),
        ];
        Ok(Backend::builder(engine, setup.system, "Issues passes.")
            .paths(paths)
            .lease(&LEASE, revoke)
            .build())
    }
}

/// Stores the pass before it answers: a pass that is not stored is not valid.
async fn issue(engine: Arc<Passes>, call: Call) -> Result<Option<Response>, Error> {
    let (name, number) = (call.get(&NAME)?, uuid::Uuid::new_v4());
    let key = format!("pass/{number}");
    call.storage().put(Entry { key: key.clone(), value: name.to_string().into(), seal_wrap: false }).await?;
    metrics::with_local_recorder(&engine.metrics, || metrics::counter!("passes_issued").increment(1));
    let lease = LEASE.grant(&json!({ "key": key }), TTL, Duration::ZERO, false)?;
    Ok(Some(Response::of([("pass", Value::from(number.to_string()))]).with_lease(lease)))
}

/// Vault calls this when the lease ends, and again if it fails. Deleting twice is fine.
async fn revoke(_: Arc<Passes>, call: LeaseCall) -> Result<(), Error> {
    let lease: Value = call.internal()?;
    let key = lease["key"].as_str().ok_or_else(|| Error::internal("the lease names no pass"))?;
    Ok(call.request.storage.delete(key).await?)
}

async fn metrics(engine: Arc<Passes>, _: Call) -> Result<Option<Response>, Error> {
    Ok(Some(Response::raw(200, "text/plain; version=0.0.4", engine.metrics.handle().render())))
}

fn main() -> ExitCode {
    let cookie = Cookie { key: "VAULT_BACKEND_PLUGIN", value: "6669da05-b1c8-4f49-97d9-c8e5bed98e20" };
    let plugin = Plugin { cookie, protocol_version: 5, about: "A secrets engine for Vault." };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return goplugin::exit_code(Err(goplugin::Error::Runtime(error))),
    };
    goplugin::exit_code(runtime.block_on(goplugin::serve(plugin, |broker| {
        let metadata_mode = broker.metadata_mode();
        wire::services(Arc::new(Mounts), move |id| broker.channel(id), "v0.1.0", metadata_mode)
    })))
}
