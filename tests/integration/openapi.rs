//! What the mount says of itself: its OpenAPI document, as it was agreed on, and the help of each path.
//!
//! `UPDATE_GOLDEN=1 cargo test --test integration the_document` writes the document anew; look at the difference
//! before it is committed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::document::{body_schema, is_valid};
use crate::support::mount::PROJECT;

/// Fields that hold a key.
const SECRETS: [&str; 6] =
    ["admin_api_key", "client_key", "new_admin_api_key", "api_key", "access_token", "identity_token"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/golden/openapi.json")
}

/// The document of a whole mount.
pub async fn document() -> Value {
    let mount = Mount::start().await;
    mount.help("").await.json()["openapi"].clone()
}

/// The operations of a document: path, method, operation.
pub fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "post", "patch", "delete"].contains(&method.as_str()) {
                found.push((path.as_str(), method.as_str(), operation));
            }
        }
    }
    found
}

/// The fields of an operation's body and query, with their schemas.
pub fn request_fields(operation: &Value) -> Vec<(String, Value)> {
    let body = body_schema(operation)["properties"].as_object().into_iter().flatten();
    let query = operation["parameters"].as_array().into_iter().flatten();
    let query = query.filter(|parameter| parameter["in"] == "query" && parameter["name"] != "list");
    let query = query.map(|parameter| (parameter["name"].as_str().unwrap().to_owned(), parameter.clone()));
    body.map(|(name, schema)| (name.clone(), schema.clone())).chain(query).collect()
}

/// The fields of an operation's answer, with their schemas.
pub fn answer_fields(operation: &Value) -> Vec<(String, Value)> {
    let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"];
    schema.as_object().into_iter().flatten().map(|(name, schema)| (name.clone(), schema.clone())).collect()
}

#[tokio::test]
async fn the_document_is_the_one_agreed_on() {
    let text = serde_json::to_string_pretty(&document().await).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden(), &text).unwrap();
    }
    let agreed = fs::read_to_string(golden()).unwrap_or_default();
    let difference = text.lines().zip(agreed.lines()).find(|(now, agreed)| now != agreed);
    assert!(text == agreed, "the first difference (now, agreed): {difference:?}\nsee the head of this file");
}

