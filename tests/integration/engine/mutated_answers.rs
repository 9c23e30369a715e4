//! Every field of OpenAI's error body, of its answer to a creation, and of its wait headers, with values that it should
//! not have. The request ends in time, nothing is left at OpenAI, and the mount serves the next request.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, When, endpoint};
use crate::support::Mount;
use crate::support::library::SETTLED;

const PATH: &str = "creds/app";
/// No request takes longer; OpenAI's longest sensible wait here is 10 ms.
const HANG: Duration = Duration::from_secs(60);

/// Values of a type that a field should not have, and absurd ones.
fn strange() -> Vec<Value> {
    vec![
        Value::Null,
        json!({}),
        json!({"message": "nested"}),
        json!([]),
        json!(true),
        json!(17),
        json!(-1),
        json!(1e300),
        json!("17"),
        json!(""),
        json!("\u{0}\u{1b}[31m\n\r"),
        json!("x".repeat(100_000)),
    ]
}

/// The object with each of its fields missing, and with each strange value in it.
fn mutations(object: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for name in object.as_object().unwrap().keys() {
        let mut without = object.clone();
        without.as_object_mut().unwrap().remove(name);
        all.push(without);
        all.extend(strange().into_iter().map(|value| {
            let mut with = object.clone();
            with[name] = value;
            with
        }));
    }
    all
}

fn refusal(message: &str) -> Value {
    json!({"message": message, "type": "invalid_request_error", "param": null, "code": "rate_limit_exceeded"})
}

/// Error bodies: whole ones and mutated ones, and messages of every form.
fn error_bodies() -> Vec<Value> {
    let begin = "You've exceeded the rate limit, please slow down and try again";
    let mut bodies: Vec<Value> =
        mutations(&refusal("No.")).into_iter().map(|error| json!({ "error": error })).collect();
    bodies.extend(strange().into_iter().map(|error| json!({ "error": error })));
    bodies.extend(strange());
    bodies.push(json!({"error": "a sentence"}));
    for end in [
        "",
        " af",
        " after",
        " after -5 seconds.",
        " after NaN seconds.",
        " after 0 seconds.",
        " after 1e400 seconds.",
    ] {
        bodies.push(json!({"error": refusal(&format!("{begin}{end}"))}));
    }
    bodies
}

fn status(status: u16, headers: &[(&str, &str)], body: Option<Value>) -> Action {
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Action::Status { status, headers, body }
}

/// One creation and one deletion get this answer once, before or after the work.
async fn answered_so(mount: &Mount, action: &Action, when: When) {
    let story = format!("{when:?} {action:?}").chars().take(400).collect::<String>();
    mount.sim.fault(Fault { when, ..Fault::on(endpoint::CREATE_ACCOUNT, action.clone()).times(1) });
    let made = tokio::time::timeout(HANG, mount.read(PATH)).await;
    let made = made.unwrap_or_else(|_| panic!("hangs: {story}"));
    if let Err(error) = &made.answer {
        let sentence = error.message();
        assert!(sentence.len() > 20 && sentence.len() < 5_000, "{story}: {sentence}");
        assert!(!sentence.contains(['\u{0}', '\u{1b}', '\r']), "{story}: {sentence:?}");
    }
    mount.sim.clear_faults();
    let credential = mount.read(PATH).await;
    mount.sim.fault(Fault { when, ..Fault::on(endpoint::DELETE_ACCOUNT, action.clone()).times(1) });
    let revoked = tokio::time::timeout(HANG, mount.revoke(credential.lease())).await;
    let revoked = revoked.unwrap_or_else(|_| panic!("hangs: {story}"));
    // Success is only told of a key that is dead.
    let is_live = mount.sim.state().is_live(&credential.text("api_key"));
    assert!(revoked.answer.is_err() || !is_live, "{story}");
    mount.sim.clear_faults();
    if let Ok(answer) = &made.answer
        && answer.is_some()
    {
        mount.revoke(made.lease()).await.done();
    }
    if revoked.answer.is_err() {
        // OpenAI may have deleted it. A 404 proves that only for what is a minute old.
        mount.advance(Duration::from_secs(120));
        mount.revoke(credential.lease()).await.done();
    }
}

