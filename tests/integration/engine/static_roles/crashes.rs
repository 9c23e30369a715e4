//! Every operation on a static role, cut off at each of its steps: the process killed before and after each write of
//! storage, each write failing or said to have failed, each call to OpenAI cut off before and after its work. Then the
//! server goes on ticking, and one sentence must hold: every live key and account at OpenAI is current, in grace,
//! adopted, or queued to be ended; and in the end nothing is in grace or queued any more.

use std::collections::BTreeSet;

use openai_secrets::logical::{Operation, Request};
use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault};
use crate::support::storage::{CrashPoint, Failure};

/// One operation and what must be there for it.
struct Story {
    settings: Value,
    /// Rotations before it.
    rotations: u32,
    /// Time that passes before it.
    later: Duration,
    operation: Operation,
    path: &'static str,
    data: Value,
}

impl Story {
    fn of(operation: Operation, path: &'static str, settings: Value) -> Self {
        Self { settings, rotations: 0, later: Duration::ZERO, operation, path, data: json!({}) }
    }

    fn rotation(settings: Value) -> Self {
        Self::of(Operation::Update, "static-creds/app/rotate", settings)
    }

    fn after(self, rotations: u32) -> Self {
        Self { rotations, ..self }
    }

    fn later(self, later: Duration) -> Self {
        Self { later, ..self }
    }

    /// The scene, and the request that is going to be cut off.
    async fn scene(&self) -> (Mount, Request) {
        let mount = mount().await;
        let mut data = self.data.clone();
        if self.operation == Operation::Create {
            data["service_account_id"] = mount.seed("account-of-app", true).id.into();
            data["project"] = PROJECT.into();
        } else {
            write_role(&mount, "app", self.settings.clone()).await;
        }
        for _ in 0..self.rotations {
            rotate(&mount, "app").await;
        }
        mount.advance(self.later);
        let request = mount.request(self.operation, self.path, data);
        (mount, request)
    }

    /// Cuts it off everywhere.
    async fn told(&self) {
        self.killed().await;
        self.storage_failing().await;
        self.openai_failing().await;
    }

    async fn killed(&self) {
        for number in 0.. {
            for death in [CrashPoint::Before(number), CrashPoint::After(number)] {
                let (mount, request) = self.scene().await;
                if !mount.killed(request, death).await {
                    assert!(number > 0, "it writes nothing");
                    return;
                }
                recover(mount, &format!("{death:?}")).await;
            }
        }
    }

    async fn storage_failing(&self) {
        for number in 0.. {
            for failure in [Failure::Refused(number), Failure::Denied(number)] {
                let (mount, request) = self.scene().await;
                mount.watched.fail(failure);
                let _answer = mount.ask(request).await;
                if !mount.watched.take_failed() {
                    return;
                }
                recover(mount, &format!("{failure:?}")).await;
            }
        }
    }

    async fn openai_failing(&self) {
        for number in 0.. {
            for after in [false, true] {
                let (mount, request) = self.scene().await;
                let fault = Fault::everywhere(Action::Drop).skipping(number).times(1);
                let fault = mount.sim.fault(if after { fault.after_the_work() } else { fault });
                let _answer = mount.ask(request).await;
                if mount.sim.remove_fault(fault) {
                    return;
                }
                recover(mount, &format!("call {number} cut off, done: {after}")).await;
            }
        }
    }
}

