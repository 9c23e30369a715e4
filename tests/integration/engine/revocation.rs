//! The end of a credential: by its lease, by a lease that was lost, by OpenAI itself.

use std::time::Duration;

use openai_secrets::logical::Kind;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;

const PATH: &str = "creds/app";
const HOUR: Duration = Duration::from_secs(3600);

async fn mount(role: Value) -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(role).await
}

fn refusal(status: u16, message: &str) -> Action {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
    Action::status_with(status, json!({"error": error}))
}

#[tokio::test]
async fn what_is_gone_already_is_ended() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    mount.revoke(made.lease()).await.done();
    // Vault asks again if it did not hear the first answer.
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_proxys_404_and_a_wrong_address_are_no_proof_that_it_is_gone() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    for action in [
        Action::Html,
        refusal(404, "Invalid URL (DELETE /v2/organization)"),
        refusal(403, "You have insufficient permissions for this operation."),
        refusal(401, "Incorrect API key provided."),
    ] {
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, action.clone()));
        let answered = mount.revoke(made.lease()).await;
        assert!(answered.answer.is_err(), "{action:?}");
        mount.sim.clear_faults();
    }
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    assert!(mount.sim.state().accounts.is_empty());
}

/// A proxy may answer so, too: only OpenAI's body proves the end.
#[tokio::test]
async fn a_deletion_without_a_body_is_no_proof_and_is_asked_for_again() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    mount.advance(HOUR / 10);
    let nothing = || Fault::on(endpoint::DELETE_ACCOUNT, Action::status_with(204, "")).times(1);
    mount.sim.fault(nothing());
    assert!(mount.revoke(made.lease()).await.answer.is_err());
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.sim.fault(nothing().after_the_work());
    assert!(mount.revoke(made.lease()).await.answer.is_err());
    assert_eq!(mount.stored("ledger/").len(), 1, "the record stays");
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_answer_is_made_up_for_by_asking_again() {
    let mount = mount(json!({})).await;
    for action in [Action::Drop, Action::Cut, Action::Html, Action::Truncated, Action::WrongTypes] {
        let made = mount.read(PATH).await;
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, action).times(1).after_the_work());
        while mount.revoke(made.lease()).await.answer.is_err() {}
        assert!(mount.sim.state().accounts.is_empty());
    }
    mount.finish().await;
}

#[tokio::test]
async fn nothing_is_ended_without_a_configuration_or_under_another_organization() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    mount.delete_by_force("config").await.done();
    mount.revoke(made.lease()).await.failed(Kind::Internal, "OpenAI client not configured");
    mount.configure_elsewhere().await;
    // Its 404 would prove nothing there.
    mount.revoke(made.lease()).await.failed(Kind::Internal, "org-other");
    mount.delete_by_force("config").await.done();
    let mount = mount.configured().await;
    mount.revoke(made.lease()).await.done();
    assert!(mount.sim.state().accounts.is_empty());
}

#[tokio::test]
async fn a_role_and_a_project_that_are_gone_hold_up_no_revocation() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    mount.delete("roles/app").await.done();
    mount.delete("project/research").await.done();
    mount.restart().await;
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_project_that_was_archived_has_ended_what_was_in_it() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    mount.sim.archive_project(mount.sim.project());
    assert!(!mount.sim.state().is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_openai_has_ended_is_a_lease_that_is_over_whatever_openai_says() {
    let mount = mount(json!({"ttl": 60})).await;
    let made = mount.read(PATH).await;
    mount.advance(Duration::from_secs(126));
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, refusal(500, "Try again.")).times(1));
    mount.revoke(made.lease()).await.done();
    // The empty account is on record until the tick has removed it.
    assert_eq!(mount.sim.state().accounts.len(), 1);
    assert_eq!(mount.stored("ledger/").len(), 1);
    mount.advance(HOUR);
    mount.sim.clear_faults();
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_credential_whose_lease_was_lost_is_removed_within_ten_minutes_of_its_end() {
    let mount = mount(json!({"ttl": 3600})).await;
    let made = mount.read(PATH).await;
    mount.lose(made.lease());
    mount.advance(Duration::from_secs(3590));
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&made.text("api_key")), "removed before its end");
    mount.advance(Duration::from_secs(600));
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn the_tick_leaves_a_lease_the_first_turn_at_its_end() {
    let mount = mount(json!({"ttl": 60})).await;
    let made = mount.read(PATH).await;
    mount.advance(Duration::from_secs(61));
    let calls = mount.sim.state().all_calls();
    mount.tick().await.done();
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.revoke(made.lease()).await.done();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::DELETE_ACCOUNT), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_key_lost_on_an_account_that_stays_is_removed_and_the_account_is_not() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let account = mount.seed("worker", true);
    let mount = mount.with_role(json!({"service_account_id": account.id, "ttl": 60})).await;
    let made = mount.read(PATH).await;
    mount.lose(made.lease());
    mount.advance(HOUR);
    mount.tick().await.done();
    let state = mount.sim.state();
    assert_eq!((state.accounts.len(), state.accounts[0].keys.len()), (1, 1));
    mount.finish().await;
}

