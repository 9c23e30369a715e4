//! A long life of random requests: no panic, no hang, memory flat, nothing lost at its end.
//!
//! Paths and fields are the mount's own, from its OpenAPI document, so that a new noun takes part by itself.
//! `RANDOM_REQUESTS` says how many (20,000), `RANDOM_SEED` repeats a life. It runs in a process of its own, whose
//! memory nobody else uses.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use openai_secrets::logical::Operation;
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use crate::simulator::{Action, Fault};
use crate::support::{Granted, Mount};

const OPERATIONS: [Operation; 13] = [
    Operation::Create,
    Operation::Read,
    Operation::Update,
    Operation::Patch,
    Operation::Delete,
    Operation::List,
    Operation::Help,
    Operation::Header,
    Operation::Rotate,
    Operation::ResolvePath,
    Operation::Scan,
    Operation::Rollback,
    Operation::Other,
];
/// Names that a path may hold; a few that come again and again, and some that are none.
const NAMES: [&str; 12] = ["a", "b", "app", "research", "a.b-c", "A_1", "-", "..", "a b", "ü", "", "x%2fy"];
/// No request takes longer.
const HANG: Duration = Duration::from_secs(100);
/// What the second half of a life may add to the process's memory, and what all of it but the first tenth: buffers, the
/// most that storage and OpenAI ever held at once, and what the tests themselves keep. It is the same for a life fifty
/// times as long, in which 100 bytes lost in each request would be 50 MB in the second half.
const MORE_LATELY: u64 = 24 * 1024;
const MORE_IN_ALL: u64 = 64 * 1024;

/// A path of the mount with the fields it takes.
struct Place {
    template: String,
    fields: Vec<(String, String)>,
}

/// Everything random.
struct Dice {
    rng: StdRng,
    places: Vec<Place>,
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn no_random_life_ends_badly() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "engine::random::a_life", "--ignored", "--nocapture"]);
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    println!("{told}");
}

#[tokio::test]
#[ignore = "no_random_life_ends_badly runs it in a process of its own"]
async fn a_life() {
    let (requests, seed) = (number("RANDOM_REQUESTS", 20_000), number("RANDOM_SEED", rand::random()));
    println!("RANDOM_SEED={seed} RANDOM_REQUESTS={requests}");
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let mut dice = Dice { rng: StdRng::seed_from_u64(seed), places: places(&mount).await };
    let (mut done, mut memory) = (0, Memory::default());
    while done < requests {
        let batch = dice.rng.random_range(1..=8);
        tokio::time::timeout(HANG, step(&mount, &mut dice, batch)).await.expect("a request hangs");
        done += batch;
        memory.look(100 * done / requests);
    }
    println!("{done} requests; OpenAI saw {} calls", mount.sim.state().all_calls());
    memory.assert_flat();
    ends_well(mount).await;
}

/// The memory of this process, in kilobytes, by the hundredths of the life that had passed.
#[derive(Default)]
struct Memory(BTreeMap<u64, u64>);

impl Memory {
    /// Takes note at 10%, 50% and 100%.
    fn look(&mut self, percent: u64) {
        for mark in [10, 50, 100] {
            if percent >= mark && !self.0.contains_key(&mark) {
                let now = kilobytes();
                println!("at {mark}%: {now} kB resident");
                self.0.insert(mark, now);
            }
        }
    }

    fn assert_flat(&self) {
        for (mark, most) in [(50, MORE_LATELY), (10, MORE_IN_ALL)] {
            let grown = self.0[&100].saturating_sub(self.0[&mark]);
            assert!(grown < most, "memory grows: {grown} kB from {mark}% to 100%");
        }
    }
}

