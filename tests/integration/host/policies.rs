//! `docs/policies.md` and the script of `docs/integrations/ci.md`, as they stand there, on real servers.

use std::path::Path;
use std::process::Output;
use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::cli::text;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{OpenAi, PROJECT};
use crate::support::wait::eventually;

/// A request: method, path and body.
type Try = (&'static str, &'static str, Value);

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code block of a page that begins with this.
fn block(page: &str, begins: &str) -> String {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let code = blocks.filter_map(|block| block.split_once('\n')).find(|(_, code)| code.starts_with(begins));
    code.unwrap_or_else(|| panic!("no block begins with {begins:?}")).1.to_owned() + "\n"
}

/// Has a token with the policy of this name in the page.
async fn token_of(host: &Host, name: &str) -> String {
    let policy = json!({"policy": block(&page("policies.md"), &format!("# {name}\n"))});
    host.api().write(&format!("sys/policies/acl/{name}"), policy).await.ok();
    let token = host.api().write("auth/token/create", json!({"policies": [name]})).await.ok();
    token.body["auth"]["client_token"].as_str().expect("a token").to_owned()
}

async fn set_up(host: &Host, openai: &OpenAi) {
    host.quick_start(openai).await;
    host.static_role("app", openai).await;
    let set = json!({"project": "my-project", "service_account_names": "one,two"});
    host.api().write("openai/library-sets/shared-pool", set).await.ok();
}

/// A role with access tokens.
async fn make_keyless(host: &Host, openai: &OpenAi) {
    let federation = json!({"token_endpoint": openai.simulator().token_url()});
    host.api().write("openai/config/federation", federation).await.ok();
    let role = json!({"project": "my-project", "credential_type": "access_token"});
    host.api().write("openai/roles/agent", role).await.ok();
}

/// Every way to a key or a token.
fn keys() -> Vec<Try> {
    vec![
        ("GET", "openai/creds/my-role", Value::Null),
        ("GET", "openai/creds/agent", Value::Null),
        ("GET", "openai/identity-token/agent", Value::Null),
        ("GET", "openai/static-creds/app", Value::Null),
        ("PUT", "openai/static-creds/app/rotate", json!({})),
        ("PUT", "openai/library-sets/shared-pool/check-out", json!({})),
        ("PUT", "openai/library-sets/shared-pool/checkout", json!({})),
    ]
}

/// What an operator does; in this order it can all be done.
fn operations() -> Vec<Try> {
    vec![
        ("GET", "openai/config", Value::Null),
        ("PUT", "openai/config", json!({"key_expiry_margin": 90})),
        ("PATCH", "openai/config", json!({"key_expiry_margin": 60})),
        ("PUT", "openai/config/rotate", json!({})),
        ("PUT", "openai/admin-key-rotation", json!({})),
        ("GET", "openai/config/check", Value::Null),
        ("GET", "openai/config/federation", Value::Null),
        ("PATCH", "openai/config/federation", json!({"key_rotation_period": 0})),
        ("PUT", "openai/config/federation/rotate", json!({})),
        ("PUT", "openai/project/other", json!({"project_id": PROJECT})),
        ("GET", "openai/project/other", Value::Null),
        ("LIST", "openai/project", Value::Null),
        ("PUT", "openai/roles/other", json!({"project": "other"})),
        ("PATCH", "openai/roles/other", json!({"ttl": 60})),
        ("LIST", "openai/roles", Value::Null),
        ("DELETE", "openai/roles/other", Value::Null),
        ("DELETE", "openai/project/other", Value::Null),
        ("GET", "openai/static-roles/app", Value::Null),
        ("PUT", "openai/static-roles/app", json!({"ttl": 60})),
        ("LIST", "openai/static-roles", Value::Null),
        ("GET", "openai/library-sets/shared-pool", Value::Null),
        ("PUT", "openai/library-sets/shared-pool", json!({"max_ttl": 7_200})),
        ("LIST", "openai/library-sets", Value::Null),
        ("GET", "openai/library-sets/shared-pool/status", Value::Null),
        ("LIST", "openai/revocations", Value::Null),
        ("PUT", "openai/revocations/retry", json!({})),
        ("PUT", "openai/tidy", json!({})),
        ("GET", "openai/tidy/status", Value::Null),
        ("GET", "openai/health", Value::Null),
        ("GET", "openai/info", Value::Null),
        ("GET", "openai/metrics", Value::Null),
    ]
}

async fn status(api: &Api, (method, path, body): &Try) -> u16 {
    let body = (!body.is_null()).then(|| body.clone());
    let answer = api.send(method, path, body).await;
    answer.status
}

