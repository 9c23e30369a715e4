//! Exact texts of help and the OpenAPI document.

use super::*;

const POT_HELP: &str = r"Request:        pots/a
Matching Route: ^pots/(?P<name>\w(([\w-.]+)?\w)?)$

One pot.

## PARAMETERS

    code (int)

        Opens the lid.

    color (string)

        What is
        in it. Required at first.

    dries (duration (sec))

        How long it takes. Default: 1h.

    drying_time (duration (sec))

        (DEPRECATED) Older name of `dries`.

    labels (slice)

        What is written on it.

    liters (int)

        (DEPRECATED) <no description>

    name (name string)

        Name of the pot.

    spilling (bool)

        On deletion: spill what is in it.

    wet (bool)

        Whether it is wet.

## DESCRIPTION

A pot holds
  paint.";

const BARE_HELP: &str = "Request:        bare\nMatching Route: ^bare$\n\n<no synopsis>\n\n\n\
    ## DESCRIPTION\n\n<no description>";

const ROOT_HELP: &str = r"## DESCRIPTION

Paint pots.

## PATHS

These are the paths of this mount. For the help of one of them, run path-help with the mount's own path and a path that matches. Your policies may not allow you all of them.

    ^lend/(?P<name>\w(([\w-.]+)?\w)?)$
        Lends a pot.

    ^pots/(?P<name>\w(([\w-.]+)?\w)?)$
        One pot.

    ^pots/?$";

#[tokio::test]
async fn path_help_is_laid_out_as_vault_lays_it_out() {
    let help = Mount::new().data(Operation::Help, "pots/a", Value::Null).await;
    assert_eq!(help["help"].as_str().unwrap(), POT_HELP);
    assert_eq!(help.as_object().unwrap().keys().collect::<Vec<_>>(), ["help", "openapi", "see_also"]);
    assert_eq!(help["see_also"], Value::Null);
}

#[tokio::test]
async fn help_of_a_path_without_fields_or_words_says_so() {
    let path: Path<Toy> = Path::new("bare", Help::default()).on(Operation::Delete, delete);
    let system = Arc::new(FixedSystem::default());
    let bare = Backend::builder(Arc::new(Toy::default()), system, "").paths(vec![path]).build();
    let request = Mount::new().request(Operation::Help, "bare", Value::Null);
    let answer = bare.handle(request).await.unwrap().unwrap();
    assert_eq!(answer.data["help"], json!(BARE_HELP));
}

#[tokio::test]
async fn the_mounts_help_lists_its_paths() {
    let help = Mount::new().data(Operation::Help, "", Value::Null).await;
    assert_eq!(help["help"].as_str().unwrap(), ROOT_HELP);
}

#[tokio::test]
async fn a_mount_without_paths_still_answers_for_help() {
    let bare = Backend::builder(Arc::new(Toy::default()), Arc::new(FixedSystem::default()), "").build();
    let request = Mount::new().request(Operation::Help, "", Value::Null);
    let answer = bare.handle(request).await.unwrap().unwrap();
    assert_eq!(answer.data["openapi"]["paths"], json!({}));
}

/// A patch has no required fields, no defaults and no create-only fields.
fn pot_patch() -> Value {
    let mut patch = pot_body();
    patch.as_object_mut().unwrap().remove("required");
    for field in ["dries", "drying_time", "liters"] {
        patch["properties"][field].as_object_mut().unwrap().remove("default").unwrap();
    }
    patch["properties"].as_object_mut().unwrap().remove("wet").unwrap();
    patch["example"] = json!({});
    patch
}

fn pot_body() -> Value {
    json!({
        "type": "object",
        "required": ["color"],
        "example": {"color": "", "dries": "1h"},
        "properties": {
            "code": {
                "type": "integer", "description": "Opens the lid.", "x-vault-displayAttrs": {"sensitive": true},
            },
            "color": {"type": "string", "description": "What is in it.", "enum": ["red", "blue"]},
            "dries": {
                "type": "string", "format": "duration", "description": "How long it takes.", "default": "1h",
            },
            "drying_time": {
                "type": "string", "format": "duration", "description": "Older name of `dries`.",
                "default": "1h", "deprecated": true,
            },
            "labels": {"type": "array", "items": {"type": "string"}, "description": "What is written on it."},
            "liters": {"type": "integer", "default": 1, "deprecated": true},
            "wet": {"type": "boolean", "description": "Whether it is wet."},
        },
    })
}

fn pot_answer() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": r"\w([\w.-]*\w)?", "description": "Name of the pot."},
            "code": {
                "type": "integer", "description": "Opens the lid.", "x-vault-displayAttrs": {"sensitive": true},
            },
        },
    })
}

