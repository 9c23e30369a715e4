//! Somebody changes things at OpenAI, or the mount's storage is not the newest.

use openai_secrets::logical::{Entry, Storage as _};

use super::*;
use crate::simulator::{Action, Fault, endpoint};
use crate::support::library::SETTLED;
use crate::support::storage::Access;
use crate::support::wait::eventually;

/// A refusal of the exchange that says what to look at; `health` tells it after some minutes.
async fn refused(mount: &Mount, says: &str) {
    mount.advance(HOUR);
    mount.read("creds/app").await.refused(says);
    mount.advance(Duration::from_secs(300));
    mount.read("creds/app").await.refused(says);
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "degraded");
    assert!(health["reasons"].to_string().contains("OpenAI refuses the tokens of role app"), "{health}");
}

#[tokio::test]
async fn a_rule_that_was_changed_by_hand_is_told_and_a_write_puts_it_right() {
    let mount = with_app().await;
    change_rule(&mount, json!({"enabled": false})).await;
    refused(&mount, "that its rule is enabled").await;
    mount.write("roles/app", json!({})).await.nothing();
    assert!(rule(&mount).enabled);
    token(&mount).await;
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    change_rule(&mount, json!({"attribute_matchers": {"sub": "somebody-else"}})).await;
    refused(&mount, "demands sub").await;
    mount.delete("roles/app").await.nothing();
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_rule_or_an_account_that_was_deleted_by_hand_is_told() {
    let mount = with_app().await;
    let account = rule(&mount).account;
    let path = format!("/organization/projects/{}/service_accounts/{account}", mount.sim.project());
    mount.remove_at_openai(&path).await;
    refused(&mount, &account).await;
    let path = format!(
        "/organization/workload_identity_providers/{}/federation_rules/{}",
        provider(&mount).id,
        rule(&mount).id
    );
    mount.remove_at_openai(&path).await;
    refused(&mount, "invalid_grant").await;
    mount.write("roles/app", json!({"ttl": "5m"})).await.refused("is gone at OpenAI");
    mount.delete("roles/app").await.nothing();
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_provider_that_was_deleted_by_hand_is_told_and_everything_can_be_written_anew() {
    let mount = with_app().await;
    let provider = format!("/organization/workload_identity_providers/{}", provider(&mount).id);
    mount.remove_at_openai(&format!("{provider}/federation_rules/{}", rule(&mount).id)).await;
    mount.remove_at_openai(&provider).await;
    refused(&mount, "is there and enabled").await;
    mount.delete("roles/app").await.nothing();
    mount.delete("config/federation").await.nothing();
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_mount_that_was_restored_with_an_old_key_says_so_and_a_rotation_helps() {
    let mount = with_app().await;
    let backup = mount.storage.snapshot();
    mount.write("config/federation/rotate", json!({})).await.done();
    mount.advance(HOUR * 2);
    mount.tick().await.done();
    let newest = provider(&mount).kids;
    mount.storage.restore(backup);
    mount.restart().await;
    refused(&mount, "restored from a backup").await;
    // Nothing by itself brings a key back that a rotation took out.
    mount.tick().await.done();
    assert_eq!(provider(&mount).kids, newest);
    mount.write("config/federation/rotate", json!({})).await.done();
    token(&mount).await;
    let kids = provider(&mount).kids;
    assert!(kids.contains(&newest[0]) && kids.len() == 2, "{kids:?}");
    let health = mount.read("health").await.json();
    assert!(health["reasons"].to_string().contains("did not upload"), "{health}");
    mount.finish().await;
}

#[tokio::test]
async fn two_mounts_with_one_provider_leave_each_other_their_keys() {
    let (mount, clone) = (with_app().await, Mount::start().await);
    for entry in mount.storage.snapshot() {
        openai_secrets::logical::Storage::put(&*clone.storage, entry).await.unwrap();
    }
    clone.restart().await;
    let hours_pass = || [&mount, &clone].map(|one| one.advance(HOUR * 2));
    clone.write("config/federation/rotate", json!({})).await.done();
    for one in [&mount, &clone] {
        one.read("creds/app").await.done();
    }
    hours_pass();
    clone.tick().await.done();
    // The clone took the key out that both had.
    mount.read("creds/app").await.refused("copied");
    mount.write("config/federation/rotate", json!({})).await.done();
    for _ in 0..2 {
        assert_eq!(provider(&mount).kids.len(), 2);
        for one in [&mount, &clone] {
            one.read("creds/app").await.done();
        }
        clone.write("config/federation/rotate", json!({})).await.done();
        hours_pass();
        for one in [&mount, &clone] {
            one.tick().await.done();
        }
    }
    let read = clone.read("config/federation").await.json();
    assert_eq!(read["foreign_kids"].as_array().unwrap().len(), 1, "{read}");
    clone.abandon();
    mount.finish().await;
}

#[tokio::test]
async fn rules_of_others_stop_the_deletion_of_the_provider() {
    let mount = managed().await.without_lag();
    let account = mount.seed("agent", false).id;
    let rule = json!({
        "name": "theirs", "project_id": mount.sim.project(), "service_account_id": account,
        "attribute_matchers": {"sub": "x"},
    });
    let path = format!("/workload_identity_providers/{}/federation_rules", provider(&mount).id);
    administer(&mount, "POST", &path, Some(rule)).await.ok();
    mount.delete("config/federation").await.refused("theirs");
    assert_eq!(mount.sim.state().providers.len(), 1);
    let forced = mount.delete_by_force("config/federation").await;
    assert!(forced.warnings()[0].contains("may still be at OpenAI"), "{:?}", forced.warnings());
    mount.read("config/federation").await.nothing();
    mount.finish().await;
}

#[tokio::test]
async fn a_key_of_others_keeps_the_account_of_a_deleted_role() {
    let mount = with_app().await;
    let account = rule(&mount).account;
    let (key, _) = mount.seed_key(&account, "theirs");
    mount.advance(Duration::from_secs(60));
    let deleted = mount.delete("roles/app").await;
    assert!(deleted.warnings()[0].contains(&key), "{:?}", deleted.warnings());
    assert!(rules(&mount).is_empty());
    assert_eq!(accounts(&mount), std::slice::from_ref(&account));
    mount.remove_key_at_openai(&key).await;
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(accounts(&mount).is_empty());
    assert_gone(mount).await;
}

#[tokio::test]
async fn an_account_that_another_owner_claims_is_not_deleted_with_its_role() {
    let mount = with_app().await;
    let account = rule(&mount).account;
    let key = format!("account-owner/{account}/theirs");
    let claim = json!({"version": 1, "owner": {"static_role": "s"}, "made": mount.now()});
    mount.storage.put(Entry { key, value: claim.to_string().into(), seal_wrap: false }).await.unwrap();
    mount.delete("roles/app").await.nothing();
    assert_eq!(accounts(&mount), [account]);
    assert!(mount.stored("federated-role/").is_empty());
    mount.abandon();
}

#[tokio::test]
async fn a_role_whose_creation_openai_interrupts_is_completed() {
    let mount = managed().await;
    let fault = mount.sim.fault(Fault::on(endpoint::CREATE_RULE, Action::status(500)));
    let failed = mount.write("roles/app", role()).await;
    assert!(failed.error().message().contains("Vault repeats it"), "{}", failed.error());
    mount.read("creds/app").await.refused("not registered at OpenAI yet");
    mount.advance(Duration::from_secs(300));
    let health = mount.read("health").await.json();
    assert!(health["reasons"].to_string().contains("federated role app"), "{health}");
    mount.sim.remove_fault(fault);
    mount.tick().await.done();
    token(&mount).await;
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.finish().await;
}

/// A creation of the role `app` is cut off. Answers the account that OpenAI made all the same.
async fn cut_off(mount: &Mount) -> Vec<String> {
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.write("roles/app", role()).await.error();
    mount.sim.clear_faults();
    let stray = accounts(mount);
    assert_eq!(stray.len(), 1, "OpenAI made it");
    stray
}

#[tokio::test]
async fn a_role_inherits_the_cut_off_creation_of_an_earlier_role_of_its_name() {
    let mount = managed().await.without_lag();
    let stray = cut_off(&mount).await;
    let warnings = mount.delete("roles/app").await.warnings().join(" ");
    assert!(warnings.contains("a creation that was cut off is looked for"), "{warnings}");

    // Nobody waits for the look-up.
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.advance(SETTLED);
    mount.tick().await.done();
    let left = accounts(&mount);
    assert!(left.len() == 1 && left != stray, "{left:?}: the stray is gone, the role's account stays");
    token(&mount).await;
    mount.delete("roles/app").await.done();
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_lost_account_that_another_role_took_meanwhile_is_not_deleted() {
    let mount = managed().await.without_lag();
    let stray = cut_off(&mount).await;
    let on_it = json!({"project": PROJECT, "service_account_id": stray[0]});
    mount.write("roles/on-it", on_it).await.done();
    let key = mount.read("creds/on-it").await.text("api_key");
    for _ in 0..3 {
        mount.advance(SETTLED);
        mount.tick().await.done();
    }
    assert!(mount.sim.state().is_live(&key), "the role uses the account");
    assert!(!mount.storage_text("federated-role/app").contains("making"), "nothing is left to look for");
    mount.abandon();
}

#[tokio::test]
async fn a_role_that_somebody_writes_again_and_again_has_its_turn_in_the_tick() {
    let mount = managed().await.without_lag();
    let stray = cut_off(&mount).await;
    mount.write("roles/app", role()).await.done();
    mount.advance(SETTLED);
    // The tick comes while a write waits for OpenAI, with another one behind it.
    mount.sim.fault(Fault::on(endpoint::UPDATE_RULE, Action::delay(Duration::from_millis(200))));
    let write = async |scopes: &str| {
        mount.write("roles/app", role_with(json!({"scopes": scopes}))).await.done();
    };
    let asked = async || (mount.sim.calls(endpoint::UPDATE_RULE) > 0).then_some(());
    let tick = async {
        eventually("a write waits for OpenAI", asked).await;
        mount.tick().await.done();
    };
    tokio::join!(write("api.model.read"), write("api.responses.write"), tick);
    let left = accounts(&mount);
    assert!(left.len() == 1 && left != stray, "{left:?}: the stray is gone, the role's account stays");
    mount.finish().await;
}

/// What OpenAI's lists answer while they are late.
fn nothing_listed() -> Action {
    Action::status_with(200, json!({"object": "list", "data": [], "has_more": false}))
}

#[tokio::test]
async fn a_provider_or_a_rule_that_openai_makes_although_it_refuses_is_taken_over() {
    let mount = mount().await.without_lag();
    for made in [endpoint::CREATE_PROVIDER, endpoint::CREATE_RULE] {
        mount.sim.fault(Fault::on(made, Action::status(400)).after_the_work().times(1));
    }
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount.write("roles/app", role()).await.done();
    assert_eq!((mount.sim.faults_left(), mount.sim.state().providers.len(), rules(&mount).len()), (0, 1, 1));
    token(&mount).await;
    mount.delete("roles/app").await.nothing();
    mount.delete("config/federation").await.nothing();
    assert!(mount.sim.state().providers.is_empty());
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_rule_whose_answer_was_lost_is_found_although_openai_lists_it_late() {
    let mount = managed().await.without_lag();
    let late = mount.sim.fault(Fault::on(endpoint::LIST_RULES, nothing_listed()));
    mount.sim.fault(Fault::on(endpoint::CREATE_RULE, Action::Drop).after_the_work().times(1));
    mount.write("roles/app", role()).await.error();
    mount.write("roles/app", json!({"ttl": "10m"})).await.error();
    mount.sim.remove_fault(late);
    mount.advance(HOUR);
    mount.tick().await.done();
    token(&mount).await;
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.delete("roles/app").await.nothing();
    mount.delete("config/federation").await.nothing();
    assert_gone(mount).await;
}

/// A deletion that OpenAI answers with this 404 keeps its record, and the tick repeats the deletion.
async fn proves_nothing(mount: &Mount, missing: &str, path: &str, record: &str) {
    mount.restart().await;
    let fault = mount.sim.fault(Fault::on(missing, Action::status(404)));
    let _said = mount.delete(path).await;
    mount.sim.remove_fault(fault);
    assert_eq!(mount.stored(record).len(), 1, "{missing}");
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(mount.stored(record), Vec::<String>::new(), "{missing}");
}

#[tokio::test]
async fn a_404_for_what_another_process_made_a_moment_ago_proves_nothing() {
    let mount = with_app().await.without_lag();
    proves_nothing(&mount, endpoint::DELETE_RULE, "roles/app", "federated-role/").await;
    assert!(rules(&mount).is_empty() && accounts(&mount).is_empty());

    // The account is much younger than the role's record.
    let fault = mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(503)));
    mount.write("roles/app", role()).await.error();
    mount.sim.remove_fault(fault);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(rules(&mount).len(), 1);
    proves_nothing(&mount, endpoint::DELETE_ACCOUNT, "roles/app", "federated-role/").await;
    assert!(rules(&mount).is_empty() && accounts(&mount).is_empty());

    mount.delete("config/federation").await.nothing();
    let fault = mount.sim.fault(Fault::on(endpoint::CREATE_PROVIDER, Action::status(503)));
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.error();
    mount.sim.remove_fault(fault);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(mount.sim.state().providers.len(), 1);
    proves_nothing(&mount, endpoint::DELETE_PROVIDER, "config/federation", "federation").await;
    assert!(mount.sim.state().providers.is_empty());
    assert_gone(mount).await;
}

#[tokio::test]
async fn a_change_of_the_issuer_that_openai_has_not_taken_is_told() {
    let mount = managed().await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_PROVIDER, Action::final_status(500)));
    let change =
        json!({"audience": "https://api.openai.com/v1#other", "admin_api_key": mount.sim.admin_key()});
    mount.write("config/federation", change).await.error();
    mount.advance(Duration::from_secs(300));
    let health = mount.read("health").await.json();
    let says = "config/federation is not as written at OpenAI";
    assert!(health["reasons"].to_string().contains(says), "{health}");
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_two_roles_take_at_the_same_time_has_one_of_them() {
    let mount = managed().await;
    let account = mount.seed("agent", false).id;
    let dynamic = json!({"project_id": mount.sim.project(), "service_account_id": account});
    // The federated role has claimed the account, and its record is not stored yet.
    mount.watched.hold(Access::Write, "federated-role/");
    let dynamic = async {
        mount.watched.held().await;
        let release = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            mount.watched.release();
        };
        tokio::join!(mount.write("roles/dynamic", dynamic), release).0
    };
    let federated = mount.write("roles/app", role_with(json!({"service_account_id": account})));
    let (app, dynamic) = tokio::join!(federated, dynamic);
    app.done();
    dynamic.refused("federated role app");
    mount.finish().await;
}

#[tokio::test]
async fn a_role_of_a_provider_that_was_replaced_meanwhile_is_not_stored() {
    let mount = mount().await;
    let by_hand = json!({"identity_provider_id": "idp_hand", "token_endpoint": mount.sim.token_url()});
    mount.write("config/federation", by_hand).await.done();
    let account = mount.seed("agent", false).id;
    // The write has read the issuer, and looks for another user of the account.
    mount.watched.hold(Access::Read, "account-owner/");
    let replaced = async {
        mount.watched.held().await;
        mount.delete("config/federation").await.nothing();
        mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
        mount.watched.release();
    };
    let role = role_with(json!({"service_account_id": account}));
    let (app, ()) = tokio::join!(mount.write("roles/app", role.clone()), replaced);
    app.refused("try again");
    // The refused write holds no claim on the account.
    mount.write("roles/b", role.clone()).await.done();
    mount.delete("roles/b").await.nothing();
    mount.write("roles/app", role).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_account_that_a_static_role_is_about_to_take_is_not_deleted() {
    let mount = managed().await.without_lag();
    let stray = cut_off(&mount).await.remove(0);
    mount.advance(SETTLED);
    // The static role has claimed the account, and its record is not stored yet.
    mount.watched.hold(Access::Write, "static-role/");
    let tick = async {
        mount.watched.held().await;
        mount.tick().await.done();
        assert!(accounts(&mount).contains(&stray));
        mount.watched.release();
    };
    let body = json!({"project": PROJECT, "service_account_id": stray});
    let (other, ()) = tokio::join!(mount.write("static-roles/other", body), tick);
    other.done();
    let taken = mount.read("static-creds/other").await.text("api_key");
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&taken));
    assert!(!mount.storage_text("federated-role/app").contains("making"), "nothing is left to look for");
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_node_that_cannot_write_any_more_changes_nothing_at_openai_for_a_federated_role() {
    let mount = managed().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_RULE, Action::final_status(500)));
    mount.write("roles/app", role()).await.error();
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.storage.fail_put("federated-role/");
    assert!(mount.tick().await.answer.is_err());
    assert_eq!(rules(&mount), []);
    mount.tick().await.done();
    token(&mount).await;
    mount.delete("roles/app").await.nothing();
    assert_gone(mount).await;
}

#[tokio::test]
async fn each_failure_of_a_deleted_role_counts_once() {
    let mount = with_app().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::DELETE_RULE, Action::status(403)));
    mount.delete("roles/app").await.done();
    for failures in 1..=3 {
        let listed = mount.list("revocations").await.json();
        let (_, info) = listed["key_info"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(info["failures"], failures, "{info}");
        mount.advance(HOUR);
        mount.tick().await.done();
    }
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_gone(mount).await;
}
