//! Tests of the rendered text.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::openai::{Call, KeyVerdict, Outcome};

fn metrics() -> Metrics {
    Metrics::new("v1.2.3", "abc123")
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        call: Call::CreateServiceAccount,
        urgency: Urgency::Issue,
        outcome,
        key: KeyVerdict::Good,
        latency: Duration::from_millis(120),
        wait: Duration::from_millis(3),
        retries: (!outcome.is_success()).into(),
        date: None,
    }
}

/// The value of a series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[track_caller]
fn assert_value(text: &str, series: &str, expected: f64) {
    assert!((value(text, series) - expected).abs() < 1e-9, "{series} in\n{text}");
}

#[test]
fn the_promised_counters_keep_their_names_and_labels() {
    let metrics = metrics();
    metrics.credential_issued("app");
    metrics.credential_issued("app");
    metrics.credential_revoked("app");
    metrics.api_attempt(&attempt(Outcome::Status(429)));
    metrics.quota_used("research", 40);
    metrics.quota_used("research", 39);
    let text = metrics.render();
    assert_value(&text, r#"openai_creds_issued{role="app"}"#, 2.0);
    assert_value(&text, r#"openai_creds_revoked{role="app"}"#, 1.0);
    assert_value(&text, r#"openai_api_error{endpoint="create_service_account",code="429"}"#, 1.0);
    assert_value(&text, r#"openai_quota_used{project="research"}"#, 40.0);
    assert!(
        text.contains("# TYPE openai_creds_issued counter\n") && !text.contains("openai_creds_issued_total"),
        "{text}"
    );
}

#[test]
fn calls_fill_bounded_buckets() {
    let metrics = metrics();
    metrics.api_attempt(&attempt(Outcome::Status(200)));
    metrics.upkeep();
    metrics.api_attempt(&attempt(Outcome::Status(200)));
    metrics.api_attempt(&attempt(Outcome::Timeout));
    metrics.api_throttled("create_service_account");
    let text = metrics.render();
    let series = |name: &str, labels: &str| format!("openai_api_{name}{{{labels}}}");
    let endpoint = r#"endpoint="create_service_account""#;
    assert_value(&text, &series("request_seconds_bucket", &format!(r#"{endpoint},le="0.1""#)), 0.0);
    assert_value(&text, &series("request_seconds_bucket", &format!(r#"{endpoint},le="0.25""#)), 3.0);
    assert_value(&text, &series("request_seconds_bucket", &format!(r#"{endpoint},le="+Inf""#)), 3.0);
    assert_value(&text, &series("request_seconds_sum", endpoint), 0.36);
    assert_value(&text, &series("wait_seconds_count", r#"urgency="issue""#), 3.0);
    assert_value(&text, &series("retries_total", endpoint), 1.0);
    assert_value(&text, &series("throttled_total", endpoint), 1.0);
    assert!(text.contains("# TYPE openai_api_request_seconds histogram\n"), "{text}");
}

#[test]
fn rotations_and_check_outs_are_counted_by_result() {
    let metrics = metrics();
    metrics.rotated(RotationKind::StaticRole, RotationResult::Failed);
    metrics.checked_out("team", CheckOutResult::Refused);
    metrics.library_accounts("team", 2, 3, 1);
    metrics.level(levels::PENDING_DELETIONS, 7.0);
    let text = metrics.render();
    assert_value(&text, r#"openai_rotations_total{kind="static_role",result="failed"}"#, 1.0);
    assert_value(&text, r#"openai_rotations_total{kind="admin_key",result="done"}"#, 0.0);
    assert_value(&text, r#"openai_check_outs_total{set="team",result="refused"}"#, 1.0);
    assert_value(&text, r#"openai_check_outs_total{set="team",result="lent"}"#, 0.0);
    assert_value(&text, r#"openai_library_accounts{set="team",state="out"}"#, 3.0);
    assert_value(&text, "openai_pending_deletions", 7.0);
    assert_value(&text, r#"openai_build_info{version="v1.2.3",commit="abc123"}"#, 1.0);
}

#[test]
fn token_exchanges_are_counted_by_role_and_result() {
    let metrics = metrics();
    metrics.token_exchanged("app", ExchangeResult::Done);
    metrics.token_exchanged("app", ExchangeResult::Refused);
    metrics.token_exchanged("app", ExchangeResult::Refused);
    metrics.identity_token_signed("app");
    let text = metrics.render();
    assert_value(&text, r#"openai_token_exchanges_total{role="app",result="done"}"#, 1.0);
    assert_value(&text, r#"openai_token_exchanges_total{role="app",result="refused"}"#, 2.0);
    assert_value(&text, r#"openai_token_exchanges_total{role="app",result="failed"}"#, 0.0);
    assert_value(&text, r#"openai_identity_tokens_total{role="app"}"#, 1.0);
}

#[test]
fn each_label_value_has_the_index_of_its_counter() {
    for (index, kind) in RotationKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index);
    }
    for (index, result) in RotationResult::ALL.into_iter().enumerate() {
        assert_eq!(result as usize, index);
    }
    for (index, result) in CheckOutResult::ALL.into_iter().enumerate() {
        assert_eq!(result as usize, index);
    }
    for (index, result) in ExchangeResult::ALL.into_iter().enumerate() {
        assert_eq!(result as usize, index);
    }
}

#[test]
fn the_text_of_a_mount_without_traffic_is_not_base64() {
    let text = metrics().render();
    assert!(text.contains("openai_build_info"));
    assert!(STANDARD.decode(&text).is_err());
    assert!(STANDARD.decode(text.split_whitespace().collect::<String>()).is_err());
}

#[test]
fn a_thousand_roles_have_their_own_series_and_the_rest_share_one() {
    let metrics = metrics();
    for role in 0..1500 {
        metrics.credential_issued(&format!("role-{role}"));
    }
    metrics.credential_issued("role-0");
    let text = metrics.render();
    let series = text.lines().filter(|line| line.starts_with("openai_creds_issued{")).count();
    assert_eq!(series, MAX_LABELS + 1);
    assert_value(&text, r#"openai_creds_issued{role="_other"}"#, 500.0);
    assert_value(&text, r#"openai_creds_issued{role="role-0"}"#, 2.0);
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics();
    metrics.credential_issued("a\"} 1\nopenai_creds_issued{role=\"b");
    let text = metrics.render();
    assert_value(&text, r#"openai_creds_issued{role="a\"} 1\nopenai_creds_issued{role=\"b"}"#, 1.0);
}

#[test]
fn two_mounts_do_not_share_counters() {
    let (one, two) = (metrics(), metrics());
    one.credential_issued("app");
    assert!(!two.render().contains("openai_creds_issued{"));
}

#[test]
fn concurrent_threads_lose_no_count() {
    let metrics = metrics();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for count in 0..2000 {
                    metrics.credential_issued(&format!("role-{}", count % 10));
                    metrics.api_attempt(&attempt(Outcome::Status(200)));
                    if count % 500 == 0 {
                        metrics.render();
                    }
                }
            });
        }
    });
    let text = metrics.render();
    let issued: f64 =
        (0..10).map(|role| value(&text, &format!(r#"openai_creds_issued{{role="role-{role}"}}"#))).sum();
    assert!((issued - 16_000.0).abs() < 0.5);
    assert_value(&text, r#"openai_api_wait_seconds_count{urgency="issue"}"#, 16_000.0);
}