/// The server goes on; the sentence holds at once, and at the end there is one key and nothing else of ours.
async fn recover(mount: Mount, case: &str) {
    mount.tick_now().await.done();
    assert_eq!(mount.stored("wal/"), Vec::<String>::new(), "{case}");
    assert_eq!(mount.orphans(), Vec::<String>::new(), "{case}");
    for _ in 0..3 {
        mount.advance(HOUR);
        mount.tick_now().await.done();
    }
    let exists = !mount.stored("static-role/app").is_empty();
    let ours: BTreeSet<String> = our_live_keys(&mount).into_iter().collect();
    if !exists {
        assert!(ours.is_empty(), "{case}: {ours:?}");
        return assert_markers(mount, 0, case).await;
    }
    let current = mount.read("static-creds/app").await.json();
    let id = current["api_key_id"].as_str().unwrap().to_owned();
    assert_eq!(ours, BTreeSet::from([id]), "{case}");
    let account = current["service_account_id"].as_str().unwrap();
    assert_eq!(mount.stored(&format!("account-owner/{account}")).len(), 1, "{case}");
    let read = role(&mount, "app").await;
    assert_eq!((&read["rotation_failures"], &read["grace_keys"]), (&json!(0), &json!({})), "{case}");
    let made = mount.sim.state().accounts.len();
    assert_eq!(made, if account == given(&mount) { 1 } else { 2 }, "{case}");
    // It goes on as if nothing had been.
    rotate(&mount, "app").await;
    assert_markers(mount, 1, case).await;
}

/// A marker too many is gone when its minute has come.
async fn assert_markers(mount: Mount, markers: usize, case: &str) {
    mount.advance(DAY * 2);
    mount.tick_now().await.done();
    assert_eq!(mount.stored("due/").len(), markers, "{case}");
    mount.finish().await;
}

/// The ids of the live keys that Vault made: all but those that were there before.
fn our_live_keys(mount: &Mount) -> Vec<String> {
    let state = mount.sim.state();
    let keys = state.accounts.iter().flat_map(|account| {
        let foreign = usize::from(account.name == "account-of-app");
        account.keys.iter().skip(foreign)
    });
    keys.filter(|key| key.live).map(|key| key.id.clone()).collect()
}

fn given(mount: &Mount) -> String {
    let accounts = mount.sim.state().accounts;
    accounts.into_iter().find(|account| account.name == "account-of-app").unwrap().id
}

#[tokio::test]
async fn a_creation_is_cut_off() {
    Story::of(Operation::Create, "static-roles/app", json!({})).told().await;
}

#[tokio::test]
async fn a_rotation_is_cut_off() {
    Story::rotation(json!({})).told().await;
}

#[tokio::test]
async fn a_rotation_with_grace_is_cut_off() {
    Story::rotation(json!({"grace_period": "30m"})).told().await;
}

#[tokio::test]
async fn a_rotation_away_from_the_given_account_is_cut_off() {
    Story::rotation(json!({"rotation_method": "account"})).told().await;
}

#[tokio::test]
async fn a_rotation_of_a_made_account_is_cut_off() {
    Story::rotation(json!({"rotation_method": "account"})).after(1).told().await;
}

#[tokio::test]
async fn a_rotation_of_a_made_account_with_grace_is_cut_off() {
    Story::rotation(json!({"rotation_method": "account", "grace_period": "30m"})).after(1).told().await;
}

#[tokio::test]
async fn a_tick_that_rotates_is_cut_off() {
    Story::of(Operation::Rollback, "", json!({})).later(DAY + MINUTE).told().await;
}

#[tokio::test]
async fn a_tick_that_ends_a_grace_is_cut_off() {
    let story = Story::of(Operation::Rollback, "", json!({"grace_period": "30m"}));
    story.after(1).later(HOUR).told().await;
}

#[tokio::test]
async fn a_deletion_is_cut_off() {
    let story = Story::of(Operation::Delete, "static-roles/app", json!({"grace_period": "30m"}));
    story.after(1).told().await;
}

#[tokio::test]
async fn a_deletion_of_a_made_account_is_cut_off() {
    let story = Story::of(Operation::Delete, "static-roles/app", json!({"rotation_method": "account"}));
    story.after(1).told().await;
}

#[tokio::test]
async fn an_update_is_cut_off() {
    let mut story = Story::of(Operation::Update, "static-roles/app", json!({}));
    // The time of the schedule may come in the story; then the replaced key ends at once.
    story.data = json!({"rotation_schedule": "0 3 * * *", "grace_period": 0});
    story.killed().await;
    story.storage_failing().await;
}
