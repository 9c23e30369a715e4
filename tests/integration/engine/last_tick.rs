//! The last tick of a mount that is moved or disabled, while OpenAI lists new objects late.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Lag, endpoint};
use crate::support::mount::PROJECT;
use crate::support::storage::CrashPoint;
use crate::support::{Mount, library};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A configured mount with a project, before an OpenAI that lists new objects after 20 s.
async fn mount() -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await;
    let all = Lag::of(Duration::from_secs(20));
    mount.sim.lag(Some(Lag { get: false, post: false, delete: false, ..all }));
    mount
}

/// OpenAI does the next call to this endpoint, and its answer is lost.
fn lose_the_next(mount: &Mount, endpoint: &str) {
    mount.sim.fault(Fault::on(endpoint, Action::Drop).after_the_work().times(1));
}

/// The mount is moved: one tick with the mark of a mount that goes, and more ticks at the new place.
async fn moved(mount: &Mount) {
    mount.sim.clear_faults();
    mount.host.set_tainted(true);
    mount.tick().await.done();
    mount.host.set_tainted(false);
    for _ in 0..4 {
        mount.advance(MINUTE * 16);
        mount.tick().await.done();
    }
}

async fn with_static_role(settings: Value) -> Mount {
    let mount = mount().await;
    let mut role = json!({"project": PROJECT, "service_account_id": mount.seed("app", false).id});
    role.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    mount.write("static-roles/app", role).await.done();
    mount.advance(MINUTE * 5);
    mount
}

#[tokio::test]
async fn a_static_key_whose_answer_was_lost_is_found_by_the_last_tick_or_later() {
    for (method, creation) in [("key", endpoint::CREATE_KEY), ("account", endpoint::CREATE_ACCOUNT)] {
        let mount = with_static_role(json!({"rotation_method": method, "rotation_period": 0})).await;
        lose_the_next(&mount, creation);
        mount.write("static-creds/app/rotate", json!({"grace_period": 0})).await.error();
        moved(&mount).await;
        let present = mount.read("static-creds/app").await.text("api_key");
        let live: Vec<String> = mount.sim.state().live_keys().map(|key| key.value.clone()).collect();
        assert_eq!(live, [present], "{method}");
        mount.finish().await;
    }
}

async fn with_issuer() -> Mount {
    let mount = mount().await;
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount
}

fn federated() -> Value {
    json!({"project": PROJECT, "credential_type": "access_token"})
}

#[tokio::test]
async fn an_account_of_a_federated_role_whose_answer_was_lost_is_found_by_the_last_tick_or_later() {
    let mount = with_issuer().await;
    lose_the_next(&mount, endpoint::CREATE_ACCOUNT);
    mount.write("roles/agent", federated()).await.error();
    moved(&mount).await;
    assert_eq!((mount.sim.state().accounts.len(), mount.sim.state().rules.len()), (1, 1));
    mount.finish().await;
}

#[tokio::test]
async fn a_rule_and_a_provider_whose_answers_were_lost_are_found_by_the_last_tick_or_later() {
    let mount = with_issuer().await;
    lose_the_next(&mount, endpoint::CREATE_RULE);
    mount.write("roles/agent", federated()).await.error();
    let _warned = mount.delete("roles/agent").await;
    moved(&mount).await;
    assert_eq!((mount.sim.state().accounts.len(), mount.sim.state().rules.len()), (0, 0));
    mount.delete("config/federation").await.done();

    lose_the_next(&mount, endpoint::CREATE_PROVIDER);
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.error();
    mount.delete("config/federation").await.done();
    moved(&mount).await;
    assert_eq!(mount.sim.state().providers, []);
    assert_eq!(mount.stored("federat"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn nothing_rotates_in_the_last_tick() {
    let mount = with_static_role(json!({"rotation_period": "1h"})).await;
    mount.write("config", json!({"automatic_rotation_period": "1h"})).await.done();
    let present = mount.read("static-creds/app").await.text("api_key");
    mount.advance(HOUR * 2);
    mount.host.set_tainted(true);
    mount.tick().await.done();
    mount.host.set_tainted(false);
    assert_eq!(mount.sim.calls(endpoint::CREATE_ADMIN_KEY), 0);
    assert_eq!(mount.read("static-creds/app").await.text("api_key"), present);
    mount.tick().await.done();
    assert_ne!(mount.read("static-creds/app").await.text("api_key"), present);
    assert_eq!(mount.sim.calls(endpoint::CREATE_ADMIN_KEY), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_key_of_a_check_out_whose_answer_was_lost_is_found_by_the_last_tick() {
    let mount = mount().await;
    mount.write(library::SET, json!({"project": PROJECT, "service_account_names": "a"})).await.done();
    mount.advance(MINUTE * 5);
    lose_the_next(&mount, endpoint::CREATE_KEY);
    mount.write(&format!("{}/check-out", library::SET), json!({})).await.error();
    assert_eq!(mount.sim.state().live_keys().count(), 1);
    mount.host.set_tainted(true);
    mount.tick().await.done();
    mount.host.set_tainted(false);
    assert_eq!(mount.sim.state().live_keys().count(), 0);
    mount.advance(MINUTE * 16);
    mount.tick().await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_account_of_a_set_whose_write_was_cut_off_goes_with_the_last_tick() {
    let mut cut_off = 0;
    for writes in 0..20 {
        let mount = mount().await;
        let body = json!({"project": PROJECT, "service_account_names": "a"});
        let request = mount.request(Operation::Update, library::SET, body);
        if !mount.killed(request, CrashPoint::After(writes)).await {
            break;
        }
        // The account is made, or adopted.
        if mount.storage_text("library-set/").contains("\"ending\"") {
            cut_off += 1;
            mount.host.set_tainted(true);
            mount.tick().await.done();
            mount.host.set_tainted(false);
            assert_eq!(library::names(&mount), Vec::<String>::new(), "{writes}");
            assert_eq!(mount.stored("library-set/"), Vec::<String>::new(), "{writes}");
        }
        mount.abandon();
    }
    assert!(cut_off > 1, "{cut_off}");
}
