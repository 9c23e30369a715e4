//! OpenAI away for minutes: every connection breaks. Leases that end meanwhile are not given up, nothing that was
//! asked for meanwhile stays behind, and afterwards all goes on by itself.

use std::time::{Duration, Instant};

use super::Size;
use super::report::Report;
use super::stage::{Stage, seconds_until};
use crate::simulator::{Action, Fault};
use crate::support::load::Load;
use crate::support::server::Storage;
use crate::support::wait::within;

/// Leases end early in the outage.
const TTL: Duration = Duration::from_secs(10);
/// Until a credential is issued again.
const RECOVERY: Duration = Duration::from_secs(15);

pub(super) async fn run(size: &Size) -> Report {
    let stage = Stage::set(size, Storage::Memory).await;
    stage.set_ttl(TTL).await;
    for _ in 0..size.outage_leases {
        stage.host.credential().await;
    }
    let start = Instant::now();
    stage.openai.simulator().fault(Fault::everywhere(Action::Drop));
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", 2);
    tokio::time::sleep(size.outage).await;
    let alive = stage.live_keys();
    stage.openai.simulator().clear_faults();
    let back = Instant::now();
    let first = within(RECOVERY, async || {
        let answer = stage.host.api().read("openai/creds/my-role").await;
        (answer.status == 200).then_some(())
    })
    .await;
    let recovered = back.elapsed().as_secs();
    let tally = load.end().await;

    let mut report = Report::default();
    let title = format!("OpenAI away for {} s", (back - start).as_secs());
    report.note(format!("{title}: reads refused"), tally.refused_reads());
    report.exactly(format!("{title}: reads without an answer"), 0, tally.unanswered as u64);
    if size.outage > Duration::from_secs(100) {
        report.exactly(format!("{title}: keys alive at its end"), 0, alive);
    }
    report.at_most(format!("{title}: until the next credential"), RECOVERY.as_secs(), " s", recovered);
    report.exactly(format!("{title}: credentials issued then"), 1, u64::from(first.is_some()));
    let took = seconds_until(size.outage_removal, async || stage.is_empty().await).await;
    report.exactly(format!("{title}: accounts left, {took} s later"), 0, stage.accounts());
    report.exactly(format!("{title}: leases left"), 0, stage.host.leases().await as u64);
    report.exactly(format!("{title}: irrevocable leases"), 0, stage.host.irrevocable_leases().await);
    report
}
