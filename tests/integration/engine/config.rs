//! `config`: what is taken, what is refused with nothing stored, and what a write leaves as it was.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Certificate, Fault, Settings, Tls, endpoint};
use crate::support::Mount;
use crate::support::mount::CLOSED_PORT;

/// Refused with this sentence; nothing is stored and nothing was asked of OpenAI.
async fn refuses(mount: &Mount, change: Value, says: &str) {
    let (calls, stored) = (mount.sim.state().all_calls(), mount.storage_text(""));
    let mut body = mount.config();
    body.as_object_mut().unwrap().append(&mut change.as_object().unwrap().clone());
    mount.write("config", body).await.refused(says);
    assert_eq!((mount.sim.state().all_calls(), mount.storage_text("")), (calls, stored), "{change}");
}

/// Refused after OpenAI was asked; nothing is stored.
async fn fails_validation(mount: &Mount, body: Value, says: &str) {
    let answered = mount.write("config", body).await;
    answered.refused("error validating OpenAI configuration: ");
    answered.refused(says);
    assert_eq!(mount.stored(""), Vec::<String>::new());
    mount.read("config").await.nothing();
}

#[tokio::test]
async fn what_is_written_is_read_back_but_for_the_key() {
    let mount = Mount::start().await.configured().await;
    let read = mount.read("config").await;
    let id = mount.sim.state().admin_keys[0].id.clone();
    let (last_rotated, fingerprint) = (read.text("last_rotated"), read.text("admin_api_key_fingerprint"));
    assert_eq!(
        read.json(),
        json!({
            "admin_api_key_fingerprint": fingerprint,
            "admin_api_key_id": id,
            "organization_id": mount.sim.organization(),
            "api_endpoint": mount.sim.url(),
            "ca_cert": "",
            "client_cert": "",
            "verify_connection": true,
            "automatic_rotation_period": 0,
            "automatic_rotation_window": 0,
            "rotation_schedule": "",
            "disable_automated_rotation": false,
            "admin_key_ttl": 0,
            "admin_api_key_expires_at": "",
            "key_expiry_margin": 60,
            "revocation_mode": "strict",
            "max_requests_per_minute": 0,
            "quota_tracking": false,
            "last_rotated": last_rotated,
            "next_rotation": "",
            "rotation_failures": 0,
            "last_rotation_error": "",
            "retiring_admin_api_key_ids": [],
        })
    );
    assert!(last_rotated.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{last_rotated}");
}

#[tokio::test]
async fn openai_is_the_default_endpoint() {
    let mount = Mount::start().await;
    let body = json!({"admin_api_key": "sk-x", "organization_id": "org-1", "verify_connection": false});
    mount.write("config", body).await.done();
    assert_eq!(mount.read("config").await.text("api_endpoint"), "https://api.openai.com/v1");
}

#[tokio::test]
async fn whatever_needs_openai_says_that_it_is_not_configured() {
    let mount = Mount::start().await.configured().await;
    mount.write("roles/raw", json!({"project_id": mount.sim.project()})).await.done();
    mount.delete("config").await.nothing();
    mount.write("roles/other", json!({"project_id": "proj_1"})).await.refused("OpenAI client not configured");
    mount.write("project/p", json!({"project_id": "proj_1"})).await.refused("OpenAI client not configured");
    let answered = mount.read("creds/raw").await;
    assert_eq!(answered.status(), 400);
    assert_eq!(
        answered.error().message(),
        "OpenAI client not configured: run `vault write openai/config admin_api_key=... organization_id=...`"
    );
    let adopting = json!({"project_id": "proj_1", "service_account_id": "svc_acct_1"});
    mount.write("roles/adopting", adopting).await.refused("OpenAI client not configured");
    mount.tick().await.done();
}

#[tokio::test]
async fn key_and_organization_are_required_at_first() {
    let mount = Mount::start().await;
    let without = |field: &str| {
        let mut body = mount.config();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    for field in ["admin_api_key", "organization_id"] {
        mount.write("config", without(field)).await.refused(&format!("missing required field {field:?}"));
    }
    mount.write("config", json!({})).await.refused("missing required field");
    mount.read("config").await.nothing();
}

#[tokio::test]
async fn a_wrong_key_is_told_in_openais_words_and_not_quoted() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["admin_api_key"] = "sk-admin-this-is-a-wrong-key-of-some-length".into();
    let answered = mount.write("config", body.clone()).await;
    assert!(!answered.error().message().contains("wrong-key-of-some"), "{}", answered.error());
    fails_validation(&mount, body, "Incorrect API key provided").await;
}

#[tokio::test]
async fn a_refusal_names_openais_request() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["admin_api_key"] = "sk-admin-wrong".into();
    fails_validation(&mount, body, "(request req_").await;
}

