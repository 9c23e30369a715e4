//! Registration, and several mounts in one process of the plugin.

use std::time::Duration;

use serde_json::json;

use crate::support::host::on_each_server;
use crate::support::openai::OpenAi;
use crate::support::programs::PLUGIN;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_mount_shows_the_version_that_runs() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;

        let mount = host.api().read("sys/mounts/openai").await.ok();
        assert_eq!(mount.text("running_plugin_version"), concat!("v", env!("CARGO_PKG_VERSION")));
    })
    .await;
}

#[tokio::test]
async fn a_digest_of_another_file_does_not_start() {
    on_each_server(async |host| {
        host.register().await;
        let entry = json!({"sha256": "0".repeat(64), "command": PLUGIN});
        host.api().write(&format!("sys/plugins/catalog/secret/{PLUGIN}"), entry).await;

        host.api().write("sys/mounts/openai", json!({"type": PLUGIN})).await.refused(400, "checksum");
        assert!(host.plugin_processes().is_empty());
    })
    .await;
}

#[tokio::test]
async fn two_mounts_share_a_process_and_nothing_else() {
    on_each_server(async |host| {
        let (here, there) = (OpenAi::start().await, OpenAi::start().await);
        host.quick_start(&here).await;
        host.set_up("elsewhere", &there).await;
        host.plugin_process();

        host.credential_at("openai").await;
        host.credential_at("elsewhere").await;
        assert_eq!((here.accounts().len(), there.accounts().len()), (1, 1));

        host.api().delete("elsewhere/roles/my-role").await.ok();
        assert_eq!(host.api().read("elsewhere/roles/my-role").await.status, 404);
        assert_eq!(host.api().read("openai/roles/my-role").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_disabled_mount_revokes_its_credentials_and_leaves_the_other_alone() {
    on_each_server(async |host| {
        let (here, there) = (OpenAi::start().await, OpenAi::start().await);
        host.quick_start(&here).await;
        host.set_up("elsewhere", &there).await;
        host.credential_at("openai").await;
        let stays = host.credential_at("elsewhere").await;

        host.disable("openai").await.ok();
        eventually("the mount's accounts are gone", async || here.accounts().is_empty().then_some(())).await;
        assert_eq!(host.api().read("openai/config").await.status, 404);
        assert!(there.accepts(&stays.text("api_key")).await);
        host.credential_at("elsewhere").await;
    })
    .await;
}

#[tokio::test]
async fn the_last_mount_takes_the_process_along() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;
        host.plugin_process();

        host.disable("openai").await.ok();
        eventually("the plugin ends", async || host.plugin_processes().is_empty().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_mount_that_is_removed_takes_along_what_a_crash_left() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        openai.simulator().latency(Duration::from_secs(2));
        let api = host.api().clone();
        let read = tokio::spawn(async move { api.try_send("GET", "openai/creds/my-role", None).await });
        eventually("the account is made", async || (openai.accounts().len() == 1).then_some(())).await;
        host.kill_plugin().await;
        // Its answer is an error, in whatever words.
        let _ = read.await.expect("it does not panic");
        openai.simulator().latency(Duration::ZERO);

        assert_eq!(host.disable("openai").await.status, 204);
        assert!(openai.accounts().is_empty(), "{:?}", openai.accounts());
    })
    .await;
}
