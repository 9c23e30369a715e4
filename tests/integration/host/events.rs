//! The servers' event bus, as far as they have one: Vault takes what it is told, in every edition; OpenBao does not know the
//! call. Neither hears of it again in an answer or as trouble in the log. What is told is `engine::observed`'s.

use serde_json::json;

use crate::simulator::endpoint::CREATE_ACCOUNT;
use crate::support::host::on_each_server;
use crate::support::openai::OpenAi;

#[tokio::test]
async fn a_server_takes_its_events_or_is_left_alone_with_them() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        host.static_role("kept", &openai).await;
        let rotated = host.api().write("openai/static-creds/kept/rotate", json!({})).await.ok();
        host.keep_secret(&rotated.text("api_key"));
        openai.refuse_next(CREATE_ACCOUNT, 400, "not now");
        host.api().read("openai/creds/my-role").await.refused(400, "not now");
        let credential = host.credential().await;
        host.revoke(&credential).await;

        // A disabled mount's requests are over, and so are its events.
        host.disable("openai").await.ok();
        let log = host.log();
        let trouble =
            |line: &&str| line.contains("an event was not sent") || line.contains("take an event in time");
        assert_eq!(log.lines().find(trouble), None);
    })
    .await;
}
