//! Reads of tokens: what they cost, and where they are answered.

use openai_secrets::logical::Kind;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

#[tokio::test]
async fn a_read_costs_one_exchange_and_no_access_to_storage() {
    let mount = with_app().await;
    token(&mount).await;
    let (calls, stored) = (mount.storage.calls(), mount.sim.state());
    for _ in 0..3 {
        mount.read("creds/app").await.done();
        mount.read("identity-token/app").await.done();
    }
    let after = mount.storage.calls();
    assert_eq!((after.puts, after.gets, after.deletes), (calls.puts, calls.gets, calls.deletes));
    let state = mount.sim.state();
    assert_eq!(state.all_calls() - stored.all_calls(), 3);
    assert_eq!(state.calls(endpoint::EXCHANGE_TOKEN) - stored.calls(endpoint::EXCHANGE_TOKEN), 3);
    mount.finish().await;
}

#[tokio::test]
async fn a_standby_and_a_secondary_answer_tokens_and_forward_everything_else() {
    let mount = with_app().await;
    mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
    let stored = mount.storage.snapshot();
    for is_standby in [true, false] {
        mount.host.set_performance_standby(is_standby);
        if !is_standby {
            mount.set_secondary(true);
        }
        token(&mount).await;
        mount.write("creds/app", json!({"ttl": 60})).await.done();
        mount.read("identity-token/app").await.done();
        if is_standby {
            mount.read("creds/dynamic").await.failed(Kind::ReadOnly, "");
            mount.write("creds/dynamic", json!({})).await.failed(Kind::ReadOnly, "");
        }
        mount.write("roles/app", json!({"enabled": false})).await.failed(Kind::ReadOnly, "");
        mount.write("config/federation/rotate", json!({})).await.failed(Kind::ReadOnly, "");
        mount.delete("config/federation").await.failed(Kind::ReadOnly, "");
        let calls = mount.sim.state().all_calls();
        mount.tick().await.done();
        assert_eq!(mount.sim.state().all_calls(), calls);
    }
    assert_eq!(mount.storage.snapshot(), stored);
    mount.set_secondary(false);
    mount.finish().await;
}

#[tokio::test]
async fn a_change_on_another_node_is_seen_after_its_invalidation() {
    let mount = with_app().await;
    token(&mount).await;
    let standby = mount.backend();
    mount.restart().await;
    mount.write("roles/app", json!({"enabled": false})).await.nothing();
    standby.invalidate("federated-role/app");
    let request = mount.request(openai_secrets::logical::Operation::Read, "identity-token/app", json!({}));
    let error = standby.handle(request).await.unwrap_err();
    assert!(error.message().contains("is disabled"), "{error}");
    mount.write("roles/app", json!({"enabled": true})).await.nothing();
    let before = mount.read("config/federation").await.text("current_kid");
    mount.write("config/federation/rotate", json!({})).await.done();
    assert_ne!(mount.read("config/federation").await.text("current_kid"), before);
    for key in ["federated-role/app", "federation"] {
        standby.invalidate(key);
    }
    let request = mount.request(openai_secrets::logical::Operation::Read, "config/federation", json!({}));
    let read = standby.handle(request).await.unwrap().unwrap();
    assert_ne!(read.data["current_kid"], before.as_str());
    mount.finish().await;
}

#[tokio::test]
async fn a_refusal_is_forgotten_with_a_role_that_another_node_deleted() {
    let mount = with_app().await;
    change_rule(&mount, json!({"enabled": false})).await;
    mount.advance(HOUR);
    mount.read("creds/app").await.refused("invalid_grant");
    let standby = mount.backend();
    mount.restart().await;
    mount.delete("roles/app").await.nothing();
    standby.invalidate("federated-role/app");
    mount.advance(HOUR);
    let request = mount.request(openai_secrets::logical::Operation::Read, "health", json!({}));
    let health = standby.handle(request).await.unwrap().unwrap();
    assert!(!health.data["reasons"].to_string().contains("role app"), "{:?}", health.data);
    mount.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_no_access_token_is_refused() {
    let mount = with_app().await;
    let good = json!({"access_token": "eyJx.y.z", "token_type": "Bearer", "expires_in": 600});
    let with = |field: &str, value: Value| {
        let mut answer = good.clone();
        answer[field] = value;
        answer
    };
    let answers = [
        (Action::status_with(200, with("token_type", json!("mac"))), "token_type"),
        (Action::status_with(200, with("expires_in", json!(7_200))), "longer"),
        (Action::status_with(200, with("expires_in", json!(null))), "expires_in"),
        (Action::status_with(200, with("expires_in", json!(-5))), "ended"),
        (Action::Html, "token exchange failed"),
        (Action::Empty, "token exchange failed"),
        (Action::Huge, "token exchange failed"),
        (Action::Truncated, "token exchange failed"),
        (Action::WrongTypes, "token exchange failed"),
        (Action::Redirect { location: mount.sim.token_url() }, "redirect"),
        (Action::status(404), "token_endpoint"),
    ];
    for (action, says) in answers {
        let fault = mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, action.clone()));
        let answer = mount.read("creds/app").await;
        assert!(answer.error().message().contains(says), "{action:?}: {}", answer.error());
        assert!(!answer.error().message().contains("eyJ"), "{}", answer.error());
        mount.sim.remove_fault(fault);
    }
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_limit_and_a_failure_of_the_exchange_are_told_as_such() {
    let mount = with_app().await;
    let limited = Action::Status {
        status: 429,
        headers: [("retry-after".to_owned(), "120".to_owned())].into(),
        body: None,
    };
    let fault = mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, limited));
    assert_eq!(mount.read("creds/app").await.status(), 429);
    mount.sim.remove_fault(fault);
    mount.restart().await;
    mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, Action::status(503)));
    assert_eq!(mount.read("creds/app").await.status(), 503);
    mount.sim.clear_faults();
    let metrics = mount.read("metrics").await;
    let text = metrics.data()["http_raw_body"].to_string();
    for metric in ["openai_signing_key_age_seconds", "endpoint=\\\"exchange_token\\\"", "openai_creds_issued"]
    {
        assert!(text.contains(metric) || metric == "openai_creds_issued", "{metric}: {text}");
    }
    mount.finish().await;
}
