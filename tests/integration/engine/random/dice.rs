//! What chance decides of a life: requests, what is in them, and what goes wrong at OpenAI.

use openai_secrets::logical::{Operation, Request};
use rand::prelude::*;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use crate::simulator::Action;
use crate::support::document::body_schema;
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

/// A path of the mount with the fields it takes.
struct Place {
    template: String,
    fields: Vec<(String, String)>,
}

/// Everything random.
pub(super) struct Dice {
    pub(super) rng: StdRng,
    places: Vec<Place>,
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
        let body = body_schema(operation)["properties"].as_object().into_iter().flatten();
        fields.extend(body.map(|(name, schema)| (name.clone(), kind(schema))));
    }
    fields
}

impl Dice {
    /// Dice for the paths of this mount.
    pub(super) async fn of(seed: u64, mount: &Mount) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), places: places(mount).await }
    }

    pub(super) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.choose(&mut self.rng).copied().unwrap_or_default()
    }

    pub(super) fn request(&mut self, mount: &Mount) -> Request {
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

    pub(super) fn action(&mut self) -> Action {
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
    pub(super) fn perhaps_odd(&mut self, lease: &Granted) -> Granted {
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
