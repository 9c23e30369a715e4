//! Help of a path and of the mount, in the layout of `vault path-help` (PROTOCOL 8.10).

use std::fmt::Write as _;

use serde_json::Value;

use crate::logical::{Answer, Request, Response};

use super::Backend;
use super::backend::Engine;
use super::field::AnyField;
use super::openapi::{Document, References};
use super::path::Route;
use super::shapes::one_line;

const NO_SYNOPSIS: &str = "<no synopsis>";
const NO_DESCRIPTION: &str = "<no description>";

/// Key under which Vault sends the prefix of operation ids with a help request for the mount.
const PREFIX_KEY: &str = "requestResponsePrefix";

/// Text between the engine's description and the list of its paths.
const PATHS_FOLLOW: &str = "These are the paths of this mount. For the help of one of them, run path-help with the \
    mount's own path and a path that matches. Your policies may not allow you all of them.";

impl<E: Engine> Backend<E> {
    /// Help of one path.
    pub(super) async fn path_help(&self, route: &Route<E>, request: &Request) -> Answer {
        let mut document = self.document(request, References::Kept);
        document.add(route);
        self.answer(path_text(route, &request.path), document).await
    }

    /// Help of the whole mount. Vault requests it without a token for the server's OpenAPI document. An error would
    /// break that document, so this function never fails.
    pub(super) async fn root_help(&self, request: &Request) -> Answer {
        let mut document = self.document(request, References::Inlined);
        for route in &self.routes {
            document.add(route);
        }
        self.answer(root_text(&self.root_help, &self.routes), document).await
    }

    fn document<'a>(&'a self, request: &'a Request, references: References) -> Document<'a> {
        let prefix = request.data.get(PREFIX_KEY).and_then(Value::as_str).unwrap_or_default();
        Document::new(prefix, &self.special, references)
    }

    async fn answer(&self, help: String, document: Document<'_>) -> Answer {
        let version = self.system().vault_version().await.unwrap_or_default();
        Ok(Some(Response::of([
            ("help", Value::from(help)),
            ("see_also", Value::Null),
            ("openapi", document.finish(&version)),
        ])))
    }
}

fn path_text<E>(route: &Route<E>, path: &str) -> String {
    let help = &route.path.help;
    let mut text = format!(
        "Request:        {path}\nMatching Route: {}\n\n{}\n\n",
        route.pattern.regex(),
        text_or(help.synopsis, NO_SYNOPSIS)
    );
    let fields = route.schema.fields();
    if !fields.is_empty() {
        text.push_str("## PARAMETERS\n");
    }
    for (name, field) in fields {
        let captured = route.schema.captures(name);
        text.push_str(&parameter(name, *field, captured, route.path.exists.is_some()));
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "\n## DESCRIPTION\n\n{}", text_or(help.description, NO_DESCRIPTION));
    if !route.path.patterns.is_empty() {
        let patterns = route.path.patterns.join(", ");
        let _ =
            write!(text, "\n\nThis path has several names, and a policy needs a rule for each: {patterns}.");
    }
    text.trim().to_owned()
}

/// `creates`: the path distinguishes creation from update, so an update needs no field.
fn parameter(name: &str, field: &dyn AnyField, captured: bool, creates: bool) -> String {
    let info = field.info();
    let mark = if info.is_deprecated_as(name) { "(DEPRECATED) " } else { "" };
    let description = info.description_as(name);
    let lines = text_or(&description, NO_DESCRIPTION).lines().map(str::trim).collect::<Vec<_>>();
    let need = if captured || info.is_deprecated_as(name) {
        String::new()
    } else if info.required {
        if creates { " Required at first.".to_owned() } else { " Required.".to_owned() }
    } else {
        field
            .default_value()
            .as_ref()
            .and_then(shown_default)
            .map_or_else(String::new, |it| format!(" Default: {it}."))
    };
    format!("\n    {name} ({})\n\n        {mark}{}{need}\n", info.shape.help_name(), lines.join("\n        "))
}

/// Text of a default. Empty and zero defaults are omitted; the description explains them.
fn shown_default(default: &Value) -> Option<String> {
    match default {
        Value::String(text) if text.is_empty() || text == "0s" => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.as_f64() != Some(0.0) => Some(number.to_string()),
        Value::Bool(true) => Some("true".to_owned()),
        Value::Array(values) if !values.is_empty() => Some(default.to_string()),
        _ => None,
    }
}

fn root_text<E>(help: &str, routes: &[Route<E>]) -> String {
    let mut paths: Vec<_> =
        routes.iter().map(|route| (route.pattern.regex(), one_line(route.path.help.synopsis))).collect();
    paths.sort();
    let mut text = format!("## DESCRIPTION\n\n{}\n\n## PATHS\n\n{PATHS_FOLLOW}\n\n", help.trim());
    for (regex, synopsis) in paths {
        let _ = if synopsis.is_empty() {
            write!(text, "    {regex}\n\n\n")
        } else {
            write!(text, "    {regex}\n        {synopsis}\n\n")
        };
    }
    text.truncate(text.trim_end().len());
    text
}

fn text_or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    let text = text.trim();
    if text.is_empty() { otherwise } else { text }
}