async fn step(mount: &Mount, dice: &mut Dice, batch: u64) {
    match dice.rng.random_range(0..1000) {
        0..5 => mount.restart().await,
        5..10 => mount.advance(Duration::from_secs(dice.rng.random_range(1..100_000))),
        10..14 => mount.storage.fail_put(dice.pick(&["wal/", "ledger/", "role/", "config", ""])),
        14..18 => mount.storage.fail_delete(dice.pick(&["wal/", "ledger/", "role/", "project/", ""])),
        18..30 => {
            let action = dice.action();
            mount.sim.fault(Fault::everywhere(action).times(1));
        }
        30..34 => mount.host.set_performance_standby(dice.rng.random()),
        34..60 => repair(mount).await,
        60..80 => drop(mount.tick().await),
        80..90 => drop(mount.tick_now().await),
        90..300 => drop(mount.read("creds/app").await),
        300..500 => {
            if let Some(lease) = mount.leases().choose(&mut dice.rng) {
                let lease = dice.perhaps_odd(lease);
                if dice.rng.random_ratio(1, 8) {
                    drop(mount.renew(&lease, Duration::from_secs(dice.rng.random_range(0..10_000))).await);
                } else {
                    drop(mount.revoke(&lease).await);
                }
            }
        }
        _ => {
            let requests = (0..batch).map(|_| dice.request(mount)).collect::<Vec<_>>();
            join_all(requests.into_iter().map(|request| mount.ask(request))).await;
        }
    }
}

/// As a person would put it right: a configuration that works, a project and a role.
async fn repair(mount: &Mount) {
    mount.host.set_performance_standby(false);
    let mut config = mount.config();
    if let Some(key) = mount.sim.state().admin_keys.iter().rfind(|key| key.live) {
        config["admin_api_key"] = key.value.as_str().into();
    }
    drop(mount.write("config", config).await);
    drop(mount.write("project/research", json!({"project_id": mount.sim.project()})).await);
    let role = json!({"project": "research", "ttl": 60, "max_ttl": 3600, "scopes": [], "service_account_id": "",
        "service_account_name_template": "{{.RoleName}}"});
    drop(mount.write("roles/app", role).await);
}

