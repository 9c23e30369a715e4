//! What a caller sends is bounded before anything loops over it. One thread serves all mounts of the process, so work that
//! grows faster than its input, or that has no bound, would hold up everybody.

use std::collections::BTreeSet;

use openai_secrets::framework::{LONGEST_TEXT, MOST_ELEMENTS};
use openai_secrets::logical::{Kind, Operation};
use serde_json::{Value, json};

use crate::layers::sources;
use crate::openapi::document;
use crate::support::Mount;

/// Larger than every limit of a text, and of a list.
const HUGE_TEXT: usize = 300_000;
const HUGE_LIST: usize = 100_001;

/// A loop over what a caller sends: its file, its code, and the code that bounds it with that code's file.
struct Loop {
    over: &'static str,
    at: (&'static str, &'static str),
    bound: (&'static str, &'static str),
}

const fn looped(
    over: &'static str,
    at: (&'static str, &'static str),
    bound: (&'static str, &'static str),
) -> Loop {
    Loop { over, at, bound }
}

const BODY: (&str, &str) = ("wire/convert.rs", "message.data.len() > MAX_BODY_BYTES");
const TEXT: (&str, &str) = ("framework/field.rs", "longest: LONGEST_TEXT");
const LIST: (&str, &str) = ("framework/field.rs", "most: MOST_ELEMENTS");

/// Every such loop. All take time that grows with their input at most as `n log n`.
const LOOPS: [Loop; 27] = [
    looped("the JSON of a body", ("wire/value.rs", "serde_json::from_str"), BODY),
    looped("a body's fields", ("framework/schema.rs", "for (name, value) in data"), BODY),
    looped("fields that are not known", ("framework/schema.rs", "unused.ignored = data.keys()"), BODY),
    looped("the size of a value", ("framework/limits.rs", "elements.iter().find_map(within)"), BODY),
    looped(
        "a path's segments",
        ("framework/route.rs", "node.walk(segments.clone()"),
        ("framework/route.rs", "let Some(segment) = segments.next()"),
    ),
    looped(
        "the letters of a name",
        ("framework/values.rs", "middle.iter().all"),
        ("framework/limits.rs", "LONGEST_NAME"),
    ),
    looped("a comma list", ("framework/decode.rs", "text.split(',').map"), LIST),
    looped("a list's elements", ("framework/decode.rs", "let texts = elements"), LIST),
    looped("repeats in a list", ("framework/decode.rs", "find(|text| !seen.insert(*text))"), LIST),
    looped("an object of texts", ("framework/decode.rs", "map.into_iter().map(|(key, value)|"), LIST),
    looped("refused elements", ("framework/decode.rs", "lines.sort()"), LIST),
    looped("a whole number", ("framework/integer.rs", "for character in digits.chars()"), TEXT),
    looped("a duration", ("framework/duration.rs", "while !rest.is_empty()"), TEXT),
    looped("a cron expression", ("engine/time/cron.rs", "expression.split_ascii_whitespace()"), TEXT),
    looped("an endpoint", ("openai/endpoint.rs", "text.contains(|character: char|"), TEXT),
    looped(
        "certificates",
        ("openai/connect.rs", "CertificateDer::pem_slice_iter"),
        ("engine/config/config_fields.rs", ".longest(MAX_CERTIFICATES)"),
    ),
    looped(
        "a name template",
        ("engine/naming/template/mod.rs", "reader::read(text)"),
        ("engine/creds/path_roles.rs", ".longest(Template::MAX_LENGTH)"),
    ),
    looped("scopes", ("engine/creds/path_roles.rs", "static SCOPES: Field<Vec<String>>"), LIST),
    looped("scopes of a read", ("engine/creds/path_creds.rs", "static SCOPES: Field<Vec<String>>"), LIST),
    looped(
        "labels",
        ("engine/config/metadata.rs", "labels.iter().flat_map"),
        ("engine/config/metadata.rs", ".most(MAX_LABELS)"),
    ),
    looped(
        "the actions of a template",
        ("engine/naming/template/reader.rs", "self.actions > MAX_ACTIONS"),
        ("engine/naming/template/reader.rs", "const MAX_ACTIONS: usize = 64"),
    ),
    looped(
        "the calls of a template",
        ("engine/naming/template/reader.rs", "self.calls > MAX_CALLS"),
        ("engine/naming/template/reader.rs", "const MAX_CALLS: usize = 64"),
    ),
    looped(
        "the nesting of a template",
        ("engine/naming/template/reader.rs", "self.depth > MAX_DEPTH"),
        ("engine/naming/template/reader.rs", "const MAX_DEPTH: usize = 32"),
    ),
    looped(
        "a text that a template makes",
        ("engine/naming/template/functions.rs", "result.len() > MAX_TEXT"),
        ("engine/naming/template/functions.rs", "const MAX_TEXT: usize = 4096"),
    ),
    looped("the names of a set", ("engine/library/fields.rs", "for name in &names"), LIST),
    looped(
        "account names of a set",
        ("engine/library/fields.rs", "static ACCOUNTS: Field<Vec<String>>"),
        LIST,
    ),
    looped(
        "the entries of a page that is asked for",
        ("engine/operator/revocations.rs", "(1..=PAGE).contains(limit)"),
        ("engine/operator/revocations.rs", "const PAGE: usize"),
    ),
];

