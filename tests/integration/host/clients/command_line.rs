//! The servers' own command line: leases, response wrapping, and what the audit log says of it all.

use serde_json::{Value, json};

use crate::support::cli::text;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, OpenAi};

const SET: &str = "openai/library-sets/pool";

async fn lend(host: &Host) -> Value {
    let set = json!({"project": "my-project", "service_account_names": "pool-1", "max_ttl": "24h"});
    host.api().write(SET, set).await.ok();
    let lent = host.cli_json(&["write"], &[&format!("{SET}/check-out"), "ttl=1h"]).await;
    host.keep_secret(api_key(&lent));
    lent
}

fn api_key(secret: &Value) -> &str {
    secret["data"]["api_key"].as_str().unwrap_or_else(|| panic!("no key in {secret}"))
}

#[tokio::test]
async fn lease_renew_keeps_a_check_out_for_longer_and_refuses_a_credential() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let lent = lend(host).await;
        let id = lent["lease_id"].as_str().expect("a lease");

        let renewed = host.cli_json(&["lease", "renew"], &["-increment=2h", id]).await;
        assert_eq!(renewed["lease_duration"], 7_200);
        assert!(openai.accepts(api_key(&lent)).await);

        let credential = host.credential().await;
        let refused = host.cli(&["lease", "renew", credential.lease_id()]).await;
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains("not renewable"), "{}", text(&refused.stderr));
    })
    .await;
}

#[tokio::test]
async fn lease_revoke_by_prefix_ends_what_a_role_or_a_set_handed_out_and_nothing_else() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.api().write("openai/roles/other", json!({"project": "my-project"})).await.ok();
        let lent = lend(host).await;
        let (first, second) = (host.credential().await, host.credential().await);
        let other = host.api().read("openai/creds/other").await.ok();
        host.keep_secret(&other.text("api_key"));

        let revoke = async |prefix: &str| {
            let output = host.cli(&["lease", "revoke", "-sync", "-prefix", prefix]).await;
            assert!(output.status.success(), "{prefix}: {}", text(&output.stderr));
        };
        revoke("openai/creds/my-role").await;
        for key in [first.text("api_key"), second.text("api_key")] {
            assert!(!openai.accepts(&key).await);
        }
        assert!(openai.accepts(&other.text("api_key")).await && openai.accepts(api_key(&lent)).await);

        revoke(SET).await;
        assert!(!openai.accepts(api_key(&lent)).await);
        let status = host.api().read(&format!("{SET}/status")).await.ok();
        assert_eq!(*status.data("account_status"), json!({"pool-1": "available"}));

        revoke("openai/").await;
        assert!(!openai.accepts(&other.text("api_key")).await);
        assert_eq!(openai.accounts(), ["pool-1"]);
    })
    .await;
}

#[tokio::test]
async fn a_wrapped_answer_shows_the_key_once_and_to_whoever_unwraps_it() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.static_role("kept", &openai).await;

        for path in ["openai/creds/my-role", "openai/static-creds/kept"] {
            let wrapped = host.cli_json(&["read"], &["-wrap-ttl=5m", path]).await;
            assert!(!wrapped.to_string().contains("sk-"), "{path}: the answer itself holds a key");
            let token = wrapped["wrap_info"]["token"].as_str().expect("a wrapping token");
            let unwrapped = host.cli_json(&["unwrap"], &[token]).await;
            host.keep_secret(api_key(&unwrapped));
            assert!(openai.accepts(api_key(&unwrapped)).await, "{path}");
            let again = host.cli(&["unwrap", token]).await;
            assert!(!again.status.success(), "{path}: it was unwrapped twice");
        }
        assert_eq!(openai.accounts().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_no_key_is_in_it() {
    on_each_server(async |host| {
        host.audit().await;
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let credential = host.credential().await;
        host.revoke(&credential).await;
        lend(host).await;
        host.static_role("kept", &openai).await;
        for answer in [
            host.api().read("openai/static-creds/kept").await.ok(),
            host.api().write("openai/static-creds/kept/rotate", json!({})).await.ok(),
        ] {
            host.keep_secret(&answer.text("api_key"));
        }
        let (given, _) = openai.new_admin_key().await;
        host.keep_secret(&given);
        let request = json!({"new_admin_api_key": given});
        host.api().write("openai/config/rotate-admin-key", request).await.ok();
        host.api().write("openai/config/rotate", json!({})).await.ok();
        for key in openai.admin_keys() {
            host.keep_secret(&key.value);
        }
        // A refusal is audited as well, with what was sent.
        let refused = json!({"admin_api_key": ADMIN_KEY});
        host.api().write("openai/config", refused).await.refused(400, "rotation has retired this key");

        // That no secret is in the file is looked at when the story is over.
        for (place, path, field) in [
            ("request", "openai/config", "admin_api_key"),
            ("request", "openai/config/rotate-admin-key", "new_admin_api_key"),
            ("response", "openai/creds/my-role", "api_key"),
            ("response", "openai/static-creds/kept", "api_key"),
            ("response", "openai/static-creds/kept/rotate", "api_key"),
            ("response", "openai/library-sets/pool/check-out", "api_key"),
        ] {
            let entries = host.audited(path);
            let answers = entries.iter().filter(|entry| entry["type"] == "response");
            let values: Vec<_> = answers.map(|entry| &entry[place]["data"][field]).collect();
            let hashed = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("hmac-sha256:"));
            assert!(!values.is_empty() && values.iter().all(|value| hashed(value)), "{path}: {values:?}");
        }
    })
    .await;
}
