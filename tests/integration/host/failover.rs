//! Whoever leads three nodes goes, again and again, in the middle of reads, rotations and loans: in the end everything
//! at OpenAI has its owner, and no account was lent twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::api::{Answer, Api};
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::openai::{OpenAi, PROJECT};
use crate::support::wait::{eventually, within};

/// So that what a dead leader left is removed while the test waits. It takes a plugin built for that.
const SHORTENED: &[&str] = &["OPENAI_SWEEP_AGE=5", "OPENAI_LEDGER_GRACE=1"];
/// A lease of 20 s, the minute that its record is filed under, and three ticks of a minute: a return that fails once
/// is tried again a minute later.
const UNTIL_ALL_IS_REMOVED: Duration = Duration::from_secs(280);
const PAUSE: Duration = Duration::from_millis(100);
const STATIC: &str = "openai/static-creds/always";
const SET: &str = "openai/library-sets/pool";
/// More than are lost with the leaders that go: what was lent then comes back only with a tick.
const MEMBERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const BORROWERS: usize = 3;

/// Callers at work until they are stopped; each answers how often it succeeded.
struct Callers {
    nodes: Vec<Api>,
    stop: CancellationToken,
    at_work: JoinSet<(&'static str, usize)>,
    /// Accounts that a borrower has and has not begun to give back.
    held: Arc<Mutex<HashSet<String>>>,
}

#[tokio::test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs --features failpoints, as `make test` gives it")]
async fn leaders_that_go_leave_nothing_behind() {
    let (openai, mut cluster) = (OpenAi::start().await, Cluster::start().await);
    cluster.quick_start(&openai, SHORTENED).await;
    let account = set_up(&openai, &cluster).await;
    openai.takes(Duration::from_millis(50));

    let apis: Vec<_> = cluster.nodes().iter().map(|node| node.api().clone()).collect();
    let load = Load::start(&apis.iter().collect::<Vec<_>>(), "openai/creds/my-role?ttl=20s", 8);
    let callers = Callers::start(apis);
    some_are_made(&openai).await;
    let killed = cluster.kill_leader().await;
    some_are_made(&openai).await;
    cluster.resume(killed).await;
    cluster.step_down().await;
    some_are_made(&openai).await;
    let killed = cluster.kill_leader().await;
    some_are_made(&openai).await;
    cluster.resume(killed).await;
    cluster.step_down().await;
    some_are_made(&openai).await;
    println!("{:?}; {} credentials", callers.end().await, load.end().await.accounts.len());

    let rest =
        within(UNTIL_ALL_IS_REMOVED, async || is_at_rest(&openai, &cluster, &account).await.then_some(()));
    assert!(rest.await.is_some(), "left: {:#?}", openai.state());
    for node in cluster.nodes() {
        let credential = node.credential().await;
        node.revoke(&credential).await;
    }
}

/// A static role and a library set; answers the role's account.
async fn set_up(openai: &OpenAi, cluster: &Cluster) -> String {
    let (account, api) = (openai.existing_account("always"), cluster.nodes()[0].api());
    let role = json!({"project_id": PROJECT, "service_account_id": account});
    api.write("openai/static-roles/always", role).await.ok();
    let set = json!({"project_id": PROJECT, "service_account_names": MEMBERS, "ttl": "20s", "max_ttl": "1h"});
    api.write(SET, set).await.ok();
    account
}

/// Only what stays is there: the role's account with the key that every node reads, accounts that are free, and one
/// admin key.
async fn is_at_rest(openai: &OpenAi, cluster: &Cluster, account: &str) -> bool {
    let live: Vec<_> = openai.state().live_keys().map(|key| key.id.clone()).collect();
    let keys = openai.live_keys_of(account);
    if openai.accounts().len() != 1 + MEMBERS.len() || live.len() != 1 || live != keys {
        return false;
    }
    for node in cluster.nodes() {
        if node.api().read(STATIC).await.data("api_key_id") != &Value::from(live[0].as_str()) {
            return false;
        }
    }
    let status = cluster.nodes()[0].api().read(&format!("{SET}/status")).await;
    let accounts = status.data("account_status").as_object().cloned().unwrap_or_default();
    accounts.values().all(|state| state == "available")
        && accounts.len() == MEMBERS.len()
        && openai.admin_keys().len() == 1
}

/// Reads go on: after what just happened, accounts are made again.
async fn some_are_made(openai: &OpenAi) {
    let before = openai.state().created.accounts;
    eventually("accounts are made", async || (openai.state().created.accounts >= before + 80).then_some(()))
        .await;
}

impl Callers {
    fn start(nodes: Vec<Api>) -> Self {
        let mut callers =
            Self { nodes, stop: CancellationToken::new(), at_work: JoinSet::new(), held: Arc::default() };
        callers.repeat("static rotations", "openai/static-creds/always/rotate");
        callers.repeat("admin rotations", "openai/config/rotate");
        for _ in 0..BORROWERS {
            callers.borrow();
        }
        callers
    }

    /// What each succeeded in.
    async fn end(mut self) -> Vec<(&'static str, usize)> {
        self.stop.cancel();
        let mut counts = Vec::new();
        while let Some(count) = self.at_work.join_next().await {
            counts.push(count.expect("no account is lent twice"));
        }
        counts
    }

    fn repeat(&mut self, what: &'static str, path: &'static str) {
        let (nodes, stop) = (self.nodes.clone(), self.stop.clone());
        self.at_work.spawn(async move {
            let mut done = 0;
            for node in nodes.iter().cycle().take_while(|_| !stop.is_cancelled()) {
                done += usize::from(ask(node, path, json!({})).await.is_some());
                tokio::time::sleep(PAUSE).await;
            }
            (what, done)
        });
    }

    fn borrow(&mut self) {
        let (nodes, stop, held) = (self.nodes.clone(), self.stop.clone(), Arc::clone(&self.held));
        self.at_work.spawn(async move {
            let mut loans = 0;
            for node in nodes.iter().cycle().take_while(|_| !stop.is_cancelled()) {
                if let Some(lent) = ask(node, &format!("{SET}/check-out"), json!({})).await {
                    let account = lent.text("service_account_id");
                    let held = |what: fn(&mut HashSet<String>, String) -> bool| {
                        what(&mut held.lock().expect("nobody panics with it held"), account.clone())
                    };
                    assert!(held(HashSet::insert), "{account} is lent twice");
                    tokio::time::sleep(PAUSE).await;
                    held(|held, account| held.remove(&account));
                    ask(node, &format!("{SET}/check-in"), json!({"service_account_id": account})).await;
                    loans += 1;
                }
                tokio::time::sleep(PAUSE).await;
            }
            ("loans", loans)
        });
    }
}

/// One try at one node, which may be gone.
async fn ask(node: &Api, path: &str, body: Value) -> Option<Answer> {
    let answer = node.try_send("PUT", path, Some(body)).await.ok()?;
    (answer.status == 200).then_some(answer)
}
