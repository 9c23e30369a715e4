//! Limits: how many calls get through, what the others are told, when the limit opens again.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use super::{Answer, Caller};
use crate::simulator::{Limit, Per, Retry, endpoint};

/// The refusal of the one call too many.
async fn refusal(per: Per, retry: Retry) -> (Caller, Answer) {
    let caller = Caller::start().await;
    caller.sim.limit(Limit::everywhere(1, per).telling(retry));
    caller.get(&caller.accounts()).await.ok();
    let answer = caller.get(&caller.accounts()).await;
    answer.refused(429, "rate_limit_exceeded", Value::Null);
    (caller, answer)
}

#[tokio::test]
async fn a_refusal_can_keep_silent_about_when_to_come_back() {
    let (_, answer) = refusal(Per::Minute, Retry::None).await;
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (None, None));
}

#[tokio::test]
async fn a_refusal_names_the_wait_in_its_message_alone_unless_a_test_asks_for_headers() {
    let (caller, answer) = refusal(Per::Minute, Retry::default()).await;
    assert_eq!((answer.header("retry-after"), answer.header("retry-after-ms")), (None, None));
    let message = answer.text("/error/message");
    let wait = message.split(" after ").nth(1).and_then(|rest| rest.strip_suffix(" seconds.")).unwrap();
    let wait: f64 = wait.parse().unwrap();
    assert!((30.0..=60.0).contains(&wait), "{message}");
    caller.sim.advance(Duration::from_secs_f64(wait + 0.001));
    caller.get(&caller.accounts()).await.ok();
    let (_, answer) = refusal(Per::Minute, Retry::TooMany).await;
    assert!(answer.text("/error/message").starts_with("You're making too many requests"));
}

#[tokio::test]
async fn waiting_the_seconds_told_is_enough() {
    let (caller, answer) = refusal(Per::Minute, Retry::Seconds).await;
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&wait), "{wait}");
    caller.sim.advance(Duration::from_secs(wait));
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn waiting_the_milliseconds_told_is_enough() {
    let (caller, answer) = refusal(Per::Minute, Retry::Milliseconds).await;
    let wait: u64 = answer.header("retry-after-ms").unwrap().parse().unwrap();
    assert!((30_000..=60_000).contains(&wait), "{wait}");
    caller.sim.advance(Duration::from_millis(wait));
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn waiting_for_the_date_told_is_enough() {
    let (caller, answer) = refusal(Per::Minute, Retry::Date).await;
    let at = answer.header("retry-after").unwrap();
    assert!(at.ends_with(" GMT"), "{at}");
    let at = DateTime::parse_from_rfc2822(at).unwrap().timestamp() as u64;
    let wait = at - caller.sim.state().now;
    assert!((30..=61).contains(&wait), "{wait}");
    caller.sim.advance(Duration::from_secs(wait));
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn a_limit_holds_in_any_window_and_opens_one_place_at_a_time() {
    let caller = Caller::start().await;
    caller.sim.limit(Limit::everywhere(2, Per::Minute));
    let status = async || caller.get(&caller.accounts()).await.status;
    assert_eq!(status().await, 200);
    caller.sim.advance(Duration::from_secs(35));
    assert_eq!((status().await, status().await), (200, 429));
    caller.sim.advance(Duration::from_secs(25));
    assert_eq!((status().await, status().await), (200, 429));
}

#[tokio::test]
async fn a_limit_per_second_opens_after_a_second() {
    let (caller, _) = {
        let caller = Caller::start().await;
        caller.sim.limit(Limit::everywhere(0, Per::Second).telling(Retry::Milliseconds));
        let answer = caller.get(&caller.accounts()).await;
        assert_eq!(answer.header("retry-after-ms"), Some("1000"));
        (caller, answer)
    };
    caller.sim.limit(Limit::everywhere(1, Per::Second));
    caller.get(&caller.accounts()).await.ok();
    caller.sim.advance(Duration::from_secs(1));
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn a_limit_concerns_its_own_endpoint_and_refuses_before_any_work() {
    let caller = Caller::start().await;
    caller.sim.limit(Limit::on(endpoint::CREATE_ACCOUNT, 1, Per::Minute));
    caller.account("first").await;
    let refused = caller.post(&caller.accounts(), json!({"name": "second"})).await;
    refused.refused(429, "rate_limit_exceeded", Value::Null);
    caller.get(&caller.accounts()).await.ok();
    assert_eq!(caller.sim.state().accounts.len(), 1);
    assert_eq!(caller.sim.state().answered(endpoint::CREATE_ACCOUNT, 429), 1);
}

#[tokio::test]
async fn refused_calls_can_count_against_the_limit_too() {
    let caller = Caller::start().await;
    caller.sim.limit(Limit { count_refused: true, ..Limit::everywhere(1, Per::Minute) });
    let status = async || caller.get(&caller.accounts()).await.status;
    assert_eq!(status().await, 200);
    caller.sim.advance(Duration::from_secs(40));
    assert_eq!(status().await, 429);
    caller.sim.advance(Duration::from_secs(40));
    assert_eq!(status().await, 429);
    caller.sim.advance(Duration::from_secs(60));
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn limits_and_latency_are_set_over_http_and_a_limit_replaces_its_like() {
    let caller = Caller::start().await;
    let limit =
        |calls: u64| json!({"path": "/organization/**", "calls": calls, "per": "minute", "retry": "seconds"});
    caller.control("POST", "/limit", &limit(0)).await.ok();
    assert_eq!(caller.get(&caller.accounts()).await.header("retry-after"), Some("60"));
    caller.control("POST", "/limit", &limit(1)).await.ok();
    caller.get(&caller.accounts()).await.ok();
    assert_eq!(caller.get(&caller.accounts()).await.status, 429);
    caller.control("DELETE", "/limit", &Value::Null).await.ok();
    caller.control("POST", "/latency", &json!({"ms": 100})).await.ok();
    let start = std::time::Instant::now();
    caller.get(&caller.accounts()).await.ok();
    assert!(start.elapsed() >= Duration::from_millis(100));
}