async fn may(api: &Api, tries: &[Try]) {
    for one in tries {
        let status = status(api, one).await;
        // A list of nothing is 404.
        assert!(matches!(status, 200 | 204 | 404), "{one:?} is answered {status}");
    }
}

async fn may_not(api: &Api, tries: &[Try]) {
    for one in tries {
        assert_eq!(status(api, one).await, 403, "{one:?}");
    }
}

/// All but those of these paths.
fn but(tries: Vec<Try>, paths: &[&str]) -> Vec<Try> {
    tries.into_iter().filter(|(_, path, _)| !paths.contains(path)).collect()
}

#[tokio::test]
async fn the_policies_allow_what_they_say_and_nothing_else() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai).await;
        make_keyless(host, &openai).await;
        let api = async |name: &str| host.api().with_token(token_of(host, name).await);

        let issuer = api("issuer").await;
        let lease = issuer.read("openai/creds/my-role").await.ok();
        host.keep_secret(&lease.text("api_key"));
        issuer.write("sys/leases/revoke", json!({"lease_id": lease.lease_id()})).await.ok();
        may_not(&issuer, &but(keys(), &["openai/creds/my-role"])).await;
        may_not(&issuer, &operations()).await;

        let reader = api("reader").await;
        may(&reader, &[("GET", "openai/static-creds/app", Value::Null)]).await;
        may_not(&reader, &but(keys(), &["openai/static-creds/app"])).await;
        may_not(&reader, &operations()).await;

        let keyless = api("keyless").await;
        let token = keyless.read("openai/identity-token/agent").await.ok();
        host.keep_secret(&token.text("identity_token"));
        may_not(&keyless, &but(keys(), &["openai/identity-token/agent"])).await;
        may_not(&keyless, &operations()).await;

        let borrower = api("borrower").await;
        let lent = borrower.write("openai/library-sets/shared-pool/check-out", json!({})).await.ok();
        host.keep_secret(&lent.text("api_key"));
        borrower.write("sys/leases/renew", json!({"lease_id": lent.lease_id()})).await.ok();
        let forced = ("PUT", "openai/library-sets/shared-pool/admin-check-in", json!({}));
        may_not(&borrower, &[forced]).await;
        may_not(&borrower, &but(keys(), &["openai/library-sets/shared-pool/check-out"])).await;
        may_not(&borrower, &but(operations(), &["openai/library-sets/shared-pool/status"])).await;

        let revoker = api("revoker").await;
        host.credential().await;
        may(&revoker, &[("PUT", "sys/leases/revoke-prefix/openai/creds/my-role", json!({}))]).await;
        may_not(&revoker, &[("PUT", "sys/leases/revoke-prefix/openai/library-sets", json!({}))]).await;
        may_not(&revoker, &keys()).await;

        let operator = api("operator").await;
        may_not(&operator, &keys()).await;
        may_not(&operator, &[("DELETE", "openai/config", Value::Null)]).await;
        let account = json!({"service_account_id": lent.text("service_account_id")});
        may(&operator, &[("PUT", "openai/library-sets/shared-pool/admin-check-in", account)]).await;
        may(&operator, &operations()).await;
    })
    .await;
}

/// Runs a shell script where the server's command line is called `vault`.
async fn shell(host: &Host, token: &str, script: &str) -> Output {
    let folder = host.temporary_folder();
    symlink(&host.program().path, folder.join("vault")).expect("the folder is the host's");
    let tests = "#!/bin/sh\necho \"$OPENAI_API_KEY\"\n";
    fs::write(folder.join("run-tests"), tests).expect("the folder is the host's");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let script = script.replace("./run-tests", "sh ./run-tests");
    let mut command = host.client("sh", token);
    command.args(["-euc", &script]).current_dir(&folder).env("PATH", path);
    tokio::task::spawn_blocking(move || command.output().expect("sh starts"))
        .await
        .expect("it does not panic")
}

#[tokio::test]
async fn the_recipe_for_ci_leaves_no_key_behind() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai).await;
        let token = token_of(host, "issuer").await;
        let output = shell(host, &token, &block(&page("integrations/ci.md"), "trap ")).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let key = text(&output.stdout)
            .lines()
            .find(|line| line.starts_with("sk-"))
            .expect("the tests had a key")
            .to_owned();
        host.keep_secret(&key);
        // The token's leases are revoked after the answer.
        eventually("the key is dead", async || (!openai.accepts(&key).await).then_some(())).await;
        assert_eq!(openai.accounts().len(), 2, "only the set's accounts are left");
    })
    .await;
}