#[tokio::test]
async fn a_service_accounts_key_is_no_admin_key() {
    let mount = Mount::start().await;
    let (_, value) = mount.seed("worker", true).key.unwrap();
    let mut body = mount.config();
    body["admin_api_key"] = value.into();
    fails_validation(&mount, body, "insufficient permissions").await;
}

#[tokio::test]
async fn another_organization_is_refused() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["organization_id"] = "org-someone-elses".into();
    fails_validation(&mount, body, "organization").await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_openais_is_refused() {
    let mount = Mount::start().await;
    let elsewhere = Action::Redirect { location: "https://api.openai.com/v1".to_owned() };
    for (action, says) in [
        (Action::Html, "OpenAI's answer cannot be read: it is not JSON"),
        (Action::Empty, "OpenAI's answer cannot be read"),
        (Action::Truncated, "OpenAI's answer cannot be read"),
        (Action::Huge, "it is longer than 1 MiB"),
        (Action::WrongTypes, "OpenAI's answer cannot be read"),
        (elsewhere, "redirect, which is not followed (HTTP 307)"),
        (Action::status(403), "HTTP 403"),
    ] {
        mount.sim.clear_faults();
        mount.sim.fault(Fault::everywhere(action));
        fails_validation(&mount, mount.config(), says).await;
    }
}

#[tokio::test]
async fn an_openai_that_fails_once_is_tried_again() {
    let mount = Mount::start().await;
    mount.sim.fault(Fault::everywhere(Action::status(502)).times(1));
    mount.write("config", mount.config()).await.done();
}

#[tokio::test]
async fn unverified_it_is_stored_without_a_call() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["verify_connection"] = false.into();
    body["admin_api_key"] = "sk-admin-not-tried".into();
    mount.write("config", body).await.done();
    assert_eq!(mount.sim.state().all_calls(), 0);
    assert_eq!(mount.read("config").await.json()["verify_connection"], false);
}

#[tokio::test]
async fn an_endpoint_must_be_https_or_this_machine_and_nothing_but_an_address() {
    let mount = Mount::start().await;
    for (address, says) in [
        ("https://user:secret@api.openai.com/v1", "user name or password"),
        ("https://user@api.openai.com/v1", "user name or password"),
        ("https://api.openai.com/v1?key=x", "query"),
        ("https://api.openai.com/v1#x", "fragment"),
        ("http://api.openai.com/v1", "use https"),
        ("http://10.0.0.1/v1", "use https"),
        ("http://localhost.example.org/v1", "use https"),
        ("ftp://127.0.0.1/v1", "https://"),
        ("api.openai.com", "must be a URL"),
        ("https://api.openai.com/v1\n", "spaces, tabs or line breaks"),
        ("https://api.\topenai.com/v1", "spaces, tabs or line breaks"),
        (" https://api.openai.com/v1", "spaces, tabs or line breaks"),
        ("", "must be a URL"),
    ] {
        refuses(&mount, json!({"api_endpoint": address, "verify_connection": false}), "api_endpoint").await;
        refuses(&mount, json!({"api_endpoint": address}), says).await;
    }
    let password = json!({"api_endpoint": "https://user:sesame@api.openai.com/v1"});
    let answered = mount.write("config", password).await;
    assert!(!answered.error().message().contains("sesame"));
}

