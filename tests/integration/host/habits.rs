//! Habits from HashiCorp's other engines, on real servers: names and labels by which a credential is traced, live
//! credentials, narrower scopes, and the spellings of other engines with a policy for each.

use serde_json::json;

use crate::simulator::endpoint::UPDATE_KEY;
use crate::support::api::{Answer, Api};
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, OpenAi};
use crate::support::programs;

const PASSWORD: &str = "a-password-of-a-test";

/// A person who may read credentials of `my-role`, by the name of the user.
async fn reader(host: &Host, name: &str) -> Api {
    let policy = r#"
        path "openai/creds/my-role" { capabilities = ["read"] }
        path "openai/static-creds/kept" { capabilities = ["read"] }
        path "openai/library-sets/pool/check-out" { capabilities = ["update"] }
    "#;
    let api = host.api();
    api.write("sys/policies/acl/reader", json!({"policy": policy})).await.ok();
    api.write("sys/auth/userpass", json!({"type": "userpass"})).await.ok();
    let user = json!({"password": PASSWORD, "token_policies": ["reader"]});
    api.write(&format!("auth/userpass/users/{name}"), user).await.ok();
    let login = json!({"password": PASSWORD});
    let auth = api.write(&format!("auth/userpass/login/{name}"), login).await.ok().body["auth"].take();
    let entity = auth["entity_id"].as_str().expect("a user has an entity");
    api.write(&format!("identity/entity/id/{entity}"), json!({"name": format!("entity-of-{name}")}))
        .await
        .ok();
    host.api_with(auth["client_token"].as_str().expect("a token"))
}

fn kept(host: &Host, answer: Answer) -> Answer {
    let answer = answer.ok();
    host.keep_secret(&answer.text("api_key"));
    answer
}

fn warnings(answer: &Answer) -> String {
    answer.body["warnings"].to_string()
}

#[tokio::test]
async fn a_credential_is_traced_by_its_readers_name_and_its_roles_labels_and_counted_while_it_lives() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let labels = json!({"team": "search"});
        let role = json!({
            "project": "my-project", "metadata": labels, "scopes": "api.model.read,api.files.read,api.mistyped",
            "service_account_name_template": "{{.DisplayName}}-{{.EntityName}}",
        });
        let written = host.api().write("openai/roles/my-role", role).await.ok();
        assert!(warnings(&written).contains("do not name: api.mistyped."), "{written:?}");

        let alice = reader(host, "alice").await;
        let credential = kept(host, alice.read("openai/creds/my-role?scopes=api.model.read").await);
        let name = credential.text("service_account");
        assert!(name.starts_with("userpass-alice-entity-of-alice-"), "{name}");
        assert_eq!(openai.accounts(), [name]);
        let state = openai.state();
        let account = state.accounts.iter().find(|account| account.id == credential.text("service_account_id"));
        assert_eq!(account.expect("it is made").keys[0].scopes, ["api.model.read"]);
        assert!(state.calls(UPDATE_KEY) >= 1);
        assert_eq!((credential.text("role"), credential.data("custom_metadata")), ("my-role".to_owned(), &labels));
        assert!(credential.text("project_id").starts_with("proj_"));
        let above = alice.read("openai/creds/my-role?scopes=api.responses.write").await;
        above.refused(400, "scopes must be among the role's");

        let read = host.api().read("openai/roles/my-role").await.ok();
        assert_eq!((read.data("live_credentials"), read.data("metadata")), (&json!(1), &labels));
        let list = host.api().list("openai/roles").await.ok();
        assert_eq!(list.data("key_info")["my-role"]["live_credentials"], 1);
        let metrics = host.api().read("openai/metrics").await.ok().body;
        assert!(metrics.as_str().is_some_and(|text| text.contains("openai_live_credentials{role=\"my-role\"} 1")));
        let deleted = host.api().delete("openai/roles/my-role").await.ok();
        assert!(warnings(&deleted).contains("role my-role is deleted and has 1 live credentials"), "{deleted:?}");
        assert!(openai.accepts(&credential.text("api_key")).await, "it lives on");
        host.revoke(&credential).await;
        assert!(openai.accounts().is_empty());

        let config = host.api().read("openai/config").await.ok();
        let digest = programs::sha256_of(ADMIN_KEY.as_bytes());
        assert_eq!(config.text("admin_api_key_fingerprint"), digest[..16]);
    })
    .await;
}

