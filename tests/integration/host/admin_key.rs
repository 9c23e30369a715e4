//! The rotation of the admin key on a real server: by hand, with a given key, and as the automatic one would do it. The
//! automatic one itself is `tick`'s.

use serde_json::json;

use crate::support::api::Answer;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, OpenAi};

const DONE: &str = "Admin API key has been rotated.";

/// The value of the only admin key that OpenAI takes now.
fn only_key(host: &Host, openai: &OpenAi) -> String {
    let keys = openai.admin_keys();
    for key in &keys {
        host.keep_secret(&key.value);
    }
    assert_eq!(keys.len(), 1, "one admin key stands, not {}", keys.len());
    keys[0].value.clone()
}

/// The answer names the key that works, the old one is dead, and all goes on.
async fn has_rotated(host: &Host, openai: &OpenAi, answer: &Answer) {
    assert_eq!(answer.text("message"), DONE);
    let key = only_key(host, openai);
    assert_ne!(key, ADMIN_KEY);
    assert!(openai.accepts_admin(&key).await);
    assert!(!openai.accepts_admin(ADMIN_KEY).await);
    assert_eq!(answer.text("admin_api_key_id"), openai.admin_keys()[0].id);

    let config = host.api().read("openai/config").await.ok();
    assert_eq!(config.data("admin_api_key_id"), answer.data("admin_api_key_id"));
    assert_eq!(config.data("last_rotated"), answer.data("last_rotated"));
    assert!(!config.body.to_string().contains(&key) && !answer.body.to_string().contains(&key));
    let credential = host.credential().await;
    host.revoke(&credential).await;
}

#[tokio::test]
async fn a_rotation_replaces_the_key_and_the_old_one_is_dead() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let before = host.credential().await;

        let answer = host.api().write("openai/config/rotate", json!({})).await.ok();
        has_rotated(host, &openai, &answer).await;
        assert!(openai.accepts(&before.text("api_key")).await, "what was handed out is left alone");
        host.revoke(&before).await;
    })
    .await;
}

#[tokio::test]
async fn a_given_key_takes_the_place_of_the_old_one() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let (key, id) = openai.new_admin_key().await;
        host.keep_secret(&key);

        let request = json!({"new_admin_api_key": key});
        let answer = host.api().write("openai/config/rotate-admin-key", request).await.ok();
        assert_eq!(answer.text("admin_api_key_id"), id);
        has_rotated(host, &openai, &answer).await;
        assert_eq!(only_key(host, &openai), key);
    })
    .await;
}

#[tokio::test]
async fn without_a_given_key_one_is_made() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let answer = host.api().write("openai/config/rotate-admin-key", json!({})).await.ok();
        has_rotated(host, &openai, &answer).await;
    })
    .await;
}

#[tokio::test]
async fn the_automated_rotation_can_be_run_now() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let answer = host.api().write("openai/admin-key-rotation", json!({})).await.ok();
        assert_eq!(*answer.data("success"), json!(true));
        assert_ne!(only_key(host, &openai), ADMIN_KEY);
        host.credential().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_rotation_retired_is_not_taken_back() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.api().write("openai/config/rotate", json!({})).await.ok();
        only_key(host, &openai);

        // As Terraform would, which has the whole configuration with its first key.
        let config = host.config(&openai);
        host.api().write("openai/config", config).await.refused(400, "rotation has retired this key");
        let request = json!({"new_admin_api_key": ADMIN_KEY});
        let refusal = host.api().write("openai/config/rotate-admin-key", request).await;
        refusal.refused(400, "rotation has retired this key");
        host.credential().await;
    })
    .await;
}

#[tokio::test]
async fn a_given_key_that_does_not_work_changes_nothing() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let wrong = "sk-admin-wrong-0123456789abcdefghijkl";
        host.keep_secret(wrong);
        let (key, _) = openai.new_admin_key().await;
        host.keep_secret(&key);
        let own_id = host.api().read("openai/config").await.ok().text("admin_api_key_id");

        for (request, sentence) in [
            (json!({"new_admin_api_key": wrong}), "error validating OpenAI configuration: "),
            (json!({"new_admin_api_key": key, "new_admin_api_key_id": own_id}), "new_admin_api_key_id"),
            (
                json!({"new_admin_api_key": key, "new_admin_api_key_id": "key_of_nobody"}),
                "new_admin_api_key_id",
            ),
        ] {
            host.api().write("openai/config/rotate-admin-key", request).await.refused(400, sentence);
        }
        assert!(openai.accepts_admin(ADMIN_KEY).await && openai.accepts_admin(&key).await);
        host.credential().await;
    })
    .await;
}

#[tokio::test]
async fn without_a_configuration_there_is_nothing_to_rotate() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;
        for path in ["config/rotate", "config/rotate-admin-key", "admin-key-rotation"] {
            let refusal = host.api().write(&format!("openai/{path}"), json!({})).await;
            refusal.refused(400, "OpenAI client not configured");
        }
    })
    .await;
}

#[tokio::test]
async fn a_rotation_outlives_the_plugin_and_a_seal() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.api().write("openai/config/rotate", json!({})).await.ok();
        let key = only_key(host, &openai);

        host.kill_plugin().await;
        host.credential().await;
        host.seal().await;
        host.unseal().await;
        host.credential().await;
        assert_eq!(only_key(host, &openai), key);
    })
    .await;
}
