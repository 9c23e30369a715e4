//! `metrics`, `info`, `health`: right at any time, cheap, and never waiting for OpenAI.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use openai_secrets::engine::Engines;
use openai_secrets::engine::telemetry::listener::{Listener, Source};
use openai_secrets::logical::{
    Event, Factory, FixedSystem, InMemory, Kind, Operation, Request, Setup, Storage,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::api::exchange;
use crate::support::mount::CLOSED_PORT;
use crate::support::storage::WriteOutcome;
use crate::support::wait::eventually;

const HOUR: Duration = Duration::from_secs(3_600);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({})).await
}

/// The raw body of `metrics`.
async fn metrics(mount: &Mount) -> String {
    let answered = mount.read("metrics").await;
    assert_eq!(answered.json()["http_content_type"], "text/plain; version=0.0.4");
    answered.text("http_raw_body")
}

async fn health(mount: &Mount) -> Value {
    mount.read("health").await.json()
}

#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[track_caller]
fn shows(text: &str, series: &str, expected: f64) {
    let value = value(text, series);
    assert!((value - expected).abs() < 0.5, "{series} is {value}, not {expected}");
}

fn refusal(status: u16) -> Action {
    refusal_for(status, None)
}

/// OpenAI's word for a key that is dead or was never one.
fn dead_key() -> Action {
    refusal_for(401, Some("invalid_api_key"))
}

fn refusal_for(status: u16, code: Option<&str>) -> Action {
    let error = json!({"message": "no", "type": "invalid_request_error", "param": null, "code": code});
    Action::Status { status, headers: std::collections::BTreeMap::new(), body: Some(json!({"error": error})) }
}

#[tokio::test]
async fn everything_answers_while_unconfigured_and_on_a_standby() {
    let mount = Mount::start().await;
    for standby in [false, true] {
        mount.host.set_performance_standby(standby);
        mount.storage.set_read_only(standby);
        assert!(metrics(&mount).await.contains("openai_build_info{"));
        let health = health(&mount).await;
        assert_eq!((&health["configured"], &health["status"]), (&json!(false), &json!("unconfigured")));
        let info = mount.read("info").await.json();
        assert!(
            info["version"].as_str().unwrap().starts_with('v')
                && info["mount_tag"].as_str().unwrap().len() == 6
        );
    }
}

