//! Roles with access tokens on a real server: managed and by hand, without a lease.

use serde_json::{Value, json};

use crate::support::api;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};

/// An access token of the role, which OpenAI takes, and an identity token; neither has a lease.
async fn hands_out_tokens(host: &Host, openai: &OpenAi, role: &str) {
    for (path, field) in [("creds", "access_token"), ("identity-token", "identity_token")] {
        let answer = host.api().read(&format!("openai/{path}/{role}")).await.ok();
        let token = answer.text(field);
        host.keep_secret(&token);
        assert!(token.starts_with("eyJ"), "{path}");
        assert_eq!(
            (&answer.body["lease_id"], &answer.body["renewable"]),
            (&json!(""), &json!(false)),
            "{path}"
        );
        let ttl = answer.data("ttl").as_u64().expect("an integer");
        assert!((1..=600).contains(&ttl), "{path}: {ttl}");
        assert_eq!(*answer.data("rotation_period"), json!(900));
        if field == "access_token" {
            assert!(openai.accepts(&token).await);
        }
    }
    assert_eq!(host.api().list("sys/leases/lookup/openai/creds").await.status, 404);
}

#[tokio::test]
async fn a_managed_provider_gives_tokens_and_goes_with_its_roles() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let issuer = json!({"token_endpoint": openai.simulator().token_url()});
        host.api().write("openai/config/federation", issuer).await.ok();
        let role = json!({"project_id": PROJECT, "credential_type": "access_token"});
        host.api().write("openai/roles/agent", role).await.ok();
        hands_out_tokens(host, &openai, "agent").await;

        let rotated = host.api().write("openai/config/federation/rotate", json!({})).await.ok();
        assert_eq!(rotated.text("message"), "Signing key has been rotated.");
        hands_out_tokens(host, &openai, "agent").await;
        host.seal().await;
        host.unseal().await;
        hands_out_tokens(host, &openai, "agent").await;

        host.api().delete("openai/config/federation").await.refused(400, "agent");
        host.api().delete("openai/roles/agent").await.ok();
        host.api().delete("openai/config/federation").await.ok();
        let state = openai.state();
        assert!(
            state.providers.is_empty() && state.rules.is_empty() && openai.accounts().is_empty(),
            "{state:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_was_registered_by_hand_needs_no_admin_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        host.enable("openai").await;
        let account = openai.existing_account("agent");
        let issuer =
            json!({"identity_provider_id": "idp_later", "token_endpoint": openai.simulator().token_url()});
        host.api().write("openai/config/federation", issuer).await.ok();
        let read = host.api().read("openai/config/federation").await.ok();
        let provider = json!({
            "name": "by-hand", "type": "oidc", "issuer": read.data("issuer"), "audience": read.data("audience"),
            "verification": {"type": "uploaded_jwks", "jwks": read.data("jwks")},
        });
        let provider = administer(&openai, "workload_identity_providers", provider).await;
        let issuer = json!({"identity_provider_id": provider["id"]});
        host.api().write("openai/config/federation", issuer).await.ok();
        let role = json!({"project_id": PROJECT, "service_account_id": account, "credential_type": "access_token"});
        host.api().write("openai/roles/agent", role).await.ok();
        let read = host.api().read("openai/roles/agent").await.ok();
        let rule = json!({
            "name": "agent", "project_id": PROJECT, "service_account_id": account,
            "attribute_matchers": {"sub": read.data("subject")},
        });
        let id = provider["id"].as_str().expect("a provider has an id");
        administer(&openai, &format!("workload_identity_providers/{id}/federation_rules"), rule).await;
        hands_out_tokens(host, &openai, "agent").await;
        assert_eq!(host.api().read("openai/config").await.status, 404);
    })
    .await;
}

/// An operator's call of the Admin API.
async fn administer(openai: &OpenAi, path: &str, body: Value) -> Value {
    let bearer = format!("Bearer {ADMIN_KEY}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("OpenAI-Organization", ORGANIZATION),
        ("Content-Type", "application/json"),
    ];
    let address = openai.simulator().origin();
    let address = address.trim_start_matches("http://").parse().expect("an address and a port");
    let path = format!("/v1/organization/{path}");
    api::exchange(address, "POST", &path, &headers, Some(body)).await.expect("an answer").ok().body
}
