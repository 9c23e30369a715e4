//! `roles/:name`: what a role may say, and that all of it is tried when it is written.

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::mount::PROJECT;

const PATH: &str = "roles/app";

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// Refused with this sentence; nothing is stored.
async fn refuses(mount: &Mount, body: Value, says: &str) {
    let stored = mount.storage_text("role/");
    let answered = mount.write(PATH, body).await;
    answered.refused(says);
    assert_eq!(mount.storage_text("role/"), stored);
}

#[tokio::test]
async fn a_role_has_defaults_and_is_read_back_in_seconds() {
    let mount = mount().await;
    mount.write(PATH, json!({"project": PROJECT})).await.nothing();
    assert_eq!(
        mount.read(PATH).await.json(),
        json!({
            "project": PROJECT,
            "project_id": "",
            "service_account_name_template": "vault-{{.RoleName}}-{{.RandomSuffix}}",
            "service_account_description": "Service account created by Vault",
            "ttl": 3600,
            "max_ttl": 86_400,
            "scopes": [],
            "service_account_id": "",
            "metadata": {},
            "live_credentials": 0,
            "credential_type": "api_key",
        })
    );
}

#[tokio::test]
async fn every_field_is_read_back_and_writing_it_again_changes_nothing() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    let body = json!({
        "project_id": mount.sim.project(),
        "service_account_name_template": "a-{{.RoleName}}-{{random 10}}",
        "service_account_description": "For people",
        "ttl": "1h30m",
        "max_ttl": "2d",
        "scopes": "api.model.read, api.model.request",
        "service_account_id": account,
        "metadata": {"team": "search", "cost-center": "42"},
    });
    mount.write(PATH, body).await.nothing();
    let mut read = mount.read(PATH).await.json();
    // A number that the role counts is no field of a write.
    assert_eq!(read.as_object_mut().unwrap().remove("live_credentials"), Some(json!(0)));
    assert_eq!((&read["ttl"], &read["max_ttl"]), (&json!(5400), &json!(172_800)));
    assert_eq!(read["scopes"], json!(["api.model.read", "api.model.request"]));
    let (stored, calls) = (mount.storage_text("role/"), mount.sim.state().all_calls());
    mount.write(PATH, read.clone()).await.nothing();
    read["live_credentials"] = json!(0);
    assert_eq!(mount.read(PATH).await.json(), read);
    assert_eq!((mount.storage_text("role/"), mount.sim.state().all_calls()), (stored, calls));
}

#[tokio::test]
async fn a_write_changes_only_what_it_sends_and_so_does_a_patch() {
    let mount = mount().await.with_role(json!({"ttl": 60})).await;
    let mut expected = mount.read(PATH).await.json();
    for (patch, field, sent, read) in [
        (false, "max_ttl", json!("3h"), json!(10_800)),
        (true, "ttl", json!("120"), json!(120)),
        (true, "scopes", json!(["model.read", "model.request"]), json!(["model.read", "model.request"])),
        (false, "scopes", json!([]), json!([])),
        (true, "service_account_description", json!(""), json!("")),
        (false, "service_account_name_template", json!("x-{{uuid}}"), json!("x-{{uuid}}")),
    ] {
        let body = json!({field: sent});
        if patch { mount.patch(PATH, body).await } else { mount.write(PATH, body).await }.nothing();
        expected[field] = read;
        assert_eq!(mount.read(PATH).await.json(), expected, "{field}");
    }
}

#[tokio::test]
async fn one_of_project_and_project_id_is_needed_and_both_must_agree() {
    let mount = mount().await;
    refuses(&mount, json!({}), "project").await;
    refuses(&mount, json!({"project": ""}), "project").await;
    refuses(&mount, json!({"project": PROJECT, "project_id": "proj_1"}), "must agree").await;
    refuses(&mount, json!({"project_id": "a/b"}), "project_id").await;
}

#[tokio::test]
async fn a_role_changes_between_a_projects_name_and_its_id_by_sending_the_other() {
    let mount = mount().await.with_role(json!({})).await;
    mount.write(PATH, json!({"project_id": mount.sim.project()})).await.nothing();
    let read = mount.read(PATH).await.json();
    assert_eq!((&read["project"], &read["project_id"]), (&json!(""), &json!(mount.sim.project())));
    mount.patch(PATH, json!({"project": PROJECT})).await.nothing();
    let read = mount.read(PATH).await.json();
    assert_eq!((&read["project"], &read["project_id"]), (&json!(PROJECT), &json!("")));
}

#[tokio::test]
async fn a_project_that_has_no_name_here_is_not_found() {
    let mount = mount().await;
    refuses(&mount, json!({"project": "elsewhere"}), "project not found: elsewhere").await;
}