/// Whatever happened: once all leases and all times are over nothing is left.
async fn ends_well(mount: Mount) {
    mount.sim.clear_faults();
    mount.storage.heal();
    repair(&mount).await;
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    mount.advance(Duration::from_secs(3 * 366 * 86_400));
    for _ in 0..3 {
        mount.tick_now().await.done();
    }
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

/// The paths of the mount and their fields, as its OpenAPI document tells.
async fn places(mount: &Mount) -> Vec<Place> {
    let document = mount.help("").await.json()["openapi"].clone();
    let paths = document["paths"].as_object().unwrap();
    paths.iter().map(|(path, item)| Place { template: path[1..].to_owned(), fields: fields(item) }).collect()
}

fn fields(item: &Value) -> Vec<(String, String)> {
    let kind = |schema: &Value| schema["type"].as_str().unwrap_or("string").to_owned();
    let mut fields = Vec::new();
    for operation in item.as_object().unwrap().values() {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        fields.extend(parameters.map(|it| (it["name"].as_str().unwrap().to_owned(), kind(&it["schema"]))));
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["properties"];
        let body = body.as_object().into_iter().flatten();
        fields.extend(body.map(|(name, schema)| (name.clone(), kind(schema))));
    }
    fields
}

impl Dice {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.choose(&mut self.rng).copied().unwrap_or_default()
    }

    fn request(&mut self, mount: &Mount) -> openai_secrets::logical::Request {
        let operation = *OPERATIONS.choose(&mut self.rng).unwrap();
        let place = self.rng.random_range(0..self.places.len());
        let path = self.path(place);
        let mut data = Map::new();
        for _ in 0..self.rng.random_range(0..6) {
            let fields = &self.places[place].fields;
            let field = fields.choose(&mut self.rng).cloned();
            let (name, kind) = field.unwrap_or_else(|| ("x".to_owned(), "string".to_owned()));
            let value = self.value(mount, &name, &kind);
            data.insert(name, value);
        }
        let (entity, token) = (self.pick(&["", "e1", "e2"]), self.pick(&["t1", "t2"]));
        let request = mount.as_caller(entity, token).request(operation, &path, Value::Object(data));
        if self.rng.random_ratio(1, 50) {
            request.cancelled.cancel();
        }
        request
    }

    fn path(&mut self, place: usize) -> String {
        let template = self.places[place].template.clone();
        let segments = template.split('/').map(|segment| {
            if segment.starts_with('{') { self.pick(&NAMES).to_owned() } else { segment.to_owned() }
        });
        let path = segments.collect::<Vec<_>>().join("/");
        match self.rng.random_range(0..20) {
            0 => path + "/",
            1 => path.chars().rev().collect(),
            2 => (0..self.rng.random_range(0..40)).map(|_| self.rng.random::<char>()).collect(),
            _ => path,
        }
    }

    fn value(&mut self, mount: &Mount, name: &str, kind: &str) -> Value {
        match name {
            // Calls must reach nothing but the simulator, and at its own pace.
            "api_endpoint" => {
                self.pick(&[mount.sim.url().as_str(), "", "ftp://x", "http://x", "https://u@x"]).into()
            }
            "max_requests_per_minute" => {
                [json!(0), json!(-1), json!("x"), json!(90_000)].choose(&mut self.rng).cloned().unwrap()
            }
            "project_id" if self.rng.random() => mount.sim.project().into(),
            "project" if self.rng.random() => "research".into(),
            // What was made in another organization could not be ended from this one.
            "organization_id" => self.pick(&[mount.sim.organization(), "", "a b", "../x"]).into(),
            "admin_api_key" if self.rng.random() => mount.sim.admin_key().into(),
            _ if self.rng.random_ratio(1, 3) => self.anything(3),
            _ => self.of_kind(kind),
        }
    }

    fn of_kind(&mut self, kind: &str) -> Value {
        match kind {
            "boolean" => self.rng.random::<bool>().into(),
            "integer" => self.rng.random_range(0..10_000).into(),
            "array" => json!([self.pick(&NAMES), self.pick(&NAMES)]),
            "object" => json!({"a": 1}),
            _ => self
                .pick(&[
                    "60",
                    "1h",
                    "app",
                    "research",
                    "{{.RoleName}}",
                    "{{random 9}}",
                    "* * * * *",
                    "strict",
                ])
                .into(),
        }
    }

    fn anything(&mut self, depth: u32) -> Value {
        match self.rng.random_range(0..if depth == 0 { 7 } else { 9 }) {
            0 => Value::Null,
            1 => self.rng.random::<bool>().into(),
            2 => self.rng.random::<i64>().into(),
            3 => self.rng.random::<f64>().into(),
            4 => u64::MAX.into(),
            5 => (0..self.rng.random_range(0..30))
                .map(|_| self.rng.random::<char>())
                .collect::<String>()
                .into(),
            6 => self
                .pick(&["", "-1", "1e9", "9999999999h", "0x10", "\u{0}", "../x", "{{", "{{.X}}", "sk-"])
                .into(),
            7 => (0..self.rng.random_range(0..4)).map(|_| self.anything(depth - 1)).collect(),
            _ => json!({ self.pick(&NAMES): self.anything(depth - 1) }),
        }
    }

    fn action(&mut self) -> Action {
        let actions = [
            Action::Html,
            Action::Empty,
            Action::Truncated,
            Action::WrongTypes,
            Action::Huge,
            Action::Drop,
            Action::Cut,
            Action::status(400),
            Action::status(403),
            // No 404 in OpenAI's own words: that would be a lie which nobody could see through.
            Action::status_with(404, "a proxy's page"),
            Action::status(409),
            Action::status(500),
        ];
        actions.choose(&mut self.rng).cloned().unwrap()
    }

    /// Sometimes with something else in its internal data; such a one is no lease of the book.
    fn perhaps_odd(&mut self, lease: &Granted) -> Granted {
        let mut lease = lease.clone();
        if self.rng.random_ratio(1, 10) {
            lease.id.push_str("/odd");
            let names: Vec<String> = lease.internal.keys().cloned().collect();
            let name = names.choose(&mut self.rng).cloned().unwrap_or_default();
            // What is well-formed is believed: nobody but the server keeps it.
            let value =
                [json!(7), json!([]), json!({"a": null}), json!("\u{0}")].choose(&mut self.rng).cloned();
            lease.internal.insert(name, value.unwrap_or_default());
        }
        lease
    }
}

/// The memory that this process has, as Linux counts it; 0 elsewhere.
fn kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
