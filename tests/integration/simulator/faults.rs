//! Each kind of fault: what the caller sees, and whether the work was done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Answer, Caller, sent, text, with_json};
use crate::simulator::{Action, Fault, endpoint};

/// Adds one fault of the creation of accounts and calls it: the answer, and how many accounts there are then.
async fn after(fault: Fault) -> (reqwest::Result<Answer>, usize) {
    let caller = Caller::start().await;
    caller.sim.fault(fault.times(1));
    let answer = try_create(&caller).await;
    let accounts = caller.sim.state().accounts.len();
    caller.account("next").await;
    (answer, accounts)
}

async fn try_create(caller: &Caller) -> reqwest::Result<Answer> {
    let request = with_json(caller.admin("POST", &caller.accounts()), &json!({"name": "n"}));
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    Ok(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

fn creation(action: Action) -> Fault {
    Fault::on(endpoint::CREATE_ACCOUNT, action)
}

#[tokio::test]
async fn a_status_comes_with_openais_error_and_without_the_work() {
    for status in [400, 401, 403, 404, 409, 429, 500, 502, 503] {
        let (answer, accounts) = after(creation(Action::status(status))).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, accounts), (status, 0));
        assert!(!answer.text("/error/message").is_empty());
    }
}

#[tokio::test]
async fn a_status_can_come_after_the_work() {
    let (answer, accounts) = after(creation(Action::status(500)).after_the_work()).await;
    assert_eq!((answer.unwrap().status, accounts), (500, 1));
}