#[tokio::test]
async fn an_endpoint_does_not_change_without_the_key() {
    let mount = Mount::start().await.configured().await;
    let elsewhere = json!({"api_endpoint": "http://127.0.0.1:9/v1", "verify_connection": false});
    mount.write("config", elsewhere.clone()).await.refused("admin_api_key in the same write");
    mount.patch("config", elsewhere).await.refused("admin_api_key in the same write");
    // With a slash or without, it is the same place; it is read back as it was written.
    for same in [format!("{}/", mount.sim.url()), mount.sim.url()] {
        mount.write("config", json!({"api_endpoint": same})).await.done();
        assert_eq!(mount.read("config").await.text("api_endpoint"), same);
    }
}

#[tokio::test]
async fn certificates_are_not_added_or_changed_without_the_key() {
    let tls =
        || Settings { tls: Some(Tls::by(Certificate::Made { names: Vec::new() })), ..Settings::default() };
    let elsewhere = tls().start().await.unwrap();
    let foreign = elsewhere.ca_pem().unwrap().to_owned();
    let plain = Mount::start().await.configured().await;
    let own = Mount::before(tls()).await;
    let mut body = own.config();
    body["ca_cert"] = own.sim.ca_pem().unwrap().into();
    own.write("config", body).await.done();
    let both = format!("{}{foreign}", own.sim.ca_pem().unwrap());
    for (mount, pem) in [(&plain, &foreign), (&own, &foreign), (&own, &both)] {
        let (calls, stored) = (mount.sim.state().all_calls(), mount.storage_text("config"));
        for verify in [true, false] {
            let change = json!({"ca_cert": pem, "verify_connection": verify});
            let says = "ca_cert can only be changed with admin_api_key in the same write";
            mount.write("config", change.clone()).await.refused(says);
            mount.patch("config", change).await.refused(says);
        }
        assert_eq!((mount.sim.state().all_calls(), mount.storage_text("config")), (calls, stored));
    }
    let again = format!("{}\n", own.sim.ca_pem().unwrap());
    own.write("config", json!({"ca_cert": again})).await.done();
    let with_key = json!({"ca_cert": both, "admin_api_key": own.sim.admin_key()});
    own.write("config", with_key).await.done();
    // Nobody else is trusted without it.
    plain.write("config", json!({"ca_cert": foreign, "admin_api_key": plain.sim.admin_key()})).await.done();
    plain.write("config", json!({"ca_cert": ""})).await.done();
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_whether_it_is_tried_or_not() {
    let mount = Mount::start().await;
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["not pem", garbage, "-----BEGIN CERTIFICATE-----\nAAAA"] {
        for verify in [true, false] {
            refuses(&mount, json!({"ca_cert": pem, "verify_connection": verify}), "ca_cert").await;
        }
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_if_it_is_named() {
    let tls = Some(Tls::by(Certificate::Made { names: Vec::new() }));
    let mount = Mount::before(Settings { tls, ..Settings::default() }).await;
    fails_validation(&mount, mount.config(), "the connection to OpenAI is not trusted").await;
    let mut body = mount.config();
    body["ca_cert"] = mount.sim.ca_pem().unwrap().into();
    mount.write("config", body).await.done();
    assert_eq!(mount.read("config").await.text("ca_cert"), mount.sim.ca_pem().unwrap());
    // Without it the same endpoint is not trusted any more, and what worked stays.
    mount.write("config", json!({"ca_cert": ""})).await.refused("not trusted");
    assert_eq!(mount.read("config").await.text("ca_cert"), mount.sim.ca_pem().unwrap());
}

#[tokio::test]
async fn the_keys_id_is_found_by_its_redacted_value_unless_it_is_given() {
    let mount = Mount::start().await.configured().await;
    let id = mount.sim.state().admin_keys[0].id.clone();
    assert_eq!(mount.read("config").await.text("admin_api_key_id"), id);
    mount.write("config", json!({"admin_api_key_id": "key_given"})).await.refused("admin_api_key_id");
    let untried = json!({"admin_api_key_id": "key_given", "verify_connection": false});
    mount.write("config", untried).await.done();
    assert_eq!(mount.read("config").await.text("admin_api_key_id"), "key_given");
    for odd in ["a/b", "..", "a b"] {
        mount.write("config", json!({"admin_api_key_id": odd})).await.refused("admin_api_key_id");
    }
}

#[tokio::test]
async fn a_key_that_openai_does_not_list_is_taken_with_a_warning() {
    let mount = Mount::start().await;
    let none = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::status_with(200, none)));
    let answered = mount.write("config", mount.config()).await;
    assert!(answered.warnings().iter().any(|warning| warning.contains("admin_api_key_id")), "{answered:?}");
    assert_eq!(mount.read("config").await.text("admin_api_key_id"), "");
}

#[tokio::test]
async fn a_write_changes_only_what_it_sends_and_so_does_a_patch() {
    let mount = Mount::start().await.configured().await;
    let mut expected = mount.read("config").await.json();
    for (patch, field, sent, read) in [
        (false, "automatic_rotation_period", json!("7d"), json!(604_800)),
        (true, "automatic_rotation_window", json!("1h30m"), json!(5400)),
        (false, "key_expiry_margin", json!("90"), json!(90)),
        (true, "revocation_mode", json!("queue"), json!("queue")),
        (true, "revocation_mode", json!("strict"), json!("strict")),
        (false, "max_requests_per_minute", json!("10"), json!(10)),
        (true, "max_requests_per_minute", json!(0), json!(0)),
        (false, "disable_automated_rotation", json!("true"), json!(true)),
        (true, "quota_tracking", json!(true), json!(true)),
        (false, "quota_tracking", json!(false), json!(false)),
    ] {
        let body = json!({field: sent});
        if patch { mount.patch("config", body).await } else { mount.write("config", body).await }.done();
        expected[field] = read;
        let mut now = mount.read("config").await.json();
        // It follows from the others.
        now["next_rotation"] = "".into();
        assert_eq!(now, expected, "{field}");
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_patched() {
    let mount = Mount::start().await;
    assert_eq!(mount.patch("config", mount.config()).await.status(), 404);
    assert_eq!(mount.stored(""), Vec::<String>::new());
}

#[tokio::test]
async fn writing_what_was_read_changes_nothing_and_asks_nothing() {
    let mount = Mount::start().await.configured().await;
    let read = mount.read("config").await.json();
    let (stored, calls) = (mount.storage_text("config"), mount.sim.state().all_calls());
    let mut again = read.clone();
    again["admin_api_key"] = mount.sim.admin_key().into();
    again.as_object_mut().unwrap().remove("last_rotated");
    for _ in 0..2 {
        mount.write("config", again.clone()).await.done();
    }
    assert_eq!(mount.read("config").await.json(), read);
    assert_eq!((mount.storage_text("config"), mount.sim.state().all_calls()), (stored, calls));
}

#[tokio::test]
async fn the_older_names_of_the_rotation_are_read() {
    let mount = Mount::start().await.configured().await;
    mount.write("config", json!({"rotation_period": 3600, "rotation_window": "10m"})).await.done();
    let read = mount.read("config").await.json();
    assert_eq!(
        (&read["automatic_rotation_period"], &read["automatic_rotation_window"]),
        (&json!(3600), &json!(600))
    );
    mount.write("config", json!({"rotation_period": 1800, "automatic_rotation_period": 7200})).await.done();
    assert_eq!(mount.read("config").await.json()["automatic_rotation_period"], 7200);
}

#[tokio::test]
async fn a_value_is_refused_by_the_name_that_was_sent() {
    let mount = Mount::start().await.configured().await;
    let daily = json!("0 3 * * *");
    for name in
        ["automatic_rotation_period", "rotation_period", "automatic_rotation_window", "rotation_window"]
    {
        for (body, says) in [
            (json!({name: 10}), format!("{name} must be 0 ")),
            (json!({name: 10, "rotation_schedule": daily}), name.to_owned()),
            (json!({name: "soon"}), format!("{name:?}")),
            (json!({name: -1}), name.to_owned()),
        ] {
            let answered = mount.write("config", body.clone()).await;
            answered.refused(&says);
            let error = answered.error().message();
            let others = error.replace(name, "").replace("rotation_schedule", "");
            assert!(!others.contains("rotation_"), "{body}: {error}");
        }
    }
    let both = json!({"rotation_period": "24h", "rotation_schedule": daily});
    mount.write("config", both).await.refused("rotation_schedule and rotation_period were both");
    let both = json!({"automatic_rotation_period": "24h", "rotation_schedule": daily});
    mount.write("config", both).await.refused("rotation_schedule and automatic_rotation_period were both");
}

#[tokio::test]
async fn fields_that_are_not_what_they_must_be_are_named() {
    let mount = Mount::start().await;
    for (field, value) in [
        ("admin_api_key", json!(["a"])),
        ("admin_api_key", json!("")),
        ("admin_api_key", json!("sk with spaces")),
        ("admin_api_key", json!("sk-line\nbreak")),
        ("organization_id", json!("")),
        ("organization_id", json!("org/../x")),
        ("organization_id", json!({"a": 1})),
        ("verify_connection", json!("maybe")),
        ("automatic_rotation_period", json!("soon")),
        ("automatic_rotation_period", json!(-1)),
        ("automatic_rotation_period", json!([1])),
        ("automatic_rotation_window", json!("1y")),
        ("disable_automated_rotation", json!({})),
        ("rotation_schedule", json!("every day")),
        ("rotation_schedule", json!("99 * * * *")),
        ("key_expiry_margin", json!("-5s")),
        ("key_expiry_margin", json!("9000h")),
        ("revocation_mode", json!("never")),
        ("max_requests_per_minute", json!(-1)),
        ("max_requests_per_minute", json!("1e3")),
        ("max_requests_per_minute", json!(99_999_999_999_i64)),
        ("quota_tracking", json!("x")),
    ] {
        refuses(&mount, json!({field: value}), field).await;
    }
}

#[tokio::test]
async fn a_period_and_a_schedule_exclude_each_other() {
    let mount = Mount::start().await.configured().await;
    let both = json!({"automatic_rotation_period": "24h", "rotation_schedule": "0 3 * * *"});
    refuses(&mount, both, "rotation_").await;
    mount.write("config", json!({"rotation_schedule": "0 3 * * *"})).await.done();
    mount.write("config", json!({"automatic_rotation_period": "24h"})).await.done();
    assert_eq!(mount.read("config").await.text("rotation_schedule"), "");
}

/// An earlier release took a lifetime below two intervals of a cron expression.
#[tokio::test]
async fn a_stored_lifetime_of_admin_keys_that_is_too_short_stops_no_other_write() {
    let mount = Mount::start().await.configured().await;
    let mut config: Value = serde_json::from_str(&mount.storage_text("config")).unwrap();
    config["rotation_schedule"] = "0 0 1 * *".into();
    config["admin_key_ttl"] = (40 * 86_400).into();
    let entry = Entry { key: "config".to_owned(), value: config.to_string().into(), seal_wrap: true };
    mount.storage.put(entry).await.unwrap();
    mount.restart().await;
    mount.write("config", mount.config()).await.done();
    mount.write("config", json!({"quota_tracking": true, "admin_key_ttl": "40d"})).await.done();
    refuses(&mount, json!({"admin_key_ttl": "50d"}), "at least two rotation periods").await;
    mount.write("config", json!({"admin_key_ttl": "63d"})).await.done();
}

#[tokio::test]
async fn an_unknown_field_gets_the_usual_warning() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["organisation_id"] = "org-1".into();
    let answered = mount.write("config", body).await;
    assert_eq!(answered.warnings(), ["Endpoint ignored these unrecognized parameters: [organisation_id]"]);
}

#[tokio::test]
async fn it_is_gone_after_its_deletion_and_deleting_it_twice_is_fine() {
    let mount = Mount::start().await.configured().await;
    mount.write("roles/raw", json!({"project_id": mount.sim.project()})).await.done();
    assert_eq!(mount.exists("config").await.unwrap(), Some(true));
    mount.delete("config").await.nothing();
    mount.delete("config").await.nothing();
    assert_eq!(mount.exists("config").await.unwrap(), Some(false));
    mount.read("config").await.nothing();
    mount.read("creds/raw").await.refused("OpenAI client not configured");
}

#[tokio::test]
async fn it_stays_while_something_that_it_made_has_still_to_be_ended() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let made = mount.read("creds/app").await;
    mount.delete("config").await.refused("1 credential");
    mount.read("config").await.done();
    mount.revoke(made.lease()).await.done();

    let set = json!({"project": "research", "service_account_names": "a"});
    mount.write("library-sets/pool", set).await.done();
    let lent = mount.write("library-sets/pool/check-out", json!({})).await;
    mount.delete("config").await.refused("1 check-out");
    mount.revoke(lent.lease()).await.done();

    // An account whose key is dead is still to be removed.
    let made = mount.read("creds/app").await;
    mount.lose(made.lease());
    mount.advance(Duration::from_secs(2 * 3600));
    mount.delete("config").await.refused("1 credential");
    mount.advance(Duration::from_secs(600));
    mount.tick().await.done();
    mount.delete("library-sets/pool").await.nothing();
    mount.delete("config").await.nothing();
}

#[tokio::test]
async fn it_goes_by_force_with_a_warning_and_what_it_made_is_ended_once_there_is_one_again() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let made = mount.read("creds/app").await;
    let warnings = mount.delete_by_force("config").await.warnings().to_vec();
    assert!(warnings.len() == 1 && warnings[0].contains("1 credential"), "{warnings:?}");
    mount.read("config").await.nothing();
    let mount = mount.configured().await;
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn what_another_organization_has_to_end_does_not_hold_it() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let made = mount.read("creds/app").await;
    mount.configure_elsewhere().await;
    mount.delete("config").await.nothing();
    let mount = mount.configured().await;
    mount.revoke(made.lease()).await.done();
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_refused_soon_and_a_slow_start_is_waited_for() {
    let mount = Mount::start().await;
    for endpoint in [format!("http://{CLOSED_PORT}/v1"), "https://no-such-host.invalid/v1".to_owned()] {
        let mut body = mount.config();
        body["api_endpoint"] = endpoint.into();
        let begun = std::time::Instant::now();
        mount.write("config", body).await.refused("error validating OpenAI configuration: OpenAI cannot be");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    for status in [429, 503] {
        mount.sim.fault(Fault::everywhere(Action::status(status)).times(3));
        mount.write("config", mount.config()).await.done();
    }
}

#[tokio::test]
async fn a_margin_in_which_vault_gives_up_a_lease_is_warned_of() {
    let mount = Mount::start().await.configured().await;
    let margin = async |margin: &str| {
        mount.write("config", json!({"key_expiry_margin": margin})).await.warnings().to_vec()
    };
    assert_eq!(margin("150s").await, Vec::<String>::new());
    let warnings = margin("151s").await;
    assert!(warnings.len() == 1 && warnings[0].contains("irrevocable"), "{warnings:?}");
    mount.write("config", json!({"revocation_mode": "queue"})).await.nothing();
}

#[tokio::test]
async fn a_write_that_storage_refuses_leaves_what_was_there() {
    let mount = Mount::start().await.configured().await;
    let before = mount.read("config").await.json();
    mount.storage.fail_put("config");
    assert_eq!(mount.write("config", json!({"key_expiry_margin": 5})).await.status(), 500);
    assert_eq!(mount.read("config").await.json(), before);
    mount.restart().await;
    assert_eq!(mount.read("config").await.json(), before);
}

#[tokio::test]
async fn it_outlives_the_process_and_is_read_again_when_it_changed_elsewhere() {
    let mount = Mount::start().await.configured().await;
    let before = mount.read("config").await.json();
    mount.restart().await;
    assert_eq!(mount.read("config").await.json(), before);
    // The active node writes; this one is told.
    let snapshot = mount.storage.snapshot();
    mount.write("config", json!({"key_expiry_margin": 5})).await.done();
    mount.storage.restore(snapshot);
    mount.backend().invalidate("config");
    assert_eq!(mount.read("config").await.json(), before);
}

#[tokio::test]
async fn a_slow_check_holds_up_no_other_request() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::delay(Duration::from_secs(1))).times(1));
    let change = json!({"admin_api_key": mount.sim.admin_key(), "api_endpoint": mount.sim.url() + "/"});
    let mut other_key = change.clone();
    other_key["admin_api_key"] = "sk-admin-slow-and-wrong".into();
    let slow = async { mount.write("config", other_key).await.refused("error validating") };
    let quick = async {
        while mount.sim.faults_left() > 0 {
            tokio::task::yield_now().await;
        }
        let made = mount.read("creds/app").await;
        assert!(
            mount.sim.calls(endpoint::CREATE_ACCOUNT) == 1 && mount.sim.calls(endpoint::LIST_ADMIN_KEYS) == 1
        );
        mount.revoke(made.lease()).await.done();
    };
    tokio::join!(slow, quick);
    mount.finish().await;
}

