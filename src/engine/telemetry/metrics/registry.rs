//! One mount's own Prometheus registry. There is no process-wide one: several mounts share the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds in seconds: OpenAI answers within a second or so, and waits end with Vault's request.
const BUCKETS: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 45.0, 90.0];

/// As many values wait at most to be sorted: 24 bytes each. Under load a minute's would be megabytes.
const WAITING: usize = 1024;

/// The recorder wants to know where a metric was recorded and then ignores it.
const METADATA: Metadata<'static> = Metadata::new("openai_secrets", metrics::Level::INFO, None);

pub(super) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Held for writing while histograms are emptied into their buckets: metrics-util's `AtomicBucket` loses what
    /// is pushed into a block that is just being taken away.
    emptying: RwLock<()>,
    /// How many values histograms have collected since then.
    collected: AtomicUsize,
}

/// A metric's name and what it says.
#[derive(Clone, Copy)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
}

impl Registry {
    /// An empty registry. The exporter's "recommended naming" stays off: it would add `_total` to counters, whose
    /// names are promised without.
    pub(super) fn new() -> Self {
        let builder = PrometheusBuilder::new().with_recommended_naming(false);
        // Refused only if there are no buckets.
        let builder = builder.set_buckets(&BUCKETS).unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle, emptying: RwLock::default(), collected: AtomicUsize::default() }
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
        let shared = self.emptying.read().unwrap_or_else(PoisonError::into_inner);
        histogram.record(value);
        drop(shared);
        if self.collected.fetch_add(1, Ordering::Relaxed) + 1 >= WAITING {
            self.upkeep();
        }
    }

    /// Sorts what histograms have collected into their buckets; until then every value is kept.
    pub(super) fn upkeep(&self) {
        drop(self.emptied());
    }

    /// All metrics as text; does what [`Registry::upkeep`] does first.
    pub(super) fn render(&self) -> String {
        let _alone = self.emptied();
        self.handle.render()
    }

    /// With nothing to sort left, and none added while this is held.
    fn emptied(&self) -> RwLockWriteGuard<'_, ()> {
        let alone = self.emptying.write().unwrap_or_else(PoisonError::into_inner);
        self.handle.run_upkeep();
        self.collected.store(0, Ordering::Relaxed);
        alone
    }
}

/// A mount may go while its process stays, and metrics-util's `AtomicBucket` does not free what it holds: a kilobyte of
/// each histogram would be lost.
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
    fn values_are_sorted_before_they_are_many_and_none_is_lost() {
        let registry = Registry::new();
        let metric = Metric { name: "took_seconds", help: "How long it took." };
        let histogram = registry.histogram(metric, &[]);
        for _ in 0..2 * WAITING + 7 {
            registry.record(&histogram, Duration::from_millis(70));
        }
        assert_eq!(registry.collected.load(Ordering::Relaxed), 7);
        let text = registry.render();
        assert!(text.contains("took_seconds_bucket{le=\"0.1\"} 2055\n"), "{text}");
        assert!(text.contains("took_seconds_count 2055\n"), "{text}");
    }
}
