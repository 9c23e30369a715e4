//! The OpenAPI document for Vault's UI, client generators and `sys/internal/specs/openapi`.
//!
//! Vault drops every `$ref` when it merges the documents of external plugins (PROTOCOL 8.11). The document of the
//! whole mount is merged, so it contains its schemas inline. The document of one path uses references.

use serde_json::{Map, Value, json};

use crate::logical::{Operation, SpecialPaths, data};

use super::field::AnyField;
use super::path::Route;
use super::shapes::{self, Schema};

/// Operations by HTTP method. Lists have a path of their own.
const METHODS: [(&str, &[Operation]); 4] = [
    ("get", &[Operation::Read]),
    ("post", &[Operation::Update, Operation::Create]),
    ("patch", &[Operation::Patch]),
    ("delete", &[Operation::Delete]),
];

/// Form of schemas: references or inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum References {
    Kept,
    Inlined,
}

/// A document under construction.
pub(super) struct Document<'a> {
    prefix: &'a str,
    special: &'a SpecialPaths,
    references: References,
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl<'a> Document<'a> {
    /// `prefix` is the start of every operation id.
    pub(super) fn new(prefix: &'a str, special: &'a SpecialPaths, references: References) -> Self {
        Self { prefix, special, references, paths: Map::new(), schemas: Map::new() }
    }

    /// Adds a path.
    pub(super) fn add<E>(&mut self, route: &Route<E>) {
        let template = route.pattern.template();
        let mut methods = Map::new();
        for (method, operations) in METHODS {
            let declared = operations.iter().find(|operation| route.path.operations.contains_key(operation));
            if let Some(operation) = declared {
                methods.insert(method.to_owned(), self.operation(route, *operation));
            }
        }
        if !methods.is_empty() {
            let item = self.item(route, &template, methods);
            self.paths.insert(format!("/{template}"), item);
        }
        if route.path.operations.contains_key(&Operation::List) {
            let list = data([("get", self.operation(route, Operation::List))]);
            let path = format!("{template}/");
            let item = self.item(route, &path, list);
            self.paths.insert(format!("/{path}"), item);
        }
    }

    /// The complete document.
    pub(super) fn finish(self, version: &str) -> Value {
        json!({
            "openapi": "3.0.2",
            "info": {
                "title": "HashiCorp Vault API",
                "description": "The paths of one secrets engine, below the path it is mounted at.",
                "version": version,
                "license": {
                    "name": "Mozilla Public License 2.0",
                    "url": "https://www.mozilla.org/en-US/MPL/2.0",
                },
            },
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        })
    }

    /// Description of a path for all its operations.
    fn item<E>(&self, route: &Route<E>, path: &str, methods: Map<String, Value>) -> Value {
        let mut item = methods;
        if !route.path.help.synopsis.is_empty() {
            item.insert("description".to_owned(), shapes::one_line(route.path.help.synopsis).into());
        }
        let captured = route.schema.fields().iter().filter(|(name, _)| route.schema.captures(name));
        let parameters: Vec<_> =
            captured.map(|(name, field)| shapes::parameter(name, *field, "path")).collect();
        if !parameters.is_empty() {
            item.insert("parameters".to_owned(), Value::from(parameters));
        }
        let created = route.path.exists.is_some() && route.path.operations.contains_key(&Operation::Create);
        for (mark, set) in [
            ("x-vault-sudo", is_listed(&self.special.root, path)),
            ("x-vault-unauthenticated", is_listed(&self.special.unauthenticated, path)),
            ("x-vault-createSupported", created && !path.ends_with('/')),
        ] {
            if set {
                item.insert(mark.to_owned(), Value::from(true));
            }
        }
        Value::Object(item)
    }

    fn operation<E>(&mut self, route: &Route<E>, operation: Operation) -> Value {
        let id = self.id(route, operation);
        let mut object = Map::new();
        let summary = summary(route, operation);
        if !summary.is_empty() {
            object.insert("summary".to_owned(), summary.into());
        }
        object.insert("tags".to_owned(), json!(["secrets"]));
        object.insert("responses".to_owned(), self.responses(route, operation, &id));
        if takes_body(operation) {
            self.body(route, operation, &id).and_then(|body| object.insert("requestBody".to_owned(), body));
        } else {
            let parameters = query(route, operation);
            if !parameters.is_empty() {
                object.insert("parameters".to_owned(), Value::from(parameters));
            }
        }
        object.insert("operationId".to_owned(), Value::from(id));
        Value::Object(object)
    }

    /// Operation id: prefix, verb and the words of the path.
    fn id<E>(&self, route: &Route<E>, operation: Operation) -> String {
        let template = route.pattern.template();
        let words = template.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let parts = [self.prefix, verb(operation)].into_iter().chain(words).filter(|part| !part.is_empty());
        parts.map(str::to_lowercase).collect::<Vec<_>>().join("-")
    }

    fn body<E>(&mut self, route: &Route<E>, operation: Operation, id: &str) -> Option<Value> {
        let fields: Vec<_> = accepted_fields(route, operation).collect();
        if fields.is_empty() {
            return None;
        }
        // A patch changes an existing object, so it requires no field.
        let is_needed =
            |name, field: &dyn AnyField| operation != Operation::Patch && field.info().is_required_as(name);
        let required = fields.iter().filter(|(name, field)| is_needed(name, *field));
        let required = required.map(|(name, _)| *name).collect();
        let properties = fields.iter().map(|(name, field)| {
            let mut schema = shapes::of_field(name, *field);
            if operation == Operation::Patch {
                schema.remove("default");
            }
            (*name, schema.into())
        });
        let mut schema = shapes::of_object(data(properties), required);
        // Without an example, API explorers offer every field with an invented value.
        let offered = if operation == Operation::Patch { Schema::new() } else { shapes::offered(&fields) };
        schema.insert("example".to_owned(), offered.into());
        let schema = self.schema(&format!("{}Request", title(id)), schema);
        Some(json!({"required": true, "content": {media_type(operation): {"schema": schema}}}))
    }

    fn responses<E>(&mut self, route: &Route<E>, operation: Operation, id: &str) -> Value {
        let schema = match (route.path.responses.get(&operation), operation) {
            (Some(fields), _) => self.schema(&format!("{}Response", title(id)), shapes::of_answer(fields)),
            (None, Operation::List) => self.schema("StandardListResponse", shapes::of_list()),
            (None, Operation::Read) => return json!({"200": {"description": "OK"}}),
            (None, _) => {
                return json!({
                    "200": {"description": "OK, with warnings"},
                    "204": {"description": "empty body"},
                });
            }
        };
        json!({"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}})
    }

    /// Stores a schema under its title. Answers the reference or the inline schema.
    fn schema(&mut self, title: &str, schema: Schema) -> Value {
        let used = match self.references {
            References::Kept => json!({"$ref": format!("#/components/schemas/{title}")}),
            References::Inlined => Value::Object(schema.clone()),
        };
        self.schemas.insert(title.to_owned(), Value::Object(schema));
        used
    }
}

fn takes_body(operation: Operation) -> bool {
    matches!(operation, Operation::Create | Operation::Update | Operation::Patch)
}

/// Media type of the body. For a patch the server refuses every other type (PROTOCOL 8.11).
fn media_type(operation: Operation) -> &'static str {
    if operation == Operation::Patch { "application/merge-patch+json" } else { "application/json" }
}

/// A sentence about the operation.
fn summary<E>(route: &Route<E>, operation: Operation) -> String {
    let creates = route.path.operations.contains_key(&Operation::Create);
    match (route.path.noun, operation) {
        (Some(noun), Operation::Read) => format!("Read {noun}."),
        (Some(noun), Operation::Create | Operation::Update) if creates => {
            format!("Create {noun}, or change it.")
        }
        (Some(noun), Operation::Update) => format!("Write {noun}."),
        (Some(noun), Operation::Patch) => format!("Change single fields of {noun}."),
        (Some(noun), Operation::Delete) => format!("Delete {noun}."),
        _ => shapes::one_line(route.path.help.synopsis),
    }
}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Update => "write",
        Operation::Patch => "patch",
        Operation::Delete => "delete",
        Operation::List => "list",
        _ => "read",
    }
}

