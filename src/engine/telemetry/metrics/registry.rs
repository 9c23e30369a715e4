//! The Prometheus registry of one mount. Several mounts share a process, so there is no global registry.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::{RwLock, RwLockWriteGuard};

/// Upper bounds of the buckets in seconds. OpenAI usually answers within a second; Vault's requests end after 90 s.
const BUCKETS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0, 90.0];

/// Maximum number of buffered histogram values, of 24 bytes each. The values of a minute would take megabytes under load.
const MAX_BUFFERED: usize = 1024;

/// The recorder requires metadata and ignores it.
const METADATA: Metadata<'static> = Metadata::new("openai_secrets", metrics::Level::INFO, None);

pub(super) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Locked for writing while buffered values move to their buckets. metrics-util's `AtomicBucket` loses a value that is
    /// pushed meanwhile.
    draining: RwLock<()>,
    /// Number of buffered histogram values.
    buffered: AtomicUsize,
}

/// The name and help text of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

impl Registry {
    /// An empty registry. The exporter's "recommended naming" is off, because it would add `_total` to counters whose
    /// names are promised without it.
    pub(super) fn new() -> Self {
        let builder = PrometheusBuilder::new().with_recommended_naming(false);
        // Fails only without buckets.
        let builder = builder.set_buckets(&BUCKETS).unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle, draining: RwLock::default(), buffered: AtomicUsize::default() }
    }

    pub(super) fn counter(&self, metric: Metric, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.describe_counter(metric.name.into(), None, metric.help.into());
        self.recorder.register_counter(&key(metric, labels), &METADATA)
    }

    pub(super) fn gauge(&self, metric: Metric, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.describe_gauge(metric.name.into(), None, metric.help.into());
        self.recorder.register_gauge(&key(metric, labels), &METADATA)
    }

    pub(super) fn histogram(&self, metric: Metric, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.describe_histogram(metric.name.into(), None, metric.help.into());
        self.recorder.register_histogram(&key(metric, labels), &METADATA)
    }

    /// Adds a value to a histogram of this registry.
    pub(super) fn record(&self, histogram: &Histogram, value: Duration) {
        let shared = self.draining.read();
        histogram.record(value);
        drop(shared);
        if self.buffered.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_BUFFERED {
            self.upkeep();
        }
    }

    /// Moves buffered histogram values to their buckets.
    pub(super) fn upkeep(&self) {
        drop(self.drain());
    }

    /// All metrics as text.
    pub(super) fn render(&self) -> String {
        let _exclusive = self.drain();
        self.handle.render()
    }

    /// Moves buffered values to their buckets. No value is added while the guard is held.
    fn drain(&self) -> RwLockWriteGuard<'_, ()> {
        let exclusive = self.draining.write();
        self.handle.run_upkeep();
        self.buffered.store(0, Ordering::Relaxed);
        exclusive
    }
}

/// The process may outlive a mount, and metrics-util's `AtomicBucket` does not free its values on drop. Each histogram would
/// leak a kilobyte.
impl Drop for Registry {
    fn drop(&mut self) {
        self.upkeep();
    }
}

fn key(metric: Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|&(name, value)| Label::new(name, value.to_owned())).collect();
    Key::from_parts(metric.name, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffered_values_are_bounded_and_none_is_lost() {
        let registry = Registry::new();
        let metric = Metric { name: "took_seconds", help: "Duration." };
        let histogram = registry.histogram(metric, &[]);
        for _ in 0..2 * MAX_BUFFERED + 7 {
            registry.record(&histogram, Duration::from_millis(70));
        }
        assert_eq!(registry.buffered.load(Ordering::Relaxed), 7);
        let text = registry.render();
        assert!(text.contains("took_seconds_bucket{le=\"0.1\"} 2055\n"), "{text}");
        assert!(text.contains("took_seconds_count 2055\n"), "{text}");
    }
}
