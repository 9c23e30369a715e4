//! Look-ups of creations whose answer was lost: when they begin after a crash.

use std::time::Duration;

use openai_secrets::logical::{Operation, Request};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::mount::PROJECT;
use crate::support::storage::CrashPoint;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.without_lag()
}

/// A mount with the static role `app` on an account without keys of others.
async fn with_static_role(mut settings: Value) -> Mount {
    let mount = mount().await;
    settings["service_account_id"] = mount.seed("account-of-app", false).id.into();
    settings["project"] = PROJECT.into();
    mount.write("static-roles/app", settings).await.done();
    mount
}

async fn with_federation() -> Mount {
    let mount = mount().await;
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount
}

fn federated_role() -> Value {
    json!({"project": PROJECT, "credential_type": "access_token"})
}

fn tick(mount: &Mount) -> Request {
    mount.request(Operation::Rollback, "", json!({}))
}

/// Ticks once a minute. A tick may say what it could not do.
async fn ticks(mount: &Mount, minutes: u32) {
    for _ in 0..minutes {
        mount.advance(MINUTE);
        let _said = mount.tick().await;
    }
}

/// The configuration is away while a tick looks at all owners, and is written again.
async fn lose_the_configuration_for_a_tick(mount: &Mount) {
    mount.delete_by_force("config").await.done();
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    mount.write("config", mount.config()).await.done();
}

/// The accounts at OpenAI, by id and name.
fn accounts(mount: &Mount) -> Vec<(String, String)> {
    mount.sim.state().accounts.into_iter().map(|account| (account.id, account.name)).collect()
}

#[tokio::test]
async fn a_key_that_a_killed_tick_made_is_gone_in_time_although_the_configuration_had_just_come_back() {
    for number in 0.. {
        let mount = with_static_role(json!({"rotation_period": "1h"})).await;
        lose_the_configuration_for_a_tick(&mount).await;
        if !mount.killed(tick(&mount), CrashPoint::Before(number)).await {
            assert!(number > 2, "the tick stores what is being made, and then the new key");
            return mount.abandon();
        }
        ticks(&mount, 10).await;
        let current = mount.read("static-creds/app").await.text("api_key");
        let live: Vec<String> = mount.sim.state().live_keys().map(|key| key.value.clone()).collect();
        assert_eq!(live, [current], "{number}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_federated_role_is_made_in_time_although_a_tick_was_killed_after_the_configuration_came_back() {
    for number in 0.. {
        let mount = with_federation().await;
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop));
        mount.write("roles/app", federated_role()).await.error();
        mount.sim.clear_faults();
        lose_the_configuration_for_a_tick(&mount).await;
        if !mount.killed(tick(&mount), CrashPoint::Before(number)).await {
            assert!(number > 2, "the tick stores the account and the rule");
            return mount.abandon();
        }
        ticks(&mount, 10).await;
        assert_eq!((mount.sim.state().accounts.len(), mount.sim.state().rules.len()), (1, 1), "{number}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn what_waited_for_the_organization_is_done_in_time_although_the_process_died_before_its_tick() {
    let mount = with_static_role(json!({"rotation_period": 0})).await;
    mount.write("roles/dynamic", json!({"project": PROJECT, "ttl": "10m"})).await.done();
    let lease = mount.read("creds/dynamic").await.lease().clone();
    mount.lose(&lease);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    mount.configure_elsewhere().await;
    mount.advance(HOUR * 2);
    let _said = mount.tick().await;
    mount.write("config", mount.config()).await.done();
    mount.restart().await;
    ticks(&mount, 10).await;
    assert_eq!(mount.sim.state().live_keys().count(), 1, "the lost key");
    assert_eq!(accounts(&mount).len(), 1, "the account of the lost lease");
    mount.finish().await;
}
