//! Siblings of faults that a review found in what callers send, and in what guards one path but not its neighbour.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET};
use crate::support::mount::PROJECT;
use crate::support::wait::eventually;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// A mount with a role, a static role and a set.
async fn full_mount() -> Mount {
    let mount = mount().await.with_role(json!({})).await;
    let account = mount.seed("app", false).id;
    mount.write("static-roles/app", json!({"project": PROJECT, "service_account_id": account})).await.done();
    mount.write(SET, json!({"project": PROJECT, "service_account_names": "a"})).await.done();
    mount
}

async fn tidied(mount: &Mount) -> Value {
    mount.write("tidy", json!({"dry_run": false, "min_age": "1h"})).await.done();
    eventually("tidy comes to its end", async || {
        let told = mount.read("tidy/status").await.json();
        (told["state"] != "running").then_some(told)
    })
    .await
}

// R13

#[tokio::test]
async fn a_name_that_storage_refuses_is_a_refusal_in_every_field_too() {
    let mount = full_mount().await;
    let account = mount.seed("other", false).id;
    let lent = library::check_out(&mount).await;
    for bad in ["a..b", "..", "../config", "a/../b"] {
        for (path, body) in [
            ("roles/x", json!({"project": bad})),
            ("roles/app", json!({"project": bad})),
            ("roles/x", json!({"project_id": format!("proj_{bad}")})),
            ("roles/x", json!({"project": PROJECT, "service_account_id": format!("svc_acct_{bad}")})),
            ("static-roles/x", json!({"project": bad, "service_account_id": account})),
            ("static-roles/x", json!({"project": PROJECT, "service_account_id": format!("svc_acct_{bad}")})),
            ("static-roles/app", json!({"project": bad})),
            ("library-sets/x", json!({"project": bad, "service_account_names": "b"})),
            ("library-sets/x", json!({"project": PROJECT, "service_account_names": bad})),
            ("library-sets/pool/check-out", json!({"service_account": bad})),
            ("library-sets/pool/check-in", json!({"service_account_id": bad})),
            ("library-sets/pool/admin-check-in", json!({"service_account": bad})),
            ("project/x", json!({"project_id": format!("proj_{bad}")})),
            ("config", json!({"admin_api_key_id": format!("key_{bad}")})),
        ] {
            let answer = mount.write(path, body.clone()).await;
            assert_eq!(answer.status(), 400, "{path} {body}: {answer:?}");
        }
        let list = mount.ask(mount.request(Operation::List, "revocations/", json!({"after": bad}))).await;
        assert!(list.answer.is_ok() || list.status() == 400, "{bad}: {list:?}");
    }
    library::check_in(&mount, &lent).await.done();
    mount.abandon();
}

// R7

/// Patches every field with null after it was changed: what is read then is what a new one reads.
async fn nulls_are_defaults(mount: &Mount, path: &str, first: Value, changes: &[(&str, Value)]) {
    for (field, value) in changes {
        mount.write(path, first.clone()).await.done();
        let before = mount.read(path).await.json();
        mount.patch(path, json!({*field: value})).await.done();
        let changed = mount.read(path).await.json();
        assert_ne!(changed[field], before[field], "{path} {field} was not changed");
        mount.patch(path, json!({*field: null})).await.done();
        assert_eq!(mount.read(path).await.json()[field], before[field], "{path} {field}");
        mount.delete(path).await.done();
    }
}