#[tokio::test]
async fn what_happened_is_counted_and_told() {
    let mount = mount().await.without_lag();
    let credential = mount.read("creds/app").await;
    mount.revoke(credential.lease()).await.done();
    let text = metrics(&mount).await;
    shows(&text, r#"openai_creds_issued{role="app"}"#, 1.0);
    shows(&text, r#"openai_creds_revoked{role="app"}"#, 1.0);
    shows(&text, "openai_pending_deletions", 0.0);
    shows(&text, "openai_admin_key_refused", 0.0);
    let health = health(&mount).await;
    assert_eq!((&health["status"], &health["revocation_mode"]), (&json!("ok"), &json!("strict")));
    assert!(health["last_success"].as_str().unwrap().ends_with('Z'), "{health}");
    assert_eq!(health["last_error"], "");
    mount.finish().await;
}

#[tokio::test]
async fn a_scrape_and_health_never_ask_openai() {
    let mount = mount().await;
    mount.sim.latency(Duration::from_secs(600));
    let before = mount.sim.state().all_calls();
    let started = Instant::now();
    metrics(&mount).await;
    health(&mount).await;
    mount.read("info").await.done();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(mount.sim.state().all_calls(), before);
}

#[tokio::test]
async fn what_waits_for_its_deletion_is_told_after_a_failover_too() {
    let mount = mount().await;
    for _ in 0..3 {
        let credential = mount.read("creds/app").await;
        mount.lose(credential.lease());
    }
    mount.advance(HOUR * 2);
    mount.restart().await;
    let text = metrics(&mount).await;
    shows(&text, "openai_pending_deletions", 3.0);
    assert!((3_500.0..3_700.0).contains(&value(&text, "openai_pending_deletion_age_seconds")), "{text}");
    let state = health(&mount).await;
    assert_eq!((&state["status"], &state["pending_deletions"]), (&json!("degraded"), &json!(3)));
    assert!(state["reasons"][0].as_str().unwrap().contains("is not deleted"), "{state}");

    mount.tick().await.done();
    shows(&metrics(&mount).await, "openai_pending_deletions", 0.0);
    assert_eq!(health(&mount).await["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn the_age_of_the_admin_key_and_its_overdue_rotation_come_from_storage() {
    let mount = Mount::start().await;
    let mut config = mount.config();
    config["automatic_rotation_period"] = json!("24h");
    mount.write("config", config).await.done();
    mount.advance(HOUR * 30);
    mount.restart().await;
    let text = metrics(&mount).await;
    assert!((107_900.0..108_100.0).contains(&value(&text, "openai_admin_key_age_seconds")), "{text}");
    shows(&text, "openai_overdue_rotations", 1.0);
    assert!((21_500.0..21_700.0).contains(&value(&text, "openai_rotation_overdue_seconds")), "{text}");
    let state = health(&mount).await;
    assert_eq!((&state["status"], &state["overdue_rotations"]), (&json!("degraded"), &json!(1)));

    mount.write("config", json!({"disable_automated_rotation": true})).await.done();
    shows(&metrics(&mount).await, "openai_overdue_rotations", 0.0);
}

#[tokio::test]
async fn a_refused_admin_key_is_told_until_a_call_succeeds() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, dead_key()).times(1));
    mount.read("creds/app").await.error();
    shows(&metrics(&mount).await, "openai_admin_key_refused", 1.0);
    let state = health(&mount).await;
    assert_eq!(
        (&state["status"], &state["last_error"], &state["last_error_endpoint"]),
        (&json!("degraded"), &json!("OpenAI refused the admin key (401)"), &json!("create_service_account"))
    );
    assert_eq!(state["reasons"], json!(["OpenAI refuses the admin key"]));

    let credential = mount.read("creds/app").await;
    shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
    let state = health(&mount).await;
    assert_eq!(
        (&state["status"], &state["last_error"]),
        (&json!("ok"), &json!("OpenAI refused the admin key (401)"))
    );
    mount.revoke(credential.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_tick_of_a_quiet_mount_finds_out_that_openai_takes_the_admin_key_again() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, dead_key()).times(1));
    mount.read("creds/app").await.error();
    shows(&metrics(&mount).await, "openai_admin_key_refused", 1.0);
    mount.tick().await.done();
    shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
    assert_eq!(health(&mount).await["status"], "ok");

    mount.sim.fault(Fault::everywhere(dead_key()));
    mount.read("creds/app").await.error();
    mount.tick().await.done();
    shows(&metrics(&mount).await, "openai_admin_key_refused", 1.0);
    mount.sim.clear_faults();
    mount.finish().await;
}

#[tokio::test]
async fn what_is_only_tried_says_nothing_of_the_stored_key() {
    let mount = mount().await;
    let key = mount.sim.admin_key();
    let seeded = mount.seed("worker", true).key.unwrap().1;
    for (path, body) in [
        ("config", json!({"admin_api_key": "sk-admin-typo"})),
        ("config", json!({"admin_api_key": seeded})),
        ("config", json!({"organization_id": "org-typo"})),
        ("config", json!({"admin_api_key": key, "api_endpoint": format!("http://{CLOSED_PORT}/v1")})),
        ("config/rotate-admin-key", json!({"new_admin_api_key": "sk-admin-typo"})),
        ("config/rotate-admin-key", json!({"new_admin_api_key": seeded})),
    ] {
        mount.write(path, body.clone()).await.refused("error validating");
        mount.advance(Duration::from_secs(660));
        let state = health(&mount).await;
        assert_eq!((&state["status"], &state["reasons"]), (&json!("ok"), &json!([])), "{body}");
        shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
    }
}

#[tokio::test]
async fn only_a_key_that_is_stored_ends_the_refusal_of_the_one_before() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, dead_key()).times(1));
    mount.read("creds/app").await.error();
    let mut good = mount.config();
    good["api_endpoint"] = (mount.sim.url() + "/").into();
    mount.storage.fail_put("config");
    assert_eq!(mount.write("config", good.clone()).await.status(), 500);
    shows(&metrics(&mount).await, "openai_admin_key_refused", 1.0);
    mount.write("config", good).await.done();
    shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
    assert_eq!(health(&mount).await["status"], "ok");
}

