//! Many requests in flight, and the plugin killed again and again: ten minutes later there are as many accounts as
//! leases.

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

        let took = seconds_until(size.plugin_sweep, async || stage.accounts() == leases).await;
        let records = stage.host.records("ledger/").await + &stage.host.records("wal/").await;
        let leased = stage.host.lease_records().await;
        let left: Vec<_> = stage.openai.state().accounts;
        let unleased = left.iter().filter(|account| {
            account.id != stage.openai.bystander() && !leased.contains(&format!("\"{}\"", account.id))
        });
        let (known, lost): (Vec<_>, Vec<_>) =
            unleased.partition(|account| records.contains(&account.id) || records.contains(&account.name));
        let missing = tally.accounts.iter().filter(|id| left.iter().all(|account| account.id != **id));
        report.note(format!("{title}: leases"), stage.host.leases().await);
        report.note(format!("{title}: accounts"), stage.accounts());
        // The plugin ended after it had noted that the answer leaves and before it was written, which is the next thing
        // it does: nobody can tell that from an answer that arrived, so it stays on record and goes after its own end.
        let more = (known.len() + lost.len()) as u64;
        report.ideally(format!("{title}: accounts without a lease, {took} s later"), 0, more);
        let few = 1 + tally.accounts.len() as u64 / 500;
        report.at_most(format!("{title}: of them kept in case of doubt"), few, "", known.len() as u64);
        report.exactly(format!("{title}: of them on no record to be ended"), 0, lost.len() as u64);
        report.exactly(format!("{title}: leases whose account is gone"), 0, missing.count() as u64);
        report
    }
}
