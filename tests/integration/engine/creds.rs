//! `creds/:name`: what is answered, what stands at OpenAI for it, and what is refused before anything does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use openai_secrets::logical::{Kind, Operation};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Policy, endpoint};
use crate::support::mount::PROJECT;
use crate::support::{Mount, library};

const PATH: &str = "creds/app";

async fn mount(role: Value) -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(role).await
}

/// Refused with this sentence before OpenAI was asked for anything.
async fn refuses(mount: &Mount, data: Value, says: &str) {
    let calls = mount.sim.state().all_calls();
    mount.read_with(PATH, data).await.refused(says);
    assert_eq!(mount.sim.state().all_calls(), calls);
    assert_eq!(mount.entries_left().await, 0);
}

#[tokio::test]
async fn a_credential_is_one_call_to_openai_and_its_end_another() {
    let mount = mount(json!({})).await.without_lag();
    let before = mount.sim.state();
    let made = mount.read(PATH).await;
    let after = mount.sim.state();
    assert_eq!(after.all_calls() - before.all_calls(), 1);
    assert_eq!(after.calls(endpoint::CREATE_ACCOUNT), 1);
    assert_eq!(after.calls(endpoint::READ_PROJECT), before.calls(endpoint::READ_PROJECT));
    assert!(after.is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    let ended = mount.sim.state();
    assert_eq!(ended.all_calls() - after.all_calls(), 1);
    assert!(ended.accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn the_answer_names_what_stands_at_openai() {
    let mount = mount(json!({"ttl": "90s"})).await;
    let begun = Utc::now();
    let made = mount.read(PATH).await;
    let state = mount.sim.state();
    let (account, key) = (&state.accounts[0], &state.accounts[0].keys[0]);
    let expires_at = made.text("expires_at");
    assert_eq!(
        made.json(),
        json!({
            "api_key": key.value,
            "api_key_id": key.id,
            "service_account": account.name,
            "service_account_id": account.id,
            "expires_at": expires_at,
            "role": "app",
            "project_id": mount.sim.project(),
            "custom_metadata": {},
        })
    );
    assert!(account.name.starts_with("vault-app-"), "{}", account.name);
    // It ends at OpenAI by itself, a minute after its lease.
    let expires_at: DateTime<Utc> = expires_at.parse().unwrap();
    assert_eq!(key.expires_at, Some(expires_at.timestamp() as u64));
    let margin = expires_at - begun;
    assert!((149..=155).contains(&margin.num_seconds()), "{margin}");
    let lease = made.lease();
    assert_eq!((lease.ttl, lease.renewable), (Duration::from_secs(90), false));
    mount.revoke(lease).await.done();
}

#[tokio::test]
async fn the_margin_is_the_configurations() {
    let mount = mount(json!({"ttl": 100})).await;
    mount.write("config", json!({"key_expiry_margin": 0})).await.done();
    let made = mount.read(PATH).await;
    let key = &mount.sim.state().accounts[0].keys[0];
    let lifetime = key.expires_at.unwrap() - mount.sim.state().accounts[0].created_at;
    assert_eq!(lifetime, 100);
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn a_key_never_lives_longer_than_openai_allows() {
    let mount = mount(json!({"ttl": "8760h", "max_ttl": "8760h"})).await;
    mount.host.set_max_lease_ttl(Duration::from_secs(10_000 * 3600));
    let made = mount.read(PATH).await;
    let account = &mount.sim.state().accounts[0];
    assert_eq!(account.keys[0].expires_at.unwrap() - account.created_at, 31_536_000);
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn a_ttl_may_be_asked_for_up_to_max_ttl() {
    let mount = mount(json!({"ttl": 60, "max_ttl": 120})).await;
    for (ttl, seconds) in [(json!("30s"), 30), (json!(120), 120), (json!("2m"), 120), (json!("1"), 1)] {
        let made = mount.read_with(PATH, json!({"ttl": ttl})).await;
        assert_eq!(made.lease().ttl, Duration::from_secs(seconds));
        mount.revoke(made.lease()).await.done();
    }
    let written = mount.write(PATH, json!({"ttl": 90})).await;
    assert_eq!(written.lease().ttl, Duration::from_secs(90));
    mount.revoke(written.lease()).await.done();
    refuses(&mount, json!({"ttl": 121}), "ttl must not be above the role's max_ttl").await;
    refuses(&mount, json!({"ttl": "1h"}), "ttl must not be above the role's max_ttl").await;
    refuses(&mount, json!({"ttl": 0}), "ttl must be at least 1s").await;
    refuses(&mount, json!({"ttl": -5}), "ttl").await;
    refuses(&mount, json!({"ttl": "soon"}), "ttl").await;
    refuses(&mount, json!({"ttl": ["1h"]}), "ttl").await;
}

#[tokio::test]
async fn no_lease_is_longer_than_the_mount_allows() {
    let mount = mount(json!({"ttl": "10h"})).await;
    mount.host.set_max_lease_ttl(Duration::from_secs(600));
    let made = mount.read(PATH).await;
    let account = &mount.sim.state().accounts[0];
    assert_eq!(made.lease().ttl, Duration::from_secs(600));
    assert_eq!(account.keys[0].expires_at.unwrap() - account.created_at, 660);
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn an_unknown_role_is_refused_by_its_name() {
    let mount = mount(json!({})).await;
    let answered = mount.read("creds/nobody").await;
    answered.refused("role \"nobody\" not found");
    mount.write("creds/nobody", json!({})).await.refused("nobody");
    assert_eq!(mount.read("creds/no/body").await.status(), 404);
    assert_eq!(mount.read("creds/").await.status(), 404);
}

#[tokio::test]
async fn unknown_fields_get_the_usual_warning() {
    let mount = mount(json!({})).await;
    let made = mount.read_with(PATH, json!({"tll": "1h"})).await;
    assert_eq!(made.warnings(), ["Endpoint ignored these unrecognized parameters: [tll]"]);
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn other_operations_are_not_there() {
    let mount = mount(json!({})).await;
    assert_eq!(mount.delete(PATH).await.status(), 405);
    assert_eq!(mount.patch(PATH, json!({})).await.status(), 405);
    assert_eq!(mount.list(PATH).await.status(), 404);
}

#[tokio::test]
async fn the_key_is_narrowed_to_the_roles_scopes_before_it_is_handed_out() {
    let mount = mount(json!({"scopes": ["api.model.read", "api.model.request"]})).await.without_lag();
    let made = mount.read(PATH).await;
    let state = mount.sim.state();
    assert_eq!(state.accounts[0].keys[0].scopes, ["api.model.read", "api.model.request"]);
    assert_eq!((state.calls(endpoint::CREATE_ACCOUNT), state.calls(endpoint::UPDATE_KEY)), (1, 1));
    assert!(state.accounts[0].keys[0].expires_at.is_some(), "narrowing takes no expiry away");
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_role_with_an_account_makes_keys_on_it_and_ends_only_those() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("worker", true);
    let role = json!({"service_account_id": account.id, "scopes": ["api.model.read"]});
    let mount = mount.with_role(role).await;
    let before = mount.sim.state().all_calls();
    let (one, two) = (mount.read(PATH).await, mount.read(PATH).await);
    let state = mount.sim.state();
    assert_eq!((state.all_calls() - before, state.calls(endpoint::CREATE_KEY)), (2, 2));
    assert_eq!((state.accounts.len(), state.accounts[0].keys.len()), (1, 3));
    assert_eq!(one.text("service_account_id"), account.id);
    assert_ne!(one.text("api_key_id"), two.text("api_key_id"));
    let key = state.accounts[0].keys.iter().find(|key| key.id == one.text("api_key_id")).unwrap();
    assert_eq!(key.scopes, ["api.model.read"]);
    assert!(key.expires_at.is_some());
    mount.revoke(one.lease()).await.done();
    let state = mount.sim.state();
    assert!(!state.is_live(&one.text("api_key")) && state.is_live(&two.text("api_key")));
    assert!(state.is_live(&account.key.unwrap().1));
    mount.revoke(two.lease()).await.done();
    assert_eq!(mount.sim.state().accounts[0].keys.len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_role_can_name_openais_project_itself() {
    let mount = Mount::start().await.configured().await;
    let id = mount.sim.project().to_owned();
    let mount = mount.with_role(json!({"project_id": id})).await;
    let made = mount.read(PATH).await;
    assert_eq!(mount.sim.state().accounts[0].project, id);
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn the_project_is_the_one_that_the_name_stands_for_now() {
    let mount = mount(json!({})).await;
    let before = mount.read(PATH).await;
    mount.sim.add_project("proj_new");
    mount.write(&format!("project/{PROJECT}"), json!({"project_id": "proj_new"})).await.done();
    let after = mount.read(PATH).await;
    let projects: Vec<_> = mount.sim.state().accounts.into_iter().map(|account| account.project).collect();
    assert_eq!(projects, [mount.sim.project(), "proj_new"]);
    // Each ends where it is.
    mount.revoke(before.lease()).await.done();
    mount.revoke(after.lease()).await.done();
    assert!(mount.sim.state().accounts.is_empty());
}

#[tokio::test]
async fn openais_refusal_is_passed_on_with_its_request_and_nothing_is_left() {
    let mount = mount(json!({})).await;
    mount.sim.archive_project(mount.sim.project());
    let answered = mount.read(PATH).await;
    answered.refused("service account creation failed: ");
    answered.refused("is archived");
    answered.refused("(request req_");
    mount.finish().await;
}

#[tokio::test]
async fn the_organizations_policy_is_named_by_what_it_refuses() {
    let mount = mount(json!({"ttl": 1000})).await;
    mount.sim.policy(Policy { expiry_required: true, max_lifetime: Some(600), ..Policy::default() });
    mount.read(PATH).await.refused("policy allows API keys to live 600 seconds at most");
    let made = mount.read_with(PATH, json!({"ttl": 500})).await;
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_lifetime_that_a_policy_refused_is_not_asked_for_again_within_an_hour() {
    let mount = mount(json!({"ttl": "1h", "max_ttl": "2h"})).await.without_lag();
    let read = async |ttl: &str| {
        let (calls, now) = (mount.sim.calls(endpoint::CREATE_ACCOUNT), mount.now());
        let made = mount.read_with(PATH, json!({"ttl": ttl})).await;
        let expires_at: DateTime<Utc> = made.text("expires_at").parse().unwrap();
        mount.revoke(made.lease()).await.done();
        (mount.sim.calls(endpoint::CREATE_ACCOUNT) - calls, (expires_at - now).num_seconds())
    };
    mount.sim.policy(Policy { max_lifetime: Some(3_600), ..Policy::default() });
    assert_eq!(read("1h").await.0, 2, "with the margin and without");
    for _ in 0..2 {
        let (calls, lifetime) = read("1h").await;
        assert_eq!(calls, 1);
        assert!((3_590..3_650).contains(&lifetime), "{lifetime}");
    }
    let (calls, lifetime) = read("30m").await;
    assert_eq!(calls, 1);
    assert!((1_859..1_910).contains(&lifetime), "a shorter key keeps its margin: {lifetime}");
    mount.read_with(PATH, json!({"ttl": "2h"})).await.refused("3600 seconds at most");

    mount.sim.policy(Policy::default());
    mount.advance(Duration::from_secs(3_700));
    let (calls, lifetime) = read("1h").await;
    assert_eq!(calls, 1);
    assert!((3_659..3_710).contains(&lifetime), "the policy is gone: {lifetime}");
    mount.finish().await;
}

#[tokio::test]
async fn a_refused_key_on_an_account_says_so() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("worker", false);
    let mount = mount.with_role(json!({"service_account_id": account.id})).await;
    mount.sim.policy(Policy { expiry_required: true, max_lifetime: Some(60), ..Policy::default() });
    mount.read(PATH).await.refused("API key creation failed: ");
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_cannot_be_narrowed_goes_with_its_account() {
    let mount = mount(json!({"scopes": ["api.model.read"]})).await.without_lag();
    let fault = Fault::on(
        endpoint::UPDATE_KEY,
        Action::status_with(
            400,
            json!({"error": {
                "message": "Unknown scope.", "type": "invalid_request_error", "param": "scopes", "code": "invalid_value",
            }}),
        ),
    );
    mount.sim.fault(fault);
    mount.read(PATH).await.refused("API key creation failed: Unknown scope.");
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!((mount.entries_left().await, mount.stored("ledger/")), (0, Vec::new()));
    mount.finish().await;
}

#[tokio::test]
async fn a_node_that_may_not_write_forwards_before_it_asks_openai_for_anything() {
    let mount = mount(json!({})).await;
    let calls = mount.sim.state().all_calls();
    let forwards = async |read_only: &dyn Fn(bool)| {
        read_only(true);
        mount.read(PATH).await.failed(Kind::ReadOnly, "cannot write to readonly storage");
        mount.write(PATH, json!({})).await.failed(Kind::ReadOnly, "cannot write to readonly storage");
        mount.write("roles/other", json!({"project": PROJECT})).await.failed(Kind::ReadOnly, "readonly");
        mount.delete("roles/app").await.failed(Kind::ReadOnly, "readonly");
        mount.delete("config").await.failed(Kind::ReadOnly, "readonly");
        // What only reads is answered here.
        mount.read("roles/app").await.done();
        mount.list("roles").await.done();
        read_only(false);
    };
    forwards(&|on| mount.host.set_performance_standby(on)).await;
    forwards(&|on| mount.storage.set_read_only(on)).await;
    assert_eq!(mount.sim.state().all_calls(), calls);
    assert!(mount.sim.state().accounts.is_empty());
}

#[tokio::test]
async fn a_local_mount_on_a_secondary_serves_by_itself() {
    let mount = mount(json!({})).await;
    mount.host.set_performance_secondary(true);
    mount.host.set_local_mount(true);
    let made = mount.read(PATH).await;
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn sixty_four_at_once_each_get_their_own() {
    let mount = mount(json!({})).await;
    mount.sim.latency(Duration::from_millis(200));
    let begun = std::time::Instant::now();
    let made = futures_util::future::join_all((0..64).map(|_| mount.read(PATH))).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "one after the other: {:?}", begun.elapsed());
    let mut keys: Vec<_> = made.iter().map(|made| made.text("api_key")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 64);
    let ended = futures_util::future::join_all(made.iter().map(|made| mount.revoke(made.lease()))).await;
    assert!(ended.iter().all(|ended| ended.answer.is_ok()));
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_reader_is_told_that_the_refused_key_is_the_mounts_and_not_his() {
    let mount = mount(json!({})).await;
    let account = mount.seed("worker", false).id;
    let on = json!({"project": PROJECT, "service_account_id": account});
    mount.write("roles/on", on).await.done();
    let own = mount.seed("own", false).id;
    mount.write("static-roles/app", json!({"project": PROJECT, "service_account_id": own})).await.done();
    let set = json!({"project": PROJECT, "service_account_names": "one"});
    mount.write("library-sets/pool", set).await.done();
    for status in [401, 403] {
        let error = json!({"message": "OpenAI's words", "type": "invalid_request_error", "param": null, "code": null});
        mount.sim.fault(Fault::everywhere(Action::status_with(status, json!({"error": error}))));
        let told =
            format!(": the mount's admin key was refused by OpenAI ({status}): ask the operator of openai");
        for (operation, path, begins) in [
            (Operation::Read, PATH, "service account creation failed"),
            (Operation::Read, "creds/on", "API key creation failed"),
            (Operation::Update, "static-creds/app/rotate", ""),
            (Operation::Update, "library-sets/pool/check-out", ""),
        ] {
            let answered = mount.ask(mount.request(operation, path, json!({}))).await;
            answered.refused(&told);
            answered.refused("OpenAI's words");
            assert!(answered.error().message().starts_with(begins), "{}", answered.error());
        }
        mount.sim.clear_faults();
    }
}

#[tokio::test]
async fn an_account_of_a_credential_that_got_another_name_and_owner_loses_the_credentials_key_alone() {
    for owner in ["static role", "library set"] {
        let mount = mount(json!({})).await;
        let lease = mount.read("creds/app").await;
        mount.advance(Duration::from_secs(100));
        let account = lease.text("service_account_id");
        library::rename(&mount, &account, "ours-now").await;
        mount.advance(Duration::from_secs(100));
        let their_key = if owner == "static role" {
            let role = json!({"project": "research", "service_account_id": account});
            mount.write("static-roles/their", role).await.done();
            mount.read("static-creds/their").await.text("api_key")
        } else {
            let set = json!({"project": "research", "service_account_names": "ours-now"});
            mount.write(library::SET, set).await.done();
            library::check_out(&mount).await.text("api_key")
        };
        mount.revoke(lease.lease()).await.done();
        let state = mount.sim.state();
        assert!(state.is_live(&their_key), "{owner}");
        assert!(!state.is_live(&lease.text("api_key")), "{owner}");
        mount.abandon();
    }
}

#[tokio::test]
async fn an_expiry_that_openai_does_not_name_is_not_answered() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("automation", false).id;
    let role = json!({"service_account_id": account, "ttl": "1h"});
    let mount = mount.with_role(role).await;
    let (id, value) = mount.seed_key(&account, "made");
    let key = json!({"object": "organization.project.service_account.api_key", "id": id, "value": value,
        "name": "made", "created_at": 1});
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status_with(200, key)).times(1));
    let read = mount.read(PATH).await;
    assert_eq!(read.text("expires_at"), "");
    mount.revoke(read.lease()).await.done();
    mount.abandon();
}
