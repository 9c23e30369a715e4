//! Lists that never end: whoever reads one gives up, says so, and goes on when OpenAI is well again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::SET;
use crate::support::wait::eventually;

/// No more pages are read of one list.
const MOST_PAGES: u64 = 1_000;

/// A list that does not end from now on.
struct Endless<'a> {
    mount: &'a Mount,
    list: &'a str,
    before: u64,
}

impl<'a> Endless<'a> {
    fn list(mount: &'a Mount, list: &'a str) -> Self {
        mount.sim.fault(Fault::on(list, Action::Endless));
        Self { mount, list, before: mount.sim.state().calls(list) }
    }

    /// From now on it ends again; it was read, but not for ever. A reader that ran out of time before may have left one call
    /// under way, and a call counts when it ends.
    fn ends(self) {
        let pages = self.mount.sim.state().calls(self.list) - self.before;
        assert!((2..=MOST_PAGES + 1).contains(&pages), "{pages} pages of {}", self.list);
        self.mount.sim.clear_faults();
    }
}

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

async fn tidied(mount: &Mount) -> Value {
    mount.write("tidy", json!({"dry_run": false, "min_age": 0})).await.done();
    eventually("tidy comes to its end", async || {
        let status = mount.read("tidy/status").await.json();
        (status["state"] != "running").then_some(status)
    })
    .await
}

#[tokio::test]
async fn a_configuration_is_refused_and_its_lock_is_free_again() {
    let mount = Mount::start().await;
    let endless = Endless::list(&mount, endpoint::LIST_ADMIN_KEYS);
    let answered = mount.write("config", mount.config()).await;
    answered.refused(
        "error validating OpenAI configuration: OpenAI's answer cannot be read: the list does not end",
    );
    endless.ends();
    mount.write("config", mount.config()).await.done();
}

#[tokio::test]
async fn a_library_set_is_refused() {
    let mount = mount().await;
    let set = json!({"project": "research", "service_account_names": "a"});
    let endless = Endless::list(&mount, endpoint::LIST_ACCOUNTS);
    mount.write(SET, set.clone()).await.refused("the list does not end");
    endless.ends();
    mount.seed("a", true);
    let endless = Endless::list(&mount, endpoint::LIST_KEYS);
    mount.write(SET, set.clone()).await.refused("listing the project's keys: ");
    endless.ends();
    mount.write(SET, set).await.done();
}

#[tokio::test]
async fn what_a_sweep_looks_for_stays_on_record() {
    let mount = mount().await.with_role(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    let endless = Endless::list(&mount, endpoint::LIST_ACCOUNTS);
    mount.read("creds/app").await.refused("removed within 10 minutes");
    endless.ends();
    let endless = Endless::list(&mount, endpoint::LIST_ACCOUNTS);
    assert!(mount.tick_now().await.answer.is_err());
    endless.ends();
    assert_eq!(mount.stored("wal/").len(), 1);
    mount.tick_now().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn an_admin_key_that_a_sweep_looks_for_stays_on_record() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).times(1).after_the_work());
    let endless = Endless::list(&mount, endpoint::LIST_ADMIN_KEYS);
    mount.write("config/rotate", json!({})).await.refused("removed within 10 minutes");
    endless.ends();
    assert!(mount.storage_text("config").contains("\"making\""));
    mount.advance(Duration::from_secs(400));
    mount.tick_now().await.done();
    assert_eq!(mount.sim.state().admin_keys.iter().filter(|key| key.live).count(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn tidy_counts_it_as_a_failure_and_looks_at_the_rest() {
    for list in [endpoint::LIST_ACCOUNTS, endpoint::LIST_KEYS] {
        let mount = mount().await;
        let tag = mount.read("info").await.text("mount_tag");
        mount.seed(&format!("vault-stray123-{tag}"), true);
        let endless = Endless::list(&mount, list);
        let status = tidied(&mount).await;
        assert_eq!((&status["state"], &status["failed"]), (&json!("finished"), &json!(1)), "{status}");
        assert_eq!(status["removed"], 0, "nobody can tell who uses the accounts: {status}");
        endless.ends();
    }
}
