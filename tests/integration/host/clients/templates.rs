//! Vault Agent, OpenBao's agent and consul-template keep files with keys, over a rotation and while OpenAI is down. With them
//! reads the Secrets Operator, as far as its rules can be followed here. They wait for the server's tick, all at the same time.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::operator;
use crate::simulator::endpoint::CREATE_ACCOUNT;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::templates::{Renderer, Template};
use crate::support::wait::{eventually, within};

pub(super) const CREDS: &str = "openai/creds/my-role";
pub(super) const ROTATING: [&str; 2] = ["openai/static-creds/by-period", "openai/static-creds/by-schedule"];
/// A minute, a tick after it, and some more on a busy machine.
pub(super) const ROTATION: Duration = Duration::from_secs(170);
/// A reader learns of a rotation in 11 seconds: a rotation that is due is said to be worth a look in 10, and a second is these
/// programs' own. The rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(25);
/// Between two looks at whether a role has rotated: each is a line in the audit log.
const PAUSE: Duration = Duration::from_millis(200);
/// In three minutes with a rotation in each: one a rotation, and one each ten seconds while the tick lets wait for itself.
const MOST_READS: usize = 25;

pub(super) fn templates() -> Vec<Template> {
    vec![("creds", key_of(CREDS)), ("by-period", key_of(ROTATING[0])), ("by-schedule", key_of(ROTATING[1]))]
}

pub(super) fn key_of(path: &str) -> String {
    format!("{{{{ with secret \"{path}\" }}}}{{{{ .Data.api_key }}}}{{{{ end }}}}")
}

/// Credentials of 20 seconds, and two static roles that rotate each minute.
pub(super) async fn set_up(host: &Host, openai: &OpenAi) {
    host.audit().await;
    host.set_up("openai", openai).await;
    host.api().write("openai/roles/my-role", json!({"ttl": "20s"})).await.ok();
    for (name, field, plan) in
        [("by-period", "rotation_period", "60s"), ("by-schedule", "rotation_schedule", "* * * * *")]
    {
        let account = openai.existing_account(name);
        let mut role = json!({"project": "my-project", "service_account_id": account, "grace_period": 0});
        role[field] = json!(plan);
        host.api().write(&format!("openai/static-roles/{name}"), role).await.ok();
    }
}

/// A token that may read keys and nothing else.
pub(super) async fn reader(host: &Host) -> String {
    let policy = r#"path "openai/creds/my-role" { capabilities = ["read"] }
                    path "openai/static-creds/*" { capabilities = ["read"] }"#;
    host.api().write("sys/policies/acl/reader", json!({"policy": policy})).await.ok();
    let token = host.api().write("auth/token/create", json!({"policies": ["reader"]})).await.ok();
    token.body["auth"]["client_token"].as_str().expect("a token").to_owned()
}

/// The file, once there is one.
pub(super) async fn first_key(host: &Host, renderer: &Renderer, file: &str) -> String {
    let what = format!("{} renders {file}", renderer.name);
    let key = eventually(&what, async || renderer.rendered(file)).await;
    host.keep_secret(&key);
    key
}

/// The file, once its text is another than before.
pub(super) async fn renewed(host: &Host, renderer: &Renderer, file: &str, before: &str) -> Option<String> {
    let changed = async || renderer.rendered(file).filter(|text| text != before);
    let text = within(ROTATION, changed).await?;
    host.keep_secret(&text);
    Some(text)
}

#[tokio::test]
async fn templates_are_rendered_again_after_a_rotation_and_go_on_after_openai_was_down() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        set_up(host, &openai).await;
        let token = reader(host).await;
        let agent = Renderer::agent(host, &templates()).await;
        let mut renderers = vec![agent];
        renderers.extend(Renderer::consul_template(host, &token, &templates()));

        for renderer in &renderers {
            for (file, _) in templates() {
                let key = first_key(host, renderer, file).await;
                assert!(openai.accepts(&key).await, "{} renders {file}", renderer.name);
            }
        }
        a_refusal_is_got_over(host, &openai).await;
        openai_goes_down_and_comes_back(host, &openai, &mut renderers).await;
        join_all(ROTATING.map(|path| rotation_is_noticed(host, &openai, &renderers, path))).await;
        for path in ROTATING {
            let (reads, most) = (reads(host, path), renderers.len() * MOST_READS);
            assert!(reads <= most, "{path} was read {reads} times");
        }
    })
    .await;
}