#[tokio::test]
async fn null_stands_for_the_default_of_every_field_of_every_noun() {
    let mount = mount().await;
    mount.sim.lag(None);
    let project = json!({"project_id": mount.sim.project()});
    nulls_are_defaults(&mount, "project/p", project, &[("description", json!("d"))]).await;
    let changes = [
        ("service_account_name_template", json!("x-{{.RandomSuffix}}")),
        ("service_account_description", json!("d")),
        ("ttl", json!(60)),
        ("max_ttl", json!(7200)),
        ("scopes", json!("a")),
        ("metadata", json!({"a": "b"})),
    ];
    nulls_are_defaults(&mount, "roles/r", json!({"project": PROJECT}), &changes).await;
    let account = mount.seed("app", false).id;
    let first = json!({"project": PROJECT, "service_account_id": account});
    let changes = [
        ("api_key_name", json!("x")),
        ("rotation_period", json!("2h")),
        ("rotation_method", json!("account")),
        ("grace_period", json!("5m")),
        ("ttl", json!("1h")),
        ("key_ttl", json!("72h")),
    ];
    nulls_are_defaults(&mount, "static-roles/s", first, &changes).await;
    let changes = [
        ("max_ttl", json!(7200)),
        ("description", json!("d")),
        ("disable_check_in_enforcement", json!(true)),
        ("create_missing", json!(false)),
    ];
    let first = json!({"project": PROJECT, "service_account_names": "a"});
    nulls_are_defaults(&mount, "library-sets/l", first, &changes).await;
    for (field, value) in [
        ("disable_automated_rotation", json!(true)),
        ("quota_tracking", json!(true)),
        ("automatic_rotation_period", json!("48h")),
        ("rotation_schedule", json!("0 3 * * *")),
        ("key_expiry_margin", json!(90)),
        ("revocation_mode", json!("queue")),
        ("max_requests_per_minute", json!(600)),
        ("verify_connection", json!(false)),
    ] {
        let before = mount.read("config").await.json();
        mount.patch("config", json!({field: value})).await.done();
        assert_ne!(mount.read("config").await.json()[field], before[field], "{field} was not changed");
        mount.patch("config", json!({field: null})).await.done();
        assert_eq!(mount.read("config").await.json()[field], before[field], "config {field}");
    }
}

#[tokio::test]
async fn null_for_who_receives_the_key_needs_the_key() {
    let mount = mount().await;
    let before = mount.read("config").await.json();
    mount.patch("config", json!({"api_endpoint": null})).await.refused("admin_api_key in the same write");
    assert_eq!(mount.read("config").await.json(), before);
}

// S6, in the other order

#[tokio::test]
async fn an_admin_key_of_an_account_that_is_managed_here_is_warned_of() {
    for (by_hand, path) in [(false, "config"), (true, "config/rotate-admin-key")] {
        for (path_of_user, body) in [
            ("roles/user", json!({})),
            ("static-roles/user", json!({})),
            ("library-sets/user", json!({"service_account_names": "owner"})),
        ] {
            let mount = mount().await.without_lag();
            let owner = mount.seed("owner", false).id;
            let mut body = body.clone();
            body["project"] = PROJECT.into();
            if body.get("service_account_names").is_none() {
                body["service_account_id"] = owner.as_str().into();
            }
            mount.write(path_of_user, body).await.done();
            let key = library::admin(&mount).0.create_admin_key("by hand", None).await.unwrap();
            mount.sim.own_admin_keys(&owner);
            let field = if by_hand { "new_admin_api_key" } else { "admin_api_key" };
            let answer = mount.write(path, json!({field: key.value.expose()})).await;
            let said = match &answer.answer {
                Ok(_) => answer.warnings().join("; "),
                Err(error) => error.to_string(),
            };
            assert!(said.contains("user"), "{path} {path_of_user}: {said:?}");
            mount.abandon();
        }
    }
}

// C11: tidy ends accounts, too

#[tokio::test]
async fn tidy_leaves_an_account_that_somebody_else_uses() {
    let mount = mount().await.without_lag();
    let tag = mount.read("info").await.text("mount_tag");
    let used = mount.seed(&format!("vault-app-abcdefgh-{tag}"), true);
    let _stray = mount.seed(&format!("vault-app-hgfedcba-{tag}"), true);
    mount.advance(HOUR);
    let theirs = library::foreign_key(&mount, &used.id, "theirs").await;
    mount.advance(DAY);
    let told = tidied(&mount).await;
    assert!(mount.sim.state().is_live(&theirs.value), "{told}");
    assert_eq!(mount.sim.state().accounts.len(), 1, "{told}");
    library::end_key(&mount, &theirs.id).await;
    mount.advance(HOUR * 2);
    let told = tidied(&mount).await;
    assert_eq!(mount.sim.state().accounts.len(), 0, "{told}");
    mount.abandon();
}

