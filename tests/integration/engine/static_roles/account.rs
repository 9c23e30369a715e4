//! `rotation_method=account`: each rotation makes a new account.

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::json;

use super::*;
use crate::simulator::{AccountState, Action, Fault, endpoint};

#[tokio::test]
async fn the_given_account_stays_with_its_own_key_and_the_made_ones_go() {
    let (mount, account) = with_app(json!({"rotation_method": "account", "api_key_name": "app key"})).await;
    let first = key(&mount, "app").await;
    assert_eq!(live_keys(&mount, &account.id).len(), 2);

    let rotated = mount.write("static-creds/app/rotate", json!({})).await.json();
    let made = rotated["service_account_id"].as_str().unwrap().to_owned();
    assert_ne!(made, account.id);
    assert_eq!(role(&mount, "app").await["current_service_account_id"], made.as_str());
    let name = mount.sim.state().account(&made).unwrap().name.clone();
    assert!(name.starts_with("app-key-") && rotated["service_account"] == name.as_str(), "{name}");
    assert!(!mount.sim.state().is_live(&first) && is_untouched(&mount, &account));

    let next = mount.write("static-creds/app/rotate", json!({})).await.text("service_account_id");
    assert!(mount.sim.state().account(&made).is_none(), "Vault made it, so it goes");
    assert!(mount.sim.state().account(&next).is_some() && is_untouched(&mount, &account));
    let claims = mount.stored("account-owner/");
    assert!(claims.len() == 1 && claims[0].starts_with(&format!("account-owner/{next}/")), "{claims:?}");
}

#[tokio::test]
async fn a_made_account_goes_when_its_grace_is_over_and_belongs_to_the_role_until_then() {
    let (mount, _) = with_app(json!({"rotation_method": "account", "grace_period": "1h"})).await;
    let made = mount.write("static-creds/app/rotate", json!({})).await.json();
    let (id, value) = (made["service_account_id"].as_str().unwrap(), made["api_key"].as_str().unwrap());
    rotate(&mount, "app").await;
    assert!(mount.sim.state().is_live(value));
    let body = json!({"service_account_id": id, "project": PROJECT});
    mount.write("static-roles/other", body).await.refused("already belongs to static role app");
    mount.advance(HOUR + MINUTE);
    mount.tick().await.done();
    assert!(mount.sim.state().account(id).is_none());
    assert_eq!(mount.stored("account-owner/").len(), 1);
}

#[tokio::test]
async fn the_account_left_behind_may_go_to_another_role() {
    let (mount, account) = with_app(json!({"rotation_method": "account"})).await;
    let body = json!({"service_account_id": account.id, "project": PROJECT});
    mount.write("static-roles/other", body.clone()).await.refused("already belongs");
    rotate(&mount, "app").await;
    mount.write("static-roles/other", body).await.nothing();
}

#[tokio::test]
async fn the_account_that_the_role_was_written_with_may_be_written_again() {
    let (mount, account) = with_app(json!({"rotation_method": "account"})).await;
    rotate(&mount, "app").await;
    let now = role(&mount, "app").await;
    let body = json!({"service_account_id": account.id, "project": PROJECT, "rotation_method": "account"});
    mount.write("static-roles/app", body).await.nothing();
    assert_eq!(role(&mount, "app").await, now);
}

#[tokio::test]
async fn with_method_key_again_the_made_account_stays_and_goes_with_the_role() {
    let (mount, account) = with_app(json!({"rotation_method": "account"})).await;
    let made = mount.write("static-creds/app/rotate", json!({})).await.text("service_account_id");
    mount.write("static-roles/app", json!({"rotation_method": "key"})).await.nothing();
    rotate(&mount, "app").await;
    assert_eq!(live_keys(&mount, &made).len(), 1);
    mount.delete("static-roles/app").await.nothing();
    assert!(mount.sim.state().account(&made).is_none());
    assert!(is_untouched(&mount, &account));
}

