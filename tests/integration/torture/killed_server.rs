//! The server itself killed in the middle of reads: some minutes later no account is left, as every lease has ended.

use std::time::Duration;

use super::Size;
use super::report::Report;
use super::stage::{Stage, seconds_until};
use crate::support::load::{Load, Tally};
use crate::support::server::Storage;

const KILLS: usize = 3;
const LATENCY: Duration = Duration::from_millis(100);

/// What is left to see to once the load is over.
pub(super) struct Aftermath {
    stage: Stage,
    tally: Tally,
}

pub(super) async fn load(size: &Size) -> Aftermath {
    let mut stage = Stage::set(size, Storage::Raft).await;
    stage.set_ttl(size.server_ttl).await;
    stage.openai.simulator().latency(LATENCY);
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", size.clients);
    for _ in 0..KILLS {
        tokio::time::sleep(size.between_blows).await;
        stage.host.crash().await;
    }
    tokio::time::sleep(size.between_blows).await;
    Aftermath { tally: load.end().await, stage }
}

impl Aftermath {
    pub(super) async fn settle(self, size: &Size) -> Report {
        let Self { stage, tally } = self;
        let title = format!("server killed {KILLS} times with {} requests in flight", size.clients);
        let mut report = Report::default();
        report.note(format!("{title}: credentials handed out"), tally.accounts.len());
        let leases = stage.host.leases().await as u64;
        report.note(
            format!("{title}: accounts without a lease right after"),
            stage.accounts().abs_diff(leases),
        );

        let took = seconds_until(size.server_sweep, async || stage.is_empty().await).await;
        report.exactly(format!("{title}: accounts left, {took} s later"), 0, stage.accounts());
        report.exactly(format!("{title}: leases left"), 0, stage.host.leases().await as u64);
        report.exactly(format!("{title}: irrevocable leases"), 0, stage.host.irrevocable_leases().await);
        report
    }
}
