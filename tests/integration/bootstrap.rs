//! `bootstrap/terraform` against the engine's fields: Terraform drops an attribute that a type does not name, without a word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::openapi::{document, operations, request_fields};

/// A variable of the module, and the path that its objects are written to.
const OBJECTS: [(&str, &str); 4] = [
    ("projects", "/project/{name}"),
    ("roles", "/roles/{name}"),
    ("static_roles", "/static-roles/{name}"),
    ("library_sets", "/library-sets/{name}"),
];

/// Attributes of an object and their types, as Terraform writes them.
type Attributes = BTreeMap<String, String>;

fn module(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap/terraform").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The attributes of the objects of a variable.
fn attributes(variables: &str, variable: &str) -> Attributes {
    let (_, block) = variables.split_once(&format!("variable \"{variable}\" {{")).expect(variable);
    let (_, object) = block.split_once("object({\n").expect("a map of objects");
    let (object, _) = object.split_once("}))").expect("the end of the objects");
    let lines = object.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, of)| (name.trim().to_owned(), of.trim().to_owned())).collect()
}

/// A field of the engine as Terraform declares it. Durations are numbers: the engine reads them back as seconds.
fn declared(schema: &Value, required: bool) -> String {
    let of = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("boolean"), _) => "bool",
        (Some("integer"), _) | (_, Some("duration")) => "number",
        (Some("array"), _) => "list(string)",
        (Some("object"), _) => "map(string)",
        _ => "string",
    };
    if required { of.to_owned() } else { format!("optional({of})") }
}

/// The fields of a path's write, without the deprecated ones and the name in the path.
fn fields(document: &Value, path: &str) -> Attributes {
    let found = operations(document).into_iter().find(|(of, method, _)| (*of, *method) == (path, "post"));
    let (_, _, write) = found.unwrap_or_else(|| panic!("no write of {path}"));
    let schema = &write["requestBody"]["content"]["application/json"]["schema"];
    let required =
        |name: &str| schema["required"].as_array().into_iter().flatten().any(|field| field == name);
    let fields = request_fields(write).into_iter().filter(|(_, schema)| schema["deprecated"] != true);
    fields.map(|(name, schema)| (name.clone(), declared(&schema, required(&name)))).collect()
}

#[tokio::test]
async fn the_module_has_every_field_of_what_it_writes() {
    let (document, variables) = (document().await, module("variables.tf"));
    for (variable, path) in OBJECTS {
        assert_eq!(attributes(&variables, variable), fields(&document, path), "{variable}, {path}");
    }
}

/// `settings` is of any type, so every other field of the configuration can be given.
#[tokio::test]
async fn the_module_writes_fields_of_the_configuration_that_exist() {
    let (document, main) = (document().await, module("main.tf"));
    let (_, block) = main.split_once("\"credentials\" {").expect("the resource of the admin key");
    let (_, block) = block.split_once("in {\n").expect("its fields");
    let (block, _) = block.split_once('}').expect("the end of its fields");
    let known = fields(&document, "/config");
    let written: Vec<&str> = block.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    assert!(written.contains(&"admin_api_key"), "{written:?}");
    for name in written {
        assert!(known.contains_key(name), "config has no field {name}");
    }
    let variables = module("variables.tf");
    let (_, settings) = variables.split_once("variable \"settings\" {").expect("the variable");
    let (settings, _) = settings.split_once("\n}\n").expect("the end of the variable");
    assert!(settings.contains("= any\n"), "settings takes every field: {settings}");
}