/// One of the programs is refused a credential.
async fn a_refusal_is_got_over(host: &Host, openai: &OpenAi) {
    openai.refuse_next(CREATE_ACCOUNT, 400, "not now");
    eventually("a credential is refused", async || {
        // What it was told is hashed there.
        let refused =
            |entry: &&Value| entry["error"].is_string() || entry["response"]["data"]["error"].is_string();
        audited(host, "response", CREDS).iter().any(|entry| refused(&entry)).then_some(())
    })
    .await;
}

/// While it is down, a credential that ends cannot be replaced: the programs stay, with the files they have, and catch up.
async fn openai_goes_down_and_comes_back(host: &Host, openai: &OpenAi, renderers: &mut [Renderer]) {
    let files: Vec<_> = renderers.iter().map(|it| it.rendered("creds").expect("rendered")).collect();
    let asked = audited(host, "request", CREDS).len() + renderers.len();
    openai.goes_down();
    eventually("each asks for another credential", async || {
        (audited(host, "request", CREDS).len() >= asked).then_some(())
    })
    .await;
    for (renderer, file) in renderers.iter_mut().zip(&files) {
        assert!(renderer.is_running(), "{} gave up", renderer.name);
        assert_eq!(renderer.rendered("creds").as_ref(), Some(file), "{}", renderer.name);
        // What is read from storage is read all the same.
        host.api().read(ROTATING[0]).await.ok();
    }
    openai.comes_back();
    for (renderer, file) in renderers.iter().zip(&files) {
        let key = renewed(host, renderer, "creds", file).await;
        let key = key.unwrap_or_else(|| panic!("{} never had another credential", renderer.name));
        assert!(openai.accepts(&key).await, "{}", renderer.name);
    }
}

/// Each program has the new key soon after the tick has made it, and so has the Secrets Operator.
async fn rotation_is_noticed(host: &Host, openai: &OpenAi, renderers: &[Renderer], path: &str) {
    let file = path.rsplit('/').next().unwrap_or_default();
    let old: Vec<_> = renderers.iter().map(|it| it.rendered(file).expect("rendered")).collect();
    let follow = async {
        let id = host.api().read(path).await.ok().text("api_key_id");
        let new = within(ROTATION, async || {
            tokio::time::sleep(PAUSE).await;
            let now = host.api().read(path).await.ok();
            (now.text("api_key_id") != id).then_some(now)
        })
        .await;
        let rotated = Instant::now();
        let key = new.unwrap_or_else(|| panic!("{path} never rotated")).text("api_key");
        host.keep_secret(&key);
        for renderer in renderers {
            let has_it = async || (renderer.rendered(file)? == key).then_some(());
            within(NOTICED, has_it).await.unwrap_or_else(|| panic!("{}: {file} is late", renderer.name));
        }
        println!("{file}: rendered {:?} after the rotation was seen", rotated.elapsed());
        assert!(openai.accepts(&key).await);
    };
    join(follow, the_operator_notices(host, path)).await;
    assert!(renderers.iter().zip(&old).all(|(renderer, old)| renderer.rendered(file).as_ref() != Some(old)));
}

/// It reads at its own times alone.
async fn the_operator_notices(host: &Host, path: &str) {
    let deadline = Instant::now() + ROTATION;
    let mut seen = operator::read(host, path).await;
    loop {
        tokio::time::sleep(seen.horizon()).await;
        let now = operator::read(host, path).await;
        assert!(!now.is_worth_another_try(&seen), "{now:?}");
        if now.is_news_after(&seen) {
            return;
        }
        assert!(Instant::now() < deadline, "the operator never noticed a rotation of {path}: {now:?}");
        seen = now;
    }
}

/// How often the programs read it so far.
fn reads(host: &Host, path: &str) -> usize {
    audited(host, "request", path).len()
}

/// What the audit log has of the programs' requests, or of the answers to them.
pub(super) fn audited(host: &Host, kind: &str, path: &str) -> Vec<Value> {
    let mut entries = host.audited(path);
    entries.retain(|entry| {
        let is_theirs = entry["auth"]["policies"].to_string().contains("reader");
        is_theirs && entry["type"] == kind
    });
    entries
}