#[tokio::test]
async fn a_refusal_of_one_call_is_not_one_of_the_key_but_of_two_kinds_it_is() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    mount.sim.fault(Fault::on(endpoint::READ_COSTS, refusal(403)));
    for status in [401, 403] {
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, refusal(status)).times(2));
        mount.read("creds/app").await.error();
        mount.read("creds/app").await.error();
        shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
        assert_eq!(health(&mount).await["status"], "ok");
        let made = mount.read("creds/app").await;
        mount.revoke(made.lease()).await.done();
        assert!(mount.tick().await.error().message().contains("reading costs"));
        shows(&metrics(&mount).await, "openai_admin_key_refused", 0.0);
        mount.advance(HOUR * 2);
        let made = mount.read("creds/app").await;
        mount.revoke(made.lease()).await.done();
    }
    mount.sim.fault(Fault::everywhere(refusal(403)));
    mount.read("creds/app").await.error();
    assert!(mount.tick().await.answer.is_err());
    shows(&metrics(&mount).await, "openai_admin_key_refused", 1.0);
    assert_eq!(health(&mount).await["reasons"], json!(["OpenAI refuses the admin key"]));
    mount.sim.clear_faults();
    mount.finish().await;
}

#[tokio::test]
async fn an_outage_is_told_after_ten_minutes() {
    let mount = mount().await;
    let credential = mount.read("creds/app").await;
    mount.lose(credential.lease());
    mount.advance(HOUR * 2);
    mount.sim.fault(Fault::everywhere(refusal(503)));
    mount.tick().await.failed(Kind::Internal, "503");
    let outage =
        |state: &Value| state["reasons"].to_string().contains("no call to OpenAI has succeeded for ");
    assert!(!outage(&health(&mount).await));
    mount.advance(Duration::from_secs(660));
    let state = health(&mount).await;
    assert!(outage(&state), "{state}");
    mount.sim.clear_faults();
    mount.tick().await.done();
    assert_eq!(health(&mount).await["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn a_scrape_reads_a_bounded_part_of_storage() {
    let mount = mount().await;
    for role in 0..5_000 {
        let record = json!({
            "version": 1, "project": "research", "service_account_name_template": "vault-{{.RoleName}}",
            "ttl": 3600, "max_ttl": 86400,
        });
        put(&mount, &format!("role/r{role}"), &record).await;
    }
    for entry in 0..5_000 {
        put(&mount, &format!("ledger/00000{}/{:02}/x{entry}", 100 + entry % 7, entry % 60), &json!({})).await;
    }
    metrics(&mount).await;
    let before = mount.storage.calls();
    let started = Instant::now();
    let text = metrics(&mount).await;
    println!("a scrape of 5000 roles and 5000 ended credentials took {:?}", started.elapsed());
    let after = mount.storage.calls();
    shows(&text, "openai_pending_deletions", 1_000.0);
    assert!(after.lists - before.lists <= 130, "{} lists", after.lists - before.lists);
    // A mount without an issuer of tokens looks for the issuer twice.
    assert!(after.gets - before.gets <= 2, "{} reads", after.gets - before.gets);
}

async fn put(mount: &Mount, key: &str, value: &Value) {
    let entry = openai_secrets::logical::Entry {
        key: key.to_owned(),
        value: value.to_string().into_bytes(),
        seal_wrap: false,
    };
    mount.storage.put(entry).await.unwrap();
}

#[tokio::test]
async fn costs_are_counted_though_a_record_cannot_be_read() {
    for unreadable in ["static-role/bad", "role/bad", "project/bad", "library-set/bad", "federated-role/bad"]
    {
        let mount = mount().await;
        mount.write("config", json!({"quota_tracking": true})).await.done();
        put(&mount, unreadable, &json!("nonsense")).await;
        mount.sim.spend(mount.sim.project(), 1.5);
        let _said = mount.tick().await;
        shows(&metrics(&mount).await, r#"openai_quota_used{project="research"}"#, 150.0);
        mount.finish().await;
    }
}

#[tokio::test]
async fn costs_are_counted_once_an_hour_in_cents_and_survive_a_failover() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    let project = mount.sim.project().to_owned();
    mount.sim.spend(&project, 1.5);
    mount.sim.spend("proj_elsewhere", 9.0);
    mount.tick().await.done();
    mount.sim.spend(&project, 0.25);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::READ_COSTS), 1);
    let used = r#"openai_quota_used{project="research"}"#;
    let text = metrics(&mount).await;
    shows(&text, used, 150.0);
    assert!(!text.contains("elsewhere"));

    mount.restart().await;
    shows(&metrics(&mount).await, used, 150.0);
    mount.advance(HOUR * 30);
    mount.sim.spend(&project, 0.01);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::READ_COSTS), 2);
    shows(&metrics(&mount).await, used, 176.0);
    mount.advance(HOUR * 24 * 9);
    mount.tick().await.done();
    shows(&metrics(&mount).await, used, 176.0);
}

