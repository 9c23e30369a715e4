//! Deleting a static role: its keys are dead when it answers success, and nothing is lost when it does not.

use openai_secrets::logical::Kind;
use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

#[tokio::test]
async fn a_deletion_ends_the_key_and_leaves_the_account() {
    let (mount, account) = with_app(json!({"grace_period": "1h"})).await;
    let first = key(&mount, "app").await;
    let second = rotate(&mount, "app").await;
    mount.delete("static-roles/app").await.nothing();
    let state = mount.sim.state();
    assert!(!state.is_live(&first) && !state.is_live(&second), "in grace or current: dead");
    assert!(is_untouched(&mount, &account));
    for left in ["static-", "account-owner/", "wal/"] {
        assert!(mount.stored(left).is_empty(), "{left}");
    }
    mount.read("static-roles/app").await.nothing();
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn a_key_or_account_that_is_gone_already_does_not_hold_up_a_deletion() {
    let (mount, account) = with_app(json!({})).await;
    delete_at_openai(&mount, &account.id).await;
    assert!(mount.sim.state().accounts.is_empty());
    mount.delete("static-roles/app").await.nothing();
}

#[tokio::test]
async fn while_openai_fails_the_deletion_is_under_way_and_the_tick_ends_it() {
    let (mount, account) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(2));
    mount
        .delete("static-roles/app")
        .await
        .refused("static role \"app\" is being deleted, but its key could not be ended yet");
    assert_eq!(role(&mount, "app").await["deleting"], true);
    mount.read("static-creds/app").await.refused("static role \"app\" is being deleted");
    mount.write("static-roles/app", json!({"ttl": 60})).await.refused("is being deleted");
    mount.write("static-creds/app/rotate", json!({})).await.refused("is being deleted");

    mount.advance(MINUTE);
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&old));
    assert_eq!(role(&mount, "app").await["rotation_failures"], 2);
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old) && is_untouched(&mount, &account));
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
}

#[tokio::test]
async fn an_outage_is_answered_as_one_and_a_second_deletion_takes_over() {
    let (mount, _) = with_app(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(401)).times(1));
    assert!(mount.delete("static-roles/app").await.answer.is_err());
    mount.delete("static-roles/app").await.nothing();
    assert!(mount.stored("static-").is_empty());
}

#[tokio::test]
async fn without_a_configuration_a_deletion_is_refused_and_nothing_changes() {
    let (mount, _) = with_app(json!({})).await;
    mount.delete("config").await.nothing();
    mount.delete("static-roles/app").await.failed(Kind::BadRequest, "OpenAI client not configured");
    key(&mount, "app").await;
    assert_eq!(role(&mount, "app").await["deleting"], false);
}