// C16 with accounts

#[tokio::test]
async fn an_account_of_a_role_that_openai_refuses_to_delete_holds_up_no_other() {
    for refused in 0..2 {
        let mount = mount().await.without_lag();
        let account = mount.seed("app", false).id;
        let role = json!({"project": PROJECT, "service_account_id": account, "rotation_method": "account",
            "rotation_period": 0});
        mount.write("static-roles/app", role).await.done();
        for _ in 0..3 {
            mount.write("static-creds/app/rotate", json!({"grace_period": "10h"})).await.done();
        }
        assert_eq!(mount.sim.state().accounts.len(), 4);
        let fault = Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).skipping(refused).times(1);
        mount.sim.fault(fault);
        mount.delete("static-roles/app").await.error();
        assert_eq!(mount.sim.state().accounts.len(), 2, "{refused}");
        mount.advance(MINUTE * 2);
        mount.tick().await.done();
        assert_eq!(library::names(&mount), ["app"], "{refused}");
        assert_eq!(mount.sim.state().live_keys().count(), 0, "{refused}");
        mount.finish().await;
    }
}

// H3: everything that is replicated and due

#[tokio::test]
async fn a_secondarys_tick_touches_nothing_replicated_whatever_is_due() {
    for standby in [false, true] {
        let mount = full_mount().await.without_lag();
        let config = json!({"quota_tracking": true, "automatic_rotation_period": "24h"});
        mount.write("config", config).await.done();
        mount
            .write("library-sets/gone", json!({"project": PROJECT, "service_account_names": "b"}))
            .await
            .done();
        let deleted = mount.seed("deleted", false).id;
        let role = json!({"project": PROJECT, "service_account_id": deleted});
        mount.write("static-roles/deleted", role).await.done();
        mount.sim.fault(Fault::everywhere(Action::status(403)));
        mount.delete("library-sets/gone").await.done();
        mount.delete("static-roles/deleted").await.error();
        mount.sim.clear_faults();
        mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)).times(1));
        mount.write("config/rotate", json!({})).await.done();
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)).times(1));
        mount.advance(HOUR);
        mount.write(&format!("{SET}/check-out"), json!({})).await.error();
        mount.advance(DAY * 2);
        let stored = mount.storage.snapshot();
        let calls = mount.sim.state().all_calls();
        if standby {
            mount.host.set_performance_standby(true);
        } else {
            mount.set_secondary(true);
        }
        for _ in 0..2 {
            mount.tick().await.done();
            mount.tick_now().await.done();
        }
        let metrics = mount.read("metrics").await;
        assert!(metrics.answer.is_ok(), "{metrics:?}");
        let told = mount.read("health").await;
        assert!(told.answer.is_ok(), "{told:?}");
        let after = mount.storage.snapshot();
        let changed: Vec<&str> =
            after.iter().filter(|entry| !stored.contains(entry)).map(|entry| entry.key.as_str()).collect();
        assert_eq!(changed, Vec::<&str>::new(), "standby: {standby}");
        // The time alone may be asked for.
        assert!(mount.sim.state().all_calls() <= calls + 1, "standby: {standby}");
        mount.abandon();
    }
}

// C15: what says nothing of the stored key