/// Each action in turn, on a few mounts at once; afterwards nothing is left.
async fn answered_by_each(actions: Vec<Action>, when: When) {
    let turns: Vec<Vec<Action>> = actions.chunks(actions.len().div_ceil(8)).map(<[_]>::to_vec).collect();
    join_all(turns.into_iter().map(async |actions| {
        let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
        let mount = mount.without_lag();
        for action in &actions {
            answered_so(&mount, action, when).await;
        }
        for _ in 0..2 {
            mount.advance(SETTLED);
            mount.tick_now().await.done();
        }
        assert_eq!(mount.sim.state().accounts.len(), 0, "something was left at OpenAI");
        mount.finish().await;
    }))
    .await;
}

#[tokio::test]
async fn whatever_an_error_body_holds_the_request_ends_and_nothing_is_left() {
    for code in [400, 401, 403, 404, 409, 500] {
        let bodies = error_bodies().into_iter().map(|body| status(code, &[], Some(body)));
        answered_by_each(bodies.collect(), When::Before).await;
    }
    let bodies = error_bodies().into_iter().map(|body| status(500, &[], Some(body)));
    answered_by_each(bodies.collect(), When::After).await;
}

#[tokio::test]
async fn whatever_the_answer_to_a_creation_holds_nothing_is_left() {
    let key = json!({"object": "organization.project.service_account.api_key", "value": "sk-svcacct-made-up",
        "name": "Secret Key", "created_at": 1, "id": "key_1", "expires_at": 2});
    let account = json!({"object": "organization.project.service_account", "id": "svc_acct_made_up", "name": "x",
        "role": "member", "created_at": 1, "api_key": key});
    let mut answers: Vec<Value> = mutations(&key)
        .into_iter()
        .map(|key| {
            let mut with = account.clone();
            with["api_key"] = key;
            with
        })
        .collect();
    answers.extend(mutations(&account));
    // Those that read as another credential than the one that was made would be handed out: OpenAI's word is all there is.
    answers.retain(|answer| !is_whole(answer));
    let answers = answers.into_iter().map(|answer| Action::status_with(200, answer)).collect();
    answered_by_each(answers, When::After).await;
}

/// True if the answer names an account and a key. A key may have any length.
fn is_whole(answer: &Value) -> bool {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let is_id = |value: &Value| is_text(value) && value.as_str().is_some_and(|text| text.len() < 200);
    is_id(&answer["id"]) && is_id(&answer["api_key"]["id"]) && is_text(&answer["api_key"]["value"])
}

#[tokio::test]
async fn whatever_a_wait_header_holds_the_request_ends() {
    let absurd =
        ["-1", "NaN", "inf", "1e400", "", "0", "0x10", "Wed, 99 Foo 2026", "Wed, 21 Oct 2015 07:28:00 GMT"];
    let mut actions = Vec::new();
    for value in absurd {
        actions.push(status(429, &[("retry-after", value)], None));
        actions.push(status(429, &[("retry-after-ms", value)], None));
        actions.push(status(503, &[("retry-after", value)], None));
        actions.push(status(500, &[("x-should-retry", value)], None));
    }
    answered_by_each(actions, When::Before).await;
}

/// Ten years are no time that anybody can wait: the reader is told at once, and 5 minutes later OpenAI is asked again.
#[tokio::test]
async fn a_wait_of_ten_years_is_told_at_once() {
    for (name, value) in [("retry-after", "315360000"), ("retry-after-ms", "315360000000")] {
        let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, status(429, &[(name, value)], None)).times(1));
        for _ in 0..2 {
            let told =
                tokio::time::timeout(Duration::from_secs(10), mount.read(PATH)).await.expect("at once");
            told.failed(told.error().kind(), "OpenAI allows no more calls now: try again in ");
        }
        mount.finish().await;
    }
}
