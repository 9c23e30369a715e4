//! Thousands of leases run out while OpenAI takes two calls a second: no lease is given up, no key outlives it for
//! long, and what is left of accounts goes once OpenAI opens up.

use std::time::{Duration, Instant};

use super::Size;
use super::report::Report;
use super::stage::{Stage, seconds_until};
use crate::simulator::endpoint::DELETE_ACCOUNT;
use crate::simulator::{Limit, Per};
use crate::support::load::Load;
use crate::support::server::Storage;

const CALLS_A_SECOND: usize = 2;
const CLIENTS: usize = 32;
/// In which every key must be dead.
const KEYS: Duration = Duration::from_secs(120);
/// In which every lease must be gone. The server's fourth try, the first that surely comes after the key's end, may be this
/// late: 210 s for the pauses before it, and 20 s that each of the first three tries waits.
const LEASES: Duration = Duration::from_secs(270);

pub(super) async fn run(size: &Size) -> Report {
    let stage = Stage::set(size, Storage::Memory).await;
    stage.set_ttl(size.flood_ttl).await;
    let simulator = stage.openai.simulator();
    simulator.limit(Limit::on(DELETE_ACCOUNT, CALLS_A_SECOND, Per::Second));
    let start = Instant::now();
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", CLIENTS);
    seconds_until(Duration::from_secs(120), async || simulator.state().created.accounts >= size.flood as u64)
        .await;
    let tally = load.end().await;
    simulator.limit(Limit::everywhere(CALLS_A_SECOND, Per::Second));
    let leases = stage.host.leases().await as u64;

    let mut report = Report::default();
    let title = format!("{} leases end, {CALLS_A_SECOND} calls a second", tally.accounts.len());
    report.note(format!("{title}: seconds to issue them"), start.elapsed().as_secs());
    // On a machine that takes longer than a lease lives, the rest would say nothing.
    report.at_least(format!("{title}: leases alive at once"), size.flood as u64, leases);
    tokio::time::sleep(size.flood_ttl).await;
    let took = seconds_until(KEYS + size.flood_ttl, async || stage.live_keys() == 0).await;
    report.at_most(format!("{title}: until every key was dead"), KEYS.as_secs(), " s", took);
    report.exactly(format!("{title}: keys alive then"), 0, stage.live_keys());
    let took = seconds_until(LEASES, async || stage.host.leases().await == 0).await;
    report.exactly(format!("{title}: leases left, {took} s later"), 0, stage.host.leases().await as u64);
    report.exactly(format!("{title}: irrevocable leases"), 0, stage.host.irrevocable_leases().await);
    report.note(format!("{title}: accounts left then"), stage.accounts());

    simulator.clear_limits();
    let took = seconds_until(size.flood_removal, async || stage.accounts() == 0).await;
    report.exactly(format!("{title}: accounts left, {took} s after OpenAI opened up"), 0, stage.accounts());
    report
}
