//! Work of the federation that stops half-way, and the way on from there.

use std::time::Instant;

use openai_secrets::logical::{Entry, Storage as _};

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::SETTLED;
use crate::support::storage::WriteOutcome;
use crate::support::wait::eventually;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

async fn ticks(mount: &Mount) {
    for _ in 0..3 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
}

#[tokio::test]
async fn a_stop_reaches_openai_although_its_scopes_are_refused() {
    let mount = with_app().await;
    let stop = json!({"enabled": false, "scopes": "admin.everything"});
    let said = mount.write("roles/app", stop).await;
    assert!(said.error().message().contains("scopes"), "{}", said.error());
    assert!(!rule(&mount).enabled);
    mount.read("creds/app").await.refused("is disabled");
    mount.write("roles/app", json!({"scopes": "api.model.read"})).await.nothing();
    assert_eq!(
        (rule(&mount).enabled, rule(&mount).scopes.unwrap()),
        (false, vec!["api.model.read".to_owned()])
    );
    assert_eq!(mount.read("roles/app").await.text("last_error"), "");
    mount.finish().await;
}

#[tokio::test]
async fn a_late_write_of_a_former_leader_leaves_a_key_that_openai_knows() {
    for (number, restarts) in [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)] {
        let mount = with_app().await;
        mount.watched.set_write_outcomes_after("federation", number, &[WriteOutcome::Late]);
        let _said = mount.write("config/federation/rotate", json!({})).await;
        mount.watched.set_write_outcomes("", &[]);
        mount.restart().await;
        for _ in 0..2 {
            mount.write("config/federation/rotate", json!({})).await.done();
        }
        token(&mount).await;
        mount.watched.commit_late_writes().await;
        if restarts {
            mount.restart().await;
        }
        for _ in 0..4 {
            token(&mount).await;
            mount.tick().await.done();
            token(&mount).await;
            mount.advance(HOUR);
        }
        mount.write("config/federation/rotate", json!({})).await.done();
        token(&mount).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn an_account_that_openai_makes_although_it_refuses_is_found_although_the_list_fails() {
    let mount = managed().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(400)).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.write("roles/app", role()).await.error();
    mount.sim.clear_faults();
    ticks(&mount).await;
    assert_eq!(accounts(&mount).len(), rules(&mount).len());
    mount.finish().await;
}

#[tokio::test]
async fn a_provider_whose_answer_was_lost_stays_on_record_although_the_list_is_refused() {
    let mount = mount().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_PROVIDER, Action::Drop).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_PROVIDERS, Action::status(403)).skipping(2).times(1));
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.error();
    assert_eq!(mount.sim.faults_left(), 0);
    ticks(&mount).await;
    let read = mount.read("config/federation").await.json();
    assert_eq!(read["identity_provider_id"], provider(&mount).id.as_str());
    mount.finish().await;
}

#[tokio::test]
async fn the_deletion_of_a_provider_is_late_from_its_own_beginning() {
    let mount = managed().await;
    mount.advance(HOUR * 24 * 30);
    mount.sim.fault(Fault::on(endpoint::DELETE_PROVIDER, Action::status(403)));
    mount.delete("config/federation").await.error();
    let health = mount.read("health").await.json();
    assert!(health["pending_deletion_age"].as_u64().unwrap() < 60, "{health}");
    assert_eq!(health["status"], "ok", "{health}");
    mount.sim.clear_faults();
    ticks(&mount).await;
    assert_eq!(mount.sim.state().providers, []);
    mount.finish().await;
}

