//! Programs that run without a key, past several renewals: OpenAI's own SDKs with identity tokens of the mount, and agents
//! that keep a file with an access token.

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};

use super::templates::audited;
use crate::support::cli::text;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::templates::{Renderer, Template};
use crate::support::wait::eventually;
use crate::support::{node, python};

pub(super) const CREDS: &str = "openai/creds/agent";
const IDENTITY: &str = "openai/identity-token/agent";
/// Lifetime of a token for the SDKs, which exchange another one after half of it.
const SDK_TTL: &str = "12s";
/// Three lifetimes.
const SDK_SECONDS: &str = "36";
/// Lifetime of a token for the agents, which are told to come back after two thirds of it.
const AGENT_TTL: &str = "30s";
/// Four times as long as the agents may wait.
const AGENT_TIME: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(500);
/// One for each renewal, and some more on a busy machine.
const MOST_READS: usize = 12;

/// The role `agent` with access tokens of this lifetime.
pub(super) async fn write_role(host: &Host, openai: &OpenAi, ttl: &str) {
    host.quick_start(openai).await;
    let federation = json!({"token_endpoint": openai.simulator().token_url()});
    host.api().write("openai/config/federation", federation).await.ok();
    let role = json!({"project": "my-project", "credential_type": "access_token", "ttl": ttl});
    host.api().write("openai/roles/agent", role).await.ok();
}

/// A role with access tokens of this lifetime, and a token that may read what the role hands out.
async fn set_up(host: &Host, openai: &OpenAi, ttl: &str) -> String {
    write_role(host, openai, ttl).await;
    let policy = format!(
        r#"path "{CREDS}" {{ capabilities = ["read"] }}
           path "{IDENTITY}" {{ capabilities = ["read"] }}"#
    );
    host.api().write("sys/policies/acl/reader", json!({"policy": policy})).await.ok();
    let token = host.api().write("auth/token/create", json!({"policies": ["reader"]})).await.ok();
    token.body["auth"]["client_token"].as_str().expect("a token").to_owned()
}

/// Number of live keys of service accounts at OpenAI.
fn keys(openai: &OpenAi) -> usize {
    let accounts = openai.state().accounts;
    accounts.iter().flat_map(|account| &account.keys).filter(|key| key.live).count()
}

/// Runs an SDK for three lifetimes. Answers the numbers that its script prints.
async fn runs(mut command: Command, host: &Host, openai: &OpenAi, token: &str) -> Value {
    command.args([IDENTITY, &openai.endpoint(), &openai.simulator().token_url(), SDK_SECONDS]);
    command.env("VAULT_ADDR", format!("http://{}", host.address())).env("VAULT_TOKEN", token);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn openais_sdks_run_past_their_renewals_with_identity_tokens_alone() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        let token = set_up(host, &openai, SDK_TTL).await;
        let before = keys(&openai);
        let python = python::script("tests/sdk/keyless.py", "OpenAI's Python SDK without a key");
        let node = node::script("tests/sdk/keyless.cjs", "OpenAI's Node SDK without a key");
        let run = async |command: Option<Command>| {
            let Some(command) = command else { return };
            let numbers = runs(command, host, &openai, &token).await;
            let number = |name: &str| numbers[name].as_u64().expect("a number");
            assert!(number("identity_tokens") >= 3 && number("calls") >= 10, "{numbers}");
        };
        join(run(python), run(node)).await;
        assert_eq!(keys(&openai), before, "nobody made a key");
    })
    .await;
}

#[tokio::test]
async fn agents_keep_a_file_with_an_access_token_that_works_at_every_moment() {
    on_each_server(async |host| {
        host.audit().await;
        let openai = OpenAi::start().await;
        let token = set_up(host, &openai, AGENT_TTL).await;
        let templates: [Template; 2] = [
            ("access", format!("{{{{ with secret \"{CREDS}\" }}}}{{{{ .Data.access_token }}}}{{{{ end }}}}")),
            (
                "identity",
                format!("{{{{ with secret \"{IDENTITY}\" }}}}{{{{ .Data.identity_token }}}}{{{{ end }}}}"),
            ),
        ];
        let mut renderers = vec![Renderer::agent(host, &templates).await];
        renderers.extend(Renderer::consul_template(host, &token, &templates));
        for renderer in &renderers {
            for (file, _) in &templates {
                let what = format!("{} renders {file}", renderer.name);
                eventually(&what, async || renderer.rendered(file)).await;
            }
        }
        let mut seen = vec![Vec::<String>::new(); renderers.len() * templates.len()];
        let end = Instant::now() + AGENT_TIME;
        while Instant::now() < end {
            for (number, renderer) in renderers.iter().enumerate() {
                for (place, (file, _)) in templates.iter().enumerate() {
                    let text = renderer.rendered(file).expect("the file stays");
                    assert!(*file == "identity" || openai.accepts(&text).await, "{}: {file}", renderer.name);
                    let seen = &mut seen[number * templates.len() + place];
                    if !seen.contains(&text) {
                        host.keep_secret(&text);
                        seen.push(text);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        for seen in &seen {
            assert!((3..=MOST_READS).contains(&seen.len()), "{} tokens in {AGENT_TIME:?}", seen.len());
        }
        for path in [CREDS, IDENTITY] {
            let reads = audited(host, "request", path).len();
            assert!(reads <= renderers.len() * MOST_READS, "{path} was read {reads} times");
        }
    })
    .await;
}
