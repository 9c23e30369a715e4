//! Health, events, reads and revocations report the true state of the issuer and its roles, also during other requests.

use openai_secrets::logical::{Entry, Storage as _};

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::SETTLED;
use crate::support::storage::Access;
use crate::support::wait::eventually;

const MINUTES: Duration = Duration::from_secs(300);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

async fn reasons(mount: &Mount) -> String {
    mount.read("health").await.json()["reasons"].to_string()
}

/// A reader of `creds/app` is at OpenAI while `stop` happens, and OpenAI refuses the reader's token after it.
async fn refused_during(mount: &Mount, stop: impl Future<Output = ()>) {
    mount.advance(HOUR);
    mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, Action::delay(Duration::from_secs(1))).times(1));
    let asked = async || (mount.sim.faults_left() == 0).then_some(());
    let stop = async {
        eventually("the exchange has begun", asked).await;
        stop.await;
    };
    let (read, ()) = tokio::join!(mount.read("creds/app"), stop);
    read.refused("invalid_grant");
    mount.advance(MINUTES);
    assert_eq!(reasons(mount).await, "[]");
}

#[tokio::test]
async fn health_tells_no_refusal_of_a_role_that_was_deleted_during_the_exchange() {
    let mount = with_app().await.without_lag();
    refused_during(&mount, async { drop(mount.delete("roles/app").await) }).await;
    mount.finish().await;
}

#[tokio::test]
async fn health_tells_no_refusal_of_a_role_that_was_stopped_during_the_exchange() {
    let mount = with_app().await.without_lag();
    refused_during(&mount, async { drop(mount.write("roles/app", json!({"enabled": false})).await) }).await;
    mount.finish().await;
}

#[tokio::test]
async fn health_tells_no_outage_after_a_single_failed_exchange() {
    let mount = with_app().await;
    mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, Action::Html).times(1));
    mount.read("creds/app").await.error();
    mount.advance(HOUR);
    assert_eq!(reasons(&mount).await, "[]");
    mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, Action::Html).times(1));
    mount.read("creds/app").await.error();
    assert!(reasons(&mount).await.contains("no token exchange"), "{}", reasons(&mount).await);
    token(&mount).await;
    assert_eq!(reasons(&mount).await, "[]");
    mount.finish().await;
}

#[tokio::test]
async fn health_tells_no_single_failed_change_of_an_old_role_or_issuer() {
    let mount = with_app().await;
    mount.advance(HOUR * 24 * 30);
    mount.sim.fault(Fault::on(endpoint::UPDATE_RULE, Action::final_status(500)));
    mount.write("roles/app", json!({"scopes": "api.model.read"})).await.error();
    assert_eq!(reasons(&mount).await, "[]");
    mount.advance(Duration::from_secs(60));
    // A repeated change does not begin the wait anew.
    mount.write("roles/app", json!({"scopes": "api.responses.write"})).await.error();
    mount.advance(Duration::from_secs(90));
    assert!(reasons(&mount).await.contains("federated role app"), "{}", reasons(&mount).await);
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(reasons(&mount).await, "[]");

    mount.sim.fault(Fault::on(endpoint::UPDATE_PROVIDER, Action::final_status(500)));
    let change = |audience: &str| json!({"audience": audience, "admin_api_key": mount.sim.admin_key()});
    mount.write("config/federation", change("one")).await.error();
    assert_eq!(reasons(&mount).await, "[]");
    mount.advance(Duration::from_secs(60));
    mount.write("config/federation", change("two")).await.error();
    mount.advance(Duration::from_secs(90));
    assert!(reasons(&mount).await.contains("config/federation is not"), "{}", reasons(&mount).await);
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(reasons(&mount).await, "[]");
    mount.finish().await;
}

