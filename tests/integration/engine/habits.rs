//! Habits from HashiCorp's other engines: names in templates, labels, other spellings of a path, narrower
//! credentials.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Mount;
use crate::support::library::{self, SET};
use crate::support::mount::PROJECT;
use crate::support::programs::sha256_of;
use crate::support::wait::eventually;

async fn mount(role: Value) -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(role).await
}

// Names of the caller in templates

#[tokio::test]
async fn a_template_knows_the_display_name_and_the_entity_of_the_reader() {
    let template = "{{.DisplayName}}-{{.EntityName | uppercase}}-{{.RandomSuffix}}";
    let mount = mount(json!({"service_account_name_template": template})).await;
    mount.host.add_entity("entity-1", "alice");
    let alices = mount.as_caller("entity-1", "token").read("creds/app").await;
    assert!(
        alices.text("service_account").starts_with("somebody-ALICE-"),
        "{}",
        alices.text("service_account")
    );
    // Without an entity, or with one that the server does not know, the name is empty.
    for caller in [mount.as_caller("", "token"), mount.as_caller("entity-2", "token")] {
        let name = caller.read("creds/app").await.text("service_account");
        assert!(name.starts_with("somebody--"), "{name}");
    }
    for lease in mount.leases() {
        mount.revoke(&lease).await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_name_is_unique_and_fits_whatever_the_readers_entity_is_called() {
    let mount = mount(json!({"service_account_name_template": "{{.EntityName}}"})).await;
    for (id, name) in
        [("1", ""), ("2", "\u{1}\u{fffd}\n"), ("3", "ü{{.RoleName}}"), ("4", &"x".repeat(100_000))]
    {
        mount.host.add_entity(id, name);
        let made = mount.as_caller(id, "token").read("creds/app").await;
        let account = made.text("service_account");
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!((3..=64).contains(&account.len()) && account.chars().all(fit), "{account}");
        let another = mount.as_caller(id, "token").read("creds/app").await;
        assert_ne!(another.text("service_account"), account);
        mount.revoke(made.lease()).await.done();
        mount.revoke(another.lease()).await.done();
    }
    let body = json!({"service_account_name_template": "{{.Display}}"});
    mount
        .write("roles/app", body)
        .await
        .refused("known are .RoleName, .ProjectName, .RandomSuffix, .DisplayName and");
    mount.finish().await;
}

// Labels

#[tokio::test]
async fn labels_are_echoed_in_answers_and_events() {
    let labels = json!({"team": "search", "ticket": "OPS-1"});
    let mount = mount(json!({"metadata": labels})).await;
    let account = mount.seed("kept", false).id;
    let made = mount.read("creds/app").await;
    assert_eq!(made.json()["custom_metadata"], labels);
    mount.revoke(made.lease()).await.done();
    let role = json!({"project": PROJECT, "service_account_id": account, "metadata": labels});
    mount.write("static-roles/kept", role).await.done();
    let rotated = mount.write("static-creds/kept/rotate", json!({})).await;
    assert_eq!(rotated.json()["custom_metadata"], labels);
    assert_eq!(mount.read("static-creds/kept").await.json()["custom_metadata"], labels);
    let set = json!({"project": PROJECT, "service_account_names": "one", "metadata": labels});
    mount.write(SET, set).await.done();
    let lent = library::check_out(&mount).await;
    assert_eq!(lent.json()["custom_metadata"], labels);
    library::check_in(&mount, &lent).await.done();

    let expected = ["check-in", "check-out", "creds-create", "role-write", "rotate"]
        .map(|kind| format!("openai/{kind}"));
    let labelled = eventually("the events arrive", async || {
        let events = mount.host.events().into_iter().filter_map(|event| {
            let (_, told) = event.metadata.iter().find(|(name, _)| *name == "metadata")?;
            Some((event.kind.to_owned(), serde_json::from_str::<Value>(told).unwrap()))
        });
        let events: BTreeMap<_, _> = events.collect();
        (events.len() == expected.len()).then_some(events)
    })
    .await;
    assert_eq!(labelled.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert!(labelled.values().all(|told| *told == labels), "{labelled:?}");
    mount.finish().await;
}

#[tokio::test]
async fn labels_are_bounded_and_refused_by_the_fields_name() {
    let mount = mount(json!({})).await;
    let account = mount.seed("kept", false).id;
    let many = |count: usize| (0..count).map(|n| (format!("label-{n}"), json!("x"))).collect::<Value>();
    for (path, first) in [
        ("roles/other", json!({"project": PROJECT})),
        ("static-roles/other", json!({"project": PROJECT, "service_account_id": account})),
        (SET, json!({"project": PROJECT, "service_account_names": "one"})),
    ] {
        for (labels, says) in [
            (many(10_000), "metadata must name at most 64 elements, not 10000"),
            (many(65), "metadata must name at most 64"),
            (json!({"a": "x".repeat(513)}), "metadata must be at most 512 bytes long, not 513"),
            (json!({"x".repeat(513): "a"}), "metadata must be at most 512 bytes long, not 513"),
            (json!({"a": "x\u{7}"}), "metadata must hold no control characters: \"x\\u{7}\""),
            (json!({"a\nb": "x"}), "metadata must hold no control characters"),
            (json!({"": "x"}), "metadata must give each label a name"),
            (json!({"a": {"b": "c"}}), "metadata"),
            (json!("no pair"), "invalid key pair"),
        ] {
            let mut body = first.clone();
            body["metadata"] = labels;
            mount.write(path, body).await.refused(says);
            mount.read(path).await.nothing();
        }
        let mut body = first.clone();
        body["metadata"] = many(64);
        mount.write(path, body).await.done();
        assert_eq!(mount.read(path).await.json()["metadata"], many(64));
        // As the command line sends them: metadata=a=b metadata=c=d; the sent ones replace all.
        mount.patch(path, json!({"metadata": ["a=b", "c=d"]})).await.nothing();
        assert_eq!(mount.read(path).await.json()["metadata"], json!({"a": "b", "c": "d"}));
        mount.write(path, json!({"metadata": ""})).await.done();
        assert_eq!(mount.read(path).await.json()["metadata"], json!({}));
        mount.delete(path).await.done();
    }
    mount.finish().await;
}

// Scopes

#[tokio::test]
async fn a_write_warns_of_scopes_that_openais_documents_do_not_name() {
    let mount = mount(json!({})).await;
    let scopes = json!({"scopes": "api.model.read,api.modle.request,everything"});
    let written = mount.write("roles/app", scopes).await;
    let [warning] = written.warnings() else { panic!("{:?}", written.warnings()) };
    assert!(warning.contains("do not name: api.modle.request, everything."), "{warning}");
    assert_eq!(mount.read("roles/app").await.json()["scopes"].as_array().unwrap().len(), 3);
    mount.write("roles/app", json!({"scopes": "api.model.read,api.responses.write"})).await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_reader_may_ask_for_some_of_the_roles_scopes_and_for_no_others() {
    let mount = mount(json!({"scopes": "api.model.read,api.responses.write"})).await;
    let of_the_key = |mount: &Mount| mount.sim.state().accounts.last().unwrap().keys[0].scopes.clone();
    for (asked, got) in [
        (json!({"scopes": "api.model.read"}), &["api.model.read"][..]),
        (
            json!({"scopes": ["api.responses.write", "api.model.read"]}),
            &["api.responses.write", "api.model.read"],
        ),
        (json!({"scopes": ""}), &["api.model.read", "api.responses.write"]),
        (json!({}), &["api.model.read", "api.responses.write"]),
    ] {
        let made = mount.read_with("creds/app", asked).await;
        assert_eq!(of_the_key(&mount), got);
        mount.revoke(made.lease()).await.done();
    }
    let calls = mount.sim.state().all_calls();
    for (asked, says) in [
        (
            "api.files.read",
            "scopes must be among the role's, which has no \"api.files.read\": api.model.read, api",
        ),
        ("api.model.read,api.all.read", "which has no \"api.all.read\""),
        ("api.model.read,api.model.read", "must not repeat"),
        ("api.model.re ad", "scopes must be OpenAI's names"),
    ] {
        mount.read_with("creds/app", json!({"scopes": asked})).await.refused(says);
    }
    assert_eq!(mount.sim.state().all_calls(), calls);
    // A role without scopes allows all, and any.
    mount.write("roles/app", json!({"scopes": []})).await.nothing();
    let made = mount.write("creds/app", json!({"scopes": ["api.files.read"]})).await;
    assert_eq!(of_the_key(&mount), ["api.files.read"]);
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

// Other spellings

#[tokio::test]
async fn every_other_spelling_is_the_same_path() {
    let mount = mount(json!({})).await.without_lag();
    let account = mount.seed("kept", false).id;
    mount.write("config/rotate-root", json!({})).await.text("admin_api_key_id");

    let role = json!({"project": PROJECT, "service_account_id": account});
    mount.write("static-role/kept", role).await.nothing();
    assert_eq!(mount.read("static-role/kept").await.json(), mount.read("static-roles/kept").await.json());
    assert_eq!(mount.list("static-role").await.json(), mount.list("static-roles").await.json());
    mount.patch("static-role/kept", json!({"ttl": 60})).await.nothing();
    assert_eq!(mount.read("static-roles/kept").await.json()["ttl"], 60);
    assert_eq!(mount.exists("static-role/kept").await.unwrap(), Some(true));
    let rotated = mount.write("rotate-role/kept", json!({"grace_period": "5m"})).await;
    assert_eq!(mount.read("static-cred/kept").await.json(), rotated.json());
    mount.delete("static-role/kept").await.nothing();
    mount.read("static-roles/kept").await.nothing();

    mount.write("library/pool", json!({"project": PROJECT, "service_account_names": "a,b"})).await.done();
    assert_eq!(mount.read("library/pool").await.json(), mount.read(SET).await.json());
    assert_eq!(mount.list("library").await.keys(), ["pool"]);
    for check_in in ["library/pool/check-in", "library/pool/admin-check-in", "library/manage/pool/check-in"] {
        let lent = mount.write("library/pool/check-out", json!({"ttl": "1h"})).await;
        assert!(lent.lease().id.starts_with("openai/library/pool/check-out/"), "{}", lent.lease().id);
        assert_eq!(mount.list("library/pool/check-outs").await.keys(), ["a"]);
        mount.renew(lent.lease(), std::time::Duration::from_secs(60)).await.done();
        mount
            .write(check_in, json!({"service_account_id": lent.text("service_account_id")}))
            .await
            .text("message");
        assert_eq!(mount.read("library/pool/status").await.json()["available_accounts"], 2);
        mount.revoke(lent.lease()).await.done();
    }
    mount.delete("library/pool").await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_field_of_another_engine_gets_the_usual_warning_and_no_more() {
    let mount = mount(json!({})).await.without_lag();
    let account = mount.seed("kept", false).id;
    let ignored = |names: &str| [format!("Endpoint ignored these unrecognized parameters: [{names}]")];
    let role = json!({"project": PROJECT, "service_account_id": account, "username": "kept", "db_name": "x"});
    assert_eq!(mount.write("static-role/kept", role).await.warnings(), ignored("db_name username"));
    let sent = json!({"password_policy": "x"});
    assert_eq!(mount.write("rotate-role/kept", sent).await.warnings(), ignored("password_policy"));
    mount
        .write("static-role/other", json!({"project": PROJECT, "username": "x"}))
        .await
        .refused("service_account_id");
    mount.read("static-role/other").await.nothing();

    mount
        .write("library/pool", json!({"project": PROJECT, "service_account_names": ["a", "b"]}))
        .await
        .done();
    let lent = mount.write("library/pool/check-out", json!({})).await;
    // LDAP's check-in names accounts in a list.
    let returned = mount.write("library/pool/check-in", json!({"service_account_names": ["a"]})).await;
    assert_eq!(returned.warnings(), ignored("service_account_names"));
    mount.revoke(lent.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn help_names_every_spelling_of_a_path() {
    let mount = Mount::start().await;
    for (path, spellings) in [
        ("static-roles/app", "static-roles/:name, static-role/:name."),
        ("static-role/app", "static-roles/:name, static-role/:name."),
        ("rotate-role/app", "static-creds/:name/rotate, rotate-role/:name."),
        ("config/rotate-root", "config/rotate, config/rotate-root."),
        (
            "library/a/check-out",
            "library-sets/:name/check-out, library-sets/:name/checkout, library/:name/check-out.",
        ),
    ] {
        let help = mount.help(path).await.text("help");
        assert!(help.contains(&format!("a policy needs a rule for each: {spellings}")), "{help}");
    }
    assert!(!mount.help("roles/app").await.text("help").contains("several names"));
}

// Check-outs as a list

#[tokio::test]
async fn check_outs_are_a_list_of_accounts_borrowers_and_times() {
    let mount = library::mount_with("a,b,c").await;
    assert_eq!(mount.list(&format!("{SET}/check-outs")).await.keys(), Vec::<String>::new());
    let lent = mount
        .as_caller("entity-1", "token")
        .write(&format!("{SET}/check-out"), json!({"service_account": "b"}))
        .await;
    let other = library::check_out(&mount).await;
    let list = mount.list(&format!("{SET}/check-outs")).await;
    assert_eq!(list.keys(), ["a", "b"]);
    let mut info = list.json()["key_info"]["b"].take();
    assert_eq!(info["since"].take(), lent.json()["checkout_time"]);
    assert!(info["until"].take().as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "borrower": "somebody", "entity_id": "entity-1", "service_account_id": lent.text("service_account_id"),
        "since": null, "until": null, "state": "checked-out",
    });
    assert_eq!(info, expected);
    for lent in [&lent, &other] {
        let id = lent.text("service_account_id");
        mount.write(&format!("{SET}/admin-check-in"), json!({"service_account_id": id})).await.done();
    }
    assert_eq!(mount.list(&format!("{SET}/check-outs")).await.keys(), Vec::<String>::new());
    assert_eq!(mount.list("library-sets/none/check-outs").await.keys(), Vec::<String>::new());
    mount.finish().await;
}

// The admin key's fingerprint

#[tokio::test]
async fn the_configuration_shows_a_fingerprint_of_the_admin_key_that_changes_with_the_key() {
    let mount = mount(json!({})).await;
    let fingerprint = async || mount.read("config").await.text("admin_api_key_fingerprint");
    let first = fingerprint().await;
    assert!(first.len() == 16 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    // SHA-256 of the key's text: printf '%s' "$KEY" | sha256sum
    let key = mount.config()["admin_api_key"].as_str().unwrap().to_owned();
    let digest = &sha256_of(key.as_bytes())[..16];
    assert_eq!(first, digest);
    mount.write("config/rotate", json!({})).await.done();
    assert_ne!(fingerprint().await, first);
}