#[tokio::test]
async fn times_must_fit_each_other_and_openai() {
    let mount = mount().await;
    let with = |ttl: Value, max_ttl: Value| json!({"project": PROJECT, "ttl": ttl, "max_ttl": max_ttl});
    refuses(&mount, with(json!("2h"), json!("1h")), "ttl must not be above max_ttl").await;
    refuses(&mount, json!({"project": PROJECT, "ttl": "25h"}), "ttl must not be above max_ttl").await;
    refuses(&mount, json!({"project": PROJECT, "max_ttl": 60}), "ttl must not be above max_ttl").await;
    refuses(&mount, with(json!(60), json!("8761h")), "one year").await;
    refuses(&mount, with(json!(-1), json!(60)), "ttl").await;
    refuses(&mount, with(json!("soon"), json!(60)), "ttl").await;
    refuses(&mount, with(json!({}), json!(60)), "ttl").await;
    mount.write(PATH, with(json!("365d"), json!("8760h"))).await.done();
    mount.write(PATH, json!({"max_ttl": "1h"})).await.refused("ttl must not be above max_ttl");
}

#[tokio::test]
async fn a_template_is_tried_when_it_is_written() {
    let mount = mount().await;
    for template in [
        "{{",
        "}}{{.RoleName",
        "{{.Nothing}}",
        "{{nothing}}",
        "{{random}}",
        "{{random \"x\"}}",
        "{{.RoleName | truncate}}",
        "{{replace \"a\"}}",
        "{{timestamp}}",
        "{{printf}}",
        "{{if .RoleName}}x{{end}}",
    ] {
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        refuses(&mount, body, "service_account_name_template").await;
    }
    let wrong_type = json!({"project": PROJECT, "service_account_name_template": {"a": 1}});
    refuses(&mount, wrong_type, "service_account_name_template").await;
}

