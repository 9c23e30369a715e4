//! What came of a run, for people.

use std::fmt::Write;
use std::time::Duration;

use crate::client::Tally;

/// Count, rate, how long reads took, and what failed. The time is that of a client on average: at the end some have
/// finished and wait for the others, and that is not the server's slowness.
#[expect(clippy::cast_precision_loss, reason = "counts of reads and clients are far below 2^53")]
pub(crate) fn table(tally: &Tally, clients: usize) -> String {
    let seconds = tally.time.as_secs_f64() / clients as f64;
    let mut latencies = tally.latencies.clone();
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / seconds;
    let failed: usize = tally.failures.values().sum();
    let mut text = format!(
        "credentials    {} in {seconds:.3} s\nper second     {rate:.1}\np50            {:.1} ms\np99            {:.1} ms\nfailures       {failed}",
        latencies.len(),
        milliseconds(percentile(&latencies, 50)),
        milliseconds(percentile(&latencies, 99)),
    );
    for (reason, count) in &tally.failures {
        // A String takes all that is written to it.
        let _ = write!(text, "\n  {count} times  {reason}");
    }
    text
}

/// The smallest latency that `percent` of all do not exceed; zero when there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
