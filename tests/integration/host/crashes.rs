//! The plugin's process ended in every gap of what takes several steps, on a real server: what it began is owned or
//! removed by the next process, and in the end, when all leases are over, no account is left.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::crashes::points;
use crate::simulator::endpoint::{CREATE_ACCOUNT, LIST_ACCOUNTS, UPDATE_KEY};
use crate::simulator::{Action, Fault};
use crate::support::host::Host;
use crate::support::openai::{OpenAi, PROJECT};
use crate::support::programs;
use crate::support::server::Storage;
use crate::support::wait::{eventually, within};

/// A real server's storage does not fail on demand.
const OUT_OF_REACH: [&str; 2] = ["creds.not_recorded", "creds.taken_back"];
/// The tick comes once a minute, and what ended is filed under its minute.
const TWO_TICKS: Duration = Duration::from_secs(200);

#[tokio::test]
async fn the_process_may_end_at_every_point() {
    let openai = OpenAi::start().await;
    let host = Host::start(&programs::openbao_server(), Storage::Memory).await;
    let armed = Armed::in_folder_of(&host);
    let folder = armed.0.to_str().expect("a temporary folder's name is text").to_owned();
    let folder = format!("OPENAI_FAILPOINTS={folder}");
    host.register_with(&[folder.as_str(), "OPENAI_SWEEP_AGE=5", "OPENAI_LEDGER_GRACE=1"]).await;
    host.set_up("openai", &openai).await;
    let narrow = json!({"project_id": PROJECT, "scopes": "api.responses.write"});
    host.api().write("openai/roles/narrow", narrow).await.ok();

    let (by_ticks, by_requests): (Vec<_>, Vec<_>) = points()
        .into_iter()
        .filter(|point| !OUT_OF_REACH.contains(&point.as_str()))
        .partition(|point| point.starts_with("sweep.") || point.starts_with("tick."));
    for point in &by_requests {
        armed.arm(point);
        eventually(&format!("the process ends at {point}"), async || {
            go_everywhere(&host, &openai).await;
            (!armed.is(point)).then_some(())
        })
        .await;
        openai.simulator().clear_faults();
        eventually("the server starts another", async || is_served(&host).await.then_some(())).await;
    }
    for point in &by_ticks {
        armed.arm(point);
        lose_an_answer(&openai);
        host.api().read("openai/creds/my-role?ttl=2s").await;
        openai.simulator().clear_faults();
        lose_a_lease(&host, &armed).await;
        let ended = within(TWO_TICKS, async || (!armed.is(point)).then_some(())).await;
        assert!(ended.is_some(), "no tick came by {point}");
        eventually("the server starts another", async || is_served(&host).await.then_some(())).await;
    }

    let gone = within(TWO_TICKS, async || openai.accounts().is_empty().then_some(())).await;
    assert!(gone.is_some(), "left behind: {:?}", openai.accounts());
    assert_eq!(host.irrevocable_leases().await, 0);
}

/// The folder whose files arm points.
struct Armed(PathBuf);

impl Armed {
    fn in_folder_of(host: &Host) -> Self {
        let folder = host.temporary_folder().join("failpoints");
        fs::create_dir(&folder).expect("the server's folder is ours");
        Self(folder)
    }

    fn arm(&self, point: &str) {
        fs::write(self.0.join(point), "0").expect("the folder is ours");
    }

    fn is(&self, point: &str) -> bool {
        self.0.join(point).exists()
    }
}

/// Requests that together come by every point of requests, whatever becomes of each.
async fn go_everywhere(host: &Host, openai: &OpenAi) {
    let simulator = openai.simulator();
    let revoked = host.api().read("openai/creds/my-role?ttl=5s").await;
    host.api().read("openai/creds/narrow?ttl=5s").await;
    if revoked.status == 200 {
        host.api().write("sys/leases/revoke", json!({"lease_id": revoked.lease_id()})).await;
    }
    simulator.fault(Fault::on(CREATE_ACCOUNT, Action::status(400)).times(1));
    host.api().read("openai/creds/my-role?ttl=5s").await;
    simulator.fault(Fault::on(UPDATE_KEY, Action::status(400)).times(1));
    host.api().read("openai/creds/narrow?ttl=5s").await;
    simulator.fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    host.api().read("openai/creds/my-role?ttl=5s").await;
}

/// The account is made, and neither the answer nor a list says so: the sweep has to find it.
fn lose_an_answer(openai: &OpenAi) {
    openai.simulator().fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    openai.simulator().fault(Fault::on(LIST_ACCOUNTS, Action::status(400)).times(1));
}

/// The plugin has answered for all it knows, and the server never heard it.
async fn lose_a_lease(host: &Host, armed: &Armed) {
    armed.arm("creds.committed");
    eventually("a lease is lost", async || {
        host.api().read("openai/creds/my-role?ttl=2s").await;
        (!armed.is("creds.committed")).then_some(())
    })
    .await;
    eventually("the server starts another", async || is_served(host).await.then_some(())).await;
}

async fn is_served(host: &Host) -> bool {
    host.api().read("openai/roles/my-role").await.status == 200
}