#[tokio::test]
async fn one_that_cannot_be_removed_waits_and_holds_up_no_other() {
    let mount = mount(json!({"ttl": 60})).await;
    let (stuck, fine) = (mount.read(PATH).await, mount.read(PATH).await);
    let stuck_path =
        format!("DELETE /organization/projects/*/service_accounts/{}", stuck.text("service_account_id"));
    mount.sim.fault(Fault::on(&stuck_path, refusal(403, "Not this one.")));
    mount.lose(stuck.lease());
    mount.lose(fine.lease());
    mount.advance(HOUR);
    mount.tick().await.failed(Kind::Internal, "Not this one.");
    let left: Vec<_> = mount.sim.state().accounts.into_iter().map(|account| account.id).collect();
    assert_eq!(left, [stuck.text("service_account_id")]);
    let record = mount.storage_text("ledger/");
    assert!(record.contains("Not this one."), "{record}");
    // It backs off, is tried again, and goes in the end.
    let calls = mount.sim.calls(endpoint::DELETE_ACCOUNT);
    mount.tick().await.done();
    assert_eq!(mount.sim.calls(endpoint::DELETE_ACCOUNT), calls);
    mount.sim.clear_faults();
    mount.advance(24 * HOUR);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_removes_hundreds_at_the_pace_that_openai_allows() {
    let mount = mount(json!({"ttl": 60})).await;
    let made = futures_util::future::join_all((0..300).map(|_| mount.read(PATH))).await;
    for made in &made {
        mount.lose(made.lease());
    }
    mount.advance(HOUR);
    mount.restart().await;
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty(), "{} are left", mount.sim.state().accounts.len());
    assert_eq!(mount.sim.calls(endpoint::DELETE_ACCOUNT), 300);
    mount.finish().await;
}

#[tokio::test]
async fn a_limited_openai_ends_the_tick_and_costs_nobody_his_next_try() {
    let mount = mount(json!({"ttl": 60})).await;
    for _ in 0..40 {
        let made = mount.read(PATH).await;
        mount.lose(made.lease());
    }
    mount.advance(HOUR);
    let headers = [("Retry-After".to_owned(), "300".to_owned())].into();
    let limited = Action::Status { status: 429, headers, body: None };
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, limited).skipping(2).times(1));
    mount.tick().await.done();
    // Eight are under way at once.
    assert!(mount.sim.calls(endpoint::DELETE_ACCOUNT) <= 2 + 8, "the rest was not even tried");
    assert!(mount.sim.state().accounts.len() >= 30);
    assert!(!mount.storage_text("ledger/").contains("retry_at"));
    mount.restart().await;
    mount.tick().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_on_a_node_that_may_not_write_does_nothing() {
    let mount = mount(json!({"ttl": 60})).await;
    let made = mount.read(PATH).await;
    mount.lose(made.lease());
    mount.advance(HOUR);
    let calls = mount.sim.state().all_calls();
    mount.host.set_performance_standby(true);
    mount.tick_now().await.done();
    mount.host.set_performance_standby(false);
    assert_eq!(mount.sim.state().all_calls(), calls);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_restored_backup_brings_nothing_back_to_life() {
    let mount = mount(json!({"ttl": 60})).await;
    let made = mount.read(PATH).await;
    let backup = mount.storage.snapshot();
    mount.revoke(made.lease()).await.done();
    mount.storage.restore(backup);
    mount.restart().await;
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_revocation_that_storage_cuts_short_is_repeated() {
    let mount = mount(json!({})).await.without_lag();
    let made = mount.read(PATH).await;
    mount.storage.fail_delete("ledger/");
    // The key is dead, which is all that is asked. What is left on record is the tick's.
    mount.revoke(made.lease()).await.done();
    assert_eq!(mount.stored("ledger/").len(), 1);
    mount.restart().await;
    // A 404 for what is younger proves nothing.
    mount.advance(Duration::from_secs(120));
    mount.revoke(made.lease()).await.done();
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn a_lease_that_says_nothing_readable_is_an_error_of_its_own() {
    let mount = mount(json!({})).await;
    let made = mount.read(PATH).await;
    for internal in [
        json!({}),
        json!({"secret_type": "unheard_of"}),
        json!({"secret_type": "service_account_key"}),
        json!({"secret_type": "service_account_key", "service_account_id": ["x"], "project_id": "../y"}),
        json!({"secret_type": 7}),
    ] {
        let mut odd = made.lease().clone();
        odd.internal = crate::support::mount::object(internal);
        odd.id = "openai/creds/app/odd".to_owned();
        assert_eq!(mount.revoke(&odd).await.status(), 500);
        assert!(mount.renew(&odd, HOUR).await.answer.is_err());
    }
    assert_eq!(mount.renew(made.lease(), HOUR).await.status(), 405, "a credential is not renewed");
    mount.revoke(made.lease()).await.done();
}