#[tokio::test]
async fn a_new_account_whose_answer_was_lost_is_undone_at_once() {
    let (mount, _) = with_app(json!({"rotation_method": "account"})).await;
    let mount = mount.without_lag();
    let before = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    assert!(mount.write("static-creds/app/rotate", json!({})).await.answer.is_err());
    assert_eq!(mount.sim.state().accounts.len(), 1);
    assert_eq!(key(&mount, "app").await, before);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_somebody_else_has_a_key_on_is_not_deleted_with_ours() {
    for by_deletion in [false, true] {
        let (mount, _) = with_app(json!({"rotation_method": "account"})).await;
        let mount = mount.without_lag();
        rotate(&mount, "app").await;
        let made = mount.read("static-creds/app").await.json();
        let (id, ours) = (made["service_account_id"].as_str().unwrap(), made["api_key"].as_str().unwrap());
        let theirs = mount.seed_key(id, "another-mounts-key");
        let said = if by_deletion {
            let answered = mount.delete("static-roles/app").await;
            answered.refused("");
            answered.error().message().to_owned()
        } else {
            mount.write("static-creds/app/rotate", json!({})).await.warnings().join("; ")
        };
        for named in [id, theirs.0.as_str()] {
            assert!(said.contains(named), "{said} lacks {named}");
        }
        let state = mount.sim.state();
        assert!(state.is_live(&theirs.1), "it is somebody's");
        assert!(!state.is_live(ours), "our key ends all the same");
        // It goes once nobody has a key on it any more.
        mount.remove_key_at_openai(&theirs.0).await;
        mount.advance(MINUTE * 5);
        mount.tick().await.done();
        assert!(mount.sim.state().account(id).is_none());
        if by_deletion {
            assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
        }
        mount.finish().await;
    }
}

#[tokio::test]
async fn force_leaves_an_account_that_somebody_else_has_a_key_on() {
    let (mount, _) = with_app(json!({"rotation_method": "account"})).await;
    let mount = mount.without_lag();
    rotate(&mount, "app").await;
    let made = mount.read("static-creds/app").await.json();
    let id = made["service_account_id"].as_str().unwrap();
    let theirs = mount.seed_key(id, "another-mounts-key");
    let answered = mount.delete_by_force("static-roles/app").await;
    assert!(answered.warnings()[0].contains(id), "{:?}", answered.warnings());
    let state = mount.sim.state();
    assert!(state.is_live(&theirs.1) && !state.is_live(made["api_key"].as_str().unwrap()));
    assert!(mount.stored("static-").is_empty());
    mount.abandon();
}

/// A rotation made an account whose answer was lost, and whose name no list shows until the faults are cleared.
async fn lose_the_next_account(mount: &Mount) -> String {
    let before: Vec<String> = mount.sim.state().accounts.into_iter().map(|account| account.id).collect();
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html));
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    let lost = mount.sim.state().accounts.into_iter().find(|account| !before.contains(&account.id));
    lost.expect("OpenAI made it").id
}

#[tokio::test]
async fn a_lost_account_that_somebody_took_over_meanwhile_is_not_deleted() {
    for taker in ["static-roles/other", "roles/other", "library-sets/other"] {
        let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": 0})).await;
        let mount = mount.without_lag();
        let lost = lose_the_next_account(&mount).await;
        let name = mount.sim.state().account(&lost).unwrap().name.clone();
        let is_set = taker.starts_with("library-sets/");
        let (field, account) =
            if is_set { ("service_account_names", &name) } else { ("service_account_id", &lost) };
        mount.write(taker, json!({field: account, "project": PROJECT})).await.done();
        let key = match taker {
            "static-roles/other" => mount.read("static-creds/other").await,
            "roles/other" => mount.read("creds/other").await,
            _ => mount.write("library-sets/other/check-out", json!({})).await,
        };
        let key = key.text("api_key");
        for _ in 0..4 {
            mount.advance(MINUTE * 4);
            mount.tick().await.done();
        }
        assert!(mount.sim.state().is_live(&key), "{taker} uses the account");
        assert!(
            !mount.storage_text("static-role/app").contains("making"),
            "{taker}: nothing is left to look for"
        );
        mount.abandon();
    }
}

#[tokio::test]
async fn a_lost_account_leaves_no_claim() {
    let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": 0})).await;
    let mount = mount.without_lag();
    let lost = lose_the_next_account(&mount).await;
    // The process died after it had claimed the account and before it stored the role.
    let claim = json!({"version": 1, "owner": {"static_role": "app"}, "made": mount.now()});
    let (key, value) = (format!("account-owner/{lost}/some-id"), serde_json::to_vec(&claim).unwrap());
    mount.storage.put(Entry { key, value, seal_wrap: false }).await.unwrap();
    for _ in 0..3 {
        mount.advance(MINUTE * 4);
        mount.tick().await.done();
    }
    assert!(mount.sim.state().account(&lost).is_none());
    assert_eq!(mount.stored(&format!("account-owner/{lost}")), Vec::<String>::new());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_a_deleted_role_still_has_to_delete_is_refused_to_a_new_role_of_its_name() {
    let (mount, _) = with_app(json!({"rotation_method": "account"})).await;
    let mount = mount.without_lag();
    let made = mount.write("static-creds/app/rotate", json!({})).await.text("service_account_id");
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)));
    mount.delete("static-roles/app").await.refused("is being deleted");
    let body = json!({"service_account_id": made, "project": PROJECT});
    mount.write("static-roles/app", body).await.refused("is being deleted");
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert!(mount.sim.state().account(&made).is_none());
    assert!(mount.stored("static-").is_empty() && mount.stored("account-owner/").is_empty());
    mount.finish().await;
}

