//! What the plugin says reaches the server's log, at its level; secrets do not.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::simulator::endpoint::{CREATE_ACCOUNT, DELETE_ACCOUNT};
use crate::support::host::on_each_server;
use crate::support::openai::OpenAi;
use crate::support::wait::eventually;

#[tokio::test]
async fn log_lines_arrive_at_their_level() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;

        let mut stranger = UnixStream::connect(host.plugin_socket()).expect("the plugin listens");
        stranger.write_all(b"no TLS at all\r\n").expect("the plugin takes the connection");
        let lines = eventually("the plugin warns of a stranger", async || {
            let lines = from_the_plugin(&host.log());
            lines.iter().any(|line| line.contains("[WARN]")).then_some(lines)
        })
        .await;
        for line in lines {
            assert!(!line.contains("@message"), "the server did not understand: {line}");
        }
    })
    .await;
}

/// The server's own lines about a plugin have the same name in them; only what came from the plugin has a
/// `timestamp` besides.
fn from_the_plugin(log: &str) -> Vec<String> {
    let ours = log.lines().filter(|line| line.contains("vault-plugin-secrets-openai"));
    ours.filter(|line| line.contains(" timestamp=") || line.contains("@message")).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_key_reaches_the_log_when_requests_fail() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let credential = host.credential().await;

        openai.refuse_next(CREATE_ACCOUNT, 500, "We had a problem.");
        let refusal = host.api().read("openai/creds/my-role").await;
        assert!(refusal.status >= 400, "{refusal:?}");
        openai.refuse_next(DELETE_ACCOUNT, 500, "We had a problem.");
        let lease = json!({"lease_id": credential.lease_id()});
        host.api().write("sys/leases/revoke", lease).await;
        // That no secret is in the log is looked at after every story.
    })
    .await;
}
