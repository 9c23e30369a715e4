//! Sixteen clients at an OpenAI that takes twenty calls a second: they share what there is, and nobody is refused.

use std::time::Duration;

use super::Size;
use super::report::Report;
use super::stage::Stage;
use crate::simulator::{Limit, Per, State};
use crate::support::load::Load;
use crate::support::server::Storage;

const CLIENTS: usize = 16;
const CALLS_A_SECOND: usize = 20;
const TIME: Duration = Duration::from_secs(15);

pub(super) async fn run(size: &Size) -> Report {
    let stage = Stage::set(size, Storage::Memory).await;
    let simulator = stage.openai.simulator();
    simulator.limit(Limit::everywhere(CALLS_A_SECOND, Per::Second));
    let before = simulator.state();
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", CLIENTS);
    tokio::time::sleep(TIME).await;
    let issued = simulator.state().created.accounts - before.created.accounts;
    let tally = load.end().await;
    let after = simulator.state();

    let calls = after.all_calls() - before.all_calls();
    let refused = too_many(&after) - too_many(&before);
    let mut report = Report::default();
    let title = format!("{CLIENTS} clients, {CALLS_A_SECOND} calls a second, {} s", TIME.as_secs());
    report.at_least(format!("{title}: credentials issued"), 200, issued);
    report.exactly(format!("{title}: reads refused"), 0, (tally.refused_reads() + tally.unanswered) as u64);
    report.at_most(format!("{title}: calls answered 429"), 5, " %", (refused * 100).div_ceil(calls.max(1)));
    report
}

fn too_many(state: &State) -> u64 {
    state.calls.values().filter_map(|statuses| statuses.get(&429)).sum()
}