/// A rotation of the role by this call succeeded, readers got the key, and then a backup of the moment of the creation was
/// restored. Answers the key.
async fn restore_a_backup_from_before_a_rotation(mount: &Mount, creation: &str) -> String {
    let before: Vec<String> = mount.sim.state().live_keys().map(|key| key.value.clone()).collect();
    mount.sim.fault(Fault::on(creation, Action::Drop).times(1).after_the_work());
    for list in [endpoint::LIST_KEYS, endpoint::LIST_ACCOUNTS] {
        mount.sim.fault(Fault::on(list, Action::Html));
    }
    mount.write("static-creds/app/rotate", json!({})).await.error();
    mount.sim.clear_faults();
    let lost = mount.sim.state().live_keys().map(|key| key.value.clone()).find(|key| !before.contains(key));
    let lost = lost.expect("OpenAI made it");
    mount.sim.use_key(&lost);
    mount.restart().await;
    for _ in 0..4 {
        mount.advance(MINUTE * 4);
        mount.tick().await.done();
    }
    lost
}

#[tokio::test]
async fn a_lost_key_that_somebody_uses_is_not_deleted_because_a_backup_was_restored() {
    for (method, creation) in [("key", endpoint::CREATE_KEY), ("account", endpoint::CREATE_ACCOUNT)] {
        let (mount, _) = with_app(json!({"rotation_method": method, "rotation_period": 0})).await;
        let mount = mount.without_lag();
        let lost = restore_a_backup_from_before_a_rotation(&mount, creation).await;
        assert!(mount.sim.state().is_live(&lost), "{method}");
        let stored = mount.storage_text("static-role/app");
        assert!(!stored.contains("making") && stored.contains("ending"), "{method}: {stored}");
        mount.advance(MINUTE * 60 * 24 * 33);
        mount.tick().await.done();
        assert!(!mount.sim.state().is_live(&lost), "{method}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn the_account_of_a_lost_key_that_somebody_uses_is_refused_to_others_until_it_ends() {
    let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": 0})).await;
    let mount = mount.without_lag();
    let lost = restore_a_backup_from_before_a_rotation(&mount, endpoint::CREATE_ACCOUNT).await;
    let has_it = |account: &AccountState| account.keys.iter().any(|key| key.value == lost);
    let account = mount.sim.state().accounts.into_iter().find(has_it).unwrap().id;
    let on_it = json!({"service_account_id": account, "project": PROJECT});
    for taker in ["roles/other", "static-roles/other"] {
        mount.write(taker, on_it.clone()).await.refused("already belongs to static role app");
    }
    mount.advance(DAY * 33);
    mount.tick().await.done();
    assert!(mount.sim.state().account(&account).is_none());
    assert_eq!(mount.stored(&format!("account-owner/{account}")), Vec::<String>::new());
    mount.finish().await;
}

/// OpenAI takes no end that is more than a year away.
#[tokio::test]
async fn a_lost_key_that_somebody_uses_lives_for_a_period_above_a_year() {
    let (mount, _) = with_app(json!({"rotation_period": "9600h"})).await;
    let mount = mount.without_lag();
    let lost = restore_a_backup_from_before_a_rotation(&mount, endpoint::CREATE_KEY).await;
    for days in [1, 100, 298] {
        let stored = mount.storage_text("static-role/app");
        assert!(stored.contains("ending") && !stored.contains("last_error"), "{stored}");
        assert!(mount.sim.state().is_live(&lost), "{days}");
        mount.advance(DAY * days);
        mount.tick().await.done();
    }
    assert!(mount.sim.state().is_live(&lost), "its readers come back after 400 days");
    mount.advance(DAY * 2);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&lost));
    mount.abandon();
}