#[tokio::test]
async fn a_validator_of_openapi_finds_no_fault_in_the_document() {
    is_valid(&document().await, "/");
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own_and_a_summary() {
    let document = document().await;
    let mut ids = Vec::new();
    for (path, method, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{method} {path}");
        ids.push(operation["operationId"].as_str().unwrap().to_owned());
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn what_can_be_deleted_says_of_each_operation_what_it_does() {
    let document = document().await;
    let operations = operations(&document);
    let kept: Vec<_> =
        operations.iter().filter(|(_, method, _)| *method == "delete").map(|(path, ..)| path).collect();
    assert!(kept.len() >= 5, "{kept:?}");
    for (path, method, operation) in operations.iter().filter(|(path, ..)| kept.contains(&path)) {
        let verb = match *method {
            "get" => "Read ",
            "post" => "Create ",
            "patch" => "Change ",
            _ => "Delete ",
        };
        let summary = operation["summary"].as_str().unwrap();
        assert!(summary.starts_with(verb), "{method} {path}: {summary}");
    }
}

#[tokio::test]
async fn a_patch_is_of_the_one_media_type_that_the_server_takes() {
    let document = document().await;
    let patches: Vec<_> =
        operations(&document).into_iter().filter(|(_, method, _)| *method == "patch").collect();
    assert!(patches.len() >= 5, "{patches:?}");
    for (path, _, operation) in patches {
        let content = operation["requestBody"]["content"].as_object().unwrap();
        assert_eq!(content.keys().collect::<Vec<_>>(), ["application/merge-patch+json"], "{path}");
        assert!(!request_fields(operation).is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_patch_is_offered_empty_and_without_defaults() {
    let document = document().await;
    for (path, _, operation) in operations(&document).iter().filter(|(_, method, _)| *method == "patch") {
        assert_eq!(body_schema(operation)["example"], json!({}), "{path}");
        for (name, schema) in request_fields(operation) {
            assert!(schema["default"].is_null(), "{path} {name}: {schema}");
        }
    }
}

/// What an operation's body is filled with before anybody has changed it.
fn offered(operation: &Value, name: &str, field: &Value) -> Option<Value> {
    let required =
        body_schema(operation)["required"].as_array().is_some_and(|names| names.contains(&name.into()));
    match (&field["default"], field["type"].as_str()) {
        _ if field["deprecated"] == true => None,
        (Value::Null, Some("array")) if required => Some(json!([])),
        (Value::Null, _) if required => Some(json!("")),
        (Value::Null, _) => None,
        (default, _) => Some(default.clone()),
    }
}

#[tokio::test]
async fn a_write_is_offered_with_its_defaults_and_nothing_made_up() {
    let document = document().await;
    let mut seen = 0;
    for (path, _, operation) in operations(&document).iter().filter(|(_, method, _)| *method == "post") {
        for (name, field) in request_fields(operation) {
            let example = &body_schema(operation)["example"];
            assert!(example.is_object(), "{path}");
            assert_eq!(example.get(&name).cloned(), offered(operation, &name, &field), "{path} {name}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[tokio::test]
async fn a_role_written_as_offered_is_one_with_defaults() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let document = document().await;
    let mut body = body_schema(&document["paths"]["/roles/{name}"]["post"])["example"].clone();
    body["project"] = json!(PROJECT);
    mount.write("roles/offered", body).await.nothing();
    mount.write("roles/bare", json!({"project": PROJECT})).await.nothing();
    assert_eq!(mount.read("roles/offered").await.json(), mount.read("roles/bare").await.json());
}

#[tokio::test]
async fn what_only_a_deletion_takes_is_offered_for_nothing_else() {
    let document = document().await;
    let takes_force = |method: &str| {
        let operation = &document["paths"]["/config"][method];
        request_fields(operation).iter().any(|(name, _)| name == "force")
    };
    assert_eq!(["get", "post", "patch", "delete"].map(takes_force), [false, false, false, true]);
}

#[tokio::test]
async fn every_field_is_typed_and_described_and_keys_are_marked() {
    let document = document().await;
    for (path, method, operation) in operations(&document) {
        for (name, schema) in request_fields(operation).into_iter().chain(answer_fields(operation)) {
            let what = format!("{method} {path} {name}: {schema}");
            let is_typed = schema["type"].is_string() || schema["schema"]["type"].is_string();
            let is_described = schema["description"].as_str().is_some_and(|text| text.ends_with('.'));
            // A list's are Vault's own, without words.
            assert!(is_typed && (is_described || path.ends_with('/')), "{what}");
            let is_secret = schema["x-vault-displayAttrs"]["sensitive"] == true;
            assert_eq!(is_secret, SECRETS.contains(&name.as_str()), "{what}");
        }
    }
}

#[tokio::test]
async fn every_path_has_help_with_its_fields_and_how_to_use_it() {
    let mount = Mount::start().await;
    let document = document().await;
    for (path, _, operation) in operations(&document) {
        let sample = path.trim_start_matches('/').replace(['{', '}'], "");
        let help = mount.help(&sample).await;
        let text = help.text("help");
        assert!(text.contains("## DESCRIPTION") && !text.contains("<no "), "{path}: {text}");
        for (name, _) in request_fields(operation) {
            assert!(text.contains(&format!("\n    {name} (")), "{path}: {name} is not in\n{text}");
        }
        assert!(help.json()["openapi"]["paths"].as_object().is_some_and(|paths| !paths.is_empty()), "{path}");
    }
    let root = mount.help("").await.text("help");
    assert!(root.contains("## DESCRIPTION") && root.contains("## PATHS"), "{root}");
}
