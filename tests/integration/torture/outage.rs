//! OpenAI away for minutes: every connection breaks. Leases that end meanwhile are not given up, static roles are read
//! all the time, no account of a library set is lent twice, nothing that was asked for meanwhile stays behind, and
//! afterwards all goes on by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Size;
use super::report::Report;
use super::stage::{Stage, seconds_until};
use crate::simulator::{Action, Fault};
use crate::support::load::Load;
use crate::support::openai::PROJECT;
use crate::support::server::Storage;
use crate::support::wait::within;

/// Leases end early in the outage.
const TTL: Duration = Duration::from_secs(10);
/// Until a credential is issued again.
const RECOVERY: Duration = Duration::from_secs(15);
const STATIC: &str = "openai/static-creds/always";
const SET: &str = "openai/library-sets/pool";
/// The accounts of the static role and of the library set.
const THAT_STAY: u64 = 3;

/// What somebody saw who went on during the outage.
#[derive(Default)]
struct Seen {
    static_reads: usize,
    refused_static_reads: u64,
    loans: u64,
}

pub(super) async fn run(size: &Size) -> Report {
    let stage = Stage::set(size, Storage::Memory).await;
    stage.set_ttl(TTL).await;
    set_up_what_stays(&stage).await;
    for _ in 0..size.outage_leases {
        stage.host.credential().await;
    }
    stage.host.api().write(&format!("{SET}/check-out"), json!({})).await.ok();
    let start = Instant::now();
    stage.openai.simulator().fault(Fault::everywhere(Action::Drop));
    let load = Load::start(&[stage.host.api()], "openai/creds/my-role", 2);
    let seen = go_on(&stage, size.outage).await;
    let alive = stage.live_keys();
    let key = static_key(&stage).await;
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
    report.note(format!("{title}: static reads meanwhile"), seen.static_reads);
    report.exactly(format!("{title}: of them refused"), 0, seen.refused_static_reads);
    report.exactly(format!("{title}: accounts lent meanwhile"), 0, seen.loans);
    if size.outage > Duration::from_secs(100) {
        report.exactly(format!("{title}: keys alive at its end, but for the static role's"), 0, alive - 1);
    }
    report.at_most(format!("{title}: until the next credential"), RECOVERY.as_secs(), " s", recovered);
    report.exactly(format!("{title}: credentials issued then"), 1, u64::from(first.is_some()));
    let all_made_up_for = async || {
        stage.accounts() == THAT_STAY
            && stage.host.leases().await == 0
            && static_key(&stage).await != key
            && free(&stage).await == 2
            && stage.live_keys() == 1
    };
    let took = seconds_until(size.outage_removal, all_made_up_for).await;
    report.exactly(format!("{title}: accounts left, {took} s later"), 0, stage.accounts() - THAT_STAY);
    report.exactly(format!("{title}: leases left"), 0, stage.host.leases().await as u64);
    report.exactly(format!("{title}: irrevocable leases"), 0, stage.host.irrevocable_leases().await);
    report.exactly(
        format!("{title}: static roles not rotated since"),
        0,
        u64::from(static_key(&stage).await == key),
    );
    report.exactly(format!("{title}: accounts that are not free again"), 0, 2 - free(&stage).await);
    let lent = lend_all(&stage).await;
    report.exactly(format!("{title}: accounts of 2 that three borrowers got then"), 2, lent);
    report.exactly(format!("{title}: keys alive of the role and of them"), 3, stage.live_keys());
    report
}

async fn set_up_what_stays(stage: &Stage) {
    let api = stage.host.api();
    let account = stage.openai.existing_account("always");
    let role = json!({
        "project_id": PROJECT, "service_account_id": account, "rotation_period": 60, "grace_period": 0
    });
    api.write("openai/static-roles/always", role).await.ok();
    let set = json!({
        "project_id": PROJECT, "service_account_names": ["lent-1", "lent-2"], "ttl": "20s", "max_ttl": "50s",
    });
    api.write(SET, set).await.ok();
}

/// Reads the static role each second, and asks for a loan now and then.
async fn go_on(stage: &Stage, time: Duration) -> Seen {
    let (start, mut seen) = (Instant::now(), Seen::default());
    while start.elapsed() < time {
        let read = stage.host.api().read(STATIC).await;
        seen.static_reads += 1;
        seen.refused_static_reads += u64::from(read.status != 200);
        if seen.static_reads % 10 == 0 {
            let lent = stage.host.api().write(&format!("{SET}/check-out"), json!({})).await;
            seen.loans += u64::from(lent.status == 200);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    seen
}

async fn static_key(stage: &Stage) -> String {
    stage.host.api().read(STATIC).await.ok().text("api_key_id")
}

async fn free(stage: &Stage) -> u64 {
    let status = stage.host.api().read(&format!("{SET}/status")).await.ok();
    let accounts = status.data("account_status").as_object().cloned().unwrap_or_default();
    accounts.values().filter(|state| *state == "available").count() as u64
}

/// Three borrowers ask for the two accounts; how many different ones they got.
async fn lend_all(stage: &Stage) -> u64 {
    let mut accounts = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let lent = stage.host.api().write(&format!("{SET}/check-out"), json!({})).await;
        if lent.status == 200 {
            assert!(accounts.insert(lent.text("service_account_id")), "an account is lent twice");
        }
    }
    accounts.len() as u64
}
