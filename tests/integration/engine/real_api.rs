//! OpenAI as people saw it: refusals that concern one project, refusals after the work, keys that only read, mutual TLS, and
//! limits of one kind of call.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use openai_secrets::logical::Kind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::simulator::{Action, Certificate, Fault, Lag, Limit, Per, Retry, Settings, Tls, endpoint};
use crate::support::Mount;
use crate::support::api::exchange;
use crate::support::library::SETTLED;
use crate::support::mount::{CLOSED_PORT, PROJECT};
use crate::support::wait::eventually;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({})).await
}

fn refusal(status: u16, code: Option<&str>, message: &str) -> Action {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    Action::status_with(status, json!({"error": error}))
}

/// An authority for client certificates, and a certificate of it with its key, in PEM.
fn client_pair() -> (String, String, String) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = pem("CERTIFICATE", parameters.self_signed(&key).unwrap().der());
    let client = KeyPair::generate().unwrap();
    let issuer = Issuer::new(parameters, key);
    let certificate = CertificateParams::new(vec!["vault".to_owned()]).unwrap().signed_by(&client, &issuer);
    (authority, pem("CERTIFICATE", certificate.unwrap().der()), pem("PRIVATE KEY", &client.serialize_der()))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD.encode(der).as_bytes().chunks(64).map(text).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_401_for_one_project_delays_no_deletion_of_another() {
    let mount = mount().await;
    mount.sim.add_project("proj_elsewhere");
    mount.sim.catch_up();
    mount.write("project/elsewhere", json!({"project_id": "proj_elsewhere"})).await.done();
    mount.write("roles/elsewhere", json!({"project": "elsewhere"})).await.done();
    let mut made = Vec::new();
    for number in 0..100 {
        let path = if number % 10 == 5 { "creds/elsewhere" } else { "creds/app" };
        made.push(mount.read(path).await);
    }
    mount.sim.move_elsewhere("proj_elsewhere", true);
    for credential in &made {
        mount.lose(credential.lease());
    }
    mount.advance(HOUR * 3);
    let sentence = "OpenAI does not serve this project at the mount's api_endpoint (401)";
    mount.tick().await.failed(Kind::Internal, sentence);
    let left: Vec<_> = mount.sim.state().accounts.into_iter().map(|account| account.project).collect();
    assert_eq!(left, vec!["proj_elsewhere"; 10], "one tick ended all the others");
    // Nothing of this says that the admin key is no good.
    assert_eq!(mount.read("health").await.json()["reasons"].to_string().matches("admin key").count(), 0);
    mount.read("creds/elsewhere").await.refused(sentence);

    mount.sim.move_elsewhere("proj_elsewhere", false);
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_is_no_good_ends_a_pass_after_a_few_calls() {
    let mount = mount().await;
    for _ in 0..50 {
        let credential = mount.read("creds/app").await;
        mount.lose(credential.lease());
    }
    mount.advance(HOUR * 3);
    mount.sim.fault(Fault::everywhere(refusal(401, Some("invalid_api_key"), "Incorrect API key provided")));
    let before = mount.sim.calls(endpoint::DELETE_ACCOUNT);
    mount.tick().await.error();
    assert!(mount.sim.calls(endpoint::DELETE_ACCOUNT) - before <= 16);
    mount.sim.clear_faults();
    // Nothing backs off: the key alone was at fault.
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn what_a_refused_creation_made_all_the_same_is_found_and_ended() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    let set = json!({"project": PROJECT, "service_account_names": "one"});
    mount.write("library-sets/pool", set).await.done();
    mount.sim.catch_up();
    let mount = mount.without_lag();
    let keys = |mount: &Mount| mount.sim.state().live_keys().count();
    let accounts = |mount: &Mount| mount.sim.state().accounts.len();
    let before = (accounts(&mount), keys(&mount));
    let refuses = |on: &str| {
        let refused = refusal(400, None, "Refused, though it was done.");
        mount.sim.fault(Fault::on(on, refused).times(1).after_the_work());
    };
    refuses(endpoint::CREATE_KEY);
    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/app", role).await.refused("Refused, though it was done.");
    assert_eq!((accounts(&mount), keys(&mount)), before, "a static role");
    refuses(endpoint::CREATE_KEY);
    mount.write("library-sets/pool/check-out", json!({})).await.refused("Refused, though it was done.");
    assert_eq!((accounts(&mount), keys(&mount)), before, "a check-out");
    refuses(endpoint::CREATE_ACCOUNT);
    let set = json!({"project": PROJECT, "service_account_names": "two"});
    mount.write("library-sets/other", set).await.refused("Refused, though it was done.");
    assert_eq!((accounts(&mount), keys(&mount)), before, "a set");
    refuses(endpoint::CREATE_ACCOUNT);
    mount.read("creds/app").await.refused("Refused, though it was done.");
    mount.tick_now().await.done();
    assert_eq!((accounts(&mount), keys(&mount)), before, "a credential");
    mount.finish().await;
}

#[tokio::test]
async fn what_a_refused_creation_made_all_the_same_is_ended_when_openai_lists_it() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    mount.sim.catch_up();
    mount.sim.lag(Some(Lag { get: false, post: false, delete: false, ..Lag::of(Duration::from_secs(15)) }));
    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/rotated", role.clone()).await.done();
    let refuses = |on: &str| {
        let refused = refusal(400, None, "Refused, though it was done.");
        mount.sim.fault(Fault::on(on, refused).times(1).after_the_work());
    };
    let role = json!({"project": PROJECT, "service_account_id": mount.seed("other", false).id});
    refuses(endpoint::CREATE_KEY);
    mount.write("static-roles/app", role).await.refused("Refused, though it was done.");
    refuses(endpoint::CREATE_KEY);
    mount.write("static-creds/rotated/rotate", json!({})).await.refused("Refused, though it was done.");
    refuses(endpoint::CREATE_ACCOUNT);
    let set = json!({"project": PROJECT, "service_account_names": "two"});
    mount.write("library-sets/other", set).await.refused("Refused, though it was done.");
    let made = || (mount.sim.state().accounts.len(), mount.sim.state().live_keys().count());
    assert_eq!(made(), (3, 3));
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert_eq!(made(), (2, 1));
    assert!(mount.sim.state().is_live(&mount.read("static-creds/rotated").await.text("api_key")));
    mount.read("static-roles/app").await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_was_made_though_a_policy_refused_its_lifetime_is_ended() {
    let mount = mount().await.without_lag();
    let account = mount.seed("worker", false).id;
    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/app", role).await.done();
    let policy = json!({"error": {"message": "API keys must expire sooner.", "type": "invalid_request_error",
        "param": "expires_in_seconds", "code": null}});
    for method in ["key", "account"] {
        mount.write("static-roles/app", json!({"rotation_method": method})).await.done();
        let made = if method == "key" { endpoint::CREATE_KEY } else { endpoint::CREATE_ACCOUNT };
        let refused = Fault::on(made, Action::status_with(400, policy.clone())).times(1).after_the_work();
        mount.sim.fault(refused);
        mount.write("static-creds/app/rotate", json!({})).await.refused("API keys must expire sooner");
        let state = mount.sim.state();
        assert_eq!((state.accounts.len(), state.live_keys().count()), (1, 1), "{method}");
    }
    mount.finish().await;
}

#[tokio::test]
async fn the_default_project_is_refused_with_a_hint() {
    let mount = mount().await;
    mount.sim.make_default(mount.sim.project());
    let answered = mount.read("creds/app").await;
    answered
        .refused("OpenAI adds no service account to an organization's default project: name another project");
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_only_reads_is_not_stored() {
    let mount = Mount::start().await;
    mount.sim.restrict_admin_keys(true);
    let answered = mount.write("config", mount.config()).await;
    answered.refused("error validating OpenAI configuration: the admin key may not change anything");
    answered.refused("\"Organization Administration\" *Write*");
    assert_eq!(mount.stored("config"), Vec::<String>::new());
    mount.sim.restrict_admin_keys(false);
    mount.write("config", mount.config()).await.done();
    assert_eq!(mount.sim.state().deleted.admin_keys, 0, "the proof changes nothing");
}

#[tokio::test]
async fn a_check_tells_how_openai_takes_the_key_now() {
    let mount = Mount::start().await.configured().await;
    let check = async || mount.read("config/check").await.json();
    let good = check().await;
    assert_eq!((&good["reachable"], &good["admin_key_accepted"]), (&json!(true), &json!(true)));
    assert_eq!((&good["may_write"], &good["error"]), (&json!("yes"), &json!("")));
    assert_eq!(good["organization_id"], mount.sim.organization());
    assert_eq!(good["admin_api_key_id"], mount.read("config").await.json()["admin_api_key_id"]);
    assert!(good["admin_key_last_used_at"].as_str().unwrap().ends_with('Z'), "{good}");
    assert!(good["duration_ms"].is_u64());

    mount.sim.restrict_admin_keys(true);
    let reads = check().await;
    assert_eq!((&reads["admin_key_accepted"], &reads["may_write"]), (&json!(true), &json!("no")));
    assert!(reads["error"].as_str().unwrap().contains("may not change anything"), "{reads}");

    mount.sim.fault(Fault::everywhere(refusal(401, Some("invalid_api_key"), "Incorrect API key provided")));
    let bad = check().await;
    assert_eq!((&bad["reachable"], &bad["admin_key_accepted"]), (&json!(true), &json!(false)));
    assert_eq!((&bad["may_write"], bad["error"].as_str().unwrap().is_empty()), (&json!("unknown"), false));

    mount.sim.clear_faults();
    mount.sim.fault(Fault::everywhere(Action::Drop));
    let begun = std::time::Instant::now();
    let gone = check().await;
    assert_eq!((&gone["reachable"], &gone["may_write"]), (&json!(false), &json!("unknown")), "{gone}");
    assert_eq!(gone.get("admin_key_accepted"), None, "OpenAI said nothing about the key: {gone}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    mount.sim.clear_faults();
    mount.sim.fault(Fault::everywhere(Action::status(429)));
    let limited = check().await;
    assert_eq!(
        (&limited["reachable"], &limited["may_write"]),
        (&json!(true), &json!("unknown")),
        "{limited}"
    );
    assert_eq!(limited.get("admin_key_accepted"), None, "{limited}");
    assert!(!limited["error"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_deletion_of_what_is_not_there_is_no_failure_in_health() {
    let mount = Mount::start().await.configured().await;
    mount.read("config/check").await.done();
    let health = mount.read("health").await.json();
    assert_eq!((&health["last_error"], &health["last_error_endpoint"]), (&json!(""), &json!("")), "{health}");
}

#[tokio::test]
async fn a_check_without_a_configuration_says_what_to_do() {
    Mount::start().await.read("config/check").await.refused("OpenAI client not configured");
}

#[tokio::test]
async fn a_server_that_demands_a_certificate_is_served_one() {
    let (authority, certificate, key) = client_pair();
    let tls = Tls { certificate: Certificate::Made { names: Vec::new() }, client_authority: Some(authority) };
    let mount = Mount::before(Settings { tls: Some(tls), ..Settings::default() }).await;
    let mut config = mount.config();
    config["ca_cert"] = mount.sim.ca_pem().unwrap().into();
    mount
        .write("config", config.clone())
        .await
        .refused("demands a client certificate: set client_cert and client_key");
    config["client_cert"] = certificate.clone().into();
    mount.write("config", config.clone()).await.refused("client_cert and client_key must be set together");
    config["client_key"] = key.clone().into();
    mount.write("config", config.clone()).await.done();
    let read = mount.read("config").await.json();
    assert_eq!(read["client_cert"], certificate);
    assert!(read.get("client_key").is_none() && !read.to_string().contains("PRIVATE KEY"), "{read}");
    mount.write("project/research", json!({"project_id": mount.sim.project()})).await.done();
    mount.write("roles/app", json!({"project": "research"})).await.done();
    let credential = mount.read("creds/app").await;
    mount.revoke(credential.lease()).await.done();

    // The same again changes nothing, and another needs the key: it tells the server who calls.
    mount.write("config", json!({"client_cert": certificate})).await.done();
    let (_, other, other_key) = client_pair();
    let change = json!({"client_cert": other, "client_key": other_key, "verify_connection": false});
    let says = "client_cert can only be changed with admin_api_key in the same write";
    mount.write("config", change.clone()).await.refused(says);
    mount.patch("config", change.clone()).await.refused(says);
    let foreign =
        json!({"client_cert": other, "client_key": other_key, "admin_api_key": mount.sim.admin_key()});
    mount.write("config", foreign).await.refused("refused client_cert");
    let crossed = json!({"client_key": other_key});
    mount.write("config", crossed).await.refused("client_cert and client_key do not belong together");
    for (field, value, says) in [
        ("client_cert", "not pem", "client_cert must hold at least one certificate in PEM"),
        ("client_key", "not pem", "client_key must be one private key in PEM"),
    ] {
        let mut bad = config.clone();
        bad[field] = value.into();
        mount.write("config", bad).await.refused(says);
    }
    assert_eq!(mount.read("config").await.text("client_cert"), certificate);
    mount.finish().await;
}

#[tokio::test]
async fn a_rotated_key_expires_as_the_one_before_or_as_configured() {
    let expires = |mount: &Mount| {
        let keys = mount.sim.state().admin_keys;
        keys.into_iter().filter(|key| key.live).map(|key| key.expires_at).next_back().unwrap()
    };
    let mount = mount().await;
    mount.write("config/rotate", json!({})).await.done();
    assert_eq!(expires(&mount), None);
    assert_eq!(mount.read("config").await.text("admin_api_key_expires_at"), "");

    mount
        .write("config", json!({"automatic_rotation_period": "30d", "admin_key_ttl": "59d"}))
        .await
        .refused("admin_key_ttl must be 0 or at least two rotation periods");
    mount.write("config", json!({"admin_key_ttl": "60d"})).await.done();
    mount.write("config/rotate", json!({})).await.done();
    let now = mount.sim.state().now;
    let ends = expires(&mount).unwrap();
    assert!((60 * DAY.as_secs() - 60..=60 * DAY.as_secs()).contains(&(ends - now)), "{ends} {now}");
    assert!(mount.read("config").await.text("admin_api_key_expires_at").ends_with('Z'));

    // Without a lifetime of its own, a key takes over that of the key before it.
    mount.write("config", json!({"admin_key_ttl": 0})).await.done();
    mount.advance(DAY * 10);
    mount.write("config/rotate", json!({})).await.done();
    let now = mount.sim.state().now;
    let left = expires(&mount).unwrap() - now;
    assert!((60 * DAY.as_secs() - 60..=60 * DAY.as_secs()).contains(&left), "{left}");
}

#[tokio::test]
async fn without_openais_word_a_rotated_key_expires_as_it_was_asked_for() {
    let mount = mount().await.without_lag();
    mount.write("config", json!({"automatic_rotation_period": "30d", "admin_key_ttl": "60d"})).await.done();
    let address = mount.sim.origin().trim_start_matches("http://").parse().unwrap();
    let bearer = format!("Bearer {}", mount.sim.admin_key());
    let headers = [
        ("Authorization", bearer.as_str()),
        ("OpenAI-Organization", mount.sim.organization()),
        ("Content-Type", "application/json"),
    ];
    let order = json!({"name": "made", "expires_in_seconds": 60 * DAY.as_secs()});
    let path = "/v1/organization/admin_api_keys";
    let mut made = exchange(address, "POST", path, &headers, Some(order)).await.unwrap().ok().body.clone();
    made.as_object_mut().unwrap().remove("expires_at").unwrap();
    let silent = Fault::on(endpoint::CREATE_ADMIN_KEY, Action::status_with(200, made)).times(1);
    mount.sim.fault(silent);
    let begun = mount.now();
    mount.write("config/rotate", json!({})).await.done();
    let ends: DateTime<Utc> = mount.read("config").await.text("admin_api_key_expires_at").parse().unwrap();
    let lifetime = (ends - begun).num_seconds();
    assert!((60 * 86_400 - 1..60 * 86_400 + 60).contains(&lifetime), "{lifetime}");
    mount.finish().await;
}

#[tokio::test]
async fn limits_on_costs_and_lists_stop_no_credential() {
    let mount = mount().await;
    mount.write("config", json!({"quota_tracking": true})).await.done();
    mount.sim.limit(Limit::on("GET /organization/costs", 0, Per::Minute));
    mount.sim.limit(Limit::on(endpoint::LIST_ACCOUNTS, 0, Per::Minute).telling(Retry::None));
    mount.sim.limit(Limit::on(endpoint::LIST_KEYS, 0, Per::Minute).telling(Retry::TooMany));
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        let credential = mount.read("creds/app").await;
        mount.revoke(credential.lease()).await.done();
    }
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    mount.sim.clear_limits();
    mount.finish().await;
}

#[tokio::test]
async fn a_conflict_is_tried_again_where_a_repeat_does_no_harm() {
    let mount = mount().await.without_lag();
    let credential = mount.read("creds/app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, refusal(409, None, "Conflict")).times(2));
    mount.revoke(credential.lease()).await.done();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, refusal(409, None, "Conflict")).times(1));
    mount.read("creds/app").await.refused("Conflict");
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn where_nothing_can_come_of_it_a_reader_is_told_within_10_seconds() {
    let mount = mount().await;
    let headers = std::collections::BTreeMap::from([("x-should-retry".to_owned(), "false".to_owned())]);
    let body = json!({"error": {"message": "No more for today.", "type": "requests", "param": null, "code": "quota"}});
    let no_more = Action::Status { status: 429, headers, body: Some(body) };
    let wrong_key = refusal(401, Some("invalid_api_key"), "Incorrect API key provided");
    for (action, says) in [
        (no_more, "No more for today."),
        (wrong_key, "the mount's admin key was refused by OpenAI (401)"),
        (refusal(401, None, "Missing scopes: x"), "\"Organization Administration\" *Write*"),
        (Action::status_with(403, json!({"error": "a sentence"})), "a sentence"),
    ] {
        mount.sim.fault(Fault::everywhere(action));
        let begun = std::time::Instant::now();
        let answered = mount.read("creds/app").await;
        answered.failed(answered.error().kind(), says);
        assert!(begun.elapsed() < Duration::from_secs(10), "{says}: {:?}", begun.elapsed());
        mount.sim.clear_faults();
    }
    let nobody = json!({
        "api_endpoint": format!("http://{CLOSED_PORT}/v1"), "admin_api_key": mount.sim.admin_key(),
        "verify_connection": false,
    });
    mount.write("config", nobody).await.done();
    let begun = std::time::Instant::now();
    let answered = mount.read("creds/app").await;
    answered.failed(Kind::Status(503), "check api_endpoint");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_static_key_shows_its_last_use_as_a_list_told_it_and_asks_for_none() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-roles/app", role).await.done();
    let key = mount.read("static-creds/app").await.text("api_key");
    mount.sim.use_key(&key);
    mount.sim.catch_up();
    let calls = mount.sim.state().all_calls();
    assert_eq!(mount.read("static-roles/app").await.text("last_used_at"), "");
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.write("tidy", json!({})).await.done();
    eventually("tidy is over", async || {
        let status = mount.read("tidy/status").await.json();
        (status["state"] != "running").then_some(())
    })
    .await;
    assert!(mount.read("static-roles/app").await.text("last_used_at").ends_with('Z'));
    mount.finish().await;
}

#[tokio::test]
async fn a_cost_of_null_is_skipped_and_the_others_are_counted() {
    let mount = mount().await;
    mount.sim.spend(mount.sim.project(), 12.5);
    mount.sim.add_project("proj_unknown_cost");
    mount.sim.spend_unknown("proj_unknown_cost");
    mount.sim.catch_up();
    mount.write("project/unknown", json!({"project_id": "proj_unknown_cost"})).await.done();
    mount.write("config", json!({"quota_tracking": true})).await.done();
    mount.tick().await.done();
    let metrics = mount.read("metrics").await.text("http_raw_body");
    assert!(metrics.contains("openai_quota_used{project=\"research\"} 1250\n"), "{metrics}");
}
