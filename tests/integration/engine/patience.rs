//! What only shows after OpenAI's time limits: all of it in one test, side by side, as each takes half a minute.

use std::time::{Duration, Instant};

use openai_secrets::logical::Kind;
use serde_json::json;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::mount::CLOSED_PORT;

/// Vault gives up on a request then.
const VAULTS_PATIENCE: Duration = Duration::from_secs(90);

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({})).await.without_lag()
}

#[tokio::test]
async fn slow_and_failing_openais_end_every_request_in_time_and_leave_nothing() {
    let begun = Instant::now();
    tokio::join!(
        an_answer_that_comes_too_late_is_undone(),
        a_work_that_begins_too_late_is_undone_by_the_sweep(),
        a_check_of_what_fails_throughout_is_a_refusal(),
        a_check_where_nobody_listens_is_a_refusal(),
        a_reader_where_nobody_listens_is_told_to_come_back(),
        a_proxys_404_is_no_verdict_on_a_project(),
        an_openai_that_fails_throughout_is_503_with_nothing_made(),
        a_revocation_says_that_it_failed(),
        a_narrowing_that_fails_throughout_takes_the_account_back(),
        an_undo_of_a_narrowing_ends_in_time(),
    );
    assert!(begun.elapsed() < VAULTS_PATIENCE, "{:?}", begun.elapsed());
}

async fn an_answer_that_comes_too_late_is_undone() {
    let mount = mount().await;
    let late = Action::delay(Duration::from_secs(31));
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, late).times(1).after_the_work());
    let answered = mount.read("creds/app").await;
    answered.failed(answered.error().kind(), "OpenAI did not answer in time");
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

async fn a_work_that_begins_too_late_is_undone_by_the_sweep() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::delay(Duration::from_secs(31))).times(1));
    mount.read("creds/app").await.refused("removed within 10 minutes");
    while mount.sim.state().accounts.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    mount.tick_now().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

async fn a_check_of_what_fails_throughout_is_a_refusal() {
    let mount = Mount::start().await;
    mount.sim.fault(Fault::everywhere(Action::status(503)));
    mount.write("config", mount.config()).await.refused("error validating OpenAI configuration: ");
    assert_eq!(mount.stored(""), Vec::<String>::new());
}

async fn a_check_where_nobody_listens_is_a_refusal() {
    let mount = Mount::start().await;
    let mut body = mount.config();
    body["api_endpoint"] = format!("http://{CLOSED_PORT}/v1").into();
    let answered = mount.write("config", body).await;
    answered.refused("error validating OpenAI configuration: ");
    answered.refused("OpenAI cannot be reached");
    assert_eq!(mount.stored(""), Vec::<String>::new());
}

async fn a_reader_where_nobody_listens_is_told_to_come_back() {
    let mount = mount().await;
    let mut body = mount.config();
    body["api_endpoint"] = format!("http://{CLOSED_PORT}/v1").into();
    body["verify_connection"] = false.into();
    mount.write("config", body).await.done();
    let answered = mount.read("creds/app").await;
    let says = format!("OpenAI cannot be reached: Connection refused by {CLOSED_PORT}: check api_endpoint");
    answered.failed(Kind::Status(503), &says);
    assert_eq!(mount.entries_left().await, 0, "nothing was sent");
    mount.finish().await;
}

async fn a_proxys_404_is_no_verdict_on_a_project() {
    let mount = Mount::start().await.configured().await;
    mount.sim.fault(Fault::on(endpoint::READ_PROJECT, Action::status_with(404, "a proxy's page")));
    let answered = mount.write("project/p", json!({"project_id": mount.sim.project()})).await;
    answered.failed(Kind::Status(503), "checking the project at OpenAI: ");
    mount.read("project/p").await.nothing();
}

async fn an_openai_that_fails_throughout_is_503_with_nothing_made() {
    let mount = mount().await;
    mount.sim.fault(Fault::everywhere(Action::Drop));
    // The first creation may have been done, as far as one can tell; later ones are not even tried.
    mount.read("creds/app").await.refused("removed within 10 minutes");
    mount.sim.clear_faults();
    mount.finish().await;
}

async fn a_revocation_says_that_it_failed() {
    let mount = mount().await;
    let made = mount.read("creds/app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(500)));
    mount.revoke(made.lease()).await.failed(Kind::Status(503), "revocation failed: ");
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.sim.clear_faults();
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

async fn a_narrowing_that_fails_throughout_takes_the_account_back() {
    let mount = mount().await;
    mount.write("roles/app", json!({"scopes": ["api.model.read"]})).await.done();
    mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::Drop));
    let answered = mount.read("creds/app").await;
    answered.failed(answered.error().kind(), "API key creation failed: ");
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

async fn an_undo_of_a_narrowing_ends_in_time() {
    let mount = mount().await;
    mount.write("roles/app", json!({"scopes": ["api.model.read"]})).await.done();
    mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::status(400)));
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::delay(Duration::from_secs(28))));
    let begun = Instant::now();
    mount.read("creds/app").await.refused("removed within 10 minutes");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    mount.sim.clear_faults();
    mount.finish().await;
}
