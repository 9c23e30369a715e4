//! Log lines in the format of HashiCorp's hclog: one JSON object per line on stderr. Vault adds the lines to its log
//! under the plugin's name and at the line's level (PROTOCOL 7).
//!
//! *Guarantees*: `@level`, `@message` and `@timestamp` are always strings, because Vault crashes on other types. A line
//! is shorter than 64 KiB. Errors on stderr are ignored. Dependencies log at `warn` and above only: HTTP libraries log
//! headers at lower levels, and a header can hold a key.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::error::error_chain;

/// The longest line, in bytes. Vault splits longer lines and loses their level.
const MAX_LINE_BYTES: usize = 63 * 1024;
/// The longest text in a line, in bytes. Escaping makes a text at most six times longer, so one message always fits.
const MAX_TEXT_BYTES: usize = 8 * 1024;
/// This crate. All of its levels are logged.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// Passes each event as a whole line to `write`.
struct Hclog<W> {
    write: W,
}

/// The fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

/// The layer that logs to stderr. Vault filters by level, so every level of this crate is written.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    layer_to(|line: &[u8]| {
        // One write per line. A failed write means that the host is gone.
        let _ = io::stderr().lock().write_all(line);
    })
}

fn layer_to<S>(write: impl Fn(&[u8]) + Send + Sync + 'static) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target(CRATE, LevelFilter::TRACE);
    Hclog { write }.with_filter(filter)
}

/// Logs one error without a subscriber.
pub(super) fn error(message: &str) {
    let fields = Fields { message: message.to_owned(), rest: Map::new() };
    let _ = io::stderr().lock().write_all(&fields.line(Level::ERROR, None, Utc::now()));
}

impl<S: Subscriber, W: Fn(&[u8]) + 'static> Layer<S> for Hclog<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        (self.write)(&fields.line(*metadata.level(), module(metadata.target()), Utc::now()));
    }
}

impl Fields {
    /// The whole line, or only its standard keys if the whole line is too long.
    fn line(self, level: Level, module: Option<String>, time: DateTime<Utc>) -> Vec<u8> {
        let mut head = Map::new();
        head.insert("@level".to_owned(), name(level).into());
        head.insert("@message".to_owned(), truncated(self.message).into());
        head.insert("@timestamp".to_owned(), time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into());
        if let Some(module) = module {
            head.insert("@module".to_owned(), module.into());
        }
        let mut whole = self.rest;
        whole.extend(head.clone());
        let line = line_of(whole);
        if line.len() <= MAX_LINE_BYTES { line } else { line_of(head) }
    }

    fn insert(&mut self, field: &Field, value: Value) {
        // Keys with `@` belong to hclog. A field of an event must not replace one.
        let key = field.name().trim_start_matches('@');
        self.rest.insert(key.to_owned(), value);
    }

    fn insert_text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.insert(field, truncated(text).into());
        }
    }
}

/// Numbers are written as text, because Vault reads JSON numbers as floats and prints a million as `1e+06`.
impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert_text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            self.insert(field, value.into());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert_text(field, error_chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert_text(field, format!("{value:?}"));
    }
}

/// The name of the level in hclog, which has the same five levels in lower case.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The module path within this crate with dots, as in hclog, or the path of the dependency.
fn module(target: &str) -> Option<String> {
    let module = target.strip_prefix(CRATE).map_or(target, |inner| inner.trim_start_matches("::"));
    (!module.is_empty()).then(|| module.replace("::", "."))
}

