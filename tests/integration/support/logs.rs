//! Collects this process's log lines that may contain a key, at every level. The mounts check these lines.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::secrets::{Secrets, suspects};

/// Log lines that may contain a key.
static SUSPICIOUS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

struct KeyDetector;

/// Keeps the log lines of one thread.
pub struct ThreadLog {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

struct Keeper(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Line(String);

/// Installs the process-wide subscriber. A test with its own subscriber must set it for its own thread.
pub fn watch() {
    STARTED.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(KeyDetector))
            .expect("no other test sets the process's subscriber");
    });
}

/// A log line that contains one of these secrets.
pub fn find(secrets: &Secrets) -> Option<String> {
    SUSPICIOUS.lock().unwrap().iter().find(|line| secrets.find_in(line).is_some()).cloned()
}

impl ThreadLog {
    /// Keeps the lines of this thread from now on.
    pub fn start() -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let subscriber = tracing_subscriber::registry().with(Keeper(Arc::clone(&lines)));
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// True if one line contains all these texts.
    pub fn has(&self, texts: &[&str]) -> bool {
        self.lines.lock().unwrap().iter().any(|line| texts.iter().all(|text| line.contains(text)))
    }
}

impl Line {
    fn check(self, place: &str) {
        if suspects(&self.0).next().is_some() {
            SUSPICIOUS.lock().unwrap().push(format!("{place}:{}", self.0));
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: Subscriber> Layer<S> for Keeper {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

impl<S: Subscriber> Layer<S> for KeyDetector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.check(event.metadata().target());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut line = Line::default();
        attributes.record(&mut line);
        line.check(attributes.metadata().target());
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        values.record(&mut line);
        line.check("a span");
    }
}

#[test]
fn a_key_in_a_log_line_is_found() {
    watch();
    let mut secrets = Secrets::default();
    secrets.learn("sk-admin-found-in-the-logs-by-this-test");
    assert_eq!(find(&secrets), None);
    tracing::trace!(key = ?Some("sk-admin-found-in-the-logs-by-this-test"), "a slip");
    assert!(find(&secrets).unwrap().contains("a slip"));
}
