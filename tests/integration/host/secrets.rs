//! Every noun's life at trace level on a real server: no key of OpenAI's, of any kind, is in the log, in the plugin's
//! arguments or environment, in an error, or in the clear in storage, whose names are never encrypted.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::simulator::endpoint::{CREATE_ACCOUNT, CREATE_KEY, DELETE_ACCOUNT, DELETE_KEY};
use crate::support::host::{Host, on_each_durable_server};
use crate::support::openai::{ADMIN_KEY, OpenAi, PROJECT};

/// A key that is OpenAI's no more than in form: what an operator mistypes is a secret, too.
const MISTYPED: &str = "sk-admin-mistyped-but-no-less-a-secret-0123456789";

/// Every key there was.
struct Seen<'a> {
    openai: &'a OpenAi,
    keys: BTreeSet<String>,
}

impl Seen<'_> {
    /// Takes note of the keys that OpenAI has now.
    fn look(&mut self) {
        let state = self.openai.state();
        self.keys.extend(state.admin_keys.into_iter().map(|key| key.value));
        let keys = state.accounts.into_iter().flat_map(|account| account.keys);
        self.keys.extend(keys.map(|key| key.value));
    }
}

/// What a process shows to everybody on its machine.
fn shown_by(id: u32) -> Vec<u8> {
    let mut shown = fs::read(format!("/proc/{id}/cmdline")).expect("it runs");
    shown.extend(fs::read(format!("/proc/{id}/environ")).expect("it is ours"));
    shown
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// Asks; whatever comes of it, an error shows no key.
async fn asks(host: &Host, seen: &mut Seen<'_>, path: &str, body: Value) {
    let answer = host.api().write(&format!("openai/{path}"), body).await;
    seen.look();
    let errors = answer.body["errors"].to_string();
    let leak = seen.keys.iter().find(|key| errors.contains(key.as_str()));
    assert!(leak.is_none() && !errors.contains(MISTYPED), "{path} shows a key: {errors}");
}

/// Everything that there is to ask, once as it should go and once as it should not.
async fn lives(host: &Host, openai: &OpenAi, seen: &mut Seen<'_>) {
    let account = openai.existing_account("automation");
    let static_role = json!({"project": "my-project", "service_account_id": account, "grace_period": "10m"});
    asks(host, seen, "static-roles/app", static_role).await;
    asks(host, seen, "library-sets/pool", json!({"project": "my-project", "service_account_names": "a,b"}))
        .await;
    for failing in [false, true] {
        for (path, body) in [
            ("creds/my-role", json!({})),
            ("static-creds/app/rotate", json!({})),
            ("library-sets/pool/check-out", json!({})),
            ("library-sets/pool/admin-check-in", json!({"service_account": "a"})),
            ("config/rotate", json!({})),
            ("config/rotate-admin-key", json!({"new_admin_api_key": MISTYPED})),
            ("config", json!({"admin_api_key": MISTYPED})),
            ("config", json!({"admin_api_key": format!("{MISTYPED} and more")})),
            ("config", json!({"organization_id": MISTYPED, "ca_cert": MISTYPED, "rotation_schedule": "x"})),
            ("tidy", json!({})),
            ("revocations/retry", json!({})),
        ] {
            if failing {
                for endpoint in [CREATE_ACCOUNT, CREATE_KEY, DELETE_ACCOUNT, DELETE_KEY] {
                    openai.refuse_next(endpoint, 400, &format!("no, said OpenAI to {ADMIN_KEY}"));
                }
            }
            asks(host, seen, path, body).await;
            openai.comes_back();
        }
    }
}

#[tokio::test]
async fn no_key_is_in_a_log_an_argument_an_error_or_a_name() {
    on_each_durable_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let mut seen = Seen { openai: &openai, keys: BTreeSet::new() };
        lives(host, &openai, &mut seen).await;
        let credential = host.credential().await;
        seen.look();
        host.kill_plugin().await;
        host.revoke(&credential).await;
        host.disable("openai").await;

        assert!(seen.keys.len() >= 8, "the story has seen {} keys, of {PROJECT}", seen.keys.len());
        seen.keys.insert(MISTYPED.to_owned());
        let stored = host.stored_bytes();
        let shown: Vec<u8> = host.plugin_processes().into_iter().flat_map(shown_by).collect();
        assert!(holds(&stored, "logical/") && stored.len() > 10_000, "this is the server's storage");
        for key in &seen.keys {
            assert!(!holds(&stored, key), "a key is in storage in the clear");
            assert!(!holds(&shown, key), "a key is in the plugin's arguments or environment");
            // In the log, it is looked for after every story, when the log is complete.
            host.keep_secret(key);
        }
    })
    .await;
}