#[tokio::test]
async fn an_unreadable_record_can_be_deleted_by_force() {
    let mount = managed().await;
    let value = b"{\"version\":1,\"issuer\":[]}".to_vec();
    mount.storage.put(Entry { key: "federation".to_owned(), value, seal_wrap: true }).await.unwrap();
    mount.restart().await;
    mount.delete("config/federation").await.error();
    let forced = mount.delete_by_force("config/federation").await;
    assert!(forced.warnings()[0].contains("cannot be read"), "{:?}", forced.warnings());
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_role_of_an_organization_that_is_gone_can_be_deleted_by_force() {
    let mount = with_app().await;
    let (rule, account) = (rule(&mount).id, rule(&mount).account);
    mount.configure_elsewhere().await;
    mount.delete("roles/app").await.done();
    mount.delete("config/federation").await.refused("app (deleted here");
    let forced = mount.delete_by_force("roles/app").await;
    let said = forced.warnings().join(" ");
    assert!(said.contains(&rule) && said.contains(&account), "{said}");
    mount.delete_by_force("config/federation").await.done();
    for prefix in ["federat", "account-owner/"] {
        assert_eq!(mount.stored(prefix), Vec::<String>::new());
    }
    mount.abandon();
}

#[tokio::test]
async fn only_a_refusal_of_the_exchange_is_waited_for_by_a_rotation() {
    let mount = with_app().await;
    let before = mount.sim.calls(endpoint::EXCHANGE_TOKEN);
    mount.sim.fault(Fault::on(endpoint::EXCHANGE_TOKEN, Action::Html));
    mount.write("config/federation/rotate", json!({})).await.done();
    assert_eq!(mount.sim.calls(endpoint::EXCHANGE_TOKEN), before + 1);
    mount.sim.clear_faults();
    ticks(&mount).await;
    assert_eq!(mount.read("config/federation").await.text("rotation_waits_for"), "");
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_holds_up_no_rotation_without_a_role() {
    let mount = managed().await;
    let old = mount.read("config/federation").await.text("current_kid");
    mount.put_clock_ahead(YEAR);
    mount.write("config/federation/rotate", json!({})).await.done();
    mount.put_clock_back(YEAR);
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert_ne!(mount.read("config/federation").await.text("current_kid"), old);
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_keeps_no_replaced_key_at_openai() {
    let mount = with_app().await;
    mount.put_clock_ahead(YEAR);
    mount.write("config/federation/rotate", json!({})).await.done();
    token(&mount).await;
    mount.put_clock_back(YEAR);
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert_eq!(provider(&mount).kids.len(), 1);
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_openai_does_not_show_yet_stays_at_openai() {
    let mount = with_app().await;
    let path = format!("/workload_identity_providers/{}", provider(&mount).id);
    let before = administer(&mount, "GET", &path, None).await.ok().body;
    mount.write("config/federation/rotate", json!({})).await.done();
    let identity = mount.read("identity-token/app").await.json();
    mount.sim.fault(Fault::on(endpoint::READ_PROVIDER, Action::status_with(200, before)).times(1));
    mount.write("config/federation/rotate", json!({})).await.done();
    assert_eq!((provider(&mount).kids.len(), mount.sim.faults_left()), (3, 0));
    exchange_elsewhere(&mount, &identity).await;
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    assert_eq!(provider(&mount).kids.len(), 1);
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn everything_that_revocations_lists_of_a_deleted_role_can_be_read() {
    let mount = managed().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.write("roles/app", role()).await.error();
    mount.delete("roles/app").await.done();
    for _ in 0..3 {
        for name in mount.list("revocations").await.keys() {
            mount.read(&format!("revocations/{name}")).await.done();
        }
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    mount.sim.clear_faults();
    ticks(&mount).await;
    assert_eq!(mount.list("revocations").await.keys(), Vec::<String>::new());
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_slow_rotation_of_the_signing_key_holds_up_no_other_role_of_the_project() {
    let mount = with_app().await;
    mount.sim.fault(Fault::on(endpoint::READ_PROVIDER, Action::delay(Duration::from_secs(4))).times(1));
    let asked = async || (mount.sim.faults_left() == 0).then_some(());
    let other = async {
        eventually("the rotation waits for OpenAI", asked).await;
        let dynamic = async {
            // The new federated role waits for the rotation.
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            let begun = Instant::now();
            mount.write("roles/dynamic", json!({"project": PROJECT})).await.done();
            begun.elapsed()
        };
        tokio::join!(mount.write("roles/b", role()), dynamic)
    };
    let rotation = mount.write("config/federation/rotate", json!({}));
    let (rotated, (made, took)) = tokio::join!(rotation, other);
    rotated.done();
    made.done();
    assert!(took < Duration::from_secs(2), "{took:?}");
    mount.finish().await;
}

#[tokio::test]
async fn a_replaced_key_goes_although_the_next_rotation_cannot_be_proved() {
    let mount = with_app().await;
    let replaced = mount.read("config/federation").await.text("current_kid");
    mount.write("config/federation/rotate", json!({})).await.done();
    change_rule(&mount, json!({"enabled": false})).await;
    let begun = mount.write("config/federation/rotate", json!({})).await;
    assert_ne!(begun.text("rotation_waits_for"), "");
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    let kids = provider(&mount).kids;
    assert!(kids.len() == 2 && !kids.contains(&replaced), "{kids:?}");
    mount.write("roles/app", json!({})).await.done();
    ticks(&mount).await;
    assert_eq!(mount.read("config/federation").await.text("rotation_waits_for"), "");
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_provider_that_is_gone_at_openai_is_told_with_the_next_step() {
    let mount = with_app().await;
    let path = format!("/organization/workload_identity_providers/{}", provider(&mount).id);
    mount.remove_at_openai(&format!("{path}/federation_rules/{}", rule(&mount).id)).await;
    mount.remove_at_openai(&path).await;
    mount.advance(HOUR);
    let says = "is gone at OpenAI";
    mount.write("roles/b", role()).await.refused(says);
    let rotated = mount.write("config/federation/rotate", json!({})).await;
    assert!(rotated.text("rotation_waits_for").contains(says), "{:?}", rotated.json());
    let change = json!({"audience": "other", "admin_api_key": mount.sim.admin_key()});
    mount.write("config/federation", change).await.refused(says);
    mount.delete("roles/app").await.done();
    mount.delete("config/federation").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_account_on_which_somebody_has_a_key_is_not_deleted() {
    let mount = with_app().await;
    let before: Vec<String> = mount.sim.state().accounts.into_iter().map(|account| account.id).collect();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    let role = json!({"project": PROJECT, "credential_type": "access_token"});
    mount.write("roles/lost", role).await.error();
    mount.sim.clear_faults();
    let lost =
        mount.sim.state().accounts.into_iter().find(|account| !before.contains(&account.id)).unwrap().id;
    mount.advance(Duration::from_secs(60));
    let theirs = mount.seed_key(&lost, "theirs");
    for _ in 0..3 {
        mount.advance(SETTLED);
        // The tick says what it could not do.
        let _said = mount.tick().await;
    }
    assert!(mount.sim.state().is_live(&theirs.1), "somebody uses the account");
    mount.remove_key_at_openai(&theirs.0).await;
    ticks(&mount).await;
    assert!(mount.sim.state().account(&lost).is_none());
    mount.finish().await;
}
