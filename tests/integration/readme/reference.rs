//! The pages of `docs/api/` against the mount: every operation stands in one of them, and the tables of fields are the
//! engine's own declarations.
//!
//! `UPDATE_GOLDEN=1 cargo test --test integration the_tables_of_the_api_reference` writes the tables anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::{Page, pages, root};
use crate::openapi::{answer_fields, document, operations, request_fields};
use crate::support::document::body_schema;

/// `METHOD /openai/path`, with `:name` for what a path captures.
type Endpoint = String;

const END: &str = "<!-- end -->";

/// The tables of one operation, without rows where it has no fields.
#[derive(Default)]
struct Tables {
    request: String,
    answer: String,
}

/// A table of a page: of requests or answers of these operations.
struct Table<'a> {
    is_answer: bool,
    endpoints: Vec<&'a str>,
}

impl Page {
    fn is_reference(&self) -> bool {
        self.path.starts_with("docs/api/")
    }

    /// Lines such as `` `POST /openai/roles/:name` ``.
    fn endpoints(&self) -> BTreeSet<Endpoint> {
        let lines = self.prose().filter_map(|line| line.strip_prefix('`')?.strip_suffix('`'));
        lines.filter(|line| line.contains(" /openai/")).map(str::to_owned).collect()
    }

    fn tables(&self) -> Vec<Table<'_>> {
        let marks = self.text.split("<!-- ").skip(1).filter_map(|part| part.split_once(" -->"));
        marks.filter_map(|(mark, _)| Table::read(mark)).collect()
    }

    /// The page with the tables as they should be.
    fn updated(&self, offered: &BTreeMap<Endpoint, Tables>) -> String {
        let mut text = String::new();
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once("<!-- ") {
            let (mark, content) = after.split_once(" -->").unwrap();
            text.extend([before, "<!-- ", mark, " -->"]);
            rest = content;
            if let Some(table) = Table::read(mark) {
                let (_, after) = content.split_once(END).unwrap_or_else(|| panic!("{mark} has no end"));
                text.extend(["\n", &table.expected(offered), END]);
                rest = after;
            }
        }
        text + rest
    }
}

impl<'a> Table<'a> {
    fn read(mark: &'a str) -> Option<Self> {
        let (kind, endpoints) = mark.split_once(' ')?;
        let is_answer = match kind {
            "answer" => true,
            "request" => false,
            _ => return None,
        };
        Some(Self { is_answer, endpoints: endpoints.split(", ").collect() })
    }

    /// What the mount declares: of several operations the first one's table, whose fields all have.
    fn expected(&self, offered: &BTreeMap<Endpoint, Tables>) -> String {
        let of = |endpoint: &&str| {
            let tables = offered.get(*endpoint).unwrap_or_else(|| panic!("there is no {endpoint}"));
            if self.is_answer { &tables.answer } else { &tables.request }
        };
        let names = |table: &String| -> Vec<String> {
            table.lines().map(|row| row.split(" | ").next().unwrap().to_owned()).collect()
        };
        let first = of(&self.endpoints[0]);
        assert!(!first.is_empty(), "{:?} has no fields", self.endpoints[0]);
        for endpoint in &self.endpoints {
            assert_eq!(names(of(endpoint)), names(first), "{endpoint} has other fields");
        }
        first.clone()
    }
}

/// The operations of the mount with their tables.
async fn offered() -> BTreeMap<Endpoint, Tables> {
    let document = document().await;
    let mut offered = BTreeMap::new();
    for (path, method, operation) in operations(&document) {
        let written = path.trim_end_matches('/').replace('{', ":").replace('}', "");
        let is_list = method == "get" && path.ends_with('/');
        // The reference says once for all that a patch is a write of the fields that it sends.
        if method == "patch" {
            continue;
        }
        let method = if is_list { "LIST".to_owned() } else { method.to_uppercase() };
        let answer = if is_list { String::new() } else { answer_table(operation) };
        offered.insert(
            format!("{method} /openai{written}"),
            Tables { request: request_table(operation), answer },
        );
    }
    offered
}

fn request_table(operation: &Value) -> String {
    let required = &body_schema(operation)["required"];
    let row = |(name, field): (String, Value)| {
        let is_required = required.as_array().is_some_and(|names| names.contains(&name.as_str().into()));
        let schema = if field["schema"].is_object() { &field["schema"] } else { &field };
        let default = if is_required { "required".to_owned() } else { shown(&schema["default"]) };
        format!("| `{name}` | {} | {default} | {} |\n", kind(schema), said(&field))
    };
    let rows: String = request_fields(operation).into_iter().map(row).collect();
    if rows.is_empty() { rows } else { format!("| field | type | default | |\n|---|---|---|---|\n{rows}") }
}

fn answer_table(operation: &Value) -> String {
    let row =
        |(name, field): (String, Value)| format!("| `{name}` | {} | {} |\n", kind(&field), said(&field));
    let rows: String = answer_fields(operation).into_iter().map(row).collect();
    if rows.is_empty() { rows } else { format!("| field of the answer | type | |\n|---|---|---|\n{rows}") }
}

fn kind(schema: &Value) -> &str {
    match (schema["format"].as_str(), schema["type"].as_str()) {
        (Some("duration"), _) => "duration",
        (Some("date-time"), _) => "time",
        (_, Some("array")) => "list",
        (_, Some("object")) => "map",
        (_, kind) => kind.unwrap_or_default(),
    }
}

/// A default as a page shows it.
fn shown(default: &Value) -> String {
    match default {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Array(elements) if elements.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn said(field: &Value) -> String {
    field["description"].as_str().unwrap_or_default().replace('|', "\\|")
}

#[tokio::test]
async fn the_tables_of_the_api_reference_are_the_engines_declarations() {
    let offered = offered().await;
    for page in pages().into_iter().filter(Page::is_reference) {
        let expected = page.updated(&offered);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(root().join(&page.path), &expected).unwrap();
            continue;
        }
        let difference =
            page.text.lines().zip(expected.lines()).find(|(written, expected)| written != expected);
        assert!(page.text == expected, "{}: {difference:?}\nsee the head of this file", page.path);
    }
}

#[tokio::test]
async fn every_operation_and_field_of_the_mount_is_in_the_api_reference() {
    let offered = offered().await;
    let pages: Vec<_> = pages().into_iter().filter(Page::is_reference).collect();
    let written: BTreeSet<_> = pages.iter().flat_map(Page::endpoints).collect();
    let known: BTreeSet<_> = offered.keys().cloned().collect();
    assert_eq!(written.difference(&known).collect::<Vec<_>>(), Vec::<&Endpoint>::new(), "only in docs/api");
    assert_eq!(known.difference(&written).collect::<Vec<_>>(), Vec::<&Endpoint>::new(), "not in docs/api");

    let tables: Vec<_> = pages.iter().flat_map(Page::tables).collect();
    for (endpoint, declared) in &offered {
        for (is_answer, table) in [(false, &declared.request), (true, &declared.answer)] {
            let found = tables
                .iter()
                .any(|table| table.is_answer == is_answer && table.endpoints.contains(&endpoint.as_str()));
            let what = if is_answer { "answer" } else { "request" };
            assert!(found || table.is_empty(), "docs/api has no <!-- {what} {endpoint} -->");
        }
    }
}
