//! Many requests in flight, and the plugin killed again and again: ten minutes later there is no account that is neither
//! leased nor recorded, and when all leases have ended there is none at all.

use std::time::Duration;

use super::Size;
use super::report::Report;
use super::stage::{Stage, seconds_until};
use crate::support::load::{Load, Tally};
use crate::support::server::Storage;

const KILLS: usize = 5;
/// What a call of OpenAI takes, so that a blow finds many under way.
const LATENCY: Duration = Duration::from_millis(100);

/// What is left to see to once the load is over.
pub(super) struct Aftermath {
    stage: Stage,
    tally: Tally,
}

pub(super) async fn load(size: &Size) -> Aftermath {
    let stage = Stage::set(size, Storage::Raft).await;
    stage.set_ttl(size.plugin_ttl).await;
    stage.openai.simulator().latency(LATENCY);
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", size.clients);
    for _ in 0..KILLS {
        tokio::time::sleep(size.between_blows).await;
        stage.host.kill_plugin_processes();
    }
    tokio::time::sleep(size.between_blows).await;
    Aftermath { tally: load.end().await, stage }
}

impl Aftermath {
    pub(super) async fn settle(self, size: &Size) -> Report {
        let Self { stage, tally } = self;
        let title = format!("plugin killed {KILLS} times with {} requests in flight", size.clients);
        let mut report = Report::default();
        report.note(format!("{title}: credentials handed out"), tally.accounts.len());
        report.note(format!("{title}: reads refused"), tally.refused_reads() + tally.unanswered);
        let leases = stage.host.leases().await as u64;
        report.note(format!("{title}: accounts without a lease right after"), stage.accounts() - leases);

        let handed_out = tally.accounts.iter().cloned().collect();
        let unrecorded = async || stage.unrecorded(&handed_out).await;
        let took = seconds_until(size.plugin_sweep, async || unrecorded().await.is_empty()).await;
        let lost = unrecorded().await;
        report.exactly(
            format!("{title}: accounts neither leased nor recorded, {took} s later"),
            0,
            lost.len() as u64,
        );
        let left: Vec<_> = stage.openai.state().accounts;
        let missing = tally.accounts.iter().filter(|id| left.iter().all(|account| account.id != **id));
        report.exactly(
            format!("{title}: credentials handed out whose account is gone"),
            0,
            missing.count() as u64,
        );
        // The plugin ended after the record was written and before the server had the answer: nobody has the key, and
        // the account goes with its own end.
        report.note(format!("{title}: recorded for nobody"), stage.accounts().saturating_sub(leases));

        let took = seconds_until(size.plugin_removal, async || stage.is_empty().await).await;
        report.exactly(format!("{title}: accounts left, {took} s after that"), 0, stage.accounts());
        report
    }
}