#[tokio::test]
async fn costs_of_accounts_that_stay_are_counted_by_their_owner() {
    let mount = mount().await;
    let (one, two) = (mount.seed("one", false).id, mount.seed("two", false).id);
    mount.sim.catch_up();
    let role = json!({"project": "research", "service_account_id": one});
    mount.write("static-roles/app", role).await.done();
    mount.write("roles/batch", json!({"project": "research", "service_account_id": two})).await.done();
    let set = json!({"project": "research", "service_account_names": "three,four"});
    mount.write("library-sets/pool", set).await.done();
    let credential = mount.read("creds/app").await;
    let passing = credential.json()["service_account_id"].as_str().unwrap().to_owned();
    mount.write("config", json!({"quota_tracking": true})).await.done();

    let project = mount.sim.project().to_owned();
    for (account, dollars) in [(&one, 1.5), (&two, 0.25), (&passing, 4.0)] {
        mount.sim.spend_by_user(&project, account, dollars);
    }
    for account in mount.sim.state().accounts {
        if ["three", "four"].contains(&account.name.as_str()) {
            mount.sim.spend_by_user(&project, &account.id, 0.5);
        }
    }
    mount.sim.spend_by_user(&project, "user-a-person", 7.0);
    mount.tick().await.done();
    let shown = |text: &str, owner: &str, cents: f64| {
        shows(text, &format!("openai_owner_costs_cents_total{{owner=\"{owner}\"}}"), cents);
    };
    let text = metrics(&mount).await;
    shown(&text, "static role app", 150.0);
    shown(&text, "role batch", 25.0);
    shown(&text, "library set pool", 100.0);
    assert_eq!(text.matches("openai_owner_costs_cents_total{").count(), 3, "{text}");
    shows(&text, r#"openai_quota_used{project="research"}"#, 1375.0);

    // The total stays when the role is gone and its days are settled.
    mount.write("roles/batch", json!({"service_account_id": ""})).await.done();
    mount.advance(HOUR * 24 * 9);
    mount.tick().await.done();
    mount.restart().await;
    shown(&metrics(&mount).await, "role batch", 25.0);
    shown(&metrics(&mount).await, "static role app", 150.0);
}

#[tokio::test]
async fn costs_that_cannot_be_read_by_account_leave_those_of_projects() {
    let mount = mount().await;
    let account = mount.seed("one", false).id;
    mount.sim.catch_up();
    mount.write("roles/batch", json!({"project": "research", "service_account_id": account})).await.done();
    mount.write("config", json!({"quota_tracking": true})).await.done();
    mount.sim.spend(mount.sim.project(), 2.0);
    mount.sim.fault(Fault::on(endpoint::READ_COSTS, refusal(400)).skipping(1).times(1));
    assert!(mount.tick().await.error().message().contains("reading costs"));
    shows(&metrics(&mount).await, r#"openai_quota_used{project="research"}"#, 200.0);
}

#[tokio::test]
async fn costs_of_an_owner_are_counted_beside_those_of_a_credential_every_10_seconds() {
    let mount = mount().await;
    let account = mount.seed("one", false).id;
    mount.sim.catch_up();
    mount.write("roles/batch", json!({"project": "research", "service_account_id": account})).await.done();
    mount.write("config", json!({"quota_tracking": true})).await.done();
    let project = mount.sim.project().to_owned();
    for credential in 0..8_640 {
        mount.sim.spend_by_user(&project, &format!("svc_acct_{credential:024}"), 0.5);
    }
    mount.sim.spend_by_user(&project, &account, 2.0);
    mount.tick().await.done();
    shows(&metrics(&mount).await, r#"openai_owner_costs_cents_total{owner="role batch"}"#, 200.0);
}

#[tokio::test]
async fn costs_that_cannot_be_read_are_asked_for_an_hour_later_and_stop_nothing() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    let credential = mount.read("creds/app").await;
    mount.lose(credential.lease());
    mount.advance(HOUR * 2);
    mount.sim.fault(Fault::on(endpoint::READ_COSTS, refusal(403)).times(1));
    assert!(mount.tick().await.error().message().contains("reading costs"));
    assert!(mount.sim.state().accounts.is_empty());
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::READ_COSTS), 1);
    mount.finish().await;
}