fn code_of(file: &str) -> String {
    let source = sources().into_iter().find(|source| source.path.to_str() == Some(file));
    source.unwrap_or_else(|| panic!("there is no src/{file}")).code
}

#[test]
fn every_loop_over_what_a_caller_sends_stands_where_the_table_says_with_its_bound() {
    for Loop { over, at, bound } in LOOPS {
        for (file, code) in [at, bound] {
            assert!(
                code_of(file).contains(code),
                "{over}: src/{file} has no longer {code:?}: mend the table"
            );
        }
    }
}

/// A field that holds many values is looped over, so it needs a row.
#[test]
fn every_field_of_many_values_has_a_row_in_the_table() {
    let many = ["Field<Vec<", "Field<BTreeMap<", "Field<Data>"];
    let declared = sources().into_iter().filter(|source| source.path.starts_with("engine"));
    let with_many: BTreeSet<_> = declared
        .filter(|source| many.iter().any(|many| source.code.contains(many)))
        .map(|source| source.path.to_str().unwrap().to_owned())
        .collect();
    let rows: BTreeSet<_> = LOOPS.iter().map(|row| row.at.0.to_owned()).collect();
    let missing: Vec<_> = with_many.difference(&rows).collect();
    assert!(missing.is_empty(), "these declare a field of many values and have no row: {missing:?}");
}

/// Every field of every write refuses what is larger than it takes, by name, before its handler runs.
#[tokio::test]
async fn every_field_of_every_write_refuses_what_is_too_large() {
    let (mount, document) = (Mount::start().await, document().await);
    let mut fields = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let schema = &item["post"]["requestBody"]["content"]["application/json"]["schema"];
        let Some(properties) = schema["properties"].as_object() else { continue };
        let path = path.trim_start_matches('/').replace("{name}", "n");
        for name in properties.keys() {
            fields += 1;
            for (huge, says) in [
                (json!("x".repeat(HUGE_TEXT)), "bytes long, not 300000"),
                (json!(vec!["x"; HUGE_LIST]), "not 100001"),
            ] {
                let mut body = json!({});
                body[name] = huge;
                let answer = mount.ask(mount.request(Operation::Update, &path, body)).await;
                let error = answer.error();
                assert_eq!(error.kind(), Kind::BadRequest, "{path} {name}");
                assert!(error.message().contains(&format!("{name} must ")), "{path} {name}: {error}");
                assert!(error.message().contains(says), "{path} {name}: {error}");
                assert!(error.message().len() < 300, "{path} {name}: {error}");
            }
        }
    }
    assert!(fields > 50, "the document lists {fields} fields only");
    assert_eq!(mount.sim.state().all_calls(), 0);
}

/// What is unknown is ignored, however much it is.
#[tokio::test]
async fn many_unknown_fields_are_only_warned_of() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let mut body = json!({"project": "research"});
    body.as_object_mut().unwrap().extend((0..10_000).map(|at| (format!("unknown-{at}"), Value::Null)));
    assert_eq!(mount.write("roles/app", body).await.warnings().len(), 1);
}

#[test]
fn the_limits_are_what_the_security_notes_say() {
    assert_eq!((LONGEST_TEXT, MOST_ELEMENTS), (4_096, 1_000));
}