#[tokio::test]
async fn a_made_account_stays_until_the_grace_of_each_of_its_keys_is_over() {
    for (first, second) in [("10h", "10m"), ("10m", "10h")] {
        let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": 0})).await;
        let made = mount.write("static-creds/app/rotate", json!({})).await.json();
        let account = made["service_account_id"].as_str().unwrap();
        mount.patch("static-roles/app", json!({"rotation_method": "key"})).await.done();
        mount.write("static-creds/app/rotate", json!({"grace_period": first})).await.done();
        let later = key(&mount, "app").await;
        mount.patch("static-roles/app", json!({"rotation_method": "account"})).await.done();
        mount.write("static-creds/app/rotate", json!({"grace_period": second})).await.done();
        mount.advance(MINUTE * 12);
        mount.tick().await.done();
        let in_grace = if first == "10h" { made["api_key"].as_str().unwrap() } else { &later };
        let live: Vec<_> = live_keys(&mount, account).into_iter().map(|key| key.value).collect();
        assert_eq!(live, [in_grace], "{first}");
        mount.advance(HOUR * 10);
        mount.tick().await.done();
        assert!(mount.sim.state().account(account).is_none(), "{first}");
        assert_eq!(role(&mount, "app").await["grace_keys"], json!({}), "{first}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_lost_account_on_which_somebody_has_a_key_is_not_deleted() {
    for is_deleted in [false, true] {
        let (mount, _) = with_app(json!({"rotation_method": "account", "rotation_period": 0})).await;
        let mount = mount.without_lag();
        let lost = lose_the_next_account(&mount).await;
        mount.advance(MINUTE);
        let theirs = mount.seed_key(&lost, "another-mounts-key");
        if is_deleted {
            mount.delete("static-roles/app").await.done();
        }
        for _ in 0..4 {
            mount.advance(MINUTE * 4);
            mount.tick().await.done();
        }
        assert!(mount.sim.state().is_live(&theirs.1), "{is_deleted}");
        mount.remove_key_at_openai(&theirs.0).await;
        for _ in 0..4 {
            mount.advance(MINUTE * 4);
            mount.tick().await.done();
        }
        assert!(mount.sim.state().account(&lost).is_none(), "{is_deleted}");
        assert!(!mount.storage_text("static-role/").contains("making"), "{is_deleted}");
        mount.finish().await;
    }
}

/// A backup of the moment of a role's creation was restored, after readers had got the key.
#[tokio::test]
async fn a_first_key_that_somebody_uses_lives_until_the_role_is_written_again() {
    let mount = mount().await.without_lag();
    let account = mount.seed("app", false);
    let body = json!({"service_account_id": account.id, "project": PROJECT, "rotation_period": 0});
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
    mount.write("static-roles/app", body.clone()).await.error();
    mount.sim.clear_faults();
    let lost = live_keys(&mount, &account.id).remove(0).value;
    mount.sim.use_key(&lost);
    mount.restart().await;
    for is_written_again in [false, true] {
        if is_written_again {
            mount.write("static-roles/app", body.clone()).await.nothing();
        }
        for _ in 0..4 {
            mount.advance(MINUTE * 4);
            mount.tick().await.done();
        }
        assert!(mount.sim.state().is_live(&lost), "{is_written_again}");
    }
    mount.advance(MINUTE * 60 * 24 * 33);
    mount.tick().await.done();
    assert_eq!(live_keys(&mount, &account.id).len(), 1);
    assert!(!mount.sim.state().is_live(&lost));
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_key_of_a_deleted_role_ends_although_somebody_uses_it() {
    for has_first_key in [false, true] {
        let mount = mount().await.without_lag();
        let account = mount.seed("app", false);
        let body = json!({"service_account_id": account.id, "project": PROJECT, "rotation_period": 0});
        if has_first_key {
            mount.write("static-roles/app", body.clone()).await.nothing();
        }
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::Drop).times(1).after_the_work());
        mount.sim.fault(Fault::on(endpoint::LIST_KEYS, Action::Html));
        let path = if has_first_key { "static-creds/app/rotate" } else { "static-roles/app" };
        mount.write(path, body).await.error();
        mount.sim.clear_faults();
        for key in live_keys(&mount, &account.id) {
            mount.sim.use_key(&key.value);
        }
        mount.delete("static-roles/app").await.done();
        for _ in 0..4 {
            mount.advance(MINUTE * 4);
            mount.tick().await.done();
        }
        assert_eq!(live_keys(&mount, &account.id), [], "{has_first_key}");
        assert_eq!(mount.stored("static-role/"), [""; 0]);
        mount.finish().await;
    }
}
