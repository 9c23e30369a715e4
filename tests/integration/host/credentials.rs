//! A credential's life on a real server: made at OpenAI, leased, and ended with its lease.

use serde_json::json;

use crate::support::host::on_each_server;
use crate::support::openai::{OpenAi, UNTIL_404_COUNTS};
use crate::support::wait::{eventually, within};

#[tokio::test]
async fn a_key_works_until_its_lease_is_revoked() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.credential().await;
        let key = credential.text("api_key");
        assert!(openai.accepts(&key).await);
        assert_eq!(openai.accounts(), [credential.text("service_account")]);

        host.revoke(&credential).await;
        assert!(!openai.accepts(&key).await);
        assert!(openai.accounts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_credential_answers_what_the_readme_shows() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.credential().await;
        for field in ["api_key", "api_key_id", "service_account", "service_account_id", "expires_at"] {
            assert!(!credential.text(field).is_empty(), "{field}: {credential:?}");
        }
        assert!(credential.lease_id().starts_with("openai/creds/my-role/"), "{credential:?}");
        assert_eq!(credential.body["lease_duration"], 3600);
        assert_eq!(credential.body["renewable"], false);
    })
    .await;
}

#[tokio::test]
async fn a_shorter_ttl_may_be_asked_for() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.api().read("openai/creds/my-role?ttl=30m").await.ok();
        host.keep_secret(&credential.text("api_key"));
        assert_eq!(credential.body["lease_duration"], 1800);
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_runs_out_takes_its_account_along() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.api().read("openai/creds/my-role?ttl=2s").await.ok();
        let key = credential.text("api_key");
        host.keep_secret(&key);
        eventually("the account goes with its lease", async || openai.accounts().is_empty().then_some(()))
            .await;
        assert!(!openai.accepts(&key).await);
    })
    .await;
}

#[tokio::test]
async fn a_credential_cannot_be_renewed() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.credential().await;
        let request = json!({"lease_id": credential.lease_id(), "increment": 7200});
        host.api().write("sys/leases/renew", request).await.refused(400, "not renewable");
        assert!(openai.accepts(&credential.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn an_account_that_openai_lost_is_revoked_all_the_same() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let credential = host.credential().await;
        openai.delete_account(&credential.text("service_account_id")).await;
        let lease = json!({"lease_id": credential.lease_id()});
        let refusal = host.api().write("sys/leases/revoke", lease.clone()).await;
        refusal.refused(400, "the object is less than a minute old");
        host.api().write("sys/leases/lookup", lease.clone()).await.ok();

        // The server tries again by itself.
        let in_its_own_time = json!({"lease_id": credential.lease_id(), "sync": false});
        host.api().write("sys/leases/revoke", in_its_own_time).await.ok();
        let revoked = within(UNTIL_404_COUNTS, async || {
            let found = host.api().write("sys/leases/lookup", lease.clone()).await;
            (found.status == 400).then_some(found)
        })
        .await;
        revoked.expect("the lease goes").refused(400, "invalid lease");
    })
    .await;
}

#[tokio::test]
async fn a_role_on_an_existing_account_hands_out_keys_and_leaves_the_account() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let account = openai.bystander();
        let role = json!({"project": "my-project", "service_account_id": account});
        host.api().write("openai/roles/my-role", role).await.ok();

        let credential = host.credential().await;
        let key = credential.text("api_key");
        assert_eq!(credential.text("service_account_id"), account);
        assert!(openai.accepts(&key).await);

        host.revoke(&credential).await;
        assert!(!openai.accepts(&key).await);
        assert!(openai.state().accounts.iter().any(|left| left.id == account));
    })
    .await;
}