#[tokio::test]
async fn a_write_during_a_read_of_health_leaves_the_mount_configured() {
    let mount = Mount::start().await;
    let body = json!({"identity_provider_id": "idp_hand", "token_endpoint": mount.sim.token_url()});
    mount.write("config/federation", body).await.done();
    mount.watched.hold(Access::Read, "config");
    let write = async {
        mount.watched.held().await;
        mount.write("config/federation", json!({"key_rotation_period": "30d"})).await.done();
        mount.watched.release();
    };
    let (health, ()) = tokio::join!(mount.read("health"), write);
    assert_eq!(health.json()["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn a_refused_deletion_of_the_issuer_is_no_event() {
    let mount = managed().await.without_lag();
    let told = |kind: &str| mount.host.events().iter().any(|event| event.kind == kind);
    mount.sim.fault(Fault::on(endpoint::LIST_RULES, Action::status(403)));
    mount.delete("config/federation").await.error();
    mount.sim.clear_faults();
    mount.write("roles/app", role()).await.done();
    eventually("a later event arrives", async || told("openai/role-write").then_some(())).await;
    assert!(!told("openai/config-delete"));
    mount.delete("roles/app").await.done();
    mount.delete("config/federation").await.done();
    eventually("the deletion is an event", async || told("openai/config-delete").then_some(())).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_deletion_that_openai_holds_up_is_one_event_however_often_it_is_asked_for() {
    let mount = managed().await.without_lag();
    let told = |kind: &str| mount.host.events().iter().filter(|event| event.kind == kind).count();
    let arrives = async |kind: &str| {
        eventually("the event arrives", async || (told(kind) > 0).then_some(())).await;
    };
    mount.write("roles/app", role()).await.done();
    mount.sim.fault(Fault::on(endpoint::DELETE_RULE, Action::status(403)));
    for _ in 0..2 {
        assert_eq!(mount.delete("roles/app").await.warnings().len(), 1);
    }
    mount.sim.clear_faults();
    mount.tick_now().await.done();
    mount.delete("roles/app").await.done();
    mount.sim.fault(Fault::on(endpoint::DELETE_PROVIDER, Action::status(403)));
    for _ in 0..2 {
        mount.delete("config/federation").await.error();
    }
    mount.sim.clear_faults();
    mount.delete("config/federation").await.done();
    arrives("openai/config-delete").await;
    arrives("openai/role-delete").await;
    assert_eq!((told("openai/role-delete"), told("openai/config-delete")), (1, 1));
    mount.finish().await;
}

#[tokio::test]
async fn the_deletion_of_an_unreadable_issuer_is_an_event() {
    let mount = mount().await;
    let garbage = Entry { key: "federation".to_owned(), value: b"garbage".to_vec(), seal_wrap: true };
    mount.storage.put(garbage).await.unwrap();
    assert_eq!(mount.delete_by_force("config/federation").await.warnings().len(), 1);
    let told = || mount.host.events().iter().any(|event| event.kind == "openai/config-delete");
    eventually("the deletion is an event", async || told().then_some(())).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_forgets_the_keys_of_others_that_an_operator_removed() {
    let mount = with_app().await;
    let path = format!("/workload_identity_providers/{}", provider(&mount).id);
    let own = administer(&mount, "GET", &path, None).await.ok().body["verification"].clone();
    let mut both = own.clone();
    let mut other = own["jwks"]["keys"][0].clone();
    other["kid"] = json!("theirs");
    both["jwks"]["keys"].as_array_mut().unwrap().push(other);
    administer(&mount, "POST", &path, Some(json!({"verification": both}))).await.ok();
    mount.write("config/federation/rotate", json!({})).await.done();
    let said = reasons(&mount).await;
    assert!(said.contains("theirs") && said.contains("rotate"), "{said}");
    let mut left = administer(&mount, "GET", &path, None).await.ok().body["verification"].clone();
    left["jwks"]["keys"].as_array_mut().unwrap().retain(|key| key["kid"] != "theirs");
    administer(&mount, "POST", &path, Some(json!({"verification": left}))).await.ok();
    mount.advance(MINUTES);
    mount.write("config/federation/rotate", json!({})).await.done();
    assert_eq!(reasons(&mount).await, "[]");
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn null_sets_a_field_of_a_role_or_of_the_issuer_to_its_default() {
    let mount = with_app().await;
    mount.write("roles/app", json!({"ttl": "5m", "enabled": false})).await.done();
    mount.patch("roles/app", json!({"ttl": null, "enabled": null, "scopes": null})).await.done();
    let read = mount.read("roles/app").await.json();
    assert_eq!((&read["ttl"], &read["enabled"]), (&json!(900), &json!(true)));
    let before = mount.read("config/federation").await.json();
    let key = mount.sim.admin_key();
    let change = json!({"issuer": "https://vault.example.com", "audience": "a", "admin_api_key": key});
    mount.write("config/federation", change).await.done();
    mount.patch("config/federation", json!({"issuer": null})).await.refused("admin_api_key");
    let null = json!({"issuer": null, "audience": null, "key_rotation_period": null, "admin_api_key": key});
    mount.patch("config/federation", null).await.done();
    let read = mount.read("config/federation").await.json();
    for field in ["issuer", "audience", "key_rotation_period"] {
        assert_eq!(read[field], before[field], "{field}");
    }
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_by_hand_without_a_role_says_that_it_waits_for_a_role() {
    let mount = Mount::start().await;
    let body = json!({"identity_provider_id": "idp_hand", "token_endpoint": mount.sim.token_url()});
    mount.write("config/federation", body).await.done();
    let rotated = mount.write("config/federation/rotate", json!({})).await;
    assert!(rotated.text("rotation_waits_for").contains("role"), "{:?}", rotated.json());
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_holds_up_no_later_rotation_of_the_signing_key() {
    let mount = Mount::start().await;
    mount.put_clock_ahead(YEAR);
    let account = mount.seed("agent", false).id;
    let period = json!({
        "identity_provider_id": "idp_hand", "token_endpoint": mount.sim.token_url(), "key_rotation_period": "30d",
    });
    mount.write("config/federation", period).await.done();
    let role = json!({
        "project_id": mount.sim.project(), "credential_type": "access_token", "service_account_id": account,
    });
    mount.write("roles/app", role).await.nothing();
    mount.put_clock_back(YEAR);
    mount.restart().await;
    mount.advance(HOUR * 24 * 31);
    mount.tick().await.done();
    let read = mount.read("config/federation").await.json();
    assert_ne!(read["rotation_waits_for"], "", "{read}");
    mount.abandon();
}

#[tokio::test]
async fn an_account_that_openai_refuses_makes_and_lists_late_is_deleted() {
    let mount = managed().await.without_lag();
    let nothing = json!({"object": "list", "data": [], "has_more": false});
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(400)).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::status_with(200, nothing)).times(1));
    mount.write("roles/app", role()).await.error();
    let stray = accounts(&mount);
    assert_eq!((stray.len(), mount.sim.faults_left()), (1, 0));
    // Nobody waits for the look-up.
    mount.read("roles/app").await.nothing();
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    for _ in 0..3 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    let left = accounts(&mount);
    assert!(left.len() == 1 && left != stray, "{left:?}: the stray is gone, the role's account stays");
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_still_looked_for_is_not_told_to_be_deleted() {
    let mount = mount().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_PROVIDER, Action::status(500)));
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.error();
    mount.sim.clear_faults();
    let deleted = mount.delete("config/federation").await;
    assert!(deleted.warnings().join(" ").contains("looked for"), "{:?}", deleted.warnings());
    let name = mount.list("revocations").await.keys().remove(0);
    mount.write(&format!("revocations/{name}/retry"), json!({})).await.refused("looked for");
    let all = mount.write("revocations/retry", json!({})).await.json();
    assert_eq!((&all["removed"], &all["waiting"]), (&json!(0), &json!(1)), "{all}");
    for _ in 0..2 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    assert_eq!(mount.stored("federation"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_read_during_the_first_write_of_a_role_tells_that_the_creation_is_under_way() {
    let mount = managed().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::delay(Duration::from_secs(1))).times(1));
    let asked = async || (mount.sim.faults_left() == 0).then_some(());
    let read = async {
        eventually("the write asks for an account", asked).await;
        mount.read("creds/app").await
    };
    let (written, read) = tokio::join!(mount.write("roles/app", role()), read);
    written.done();
    read.refused("its creation is under way, or was interrupted");
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_rule_that_openai_refuses_makes_and_lists_late_is_deleted() {
    for given in [true, false] {
        let mount = managed().await.without_lag();
        let account = mount.seed("agent", false).id;
        let body = if given { role_with(json!({"service_account_id": account})) } else { role() };
        refuse_and_make(&mount, endpoint::CREATE_RULE, endpoint::LIST_RULES);
        mount.write("roles/app", body).await.error();
        let stray = rule(&mount).id;
        mount.sim.clear_faults();
        mount.read("roles/app").await.nothing();
        mount.delete("config/federation").await.refused("app (deleted here");
        // Nobody waits for the look-up.
        mount.write("roles/app", role()).await.done();
        for _ in 0..2 {
            mount.advance(SETTLED);
            mount.tick().await.done();
        }
        assert_ne!(rule(&mount).id, stray, "the stray is gone, the role's rule stays");
        token(&mount).await;
        mount.delete("roles/app").await.nothing();
        mount.delete("config/federation").await.nothing();
        assert_gone(mount).await;
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_role_whose_rule_openai_refuses_makes_and_lists_late() {
    let mount = managed().await.without_lag();
    let account = mount.seed("agent", false).id;
    let federated = role_with(json!({"service_account_id": account}));
    refuse_and_make(&mount, endpoint::CREATE_RULE, endpoint::LIST_RULES);
    mount.write("roles/app", federated.clone()).await.error();
    mount.sim.clear_faults();
    assert_eq!(rules(&mount).len(), 1);
    mount.advance(SETTLED);
    for _ in 0..2 {
        mount.tick().await.done();
    }
    assert!(rules(&mount).is_empty());
    for prefix in ["federated-role/", "account-owner/"] {
        assert_eq!(mount.stored(prefix), Vec::<String>::new());
    }
    mount.write("roles/other", federated).await.done();
    mount.delete("roles/other").await.nothing();
    mount.delete("config/federation").await.nothing();
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_provider_that_openai_refuses_makes_and_lists_late_is_deleted() {
    let mount = mount().await.without_lag();
    let body = json!({"token_endpoint": mount.sim.token_url()});
    refuse_and_make(&mount, endpoint::CREATE_PROVIDER, endpoint::LIST_PROVIDERS);
    mount.write("config/federation", body.clone()).await.error();
    let stray = provider(&mount).id;
    mount.read("config/federation").await.nothing();
    mount.write("config/federation", body.clone()).await.refused("still looked for");
    mount.sim.clear_faults();
    for _ in 0..2 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    assert!(mount.sim.state().providers.is_empty(), "{stray} is left");
    assert_eq!(mount.stored("federation"), Vec::<String>::new());
    mount.write("config/federation", body).await.done();
    mount.finish().await;
}

/// The next creation is refused after the work, and the list lacks the object until the faults are cleared.
fn refuse_and_make(mount: &Mount, creation: &str, list: &str) {
    let nothing = json!({"object": "list", "data": [], "has_more": false});
    mount.sim.fault(Fault::on(creation, Action::status(400)).after_the_work().times(1));
    mount.sim.fault(Fault::on(list, Action::status_with(200, nothing)));
}