/// Ends the configured key at OpenAI, behind the mount's back.
fn end_admin_key(mount: &Mount) {
    let error = json!({"message": "Incorrect API key provided", "type": "invalid_request_error", "param": null,
        "code": "invalid_api_key"});
    mount.sim.fault(Fault::everywhere(Action::status_with(401, json!({"error": error}))));
}

#[tokio::test]
async fn a_dead_key_that_is_written_again_unchanged_is_tried() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let calls = mount.sim.state().all_calls();
    mount.write("config", mount.config()).await.nothing();
    assert_eq!(mount.sim.state().all_calls(), calls);
    end_admin_key(&mount);
    mount.read("creds/app").await.error();
    mount
        .write("config", mount.config())
        .await
        .refused("error validating OpenAI configuration: Incorrect API");
    let mut untried = mount.config();
    untried["verify_connection"] = false.into();
    mount.write("config", untried).await.done();
    // What does not bring the key does not ask for it.
    mount.write("config", json!({"verify_connection": true, "key_expiry_margin": 70})).await.done();
    // A new process knows nothing of the key until it was tried.
    mount.restart().await;
    mount
        .write("config", mount.config())
        .await
        .refused("error validating OpenAI configuration: Incorrect API");
    mount.sim.clear_faults();
    mount.write("config", mount.config()).await.nothing();
    let calls = mount.sim.state().all_calls();
    mount.write("config", mount.config()).await.nothing();
    assert_eq!(mount.sim.state().all_calls(), calls);
}

#[tokio::test]
async fn an_endpoint_without_v1_is_told_at_once() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["api_endpoint"] = mount.sim.origin().into();
    mount.write("config", body).await.refused(": api_endpoint should end in /v1");
    // Something before OpenAI says so in its own words.
    mount.sim.fault(Fault::everywhere(Action::status_with(404, "<h1>not here</h1>")));
    let answered = mount.write("config", mount.config()).await;
    answered.refused("error validating OpenAI configuration: unexpected 404 from 127.0.0.1:");
    assert_eq!(mount.sim.state().all_calls(), 1, "it is not asked again");
}