/// The fields that an operation uses, except those in its path.
fn accepted_fields<E>(
    route: &Route<E>,
    operation: Operation,
) -> impl Iterator<Item = (&'static str, &'static dyn AnyField)> {
    let fields = route.schema.fields().iter().filter(|(name, _)| !route.schema.captures(name));
    fields
        .copied()
        .filter(move |(_, field)| field.info().only_on.is_none_or(|only| share_method(only, operation)))
}

/// True if both operations have the same HTTP method.
fn share_method(one: Operation, other: Operation) -> bool {
    one == other || METHODS.iter().any(|(_, same)| same.contains(&one) && same.contains(&other))
}

/// Query parameters of an operation without a body.
fn query<E>(route: &Route<E>, operation: Operation) -> Vec<Value> {
    let fields = accepted_fields(route, operation).filter(|(_, field)| field.info().query);
    let list = (operation == Operation::List).then(shapes::list_parameter);
    let mut parameters: Vec<_> =
        fields.map(|(name, field)| shapes::parameter(name, field, "query")).collect();
    parameters.extend(list);
    parameters
}

/// Turns `openai-write-roles` into `OpenaiWriteRoles`.
fn title(id: &str) -> String {
    let capital = |part: &str| {
        let mut characters = part.chars();
        characters.next().map(|first| first.to_uppercase().collect::<String>() + characters.as_str())
    };
    id.split('-').filter_map(capital).collect()
}

/// True if an entry matches the path: exactly, as a prefix that ends in `*`, or with `+` for one segment.
fn is_listed(special: &[String], path: &str) -> bool {
    special.iter().any(|entry| {
        let (entry, prefix) = entry.strip_suffix('*').map_or((entry.as_str(), false), |entry| (entry, true));
        let (mut wanted, mut segments) = (entry.split('/').peekable(), path.split('/'));
        while let Some(segment) = wanted.next() {
            let Some(actual) = segments.next() else { return false };
            if prefix && wanted.peek().is_none() {
                return actual.starts_with(segment);
            }
            if segment != "+" && segment != actual {
                return false;
            }
        }
        segments.next().is_none()
    })
}