#[tokio::test]
async fn a_template_that_costs_more_than_a_name_needs_is_refused_at_the_write() {
    let mount = mount().await;
    let long = "a".repeat(4097);
    let action = format!("{{{{random 512{}{}}}}}", " | base64".repeat(20), " | uppercase".repeat(10));
    for (template, says) in [
        (action.repeat(240), "at most 64"),
        ("{{uuid}}".repeat(65), "at most 64"),
        (format!("{{{{`a`{}}}}}", " | lowercase".repeat(65)), "too many"),
        (action.clone(), "4096 bytes"),
        (format!("{{{{random 512{}}}}}", " | base64".repeat(10)), "4096 bytes"),
        ("{{replace `` (random 512) (random 512)}}".to_owned(), "4096 bytes"),
        (format!("{{{{printf `{}` {}}}}}", "%512d".repeat(9), "1 ".repeat(9)), "4096 bytes"),
        (format!("{{{{printf `{}`}}}}", "%%".repeat(2049)), "4096 bytes"),
        (format!("{{{{`{long}` | truncate 3}}}}"), "4096 bytes"),
        (format!("{{{{replace `{long}` `b` `c`}}}}"), "4096 bytes"),
        (format!("{{{{timestamp `{}`}}}}", "Monday".repeat(683)), "4096 bytes"),
        (format!("{{{{timestamp `{}`}}}}", "1".repeat(4097)), "4096 bytes"),
    ] {
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        refuses(&mount, body.clone(), "service_account_name_template: ").await;
        refuses(&mount, body, says).await;
    }
    let action = format!("{{{{random 512{}{}}}}}", " | base64".repeat(7), " | uppercase".repeat(20));
    let body = json!({"project": PROJECT, "service_account_name_template": action});
    mount.write(PATH, body).await.nothing();
    let made = mount.read("creds/app").await;
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_fraction_of_a_second_has_nine_digits_at_most() {
    let mount = mount().await;
    for layout in [
        format!("`05.{}`", "0".repeat(65_536)),
        format!("`05,{}`", "9".repeat(65_535)),
        format!("`05.{}`", "0".repeat(10)),
        "(printf `05.%0512d` 0)".to_owned(),
    ] {
        let template = format!("{{{{timestamp {layout}}}}}");
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        refuses(&mount, body, "service_account_name_template: ").await;
    }
    let nine = "{{timestamp `05.000000000`}}";
    mount.write(PATH, json!({"project": PROJECT, "service_account_name_template": nine})).await.nothing();
}

#[tokio::test]
async fn templates_know_the_functions_of_vaults_username_templates() {
    let mount = mount().await;
    for (template, begins) in [
        ("{{.RoleName}}", "app-"),
        ("{{.ProjectName}}-{{.RandomSuffix}}", "research-"),
        ("{{.RoleName | uppercase}}", "APP-"),
        ("{{\"AB\" | lowercase}}", "ab-"),
        ("{{.ProjectName | truncate 3}}", "res-"),
        ("{{.RoleName | replace \"p\" \"b\"}}", "abb-"),
        ("{{printf \"%s_%s\" .RoleName .ProjectName}}", "app_research-"),
        ("{{.ProjectName | truncate_sha256 9}}", "r"),
        ("{{.RoleName | sha256 | truncate 10}}", "a172cedcae-"),
        ("{{.RoleName | base64}}", "YXBw-"),
        ("{{unix_time}}", "1"),
        ("{{unix_time_millis}}", "1"),
        ("{{timestamp \"2006\"}}", "20"),
        ("{{uuid}}", ""),
        ("{{random 20}}", ""),
        ("ümläut {{.RoleName}}!", "ml-ut-app-"),
    ] {
        let body = json!({"project": PROJECT, "service_account_name_template": template});
        mount.write(PATH, body).await.nothing();
        let made = mount.read("creds/app").await;
        let name = made.text("service_account");
        assert!(name.starts_with(begins), "{template}: {name}");
        assert!((3..=64).contains(&name.len()), "{template}: {name}");
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(name.chars().all(fit), "{template}: {name}");
        let another = mount.read("creds/app").await;
        assert_ne!(another.text("service_account"), name, "{template}");
        mount.revoke(made.lease()).await.done();
        mount.revoke(another.lease()).await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn an_account_to_make_keys_on_must_be_there() {
    let mount = mount().await;
    let on = |account: &str| json!({"project": PROJECT, "service_account_id": account});
    refuses(&mount, on("svc_acct_nowhere"), "service_account_id").await;
    refuses(&mount, on("a/b"), "service_account_id").await;
    mount.sim.add_project("proj_other");
    let elsewhere = mount.seed_in("proj_other", "worker", false).id;
    refuses(&mount, on(&elsewhere), "service_account_id must name an account of project").await;
}

#[tokio::test]
async fn an_account_is_looked_for_again_when_the_project_changes() {
    let mount = mount().await;
    mount.sim.add_project("proj_other");
    let account = mount.seed("worker", false).id;
    let body = json!({"project": PROJECT, "service_account_id": account});
    mount.write(PATH, body).await.nothing();
    // A 404 for what was made less than a minute ago would prove nothing.
    mount.advance(std::time::Duration::from_secs(120));
    let moved = json!({"project": "", "project_id": "proj_other"});
    mount.write(PATH, moved).await.refused("service_account_id must name an account of project proj_other");
}

#[tokio::test]
async fn an_openai_that_cannot_tell_of_the_account_is_no_verdict() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    mount.sim.fault(Fault::on(endpoint::READ_ACCOUNT, Action::Html));
    let answered = mount.write(PATH, json!({"project": PROJECT, "service_account_id": account})).await;
    assert!(!answered.error().message().contains("must name an account"), "{}", answered.error());
    mount.read(PATH).await.nothing();
}

#[tokio::test]
async fn the_list_tells_names_in_order_projects_and_times() {
    let mount = mount().await;
    assert_eq!(mount.list("roles").await.keys(), Vec::<String>::new());
    for name in ["b", "a"] {
        mount.write(&format!("roles/{name}"), json!({"project": PROJECT, "ttl": 60})).await.done();
    }
    let list = mount.list("roles").await;
    assert_eq!(list.keys(), ["a", "b"]);
    let info = &list.json()["key_info"]["a"];
    let expected = json!({
        "project": PROJECT, "project_id": "", "ttl": 60, "max_ttl": 86_400, "live_credentials": 0,
        "credential_type": "api_key",
    });
    assert_eq!(info, &expected);
}

#[tokio::test]
async fn a_role_is_gone_after_its_deletion_and_deleting_it_twice_is_fine() {
    let mount = mount().await.with_role(json!({})).await;
    assert_eq!(mount.exists(PATH).await.unwrap(), Some(true));
    mount.delete(PATH).await.nothing();
    mount.delete(PATH).await.nothing();
    assert_eq!(mount.exists(PATH).await.unwrap(), Some(false));
    mount.read(PATH).await.nothing();
    assert_eq!(mount.patch(PATH, json!({"ttl": 5})).await.status(), 404);
    mount.read("creds/app").await.refused("app");
}

#[tokio::test]
async fn an_unknown_field_gets_the_usual_warning() {
    let mount = mount().await;
    let answered = mount.write(PATH, json!({"project": PROJECT, "tll": 60, "name": "other"})).await;
    assert_eq!(
        answered.warnings(),
        [
            "Endpoint ignored these unrecognized parameters: [tll]",
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [name]",
        ]
    );
}

#[tokio::test]
async fn a_write_that_storage_refuses_changes_nothing() {
    let mount = mount().await.with_role(json!({})).await;
    let before = mount.read(PATH).await.json();
    mount.storage.fail_put("role/");
    assert_eq!(mount.write(PATH, json!({"ttl": 5})).await.status(), 500);
    assert_eq!(mount.read(PATH).await.json(), before);
    mount.storage.fail_delete("role/");
    assert_eq!(mount.delete(PATH).await.status(), 500);
    assert_eq!(mount.read(PATH).await.json(), before);
}