fn list_answer() -> Value {
    json!({"type": "object", "properties": {"keys": {"type": "array", "items": {"type": "string"}}}})
}

fn name_parameter() -> Value {
    json!({
        "name": "name", "in": "path", "required": true, "description": "Name of the pot.",
        "schema": {"type": "string", "pattern": r"\w([\w.-]*\w)?"},
    })
}

fn done() -> Value {
    json!({"200": {"description": "OK, with warnings"}, "204": {"description": "empty body"}})
}

fn content(schema: &Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

#[tokio::test]
async fn the_mounts_document_carries_its_schemas_where_they_are_used() {
    let help = Mount::new().data(Operation::Help, "", json!({"requestResponsePrefix": "Paint"})).await;
    let body = json!({"required": true, "content": content(&pot_body())});
    let patch =
        json!({"required": true, "content": {"application/merge-patch+json": {"schema": pot_patch()}}});
    let ok = |schema: &Value| json!({"200": {"description": "OK", "content": content(schema)}});
    assert_eq!(
        help["openapi"],
        json!({
            "openapi": "3.0.2",
            "info": {
                "title": "HashiCorp Vault API",
                "description": "The paths of one secrets engine, below the path it is mounted at.",
                "version": "1.21.4",
                "license": {
                    "name": "Mozilla Public License 2.0",
                    "url": "https://www.mozilla.org/en-US/MPL/2.0",
                },
            },
            "paths": {
                "/lend/{name}": {
                    "description": "Lends a pot.",
                    "parameters": [name_parameter()],
                    "x-vault-sudo": true,
                    "get": {
                        "summary": "Lends a pot.", "operationId": "paint-read-lend-name", "tags": ["secrets"],
                        "responses": {"200": {"description": "OK"}},
                    },
                    "post": {
                        "summary": "Lends a pot.", "operationId": "paint-write-lend-name", "tags": ["secrets"],
                        "responses": done(),
                    },
                },
                "/pots/": {
                    "get": {
                        "operationId": "paint-list-pots", "tags": ["secrets"],
                        "parameters": [
                            {
                                "name": "after", "in": "query", "description": "Begins behind this name.",
                                "schema": {"type": "string"},
                            },
                            {
                                "name": "list", "in": "query", "description": "Must be set to `true`",
                                "required": true, "schema": {"type": "string", "enum": ["true"]},
                            },
                        ],
                        "responses": ok(&list_answer()),
                    },
                },
                "/pots/{name}": {
                    "description": "One pot.",
                    "parameters": [name_parameter()],
                    "x-vault-createSupported": true,
                    "get": {
                        "summary": "Read a pot.", "operationId": "paint-read-pots-name", "tags": ["secrets"],
                        "responses": ok(&pot_answer()),
                    },
                    "post": {
                        "summary": "Create a pot, or change it.", "operationId": "paint-write-pots-name", "tags": ["secrets"],
                        "requestBody": body, "responses": done(),
                    },
                    "patch": {
                        "summary": "Change single fields of a pot.", "operationId": "paint-patch-pots-name", "tags": ["secrets"],
                        "requestBody": patch, "responses": done(),
                    },
                    "delete": {
                        "summary": "Delete a pot.", "operationId": "paint-delete-pots-name", "tags": ["secrets"],
                        "parameters": [{
                            "name": "spilling", "in": "query", "description": "On deletion: spill what is in it.",
                            "schema": {"type": "boolean"},
                        }],
                        "responses": done(),
                    },
                },
            },
            "components": {"schemas": {
                "PaintPatchPotsNameRequest": pot_patch(),
                "PaintReadPotsNameResponse": pot_answer(),
                "PaintWritePotsNameRequest": pot_body(),
                "StandardListResponse": list_answer(),
            }},
        })
    );
}

#[tokio::test]
async fn a_paths_document_refers_to_its_schemas() {
    let mount = Mount::new();
    let help = mount.data(Operation::Help, "pots/a", Value::Null).await;
    let document = &help["openapi"];
    assert_eq!(document["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/pots/{name}"]);
    let post = &document["paths"]["/pots/{name}"]["post"];
    assert_eq!(post["operationId"], json!("write-pots-name"));
    let refers = json!({"$ref": "#/components/schemas/WritePotsNameRequest"});
    assert_eq!(post["requestBody"]["content"], content(&refers));
    assert_eq!(document["components"]["schemas"]["WritePotsNameRequest"], pot_body());
    let help = mount.data(Operation::Help, "pots", Value::Null).await;
    let get = &help["openapi"]["paths"]["/pots/"]["get"];
    let refers = json!({"$ref": "#/components/schemas/StandardListResponse"});
    assert_eq!(get["responses"]["200"]["content"], content(&refers));
}