#[tokio::test]
async fn the_spellings_of_other_engines_work_and_each_needs_a_rule_of_its_own() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let api = host.api();
        let role = json!({"project": "my-project", "service_account_id": openai.bystander(), "metadata": {"a": "b"}});
        api.write("openai/static-role/kept", role).await.ok();
        let read = api.read("openai/static-role/kept").await.ok();
        assert_eq!(read.body["data"], api.read("openai/static-roles/kept").await.ok().body["data"]);
        assert_eq!((read.data("grace_period"), read.data("metadata")), (&json!(600), &json!({"a": "b"})));
        assert_eq!(api.list("openai/static-role").await.ok().keys(), ["kept"]);
        let rotated = kept(host, api.write("openai/rotate-role/kept", json!({})).await);
        assert_eq!(kept(host, api.read("openai/static-cred/kept").await).text("api_key"), rotated.text("api_key"));
        assert_eq!((rotated.text("role"), rotated.data("custom_metadata")), ("kept".to_owned(), &json!({"a": "b"})));

        let set = json!({"project": "my-project", "service_account_names": ["one", "two"]});
        api.write("openai/library/pool", set).await.ok();
        let lent = kept(host, api.write("openai/library/pool/check-out", json!({})).await);
        assert!(lent.lease_id().starts_with("openai/library/pool/check-out/"), "{lent:?}");
        assert_eq!(lent.text("library_set"), "pool");
        let list = api.list("openai/library-sets/pool/check-outs").await.ok();
        assert_eq!(list.keys(), ["one"]);
        assert_eq!(list.data("key_info")["one"]["borrower"], "root");
        api.write("sys/leases/renew", json!({"lease_id": lent.lease_id(), "increment": 600})).await.ok();
        let account = json!({"service_account_id": lent.text("service_account_id")});
        api.write("openai/library/manage/pool/check-in", account).await.ok();
        assert!(!openai.accepts(&lent.text("api_key")).await);
        assert_eq!(api.read("openai/library/pool/status").await.ok().data("available_accounts"), &json!(2));
        let lent = kept(host, api.write("openai/library/pool/check-out", json!({})).await);
        host.revoke(&lent).await;
        assert!(!openai.accepts(&lent.text("api_key")).await, "its lease ends it");

        let rotated = api.write("openai/config/rotate-root", json!({})).await.ok();
        assert!(!rotated.text("admin_api_key_id").is_empty());
        for key in openai.admin_keys() {
            host.keep_secret(&key.value);
        }

        // A policy for one spelling allows no other.
        let alice = reader(host, "alice").await;
        kept(host, alice.read("openai/static-creds/kept").await);
        kept(host, alice.write("openai/library-sets/pool/check-out", json!({})).await);
        for (path, body) in [
            ("openai/static-cred/kept", None),
            ("openai/rotate-role/kept", Some(json!({}))),
            ("openai/library/pool/check-out", Some(json!({}))),
            ("openai/config/rotate-root", Some(json!({}))),
        ] {
            let answer = alice.send(if body.is_some() { "PUT" } else { "GET" }, path, body).await;
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
        }
        for path in ["openai/static-role/kept", "openai/library/pool", "openai/rotate-role/kept"] {
            let help = host.api().help(path).await.ok().body["help"].to_string();
            assert!(help.contains("a policy needs a rule for each"), "{path}: {help}");
        }
    })
    .await;
}

#[tokio::test]
async fn zero_is_the_mounts_ttl_and_every_cut_is_warned_of() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        host.enable("openai").await;
        let api = host.api();
        // Before the first request, because the plugin asks for these times once in a while only.
        let tuned = json!({"default_lease_ttl": "10m", "max_lease_ttl": "20m"});
        api.write("sys/mounts/openai/tune", tuned).await.ok();
        host.configure("openai", &openai).await;
        let role = json!({"project": "my-project", "ttl": 0, "max_ttl": 0});
        let written = api.write("openai/roles/my-role", role).await.ok();
        assert!(written.body["warnings"].is_null(), "{written:?}");
        assert_eq!(host.credential().await.body["lease_duration"], 600);

        let long = api.write("openai/roles/my-role", json!({"ttl": "1h", "max_ttl": "2h"})).await.ok();
        let cut = "but the mount's maximum is 20m";
        assert_eq!(warnings(&long).matches(cut).count(), 2, "{long:?}");
        let credential = host.credential().await;
        assert!(warnings(&credential).contains(cut), "{:?}", credential.body["warnings"]);
        assert_eq!(credential.body["lease_duration"], 1200);
        let set = json!({"project": "my-project", "service_account_names": "one", "max_ttl": "1h"});
        let set = api.write("openai/library-sets/pool", set).await.ok();
        assert!(warnings(&set).contains("above the mount's maximum lease time of 20m"), "{set:?}");
    })
    .await;
}

#[tokio::test]
async fn made_accounts_are_told_from_adopted_ones_and_keys_with_an_end_from_those_without() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let api = host.api();
        openai.existing_account("adopted");
        let set = json!({
            "project": "my-project", "service_account_names": ["adopted", "typo"], "create_missing": false
        });
        api.write("openai/library-sets/pool", set.clone())
            .await
            .refused(400, "create_missing is false: typo");
        let mut set = set;
        set["create_missing"] = true.into();
        let written = api.write("openai/library-sets/pool", set).await.ok();
        assert!(warnings(&written).contains("so Vault made them"), "{written:?}");
        let read = api.read("openai/library-sets/pool").await.ok();
        assert_eq!(read.data("made_accounts"), &json!(["typo"]));

        let role = json!({
            "project": "my-project", "service_account_id": openai.bystander(), "rotation_period": "24h",
            "key_ttl": "48h",
        });
        let written = api.write("openai/static-roles/kept", role).await.ok();
        assert!(warnings(&written).contains("an outage of more than 24h leaves"), "{written:?}");
        let first = kept(host, api.read("openai/static-creds/kept").await);
        let second = kept(host, api.write("openai/static-creds/kept/rotate", json!({})).await);
        assert!(
            !openai.accepts(&first.text("api_key")).await,
            "by hand a key without grace_period ends at once"
        );
        let state = openai.state();
        let keys = state.accounts.iter().flat_map(|account| &account.keys);
        let key = keys.into_iter().find(|key| key.id == second.text("api_key_id")).expect("it is there");
        assert!(key.expires_at.is_some(), "OpenAI ends it, also if nobody rotates it any more");
    })
    .await;
}