#[tokio::test]
async fn no_mistyped_key_or_organization_raises_an_alert_wherever_it_is_written() {
    let mount = full_mount().await;
    let key = mount.sim.admin_key().to_owned();
    for (path, body) in [
        ("config", json!({"admin_api_key": "sk-admin-typo"})),
        ("config", json!({"admin_api_key": key, "organization_id": "org-typo"})),
        ("config", json!({"admin_api_key": key, "admin_api_key_id": "key_typo"})),
        ("config/rotate-admin-key", json!({"new_admin_api_key": "sk-admin-typo"})),
        (
            "config/rotate-admin-key",
            json!({"new_admin_api_key": "sk-admin-typo", "new_admin_api_key_id": "key_typo"}),
        ),
        ("project/typo", json!({"project_id": "proj_typo"})),
        ("roles/typo", json!({"project_id": "proj_typo"})),
    ] {
        mount.write(path, body.clone()).await.error();
        let health = mount.read("health").await.json();
        assert_eq!(health["status"], "ok", "{path} {body}: {health}");
        let metrics = mount.read("metrics").await.text("http_raw_body");
        assert!(metrics.contains("openai_admin_key_refused 0"), "{path} {body}");
    }
    for endpoint in
        [endpoint::LIST_ACCOUNTS, endpoint::READ_ACCOUNT, endpoint::CREATE_ACCOUNT, endpoint::READ_COSTS]
    {
        mount.sim.fault(Fault::on(endpoint, Action::status(403)));
        let _said =
            mount.write("library-sets/x", json!({"project": PROJECT, "service_account_names": "x"})).await;
        let _said = mount.read("creds/app").await;
        mount.sim.clear_faults();
        let health = mount.read("health").await.json();
        assert_eq!(health["status"], "ok", "{endpoint}: {health}");
        mount.tick_now().await.done();
    }
    mount.abandon();
}

// S8: templates that are odd, at the write and at the read

#[tokio::test]
async fn no_template_is_more_than_a_refusal() {
    let mount = mount().await;
    for template in [
        "{{.RoleName | truncate 0}}",
        "{{.RoleName | truncate -1}}",
        "{{.RoleName | truncate 9223372036854775807}}",
        "{{\"\u{e9}\u{e9}\" | truncate 1}}",
        "{{\"\u{e9}\" | truncate_sha256 1}}",
        "{{random 9223372036854775807}}",
        "{{random -1}}",
        "{{random 513}}",
        "{{printf \"%999999999d\" 1}}",
        "{{printf \"%.999999999s\" \"a\"}}",
        "{{printf \"%[999999999]s\" \"a\"}}",
        "{{printf \"%*d\" 999999999 1}}",
        "{{printf \"%!\" }}",
        "{{printf \"%\" }}",
        "{{timestamp \"2006-01-02T15:04:05.000000000000\"}}",
        "{{timestamp \"\u{1f600}\"}}",
        "{{replace \"\" \"xxxxxxxxxxxxxxxx\" .RoleName}}",
        "{{.RoleName | replace \"a\" \"\"}}",
        "{{.RoleName | base64 | base64 | sha256 | uppercase | lowercase}}",
        "{{range .X}}{{end}}",
        "{{template \"x\"}}",
        "{{.RoleName",
        "}}{{",
        "{{{{}}}}",
        "\u{0}\u{1}",
        "",
        " ",
    ] {
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        let written = mount.write("roles/odd", body).await;
        if written.answer.is_err() {
            assert_eq!(written.status(), 400, "{template:?}: {written:?}");
            continue;
        }
        let made = mount.read("creds/odd").await;
        mount.revoke(made.lease()).await.done();
    }
    mount.finish().await;
}

// S2: what a rendering costs is bounded however the template spreads it

#[tokio::test]
async fn a_template_that_calls_many_functions_in_few_actions_is_refused() {
    let mount = mount().await;
    let piped = |calls: usize| format!("{{{{random 512{}}}}}", " | base64".repeat(calls));
    let nested = format!("{{{{{}random 8{}}}}}", "uppercase (".repeat(20), ")".repeat(20));
    for template in [piped(10).repeat(8), piped(2).repeat(30), nested.repeat(4), "{{uuid}}".repeat(65)] {
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        mount.write("roles/costly", body).await.refused("template");
    }
    let body = json!({"project": PROJECT, "service_account_name_template": piped(2).repeat(8)});
    mount.write("roles/costly", body).await.done();
    mount.finish().await;
}