/// The costs of a project, and of an account that stays.
#[tokio::test]
async fn costs_of_days_that_could_not_be_read_are_counted_when_they_can() {
    for first_to_fail in [0, 1] {
        let mount = mount().await;
        let account = mount.seed("one", false).id;
        mount.sim.catch_up();
        let role = json!({"project": "research", "service_account_id": account});
        mount.write("roles/batch", role).await.done();
        mount.write("config", json!({"quota_tracking": true})).await.done();
        mount.tick().await.done();
        mount.sim.spend_by_user(mount.sim.project(), &account, 2.0);
        let fault = mount.sim.fault(
            Fault::on(endpoint::READ_COSTS, refusal(400)).skipping(first_to_fail).times(5 - first_to_fail),
        );
        for _ in 0..5 {
            mount.advance(HOUR * 24);
            let _said = mount.tick().await;
        }
        mount.sim.remove_fault(fault);
        mount.advance(HOUR * 24);
        mount.tick().await.done();
        let text = metrics(&mount).await;
        shows(&text, r#"openai_quota_used{project="research"}"#, 200.0);
        shows(&text, r#"openai_owner_costs_cents_total{owner="role batch"}"#, 200.0);
    }
}

/// The time until half past eleven in the evening, UTC.
fn until_the_last_hour(now: DateTime<Utc>) -> Duration {
    let passed = now.timestamp().rem_euclid(86_400) as u64;
    Duration::from_secs((23 * 3600 + 1800 + 86_400 - passed) % 86_400)
}

#[tokio::test]
async fn costs_are_counted_after_a_clock_that_was_ahead() {
    for is_known in [true, false] {
        let mount = mount().await;
        mount.advance(until_the_last_hour(mount.now()));
        mount.write("config", json!({"quota_tracking": true})).await.done();
        mount.put_clock_ahead(HOUR * 24 * 400);
        mount.restart().await;
        if !is_known {
            mount.sim.fault(Fault::everywhere(refusal(403)));
        }
        let _said = mount.tick().await;
        mount.sim.clear_faults();
        mount.put_clock_back(HOUR * 24 * 400);
        // The old client pauses after the failures. A new process has a new client.
        mount.restart().await;
        // Midnight passes. Costs count from the day of the first look to which OpenAI's clock is known.
        let spend = || mount.sim.spend(mount.sim.project(), 2.0);
        if is_known {
            spend();
        }
        mount.advance(HOUR * 2);
        if !is_known {
            spend();
        }
        for _ in 0..3 {
            mount.tick().await.done();
            shows(&metrics(&mount).await, r#"openai_quota_used{project="research"}"#, 200.0);
            mount.advance(HOUR * 2);
        }
    }
}

/// As after a start without a network.
#[tokio::test]
async fn costs_are_counted_once_after_a_clock_that_was_behind() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    mount.sim.spend(mount.sim.project(), 2.0);
    for _ in 0..5 {
        mount.tick().await.done();
        mount.advance(HOUR * 24);
    }
    mount.put_clock_back(HOUR * 24 * 30);
    mount.sim.fault(Fault::everywhere(refusal(403)));
    mount.restart().await;
    let _said = mount.tick().await;
    mount.sim.clear_faults();
    mount.put_clock_ahead(HOUR * 24 * 30);
    mount.restart().await;
    mount.tick().await.done();
    shows(&metrics(&mount).await, r#"openai_quota_used{project="research"}"#, 200.0);
}

#[tokio::test]
async fn costs_of_days_that_one_look_did_not_reach_are_counted_by_the_next_look() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    let midnight = mount.now().timestamp() / 86_400 * 86_400;
    mount.tick().await.done();
    for _ in 0..4 {
        mount.advance(HOUR * 24);
        mount.sim.spend(mount.sim.project(), 2.0);
    }
    let day =
        json!({"object": "bucket", "start_time": midnight, "end_time": midnight + 86_400, "results": []});
    let page = json!({"object": "page", "data": [day], "has_more": true, "next_page": "page_more"});
    mount.sim.fault(Fault::on(endpoint::READ_COSTS, Action::status_with(200, page)));
    mount.tick().await.done();
    mount.sim.clear_faults();
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    shows(&metrics(&mount).await, r#"openai_quota_used{project="research"}"#, 800.0);
}

#[tokio::test]
async fn costs_are_not_asked_for_unless_tracking_is_on() {
    let mount = mount().await;
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::READ_COSTS), 0);
}

/// The kinds and paths of so many events, once they have arrived.
async fn events(mount: &Mount, count: usize) -> Vec<(&'static str, String)> {
    let mut told = eventually("all events arrive", async || {
        let events = mount.host.events();
        let path = |event: &Event| event.metadata.iter().find(|(name, _)| *name == "path").unwrap().1.clone();
        let told: Vec<_> = events.iter().map(|event| (event.kind, path(event))).collect();
        (told.len() == count).then_some(told)
    })
    .await;
    told.sort_unstable();
    told
}

#[tokio::test]
async fn the_servers_event_bus_is_told_of_creation_rotation_loan_and_end() {
    let mount = mount().await;
    let account = mount.sim.seed_account(mount.sim.project(), "stays", false).unwrap().id;
    let credential = mount.read("creds/app").await;
    mount.revoke(credential.lease()).await.done();
    mount.delete("roles/app").await.done();
    mount.write("config/rotate", json!({})).await.text("message");
    let role = json!({"service_account_id": account, "project_id": mount.sim.project()});
    mount.write("static-roles/app", role).await.done();
    mount.write("static-creds/app/rotate", json!({})).await.text("api_key");
    let set = json!({"service_account_names": "one", "project_id": mount.sim.project()});
    mount.write("library-sets/pool", set).await.done();
    let lent = mount.write("library-sets/pool/check-out", json!({})).await.text("service_account_id");
    mount.write("library-sets/pool/check-out", json!({})).await.refused("no available");
    mount
        .write("library-sets/pool/admin-check-in", json!({"service_account_id": lent}))
        .await
        .text("message");

    let expected = [
        ("openai/check-in", "library-sets/pool/status"),
        ("openai/check-out", "library-sets/pool/status"),
        ("openai/config-write", "config"),
        ("openai/creds-create", "creds/app"),
        ("openai/creds-revoke", "creds/app"),
        ("openai/role-delete", "roles/app"),
        ("openai/role-write", "roles/app"),
        ("openai/root-rotate", "config"),
        ("openai/rotate", "static-creds/app"),
    ];
    let told = events(&mount, expected.len()).await;
    assert_eq!(told, expected.map(|(kind, path)| (kind, path.to_owned())));
}

#[tokio::test]
async fn a_deletion_of_a_role_that_is_not_there_is_no_event_and_warns_of_nothing() {
    let mount = mount().await;
    mount.read("creds/app").await.done();
    events(&mount, 3).await;
    mount.restart().await;
    mount.host.forget_past();
    mount.delete("roles/never").await.nothing();
    mount.delete("roles/app").await.done();
    mount.delete("roles/app").await.nothing();
    mount.write("roles/app", json!({"project": "research"})).await.done();
    let told = events(&mount, 2).await;
    let expected = [("openai/role-delete", "roles/app"), ("openai/role-write", "roles/app")];
    assert_eq!(told, expected.map(|(kind, path)| (kind, path.to_owned())));
    put(&mount, "role/unreadable", &json!("nonsense")).await;
    mount.delete("roles/unreadable").await.done();
    assert_eq!(mount.stored("role/"), ["role/app"]);
}

#[tokio::test]
async fn a_credential_whose_record_stays_after_its_end_is_counted_once() {
    for lost in [false, true] {
        let mount = mount().await;
        let made = mount.read("creds/app").await;
        let is_revoke = |event: &&Event| event.kind == "openai/creds-revoke";
        if lost {
            mount.lose(made.lease());
            mount.advance(HOUR * 2);
        }
        mount.watched.set_write_outcomes("ledger/", &[WriteOutcome::Lost]);
        if lost {
            assert!(mount.tick().await.answer.is_err());
        } else {
            mount.revoke(made.lease()).await.done();
        }
        assert_eq!(mount.stored("ledger/").len(), 1);
        mount.advance(HOUR * 2);
        mount.tick().await.done();
        assert_eq!(mount.stored("ledger/").len(), 0);
        shows(&metrics(&mount).await, r#"openai_creds_revoked{role="app"}"#, 1.0);
        eventually("the end is an event", async || mount.host.events().iter().find(is_revoke).map(drop))
            .await;
        assert_eq!(mount.host.events().iter().filter(is_revoke).count(), 1, "{lost}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_revocation_that_vault_repeats_is_counted_once() {
    let mount = mount().await;
    let made = mount.read("creds/app").await;
    for _ in 0..2 {
        mount.revoke(made.lease()).await.done();
    }
    shows(&metrics(&mount).await, r#"openai_creds_revoked{role="app"}"#, 1.0);
    mount.finish().await;
}

#[tokio::test]
async fn the_servers_event_bus_is_told_of_what_openai_did_not_do() {
    let mount = mount().await;
    let account = mount.sim.seed_account(mount.sim.project(), "stays", false).unwrap().id;
    let role = json!({"service_account_id": account, "project_id": mount.sim.project()});
    mount.write("static-roles/app", role).await.done();
    let set = json!({"service_account_names": "one", "project_id": mount.sim.project()});
    mount.write("library-sets/pool", set).await.done();
    mount.sim.fault(Fault::everywhere(refusal(400)));
    mount.read("creds/app").await.refused("no");
    // That it is nobody's role is the caller's own affair.
    mount.read("creds/nobody").await.refused("nobody");
    mount.write("static-creds/app/rotate", json!({})).await.refused("no");
    mount.write("config/rotate", json!({})).await.refused("no");
    mount.write("library-sets/pool/check-out", json!({})).await.refused("no");
    let told = events(&mount, 6).await;
    let failed: Vec<_> = told.iter().filter(|(kind, _)| kind.ends_with("-fail")).collect();
    let expected = [
        ("openai/check-out-fail", "library-sets/pool/status"),
        ("openai/creds-create-fail", "creds/app"),
        ("openai/root-rotate-fail", "config"),
        ("openai/rotate-fail", "static-creds/app"),
    ];
    assert_eq!(failed, expected.map(|(kind, path)| (kind, path.to_owned())).iter().collect::<Vec<_>>());
    mount.sim.clear_faults();
}

#[tokio::test]
async fn one_listener_serves_every_mount_of_the_process_apart_by_its_label() {
    let listener = Listener::new("127.0.0.1:0".parse().unwrap());
    let engines = Engines::default().heard_at(Some(Arc::clone(&listener)));
    let mounted = |uuid: &str| {
        let storage: Arc<dyn Storage> = Arc::new(InMemory::new());
        let system = Arc::new(FixedSystem::default());
        let config = std::collections::HashMap::new();
        let setup = Setup { config, backend_uuid: uuid.to_owned(), storage: Arc::clone(&storage), system };
        (engines.mount(setup).unwrap(), storage)
    };
    let ((one, storage), (two, _)) = (mounted("one"), mounted("two"));
    assert_eq!(listener.address(), None);
    one.initialize().await.unwrap();
    two.initialize().await.unwrap();
    let address = eventually("it listens", async || listener.address()).await;
    let mut tick = Request::new(Operation::Rollback, "", storage);
    tick.mount_point = "team/openai/".to_owned();
    one.handle(tick).await.unwrap();

    let get = async |method: &str, path: &str| exchange(address, method, path, &[], None).await.unwrap();
    let scraped = get("GET", "/metrics").await;
    let text = scraped.body.as_str().unwrap();
    assert_eq!(scraped.status, 200);
    assert_eq!(text.matches("openai_build_info{mount=\"").count(), 2, "{text}");
    assert_eq!(text.matches("# TYPE openai_build_info gauge").count(), 1);
    assert!(text.contains(r#"openai_pending_deletions{mount="team/openai/"} 0"#), "{text}");
    assert_eq!(get("GET", "/").await.status, 404);
    assert_eq!(get("POST", "/metrics").await.status, 405);

    drop(two);
    let left = get("GET", "/metrics").await;
    assert_eq!(left.body.as_str().unwrap().matches("openai_build_info{mount=\"").count(), 1);
}

/// A mount whose metrics are more than a connection takes at once.
struct Huge;

const HUGE: usize = 8 << 20;

#[async_trait::async_trait]
impl Source for Huge {
    fn mount(&self) -> String {
        "huge/".to_owned()
    }

    async fn text(&self) -> Result<String, String> {
        Ok(format!("# TYPE huge gauge\nhuge{{text=\"{}\"}} 1\n", "x".repeat(HUGE)))
    }
}

/// A listener of one huge mount, and where it listens.
async fn huge() -> (Arc<dyn Source>, std::net::SocketAddr) {
    let (source, listener) =
        (Arc::new(Huge) as Arc<dyn Source>, Listener::new("127.0.0.1:0".parse().unwrap()));
    listener.add(Arc::downgrade(&source));
    listener.start();
    let address = eventually("it listens", async || listener.address()).await;
    (source, address)
}

/// A client that asks many times at once and reads nothing.
async fn who_never_reads(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50).as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    stream
}

#[tokio::test]
async fn clients_that_never_read_do_not_keep_a_scraper_out() {
    let (_source, address) = huge().await;
    let mut blind = Vec::new();
    for _ in 0..16 {
        blind.push(who_never_reads(address).await);
    }
    let scraped = exchange(address, "GET", "/", &[], None);
    let scraped = tokio::time::timeout(Duration::from_secs(30), scraped).await;
    assert_eq!(scraped.expect("the scraper is let in").unwrap().status, 404);
    // Nor do clients that say nothing.
    for _ in 0..40 {
        blind.push(TcpStream::connect(address).await.unwrap());
    }
    let scraped = exchange(address, "GET", "/", &[], None);
    let scraped = tokio::time::timeout(Duration::from_secs(5), scraped).await;
    assert_eq!(scraped.expect("the scraper is let in").unwrap().status, 404);
}

/// A mount whose storage answers when it is told to.
#[derive(Debug, Default)]
struct Waiting {
    is_asked: tokio::sync::Notify,
    answers: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl Source for Waiting {
    fn mount(&self) -> String {
        "waiting/".to_owned()
    }

    async fn text(&self) -> Result<String, String> {
        self.is_asked.notify_one();
        self.answers.notified().await;
        Ok("# TYPE waiting gauge\nwaiting 1\n".to_owned())
    }
}

#[tokio::test]
async fn a_flood_of_silent_clients_closes_no_connection_that_has_asked() {
    let (source, listener) = (Arc::new(Waiting::default()), Listener::new("127.0.0.1:0".parse().unwrap()));
    let as_source: Arc<dyn Source> = Arc::<Waiting>::clone(&source);
    listener.add(Arc::downgrade(&as_source));
    listener.start();
    let address = eventually("it listens", async || listener.address()).await;
    let flood = async {
        source.is_asked.notified().await;
        let mut silent = Vec::new();
        for _ in 0..200 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // The first of them is closed: the listener has come to the last.
        silent[0].read_to_end(&mut Vec::new()).await.unwrap();
        source.answers.notify_one();
    };
    let (scraped, ()) = tokio::join!(exchange(address, "GET", "/metrics", &[], None), flood);
    assert_eq!(scraped.expect("it is answered").status, 200);
}

#[tokio::test]
async fn a_connection_that_never_ends_is_ended() {
    let (_source, address) = huge().await;
    let mut blind = who_never_reads(address).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    // Until the listener's task has ended there is always more to come.
    tokio::task::yield_now().await;
    let mut read = Vec::new();
    let _ = blind.read_to_end(&mut read).await;
    assert!(read.len() < HUGE, "all {} bytes came", read.len());
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let (_source, address) = huge().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50).as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    assert_eq!(String::from_utf8_lossy(&read).matches("HTTP/1.1 404").count(), 1);
}

#[tokio::test]
async fn an_address_that_is_taken_ends_nothing_and_is_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener::new(taken.local_addr().unwrap());
    listener.start();
    tokio::task::yield_now().await;
    assert_eq!(listener.address(), None);
    drop(taken);
    eventually("it listens", async || listener.address()).await;
    assert!(Listener::parse(Some("9469")).is_none() && Listener::parse(Some("")).is_none());
}

#[tokio::test]
async fn what_was_revoked_before_its_time_waits_from_then_on() {
    let mount = mount().await;
    mount.write("config", json!({"revocation_mode": "queue"})).await.done();
    let credential = mount.read("creds/app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html));
    mount.revoke(credential.lease()).await.nothing();
    mount.advance(Duration::from_secs(900));
    let text = metrics(&mount).await;
    shows(&text, "openai_pending_deletions", 1.0);
    assert!((899.0..1_000.0).contains(&value(&text, "openai_pending_deletion_age_seconds")), "{text}");

    mount.sim.clear_faults();
    // It waits for the pass that the revocation began.
    mount.write("revocations/retry", json!({})).await.done();
    shows(&metrics(&mount).await, "openai_pending_deletions", 0.0);
    mount.finish().await;
}
