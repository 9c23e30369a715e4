//! Counters of exchanges and identity tokens, and the events of the issuer and its roles.

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::wait::eventually;

/// The value of a series in the text of `metrics`.
async fn counted(mount: &Mount, series: &str) -> f64 {
    let text = mount.read("metrics").await.text("http_raw_body");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

async fn assert_counted(mount: &Mount, series: &str, expected: f64) {
    let value = counted(mount, series).await;
    assert!((value - expected).abs() < 1e-9, "{series} is {value}, not {expected}");
}

/// The kind and path of each event so far.
fn events(mount: &Mount) -> Vec<String> {
    let events = mount.host.events().into_iter();
    let told = events.map(|event| {
        let (_, path) = event.metadata.into_iter().find(|(name, _)| *name == "path").unwrap();
        format!("{} {path}", event.kind)
    });
    told.collect()
}

fn exchanges(result: &str) -> String {
    format!(r#"openai_token_exchanges_total{{role="app",result="{result}"}}"#)
}

#[tokio::test]
async fn each_exchange_is_counted_by_role_and_result_and_its_duration_is_measured() {
    let mount = with_app().await;
    token(&mount).await;
    mount.read("identity-token/app").await.done();
    mount.read("identity-token/app").await.done();
    assert_counted(&mount, &exchanges("done"), 1.0).await;
    assert_counted(&mount, r#"openai_identity_tokens_total{role="app"}"#, 2.0).await;
    assert_counted(&mount, r#"openai_api_request_seconds_count{endpoint="exchange_token"}"#, 1.0).await;

    change_rule(&mount, json!({"enabled": false})).await;
    mount.advance(HOUR);
    mount.read("creds/app").await.refused("invalid_grant");
    assert_counted(&mount, &exchanges("refused"), 1.0).await;
    assert_counted(&mount, &exchanges("done"), 1.0).await;
    assert_counted(&mount, r#"openai_api_error{endpoint="exchange_token",code="400"}"#, 1.0).await;
    assert!(counted(&mount, "openai_signing_key_age_seconds").await >= 3_600.0);
    assert_counted(&mount, "openai_federated_roles", 1.0).await;
    mount.finish().await;
}

#[tokio::test]
async fn writes_rotations_and_deletions_of_issuer_and_role_are_events() {
    let mount = with_app().await;
    mount.write("config/federation/rotate", json!({})).await.done();
    let upload = mount.sim.fault(Fault::on(endpoint::UPDATE_PROVIDER, Action::status(403)));
    mount.write("config/federation/rotate", json!({})).await.done();
    mount.sim.remove_fault(upload);
    assert_counted(&mount, r#"openai_rotations_total{kind="signing_key",result="failed"}"#, 1.0).await;
    mount.delete("roles/app").await.nothing();
    mount.delete("config/federation").await.nothing();
    for expected in [
        "openai/config-write config/federation",
        "openai/role-write roles/app",
        "openai/rotate config/federation",
        "openai/rotate-fail config/federation",
        "openai/role-delete roles/app",
        "openai/config-delete config/federation",
    ] {
        let arrived = async || events(&mount).iter().any(|event| event == expected).then_some(());
        eventually(expected, arrived).await;
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_that_succeeds_is_no_failed_one_although_an_earlier_key_stays_at_openai() {
    let mount = with_app().await;
    let first = mount.read("config/federation").await.text("current_kid");
    mount.write("config/federation/rotate", json!({})).await.done();
    mount.advance(HOUR * 2);
    let removal = Fault::on(endpoint::UPDATE_PROVIDER, Action::status(403)).skipping(1);
    let removal = mount.sim.fault(removal);
    let rotated = mount.write("config/federation/rotate", json!({})).await;
    mount.sim.remove_fault(removal);
    assert_eq!(rotated.text("message"), "Signing key has been rotated.");
    assert!(provider(&mount).kids.contains(&first));
    assert_counted(&mount, r#"openai_rotations_total{kind="signing_key",result="done"}"#, 2.0).await;
    assert_counted(&mount, r#"openai_rotations_total{kind="signing_key",result="failed"}"#, 0.0).await;
    assert!(rotated.warnings().join(" ").contains("is not removed"), "{:?}", rotated.warnings());
    mount.write("roles/b", role()).await.done();
    let told = |kind: &str| events(&mount).iter().any(|event| event.starts_with(kind));
    eventually("a later event arrives", async || told("openai/role-write roles/b").then_some(())).await;
    assert!(!told("openai/rotate-fail"));
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(!provider(&mount).kids.contains(&first));
    mount.finish().await;
}