/// The text, cut to at most [`MAX_TEXT_BYTES`] bytes at a character boundary.
fn truncated(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

fn line_of(object: Map<String, Value>) -> Vec<u8> {
    // `Value` prints compact JSON and escapes control characters, so the result is one line.
    format!("{}\n", Value::Object(object)).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The lines that `work` logs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let layer =
            layer_to(move |line: &[u8]| sink.lock().unwrap().push(String::from_utf8(line.to_vec()).unwrap()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let written = written.lock().unwrap();
        written.clone()
    }

    fn only(lines: &[String]) -> Map<String, Value> {
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }

    #[test]
    fn an_event_is_one_object_on_one_line() {
        let lines = logged(|| tracing::info!(role = "app", count = 1_234_567, done = true, "issued\na key"));
        assert!(lines[0].ends_with("}\n"));
        assert_eq!(lines[0].matches('\n').count(), 1);
        let line = only(&lines);
        assert_eq!(line["@level"], "info");
        assert_eq!(line["@message"], "issued\na key");
        assert_eq!(line["@module"], "goplugin.log.tests");
        assert_eq!(line["role"], "app");
        assert_eq!(line["count"], "1234567", "text, since the host prints a number as 1.234567e+06");
        assert_eq!(line["done"], true);
    }

    #[test]
    fn the_time_has_six_decimals_and_a_z() {
        let midnight = DateTime::parse_from_rfc3339("2026-01-02T00:00:00Z").unwrap().to_utc();
        let line = Fields::default().line(Level::INFO, None, midnight);
        let line: Map<String, Value> = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["@timestamp"], "2026-01-02T00:00:00.000000Z");
    }

    #[test]
    fn every_level_of_ours_is_written() {
        let lines = logged(|| {
            tracing::trace!("t");
            tracing::debug!("d");
            tracing::info!("i");
            tracing::warn!("w");
            tracing::error!("e");
        });
        let levels: Vec<Value> =
            lines.iter().map(|line| only(std::slice::from_ref(line))["@level"].clone()).collect();
        let compiled = match tracing::level_filters::STATIC_MAX_LEVEL {
            LevelFilter::TRACE => &["trace", "debug", "info", "warn", "error"][..],
            _ => &["debug", "info", "warn", "error"],
        };
        assert_eq!(levels, compiled);
    }

    #[test]
    fn dependencies_are_heard_from_warn_on() {
        let lines = logged(|| {
            tracing::trace!(target: "h2::codec", "headers");
            tracing::debug!(target: "hyper", "headers");
            tracing::info!(target: "tonic::transport", "connected");
            tracing::warn!(target: "h2::proto", "odd frame");
        });
        let line = only(&lines);
        assert_eq!(line["@message"], "odd frame");
        assert_eq!(line["@module"], "h2.proto");
    }

    #[test]
    fn a_field_cannot_take_the_place_of_the_hosts_keys() {
        let lines = logged(|| tracing::info!("@level" = 1, "@message" = 2, "@timestamp" = 3, "real"));
        let line = only(&lines);
        assert_eq!(line["@level"], "info");
        assert_eq!(line["@message"], "real");
        assert!(line["@timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(
            (&line["level"], &line["message"], &line["timestamp"]),
            (&"1".into(), &"2".into(), &"3".into())
        );
    }

    #[test]
    fn a_message_that_is_no_text_becomes_text() {
        assert_eq!(only(&logged(|| tracing::info!(message = 5)))["@message"], "5");
        assert_eq!(only(&logged(|| tracing::info!(message = true)))["@message"], "true");
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let error = io::Error::other(serde_json::from_str::<Value>("{").unwrap_err());
        let line = only(&logged(|| tracing::info!(error = &error as &dyn Error, "failed")));
        assert_eq!(line["error"], "EOF while parsing an object at line 1 column 1");
    }

    #[test]
    fn a_line_stays_below_the_hosts_limit() {
        let control = "\u{1}".repeat(100_000);
        let wide = "ü".repeat(100_000);
        let many = logged(|| tracing::info!(a = control, b = control, c = control, "{wide}"));
        let line = only(&many);
        assert!(many[0].len() < 64 * 1024);
        assert!(line["@message"].as_str().unwrap().ends_with("ü…"));
        let few = logged(|| tracing::info!(a = wide, "{control}"));
        assert!(few[0].len() < 64 * 1024, "{}", few[0].len());
        assert!(only(&few).contains_key("@level"));
    }
}
