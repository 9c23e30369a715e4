//! The plugin's process ended in every gap of what takes several steps, on a real server: what it began is owned or
//! removed by the next process, and in the end, when all leases are over, no account is left.

mod requests;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use self::requests::Requests;
use crate::crashes::points;
use crate::simulator::endpoint::{CREATE_ACCOUNT, LIST_ACCOUNTS};
use crate::simulator::{AccountState, Action, Fault};
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{OpenAi, PROJECT};
use crate::support::programs;
use crate::support::server::Storage;
use crate::support::wait::{eventually, within};

/// A real server's storage does not fail on demand, and each point of a sweep takes a minute of waiting for it.
/// `crashes/points.rs` comes by them.
const OUT_OF_REACH: [&str; 7] = [
    "creds.not_recorded",
    "creds.taken_back",
    "federated.undone",
    "set.undone",
    "static.undone",
    "sweep.admin_undone",
    "sweep.window_recorded",
];
/// Servers that run at the same time.
const SERVERS: usize = 4;
/// So that some hundred credentials are read until a sweep comes.
const BETWEEN_READS: Duration = Duration::from_millis(200);
/// The tick comes once a minute, and what ended is filed under its minute.
const TWO_TICKS: Duration = Duration::from_secs(200);

#[tokio::test]
async fn the_process_may_end_at_every_point() {
    let points: Vec<_> = points().into_iter().filter(|it| !OUT_OF_REACH.contains(&it.as_str())).collect();
    // The test mostly waits for ticks, so each server takes a share of the points.
    let shares = (0..SERVERS).map(|first| points.iter().skip(first).step_by(SERVERS).cloned().collect());
    join_all(shares.map(ends_at_each)).await;
}

async fn ends_at_each(points: Vec<String>) {
    let openai = OpenAi::start().await;
    let host = Host::start(&programs::openbao_server(), Storage::Memory).await;
    let armed = Armed::in_folder_of(&host);
    let folder = armed.0.to_str().expect("a temporary folder's name is text").to_owned();
    let folder = format!("OPENAI_FAILPOINTS={folder}");
    host.register_with(&[folder.as_str(), "OPENAI_SWEEP_AGE=5", "OPENAI_LEDGER_GRACE=1"]).await;
    host.set_up("openai", &openai).await;
    let narrow = json!({"project_id": PROJECT, "scopes": "api.responses.write"});
    host.api().write("openai/roles/narrow", narrow).await.ok();

    let requests = Requests::new(host.api(), &openai);
    let begun = Instant::now();
    let tell = |place: &str| println!("{place} after {} s", begun.elapsed().as_secs());
    let (by_ticks, by_requests): (Vec<_>, Vec<_>) =
        points.into_iter().partition(|point| point.starts_with("sweep.") || point.starts_with("tick."));
    for point in &by_requests {
        tell(point);
        armed.arm(point);
        // A record goes once a tick has looked for what an earlier end left half made.
        let ended = within(TWO_TICKS, async || {
            requests.come_by(point).await;
            (!armed.is(point)).then_some(())
        });
        ended.await.unwrap_or_else(|| panic!("the process does not end at {point}"));
        openai.simulator().clear_faults();
        eventually("the server starts another", async || is_served(&host).await.then_some(())).await;
    }
    for point in &by_ticks {
        tell(point);
        armed.arm(point);
        requests.lose_a_rotation().await;
        lose_an_answer(&openai);
        host.api().read("openai/creds/my-role?ttl=2s").await;
        openai.simulator().clear_faults();
        lose_a_lease(&host, &armed).await;
        // The next process has a window of its own.
        host.api().read("openai/creds/my-role?ttl=2s").await;
        let ended = within(TWO_TICKS, async || (!armed.is(point)).then_some(())).await;
        assert!(ended.is_some(), "no tick came by {point}");
        eventually("the server starts another", async || is_served(&host).await.then_some(())).await;
    }

    tell("no more points");
    let cleared = within(TWO_TICKS, async || requests.clear().await.then_some(())).await;
    assert!(cleared.is_some(), "not all can be deleted");
    // The server asks the next process again for what the last one died of, and that answer has a lease.
    host.api().write("sys/leases/revoke-prefix/openai/creds", json!({"sync": true})).await.ok();
    let settled = within(TWO_TICKS, async || nothing_is_left(&openai).then_some(())).await;
    assert!(settled.is_some(), "left behind: {:?}", openai.state());
    assert_eq!(host.irrevocable_leases().await, 0);
}

#[tokio::test]
async fn a_sweep_leaves_what_was_handed_out_whoever_reads_at_the_same_time() {
    on_each_server(async |host| {
        host.register_with(&["OPENAI_SWEEP_AGE=3"]).await;
        let mut mounts = Vec::new();
        for name in ["openai", "elsewhere"] {
            let openai = OpenAi::start().await;
            host.set_up(name, &openai).await;
            lose_an_answer(&openai);
            host.api().read(&format!("{name}/creds/my-role")).await.refused(400, "what it may have left");
            let lost = openai.accounts().remove(0);
            mounts.push((name, openai, lost));
        }
        // Side by side, by one process, until a sweep has been in both.
        let mut handed_out = Vec::new();
        let swept = within(TWO_TICKS, async || {
            for (name, openai, _) in &mounts {
                let read = || host.credential_at(name);
                let (one, two, three) = tokio::join!(read(), read(), read());
                handed_out.extend([one, two, three].map(|credential| (openai, credential.text("api_key"))));
            }
            tokio::time::sleep(BETWEEN_READS).await;
            mounts.iter().all(|(_, openai, lost)| !openai.accounts().contains(lost)).then_some(())
        });
        assert!(swept.await.is_some(), "no sweep came");
        for (openai, key) in handed_out {
            assert!(openai.accepts(&key).await);
        }
    })
    .await;
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

/// The account is made, and neither the answer nor a list says so: the sweep has to find it.
fn lose_an_answer(openai: &OpenAi) {
    openai.simulator().fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    openai.simulator().fault(Fault::on(LIST_ACCOUNTS, Action::status(400)).times(1));
}

/// A credential is on record whose lease the server never heard of.
async fn lose_a_lease(host: &Host, armed: &Armed) {
    armed.arm("creds.recorded");
    eventually("a lease is lost", async || {
        host.api().read("openai/creds/my-role?ttl=2s").await;
        (!armed.is("creds.recorded")).then_some(())
    })
    .await;
    eventually("the server starts another", async || is_served(host).await.then_some(())).await;
}

/// Of what the mount made at OpenAI only the admin key that it has is left.
fn nothing_is_left(openai: &OpenAi) -> bool {
    let state = openai.state();
    let mut accounts = openai.accounts();
    accounts.sort();
    let has_live_keys = |account: &AccountState| account.keys.iter().any(|key| key.live);
    let given: Vec<_> = state.accounts.iter().filter(|account| accounts.contains(&account.name)).collect();
    let is_federated = !state.providers.is_empty() || !state.rules.is_empty();
    !is_federated
        && accounts == Requests::given()
        && !given.into_iter().any(has_live_keys)
        && openai.admin_keys().len() == 1
}

async fn is_served(host: &Host) -> bool {
    host.api().read("openai/roles/my-role").await.status == 200
}
