//! The plugin and its server end, in every way they can, and the next read works.

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::support::host::{on_each_durable_server, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::wait::eventually;

#[tokio::test]
async fn a_reload_starts_a_new_process_that_goes_on() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let before = (host.plugin_process(), host.credential().await);

        host.reload_plugin().await;
        host.credential().await;
        assert_ne!(host.plugin_process(), before.0);
        host.revoke(&before.1).await;
        assert!(!openai.accepts(&before.1.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_killed_plugin_is_started_again_by_the_next_read() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.set_up("elsewhere", &openai).await;
        let before = host.credential().await;

        host.kill_plugin().await;
        host.credential().await;
        host.credential_at("elsewhere").await;
        host.plugin_process();
        host.revoke(&before).await;
        assert!(!openai.accepts(&before.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_revocation_starts_a_killed_plugin_too() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let credential = host.credential().await;

        host.kill_plugin().await;
        host.revoke(&credential).await;
        assert!(openai.accounts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_sealed_server_runs_no_plugin_and_an_unsealed_one_goes_on() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let before = host.credential().await;

        host.seal().await;
        eventually("the plugin ends", async || host.plugin_processes().is_empty().then_some(())).await;
        host.unseal().await;
        host.credential().await;
        host.revoke(&before).await;
        assert!(!openai.accepts(&before.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_stopped_goes_on() {
    on_each_durable_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let before = host.credential().await;

        host.restart().await;
        host.credential().await;
        host.revoke(&before).await;
        assert!(!openai.accepts(&before.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_killed_leaves_no_plugin_behind_and_goes_on() {
    on_each_durable_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let (orphan, before) = (host.plugin_process(), host.credential().await);

        host.crash().await;
        host.credential().await;
        eventually("the old plugin notices", async || {
            (!host.plugin_processes().contains(&orphan)).then_some(())
        })
        .await;
        host.revoke(&before).await;
        assert!(!openai.accepts(&before.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn garbage_and_a_second_client_on_the_socket_disturb_nobody() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let process = host.plugin_process();

        let silent = UnixStream::connect(host.plugin_socket()).expect("the plugin listens");
        for garbage in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            vec![0; 70_000],
        ] {
            let mut stranger = UnixStream::connect(host.plugin_socket()).expect("the plugin listens");
            // It may hang up before it has read all.
            let _ = stranger.write_all(&garbage);
        }
        host.credential().await;
        drop(silent);
        host.credential().await;
        assert_eq!(host.plugin_process(), process);
    })
    .await;
}
