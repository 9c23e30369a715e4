//! The framework with a toy engine: paint pots that can be lent.

mod dispatch;
mod documents;
mod forwarding;
mod leases;
mod sweeps;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::logical::{
    self, Answer, Data, Error, FixedSystem, InMemory, Operation, Request, Response, SpecialPaths, Storage,
    Writable,
};

static NAME: Field<Name> = Field::new("name", "Name of the pot.");
static COLOR: Field<String> = Field::new("color", "What is\nin it.").required().allowed(&["red", "blue"]);
static DRIES: Field<Duration> = Field::new("dries", "How long it takes.").default(3600).alias("drying_time");
static LABELS: Field<Vec<String>> = Field::new("labels", "What is written on it.");
static LITERS: Field<i64> = Field::new("liters", "").default(1).deprecated();
static CODE: Field<i64> = Field::new("code", "Opens the lid.").sensitive();
static SPILLING: Field<bool> =
    Field::new("spilling", "On deletion: spill what is in it.").query().only_on(Operation::Delete);
static WET: Field<bool> = Field::new("wet", "Whether it is wet.").only_on(Operation::Create);
static AFTER: Field<String> = Field::new("after", "Begins behind this name.").query();

static LOAN: LeaseType = LeaseType::new("loan");
static GIFT: LeaseType = LeaseType::new("gift");
static MIXING: WalKind<Mixing> = WalKind::new("mixing", Duration::from_secs(600));

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mixing {
    pot: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lent {
    pot: String,
}

/// Result of the periodic work.
type Work = fn() -> Vec<Error>;

/// Records its calls.
#[derive(Default)]
struct Toy {
    notes: Mutex<Vec<String>>,
    /// Writable storage at each tick.
    ticks: Mutex<Vec<Writable>>,
    /// Result of the next periodic work.
    tick: Mutex<Option<Work>>,
    /// Token that the handler cancels while it works.
    hang_up: Mutex<Option<CancellationToken>>,
}

impl Toy {
    fn note(&self, note: impl Into<String>) {
        self.notes.lock().unwrap().push(note.into());
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

#[async_trait]
impl Engine for Toy {
    async fn initialize(self: Arc<Self>) -> Result<(), Error> {
        self.note("initialize");
        Ok(())
    }

    async fn periodic(self: Arc<Self>, tick: Tick) -> Vec<Error> {
        self.ticks.lock().unwrap().push(tick.writable);
        let tick = *self.tick.lock().unwrap();
        tick.map_or_else(Vec::new, |tick| tick())
    }

    fn invalidate(&self, key: &str) {
        self.note(format!("invalidate {key}"));
    }

    async fn cleanup(&self) {
        self.note("cleanup");
    }
}

/// An error type of the engine.
struct Spilled;

impl From<Spilled> for Error {
    fn from(_: Spilled) -> Self {
        Self::bad_request("spilled")
    }
}

async fn read(_: Arc<Toy>, call: Call) -> Result<Option<Response>, Error> {
    match &*call.get(&NAME)? {
        "none" => Ok(None),
        name => {
            Ok(Some(Response::of([("name", json!(name)), ("dries", json!(call.get(&DRIES)?.as_secs()))])))
        }
    }
}

/// Answers the parsed fields.
async fn write(_: Arc<Toy>, call: Call) -> Result<Option<Response>, Error> {
    if call.sent(&COLOR)?.as_deref() == Some("none") {
        return Ok(None);
    }
    Ok(Some(Response::of([
        ("operation", json!(format!("{:?}", call.request.operation))),
        ("name", json!(&*call.get(&NAME)?)),
        ("color", json!(call.get(&COLOR)?)),
        ("dries", json!(call.get(&DRIES)?.as_secs())),
        ("dries_sent", json!(call.sent(&DRIES)?.map(|dries| dries.as_secs()))),
        ("labels_sent", json!(call.sent(&LABELS)?)),
        ("liters", json!(call.get(&LITERS)?)),
    ])))
}

async fn delete(_: Arc<Toy>, _: Call) -> Result<Option<Response>, Spilled> {
    Err(Spilled)
}

async fn exists(_: Arc<Toy>, call: Call) -> Result<bool, Error> {
    Ok(&*call.get(&NAME)? == "old")
}

async fn list(_: Arc<Toy>, _: Call) -> Result<Option<Response>, Error> {
    Ok(Some(Response::list(vec![("a".to_owned(), Data::new())])))
}

async fn lend(toy: Arc<Toy>, call: Call) -> Result<Option<Response>, Error> {
    toy.note("lend");
    if let Some(token) = &*toy.hang_up.lock().unwrap() {
        token.cancel();
    }
    let pot = call.get(&NAME)?.to_string();
    let lease = LOAN.grant(&Lent { pot }, Duration::from_secs(60), Duration::from_secs(600), true)?;
    Ok(Some(Response::of([("key", json!("open sesame"))]).with_lease(lease)))
}

async fn take_back(toy: Arc<Toy>, lease: LeaseCall) -> Result<(), Error> {
    let pot = lease.internal::<Lent>()?.pot;
    toy.note(format!("take back {pot} at {}", lease.request.path));
    if pot == "stuck" { Err(Error::internal("stuck")) } else { Ok(()) }
}

async fn prolong(_: Arc<Toy>, lease: LeaseCall) -> Result<Response, Error> {
    lease.internal::<Lent>()?;
    Ok(lease.extend(Duration::from_secs(90), Duration::from_secs(600)))
}

async fn unmix(toy: Arc<Toy>, storage: Arc<dyn Storage>, mixing: Mixing) -> Result<(), Error> {
    toy.note(format!("unmix {}", mixing.pot));
    match mixing.pot.as_str() {
        "stuck" => Err(Error::internal("stuck").with_detail("under the lid")),
        "read-only" => Err(Error::read_only()),
        "burst" => panic!("the pot burst"),
        "endless" => std::future::pending().await,
        _ => storage.get("anything").await.map(drop).map_err(Error::from),
    }
}

async fn rotate(toy: Arc<Toy>, request: Request) -> Result<(), Error> {
    toy.note(format!("rotate {}", request.path));
    Ok(())
}

fn paths() -> Vec<Path<Toy>> {
    const POT: Help = Help { synopsis: "One pot.", description: "A pot holds\n  paint." };
    const POTS: Help = Help { synopsis: "", description: "" };
    const LEND: Help = Help { synopsis: "Lends\n a pot.", description: "" };
    const READ: &[ResponseField] = &[
        ResponseField::new::<Name>("name", "Name of the pot."),
        ResponseField::new::<i64>("code", "Opens the lid.").sensitive(),
    ];
    let pot = Path::new("pots/:name", POT).field(&NAME).field(&COLOR).field(&DRIES).field(&LABELS);
    let pot = pot
        .field(&LITERS)
        .field(&CODE)
        .field(&SPILLING)
        .field(&WET)
        .on(Operation::Read, read)
        .on_write(write);
    vec![
        pot.noun("a pot").on(Operation::Delete, delete).exists(exists).responds(Operation::Read, READ),
        Path::new("pots/", POTS).field(&AFTER).on(Operation::List, list),
        Path::new("lend/:name", LEND)
            .field(&NAME)
            .on(Operation::Read, lend)
            .on(Operation::Update, lend)
            .forward(Operation::Read),
    ]
}

/// A mounted toy.
struct Mount {
    toy: Arc<Toy>,
    storage: Arc<InMemory>,
    backend: Arc<dyn logical::Backend>,
}

impl Mount {
    fn new() -> Self {
        Self::on(Arc::new(FixedSystem::default()))
    }

    fn on(system: Arc<dyn logical::SystemView>) -> Self {
        let toy = Arc::new(Toy::default());
        let special = SpecialPaths { root: vec!["lend/*".to_owned()], ..SpecialPaths::default() };
        let backend = Backend::builder(Arc::clone(&toy), system, "\nPaint pots.\n")
            .paths(paths())
            .renewable_lease(&LOAN, take_back, prolong)
            .lease(&GIFT, take_back)
            .wal(&MIXING, unmix)
            .rotate(rotate)
            .special(special)
            .build();
        Self { toy, storage: Arc::new(InMemory::new()), backend }
    }

    fn request(&self, operation: Operation, path: &str, data: Value) -> Request {
        let mut request = Request::new(operation, path, Arc::clone(&self.storage) as Arc<dyn Storage>);
        request.data = object(data);
        request
    }

    async fn ask(&self, operation: Operation, path: &str, data: Value) -> Answer {
        self.backend.handle(self.request(operation, path, data)).await
    }

    /// Makes a request that must succeed. Answers the response data.
    async fn data(&self, operation: Operation, path: &str, data: Value) -> Value {
        Value::Object(self.ask(operation, path, data).await.unwrap().unwrap().data)
    }

    /// Makes a request that must fail.
    async fn refusal(&self, operation: Operation, path: &str, data: Value) -> Error {
        self.ask(operation, path, data).await.unwrap_err()
    }
}

/// The object; `null` counts as empty.
fn object(value: Value) -> Data {
    match value {
        Value::Object(data) => data,
        _ => Data::new(),
    }
}
