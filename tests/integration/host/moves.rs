//! `secrets move`: the server taints the mount, ticks it, and goes on at another path, while requests are in flight.

use std::time::Duration;

use serde_json::json;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::host::{Host, on_each_server, on_server};
use crate::support::openai::OpenAi;
use crate::support::programs::{PLUGIN, openbao_server};
use crate::support::wait::within;

const SLOW: Duration = Duration::from_secs(3);

/// Moves the mount and waits until the server says that this is done.
async fn moves(host: &Host, from: &str, to: &str) {
    let moved = host.api().write("sys/remount", json!({"from": from, "to": to})).await.ok();
    let id = moved.text("migration_id");
    within(Duration::from_secs(120), async || {
        let status = host.api().read(&format!("sys/remount/status/{id}")).await.ok();
        let state = status.data("migration_info")["status"].clone();
        assert_ne!(state, "failure", "{status:?}");
        (state == "success").then_some(())
    })
    .await
    .expect("the server moves the mount");
}

#[tokio::test]
async fn what_is_made_while_the_mount_is_moved_lives_and_leaves_with_its_owner() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        // A credential or loan whose answer the move cuts off is on record, and goes with its own end.
        let short_lived = json!({"project": "my-project", "ttl": 60, "max_ttl": 120});
        host.api().write("openai/roles/my-role", short_lived).await.ok();
        let role = json!({"service_account_id": openai.bystander(), "project": "my-project"});
        host.api().write("openai/static-roles/app", role).await.ok();
        let set = json!({"project": "my-project", "service_account_names": "a,b", "ttl": 60, "max_ttl": 120});
        host.api().write("openai/library-sets/pool", set).await.ok();
        for call in [endpoint::CREATE_KEY, endpoint::CREATE_ACCOUNT] {
            openai.simulator().fault(Fault::on(call, Action::delay(SLOW)).times(2).after_the_work());
        }
        let api = host.api();
        let (rotated, lent, made, ()) = tokio::join!(
            api.write("openai/static-creds/app/rotate", json!({})),
            api.write("openai/library-sets/pool/check-out", json!({})),
            api.read("openai/creds/my-role"),
            async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                moves(host, "openai", "moved").await;
            },
        );
        openai.simulator().clear_faults();
        // Leases end with the move, also those that were given meanwhile.
        for answer in [&rotated, &lent, &made].into_iter().filter(|answer| answer.status < 300) {
            host.keep_secret(&answer.text("api_key"));
        }
        if rotated.status < 300 {
            assert!(openai.accepts(&rotated.text("api_key")).await, "{rotated:?}");
        }
        let got = host.api().read("moved/static-creds/app").await.ok();
        host.keep_secret(&got.text("api_key"));
        assert!(openai.accepts(&got.text("api_key")).await);
        host.keep_secret(
            &host.api().write("moved/static-creds/app/rotate", json!({})).await.ok().text("api_key"),
        );
        host.api().delete("moved/static-roles/app").await.ok();
        host.api().write("sys/leases/revoke-prefix/moved", json!({})).await.ok();
        // Vault has no route for a lease that it stored under the old path after the move: that lease ends by itself.
        drop(host.api().write("sys/leases/revoke-prefix/openai", json!({})).await);
        within(Duration::from_secs(600), async || (openai.state().live_keys().count() == 0).then_some(()))
            .await
            .expect("nothing lives in the end");
        // A loan whose answer the move cut off holds the set until it is over.
        within(Duration::from_secs(420), async || {
            let deleted = host.api().delete("moved/library-sets/pool").await;
            (deleted.status < 300).then_some(())
        })
        .await
        .expect("the set goes in the end");
        within(Duration::from_secs(300), async || openai.accounts().is_empty().then_some(()))
            .await
            .expect("all accounts go in the end");
    })
    .await;
}

#[tokio::test]
async fn between_namespaces_nothing_is_made_that_the_reload_forgets() {
    on_server(&openbao_server(), async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        for namespace in ["one", "two"] {
            host.api().write(&format!("sys/namespaces/{namespace}"), json!({})).await.ok();
        }
        host.api().write("one/sys/mounts/openai", json!({"type": PLUGIN})).await.ok();
        host.configure("one/openai", &openai).await;
        let set = json!({"project": "my-project", "service_account_names": "a,b"});
        host.api().write("one/openai/library-sets/pool", set).await.ok();
        host.api().read("one/openai/creds/my-role").await.ok();
        moves(host, "one/openai", "two/openai").await;

        let account = openai.bystander();
        let role = json!({"service_account_id": account, "project": "my-project"});
        let made = host.api().write("two/openai/static-roles/app", role).await;
        let set = json!({"project": "my-project", "service_account_names": "c"});
        let set = host.api().write("two/openai/library-sets/other", set).await;
        let lent = host.api().write("two/openai/library-sets/pool/check-out", json!({})).await;
        println!(
            "{} {} {}: {:?} {:?} {:?}",
            made.status, set.status, lent.status, made.body, set.body, lent.status
        );
        host.reload_plugin().await;
        host.api().write("two/sys/plugins/reload/backend", json!({"mounts": "openai/"})).await;
        if made.status < 300 {
            let got = host.api().read("two/openai/static-creds/app").await.ok();
            host.keep_secret(&got.text("api_key"));
            assert!(openai.accepts(&got.text("api_key")).await);
        } else {
            assert!(openai.live_keys_of(account).is_empty(), "{made:?}");
        }
        if set.status < 300 {
            host.api().read("two/openai/library-sets/other").await.ok();
        } else {
            assert!(!openai.accounts().contains(&"c".to_owned()));
        }
    })
    .await;
}