#[tokio::test]
async fn a_status_can_have_headers_and_a_body_of_its_own() {
    let headers = BTreeMap::from([("Retry-After".to_owned(), "7".to_owned())]);
    let action = Action::Status { status: 429, headers, body: Some(json!({"error": "busy"})) };
    let (answer, _) = after(creation(action)).await;
    let answer = answer.unwrap();
    assert_eq!((answer.header("retry-after"), &answer.body), (Some("7"), &json!({"error": "busy"})));
    let (proxy, _) = after(creation(Action::status_with(404, "not here"))).await;
    let proxy = proxy.unwrap();
    assert_eq!((proxy.status, &proxy.body), (404, &json!("not here")));
    assert_eq!(proxy.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn a_dropped_connection_shows_nothing_of_what_was_done() {
    let (answer, accounts) = after(creation(Action::Drop)).await;
    assert!(answer.is_err());
    assert_eq!(accounts, 0);
    let (answer, accounts) = after(creation(Action::Drop).after_the_work()).await;
    assert!(answer.is_err());
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn a_dropped_connection_is_counted_as_status_0() {
    let caller = Caller::start().await;
    caller.sim.fault(creation(Action::Drop).times(1));
    assert!(try_create(&caller).await.is_err());
    assert_eq!(caller.sim.state().answered(endpoint::CREATE_ACCOUNT, 0), 1);
}

#[tokio::test]
async fn an_answer_can_break_off_in_the_middle() {
    let (answer, accounts) = after(creation(Action::Cut)).await;
    assert!(answer.unwrap_err().is_decode());
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn odd_bodies_are_odd_in_their_own_way() {
    let (html, _) = after(creation(Action::Html)).await;
    let html = html.unwrap();
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html")));
    assert!(html.body.as_str().unwrap().contains("<html>"));
    let (empty, _) = after(creation(Action::Empty)).await;
    assert_eq!(empty.unwrap().body, json!(""));
    let (truncated, accounts) = after(creation(Action::Truncated)).await;
    let truncated = truncated.unwrap();
    assert!(truncated.body.as_str().unwrap().starts_with('{'));
    assert_eq!((truncated.status, accounts), (200, 1));
}

#[tokio::test]
async fn a_huge_body_is_good_json_of_more_than_a_mebibyte() {
    let (huge, accounts) = after(creation(Action::Huge)).await;
    let huge = huge.unwrap();
    assert!(huge.header("content-length").unwrap().parse::<usize>().unwrap() > 1024 * 1024);
    assert!(huge.text("/api_key/value").starts_with("sk-svcacct-"));
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn wrong_types_keep_the_shape() {
    let (wrong, accounts) = after(creation(Action::WrongTypes)).await;
    let wrong = wrong.unwrap();
    assert_eq!(wrong.body["object"], "organization.project.service_account");
    assert!(wrong.body["created_at"].is_string() && wrong.body["id"].is_array());
    assert_eq!(accounts, 1);
}

#[tokio::test]
async fn a_redirect_says_where_to_and_does_nothing() {
    let location = "http://127.0.0.1:1/elsewhere".to_owned();
    let (answer, accounts) = after(creation(Action::Redirect { location: location.clone() })).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("location"), accounts), (307, Some(location.as_str()), 0));
}

#[tokio::test]
async fn a_delay_holds_the_answer_and_then_lets_the_next_fault_in() {
    let caller = Caller::start().await;
    caller.sim.fault(creation(Action::delay(Duration::from_millis(150))).times(2));
    caller.sim.fault(creation(Action::status(503)).times(1));
    let start = Instant::now();
    assert_eq!(try_create(&caller).await.unwrap().status, 503);
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(try_create(&caller).await.unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_fault_skips_then_hits_so_many_calls_and_only_its_own() {
    let caller = Caller::start().await;
    caller.sim.fault(creation(Action::status(500)).skipping(1).times(2));
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(try_create(&caller).await.unwrap().status);
        assert_eq!(caller.get(&caller.accounts()).await.status, 200);
    }
    assert_eq!(statuses, [200, 500, 500, 200, 200]);
}

#[tokio::test]
async fn faults_go_when_they_are_told_to() {
    let caller = Caller::start().await;
    let number = caller.sim.fault(Fault::everywhere(Action::status(500)));
    caller.get(&caller.accounts()).await.refused(500, Value::Null, Value::Null);
    assert!(caller.sim.remove_fault(number) && !caller.sim.remove_fault(number));
    caller.get(&caller.accounts()).await.ok();
    caller.sim.fault(Fault::everywhere(Action::Html));
    caller.sim.clear_faults();
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn faults_come_and_go_over_http() {
    let caller = Caller::start().await;
    let fault = json!({
        "method": "POST", "path": "/organization/projects/*/service_accounts", "count": 1, "when": "after",
        "action": {"kind": "status", "status": 502, "headers": {"via": "proxy"}, "body": "<html>"},
    });
    caller.control("POST", "/faults", &fault).await.ok();
    let answer = try_create(&caller).await.unwrap();
    assert_eq!((answer.status, answer.header("via")), (502, Some("proxy")));
    assert_eq!(caller.sim.state().accounts.len(), 1);
    let everywhere = json!({"action": {"kind": "empty"}});
    let number = caller.control("POST", "/faults", &everywhere).await.ok()["id"].clone();
    assert_eq!(caller.get(&caller.accounts()).await.body, json!(""));
    caller.control("DELETE", &format!("/faults/{number}"), &Value::Null).await.ok();
    assert_eq!(caller.control("DELETE", &format!("/faults/{number}"), &Value::Null).await.status, 400);
    caller.control("POST", "/faults", &everywhere).await.ok();
    caller.control("DELETE", "/faults", &Value::Null).await.ok();
    caller.get(&caller.accounts()).await.ok();
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_undo_what_it_asked_for() {
    let caller = Caller::start().await;
    caller.sim.fault(creation(Action::delay(Duration::from_millis(200))).times(1));
    let request = with_json(caller.admin("POST", &caller.accounts()), &json!({"name": "n"}));
    let gave_up = request.timeout(Duration::from_millis(50)).send().await;
    assert!(gave_up.unwrap_err().is_timeout());
    let done = async {
        while caller.sim.calls(endpoint::CREATE_ACCOUNT) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
    assert_eq!(caller.sim.state().accounts.len(), 1);
}

#[tokio::test]
async fn sixty_four_slow_calls_are_served_at_once() {
    let caller = Caller::start().await;
    caller.sim.latency(Duration::from_millis(300));
    let start = Instant::now();
    let calls = (0..64).map(|_| {
        let call = sent(with_json(caller.admin("POST", &caller.accounts()), &json!({"name": "n"})));
        tokio::spawn(async move { call.await.ok() })
    });
    let made = futures_util::future::join_all(calls.collect::<Vec<_>>()).await;
    assert!(start.elapsed() < Duration::from_millis(64 * 300 / 4), "{:?}", start.elapsed());
    let mut values: Vec<String> =
        made.into_iter().map(|made| text(&made.unwrap()["api_key"]["value"])).collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 64);
}
