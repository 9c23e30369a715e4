//! A mount of the Go plugin is taken over by this one, and given back: with the real Go plugin, where `GO_PLUGIN` names
//! its binary.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::api::Answer;
use crate::support::go_plugin_storage::{ROLE, assert_same_shape};
use crate::support::host::{Host, on_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};
use crate::support::programs::{self, PLUGIN};

/// What the Go plugin's binary is registered as: it is built without a version, so any will do.
const ITS_VERSION: &str = "v0.0.1";
const OURS: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// A mount as the Go plugin sets it up, with this one in the catalog.
async fn set_up(host: &Host, openai: &OpenAi, go_plugin: &Path) {
    host.register_release(ITS_VERSION, go_plugin).await;
    host.register_release(OURS, &programs::plugin()).await;
    let mount = json!({"type": PLUGIN, "config": {"plugin_version": ITS_VERSION}});
    host.api().write("sys/mounts/openai", mount).await.ok();
    let mut config = host.config(openai);
    config["admin_api_key_id"] = openai.admin_keys()[0].id.as_str().into();
    host.api().write("openai/config", config).await.ok();
    let role = json!({
        "project_id": PROJECT, "ttl": "2h", "max_ttl": "12h",
        "service_account_name_template": "go-{{.RoleName | truncate 4}}-{{.RandomSuffix}}"
    });
    host.api().write(&format!("openai/roles/{ROLE}"), role).await.ok();
}

async fn credential(host: &Host) -> Answer {
    let answer = host.api().read(&format!("openai/creds/{ROLE}")).await.ok();
    host.keep_secret(&answer.text("api_key"));
    answer
}

/// An entry of the server's storage as it lies there.
async fn raw(host: &Host, key: &str) -> Value {
    let text = host.api().read(&format!("sys/raw/{key}")).await.ok().text("value");
    serde_json::from_str(&text).expect("an entry is JSON")
}

/// All that it stored, and what Vault keeps with a lease of it.
async fn seen(host: &Host, credential: &Answer) -> Value {
    let mount = host.api().read("sys/mounts/openai").await.ok().text("uuid");
    let folder = format!("logical/{mount}");
    assert_eq!(host.api().list(&format!("sys/raw/{folder}")).await.ok().keys(), ["config", "roles/"]);
    let mut lease = raw(host, &format!("sys/expire/id/{}", credential.lease_id())).await;
    json!({
        "config": raw(host, &format!("{folder}/config")).await,
        "role": raw(host, &format!("{folder}/roles/{ROLE}")).await,
        "lease": lease["secret"].take(),
    })
}

async fn is_taken_over(host: &Host, openai: &OpenAi, before: &[Answer]) {
    let config = host.api().read("openai/config").await.ok();
    assert_eq!(config.text("organization_id"), ORGANIZATION);
    assert_eq!(config.text("admin_api_key_id"), openai.admin_keys()[0].id);
    let role = host.api().read(&format!("openai/roles/{ROLE}")).await.ok();
    assert_eq!(
        (role.text("project_id").as_str(), role.data("ttl"), role.data("max_ttl")),
        (PROJECT, &json!(7_200), &json!(43_200))
    );
    assert_eq!(host.api().list("openai/roles").await.ok().keys(), [ROLE]);

    let ours = credential(host).await;
    assert!(ours.text("service_account").starts_with("go-team-"));
    for credential in before {
        assert!(openai.accepts(&credential.text("api_key")).await);
        host.revoke(credential).await;
        assert!(!openai.accepts(&credential.text("api_key")).await);
    }
    host.revoke(&ours).await;
}

#[tokio::test]
async fn a_mount_of_the_go_plugin_is_taken_over_and_given_back() {
    let Some((vault, go_plugin)) = programs::vault_and_go_plugin() else { return };
    on_server(&vault, async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, &go_plugin).await;
        let before = [credential(host).await, credential(host).await];
        let kept = credential(host).await;
        assert_same_shape(&seen(host, &before[0]).await);

        host.change_release(OURS).await;
        is_taken_over(host, &openai, &before).await;
        host.api().write("openai/config/rotate", json!({})).await.ok();
        assert!(openai.admin_keys().iter().all(|key| key.value != ADMIN_KEY || !key.live));

        host.change_release(ITS_VERSION).await;
        host.revoke(&kept).await;
        host.revoke(&credential(host).await).await;
        assert_eq!(openai.accounts(), Vec::<String>::new());
    })
    .await;
}
