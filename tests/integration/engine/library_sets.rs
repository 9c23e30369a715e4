//! `library-sets/:name`: accounts are adopted or made, belong to one set, and go as they came.

use std::time::Duration;

use openai_secrets::logical::{Kind, Operation};
use serde_json::{Value, json};

use crate::simulator::{AccountState, Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET, SETTLED};
use crate::support::storage::{Access, CrashPoint};

#[tokio::test]
async fn existing_accounts_are_adopted_and_missing_ones_made_without_a_key() {
    let mount = library::mount().await;
    let old = mount.seed("old", false);
    mount.write(SET, json!({"project": "research", "service_account_names": "new, old"})).await.done();
    let state = mount.sim.state();
    let accounts: Vec<_> = state.accounts.iter().map(|one| (one.name.as_str(), one.role.as_str())).collect();
    assert_eq!(accounts, [("old", "member"), ("new", "member")]);
    assert!(state.accounts.iter().all(|account| account.keys.is_empty()));
    assert_eq!(state.created.keys, 0, "there never was a key");
    assert_eq!(state.accounts[0].id, old.id);
    mount.finish().await;
}

#[tokio::test]
async fn a_read_shows_what_was_written_and_writing_that_again_changes_nothing() {
    let mount = library::mount().await;
    let body = json!({
        "project": "research", "service_account_names": "a,b", "max_ttl": "48h", "description": "shared",
        "metadata": {"team": "search"},
    });
    mount.write(SET, body).await.done();
    let mut read = mount.read(SET).await.json();
    // What Vault made is told, and is no field of a write.
    assert_eq!(read.as_object_mut().unwrap().remove("made_accounts"), Some(json!(["a", "b"])));
    let expected = json!({
        "project": "research", "project_id": "", "service_account_names": ["a", "b"], "ttl": 3600,
        "max_ttl": 172_800, "description": "shared", "disable_check_in_enforcement": false,
        "create_missing": true, "metadata": {"team": "search"},
    });
    assert_eq!(read, expected);
    let (calls, stored) = (mount.sim.state().all_calls(), mount.storage_text(""));
    mount.write(SET, read).await.nothing();
    assert_eq!((mount.sim.state().all_calls(), mount.storage_text("")), (calls + 1, stored), "only a look");
    assert_eq!(mount.list("library-sets").await.keys(), ["pool"]);
    mount.finish().await;
}

#[tokio::test]
async fn an_update_and_a_patch_change_only_what_they_send() {
    let mount = library::mount_with("a").await;
    mount.write(SET, json!({"max_ttl": 7200})).await.done();
    mount.patch(SET, json!({"description": "d"})).await.done();
    let read = mount.read(SET).await.json();
    assert_eq!((&read["max_ttl"], &read["description"]), (&json!(7200), &json!("d")));
    assert_eq!(read["service_account_names"], json!(["a"]));
    mount
        .patch("library-sets/none", json!({"description": "d"}))
        .await
        .failed(Kind::Status(404), "library set \"none\" not found");
    mount.finish().await;
}

#[tokio::test]
async fn bad_input_is_refused_in_a_sentence_and_nothing_is_made() {
    let mount = library::mount().await;
    let fine = json!({"project": "research", "service_account_names": "a,b"});
    for (change, says) in [
        (json!({"service_account_names": "a,b,a"}), "must not repeat a name: \"a\""),
        (json!({"service_account_names": " , ,"}), "must name at least one account"),
        (json!({"service_account_names": ["a\u{7}"]}), "printable"),
        (json!({"service_account_names": ""}), "must name at least one account"),
        (json!({"project": "nowhere"}), "project not found: nowhere"),
        (json!({"project": ""}), "project (a name) or project_id (OpenAI's id) is required"),
        (json!({"project_id": "proj_x"}), "must agree"),
        (json!({"project": "", "project_id": "a/b"}), "project_id"),
        (json!({"ttl": "2h", "max_ttl": "1h"}), "ttl must not be above max_ttl: 2h is more than 1h"),
        (json!({"max_ttl": 0}), "at least 1s"),
        (json!({"max_ttl": "8761h"}), "must not be above one year"),
        (json!({"max_ttl": "soon"}), "max_ttl"),
    ] {
        let mut body = fine.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        mount.write(SET, body).await.refused(says);
    }
    mount.write(SET, json!({"project": "research"})).await.refused("service_account_names");
    assert!(mount.sim.state().accounts.is_empty());
    assert!(mount.stored("library").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_short_max_ttl_shortens_the_default_ttl_with_it() {
    let mount = library::mount().await;
    let body = json!({"project": "research", "service_account_names": "a", "max_ttl": "30m"});
    mount.write(SET, body).await.done();
    assert_eq!(mount.read(SET).await.json()["ttl"], json!(1800));
    mount.finish().await;
}

#[tokio::test]
async fn a_name_that_several_accounts_have_is_refused() {
    let mount = library::mount().await;
    mount.seed("twin", false);
    mount.seed("twin", false);
    mount
        .write(SET, json!({"project": "research", "service_account_names": "new,twin"}))
        .await
        .refused("several accounts named \"twin\"");
    assert_eq!(mount.sim.state().accounts.len(), 2);
    mount.finish().await;
}

#[tokio::test]
async fn accounts_are_found_on_every_page() {
    let mount = library::mount().await;
    let seeded: Vec<_> = (0..230).map(|n| mount.seed(&format!("sa-{n}"), false)).collect();
    let body = json!({"project": "research", "service_account_names": "sa-0,sa-150,sa-229"});
    mount.write(SET, body).await.done();
    assert_eq!(mount.sim.state().accounts.len(), 230);
    mount.write(&format!("{SET}/check-out"), json!({"service_account": "sa-229"})).await.done();
    assert_eq!(mount.sim.state().account(&seeded[229].id).unwrap().keys.len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn the_account_that_owns_the_admin_key_is_never_lent() {
    let mount = library::mount().await;
    let admin = mount.seed("admin", false);
    mount.sim.own_admin_keys(&admin.id);
    let body = json!({"project": "research", "service_account_names": "admin"});
    mount.write(SET, body).await.refused("must not name admin: it is the account that owns the admin key");
    assert!(mount.stored("library").is_empty() && mount.stored("account-owner/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn keys_that_an_adopted_account_has_are_warned_of() {
    let mount = library::mount().await;
    mount.seed("keyed", true);
    mount.seed("bare", false);
    let body = json!({"project": "research", "service_account_names": "keyed,bare"});
    let answer = mount.write(SET, body).await;
    assert_eq!(answer.warnings().len(), 1);
    assert!(answer.warnings()[0].ends_with("beside a borrower's: keyed"), "{:?}", answer.warnings());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_of_another_set_is_refused_and_what_was_made_for_it_is_undone() {
    let mount = library::mount_with("a,b").await.without_lag();
    let other = "library-sets/other";
    let body = json!({"project": "research", "service_account_names": "c,b"});
    mount.write(other, body.clone()).await.refused("already belongs to library set pool");
    mount.read(other).await.nothing();
    assert_eq!(library::names(&mount), ["a", "b"]);
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    mount.write(other, body).await.done();
    assert_eq!(library::names(&mount), ["a", "c", "b"], "b was made anew");
    mount.finish().await;
}

#[tokio::test]
async fn a_lent_account_of_another_set_is_refused_as_that_sets() {
    let mount = library::mount_with("a").await.without_lag();
    let lent = library::check_out(&mount).await;
    let wanted = json!({"project": "research", "service_account_names": "a"});
    let refusal = mount.write("library-sets/other", wanted).await;
    assert!(!refusal.error().message().contains("which was deleted"), "{}", refusal.error());
    refusal.refused("library set pool");
    library::check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn of_two_sets_that_want_one_account_at_once_one_gets_it() {
    for _ in 0..20 {
        let mount = library::mount().await;
        mount.seed("wanted", false);
        let body = json!({"project": "research", "service_account_names": "wanted"});
        let (one, two) = tokio::join!(
            mount.write("library-sets/one", body.clone()),
            mount.write("library-sets/two", body.clone()),
        );
        assert!(one.answer.is_ok() != two.answer.is_ok(), "{:?} {:?}", one.answer, two.answer);
        assert_eq!(mount.stored("library-set/").len(), 1);
        mount.finish().await;
    }
}

#[tokio::test]
async fn accounts_join_and_leave_and_only_made_ones_are_deleted() {
    let mount = library::mount().await;
    mount.seed("adopted", false);
    mount.write(SET, json!({"project": "research", "service_account_names": "adopted,a"})).await.done();
    mount.write(SET, json!({"service_account_names": "b,a"})).await.done();
    assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["b", "a"]));
    assert_eq!(library::names(&mount), ["adopted", "a", "b"]);
    mount.write(SET, json!({"service_account_names": "b"})).await.done();
    assert_eq!(library::names(&mount), ["adopted", "b"]);
    assert_eq!(mount.stored("account-owner/").len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_set_cannot_lose_what_is_lent() {
    let mount = library::mount_with("a,b").await;
    let _ = library::check_out(&mount).await;
    let (before, calls) = (mount.storage_text("library-set/"), mount.sim.state().all_calls());
    for names in ["b", "c", ""] {
        let answer = mount.write(SET, json!({"service_account_names": names})).await;
        answer.refused(if names.is_empty() { "at least one account" } else { "checked in first" });
    }
    mount.delete(SET).await.refused("must be checked in first (admin-check-in can force it): a");
    assert_eq!((mount.storage_text("library-set/"), mount.sim.state().all_calls()), (before, calls));
    assert_eq!(library::names(&mount), ["a", "b"]);
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    assert_eq!(library::names(&mount), ["a"]);
    mount.finish().await;
}

#[tokio::test]
async fn what_is_lent_while_a_write_takes_it_out_stays_in() {
    let mount = library::mount_with("a,b").await;
    mount.sim.latency(Duration::from_millis(20));
    let mut write = Box::pin(mount.write(SET, json!({"service_account_names": "b,c"})));
    while !mount.storage_text("library-set/").contains("\"making\"") {
        tokio::select! {
            biased;
            answer = &mut write => panic!("{answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    mount.write(&format!("{SET}/check-out"), json!({"service_account": "a"})).await.done();
    write.await.refused("must be checked in first (admin-check-in can force it): a");
    assert_eq!(library::names(&mount), ["a", "b"], "c was made, and undone");
    assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a", "b"]));
    mount.finish().await;
}

#[tokio::test]
async fn what_is_lent_while_its_set_is_deleted_stays_in() {
    let mount = library::mount_with("a").await;
    let before = mount.sim.calls(endpoint::LIST_KEYS);
    let slow = Action::delay(Duration::from_millis(100));
    mount.sim.fault(Fault::on(endpoint::LIST_KEYS, slow).after_the_work().times(1));
    let mut deletion = Box::pin(mount.delete(SET));
    while mount.sim.calls(endpoint::LIST_KEYS) == before {
        tokio::select! {
            biased;
            answer = &mut deletion => panic!("{answer:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    mount.write(&format!("{SET}/check-out"), json!({})).await.done();
    deletion.await.refused("must be checked in first (admin-check-in can force it): a");
    assert_eq!(library::names(&mount), ["a"]);
    mount.finish().await;
}

#[tokio::test]
async fn a_deleted_set_takes_its_made_accounts_along_and_lets_its_project_go() {
    let mount = library::mount().await;
    mount.seed("adopted", true);
    mount.write(SET, json!({"project": "research", "service_account_names": "adopted,a"})).await.done();
    mount.delete("project/research").await.refused("library set pool");
    mount.delete(SET).await.nothing();
    mount.delete(SET).await.nothing();
    mount.read(SET).await.nothing();
    assert_eq!(library::names(&mount), ["adopted"]);
    assert!(mount.stored("library").is_empty() && mount.stored("account-owner/").is_empty());
    mount.delete("project/research").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_set_stays_in_its_project() {
    let mount = library::mount_with("a").await;
    let id = mount.sim.project().to_owned();
    mount.write(SET, json!({"project": "", "project_id": id})).await.done();
    mount
        .write(SET, json!({"project_id": "proj_elsewhere"}))
        .await
        .refused("project and project_id must stay the set's own");
    mount.finish().await;
}

#[tokio::test]
async fn a_creation_that_openai_refuses_undoes_the_whole_write() {
    for (endpoint, after) in [
        (endpoint::CREATE_ACCOUNT, false),
        (endpoint::UPDATE_ACCOUNT, false),
        (endpoint::UPDATE_ACCOUNT, true),
    ] {
        let mount = library::mount_with("a").await;
        let fault = Fault::on(endpoint, Action::status(400)).skipping(1).times(1);
        mount.sim.fault(if after { fault.after_the_work() } else { fault });
        let answer = mount.write(SET, json!({"service_account_names": "a,b,c"})).await;
        answer.refused("service account creation failed");
        assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a"]));
        assert_eq!(library::names(&mount), ["a"]);
        assert!(!mount.storage_text("library-set/").contains("\"ending\""));
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_creation_leaves_nothing() {
    for action in [Action::Drop, Action::Cut, Action::Html, Action::Truncated, Action::status(500)] {
        let mount = library::mount_with("a").await;
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, action).after_the_work().times(1));
        mount.write(SET, json!({"service_account_names": "a,b"})).await.error();
        mount.advance(Duration::from_secs(400));
        mount.tick_now().await.done();
        assert_eq!(library::names(&mount), ["a"]);
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_foreign_account_of_a_name_that_was_being_made_is_never_touched() {
    let mount = library::mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
    let answer = mount.write(SET, json!({"project": "research", "service_account_names": "theirs"})).await;
    answer.error();
    mount.seed("theirs", true);
    mount.tick_now().await.done();
    assert_eq!(library::names(&mount), ["theirs"]);
    mount.finish().await;
}

#[tokio::test]
async fn what_openai_does_not_delete_yet_is_warned_of_and_deleted_by_the_tick() {
    let mount = library::mount_with("a,b").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    let answer = mount.delete(SET).await;
    assert!(answer.warnings()[0].contains("still to be deleted at OpenAI"), "{:?}", answer.warnings());
    mount.read(SET).await.nothing();
    assert_eq!(library::names(&mount).len(), 1);
    mount.tick().await.done();
    assert_eq!(library::names(&mount).len(), 1, "not before its time");
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert!(library::names(&mount).is_empty() && mount.stored("library").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_was_still_to_be_deleted_can_come_back() {
    let mount = library::mount_with("a").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    mount.delete(SET).await.done();
    mount.write(SET, json!({"project": "research", "service_account_names": "a"})).await.done();
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert_eq!(library::names(&mount), ["a"]);
    mount.delete(SET).await.nothing();
    assert!(library::names(&mount).is_empty(), "it is still known as made by Vault");
    mount.finish().await;
}

#[tokio::test]
async fn an_account_renamed_at_openai_stays_the_same_account() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    library::rename(&mount, &id, "z").await;
    mount
        .write(SET, json!({"service_account_names": "a,b,z"}))
        .await
        .refused("must not name an account twice");
    mount.write(SET, json!({"service_account_names": "b,z"})).await.done();
    assert_eq!(library::names(&mount), ["z", "b"]);
    mount.delete(SET).await.nothing();
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_refused_name_of_a_renamed_account_gives_the_account_to_no_other_set() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    library::rename(&mount, &id, "z").await;
    let twice = json!({"service_account_names": "a,b,z"});
    mount.write(SET, twice).await.refused("must not name an account twice");
    let other = json!({"project": "research", "service_account_names": "z"});
    mount.write("library-sets/other", other).await.refused("already belongs to library set pool");
    mount.finish().await;
}

/// The write fails, or the process ends in it.
#[tokio::test]
async fn a_renamed_account_stays_if_the_write_of_its_new_name_fails() {
    for crashes in [false, true] {
        let mount = library::mount_with("a,b").await.without_lag();
        let id = mount.sim.state().accounts[0].id.clone();
        library::rename(&mount, &id, "z").await;
        let body = json!({"service_account_names": "b,z,c"});
        if crashes {
            let request = mount.request(Operation::Update, SET, body);
            assert!(mount.killed(request, CrashPoint::Before(4)).await);
            library::settle(&mount).await;
        } else {
            mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(403)));
            mount.write(SET, body).await.error();
        }
        assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a", "b"]));
        assert_eq!(library::names(&mount), ["z", "b"], "{crashes}");
        assert_eq!(mount.stored("account-owner/").len(), 2, "{crashes}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_set_keeps_its_accounts_if_its_projects_name_leads_elsewhere() {
    let mount = library::mount_with("a,b").await.without_lag();
    mount.sim.add_project("proj_elsewhere");
    mount.sim.catch_up();
    mount.advance(Duration::from_secs(3600));
    let before = mount.sim.state().accounts;
    mount.write("project/research", json!({"project_id": "proj_elsewhere"})).await.done();
    mount.write(SET, json!({"service_account_names": "a,b"})).await.nothing();
    let ids = |accounts: &[AccountState]| accounts.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&mount.sim.state().accounts), ids(&before), "the accounts are in the project of before");
    library::check_out(&mount).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn nothing_is_made_or_changed_where_storage_is_read_only() {
    let mount = library::mount_with("a").await;
    let before = mount.sim.state();
    mount.storage.set_read_only(true);
    for (operation, path, body) in [
        (Operation::Update, SET.to_owned(), json!({"service_account_names": "a,b"})),
        (Operation::Delete, SET.to_owned(), json!({})),
        (Operation::Update, format!("{SET}/check-out"), json!({})),
    ] {
        mount.ask(mount.request(operation, &path, body)).await.failed(Kind::ReadOnly, "");
    }
    mount.storage.set_read_only(false);
    let after = mount.sim.state();
    assert_eq!((after.created, after.deleted), (before.created, before.deleted));
    mount.finish().await;
}

#[tokio::test]
async fn without_a_configuration_a_set_says_so() {
    let mount = Mount::start().await;
    let body = json!({"project_id": mount.sim.project(), "service_account_names": "a"});
    mount.write(SET, body).await.refused("OpenAI client not configured");
    assert!(mount.stored("").iter().all(|key| key.starts_with("config")));
    mount.finish().await;
}

#[tokio::test]
async fn a_set_of_another_organization_is_not_mistaken_for_one_that_is_gone() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.configure_elsewhere().await;
    let id = lent.text("service_account_id");
    let answer = mount.write(&format!("{SET}/check-in"), json!({"service_account_id": id})).await;
    answer.refused("belongs to organization");
    mount.write(&format!("{SET}/check-out"), json!({})).await.refused("no available service accounts");
    let mut config: Value = mount.config();
    config["organization_id"] = json!(mount.sim.organization());
    mount.write("config", config).await.done();
    mount.advance(Duration::from_secs(240));
    mount.tick().await.done();
    assert_eq!(mount.sim.state().live_keys().count(), 0);
    mount.finish().await;
}

#[tokio::test]
async fn an_admin_key_that_openai_refuses_is_not_tried_on_each_account_that_leaves() {
    let mount = library::mount_with("a,b,c").await.without_lag();
    let refusal =
        json!({"message": "no", "type": "invalid_request_error", "param": null, "code": "invalid_api_key"});
    let refused = Action::status_with(401, json!({"error": refusal}));
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, refused));
    let deleted = mount.delete(SET).await;
    assert!(deleted.warnings()[0].ends_with("a, b, c"), "{:?}", deleted.warnings());
    assert_eq!(mount.sim.calls(endpoint::DELETE_ACCOUNT), 1);
    mount.sim.clear_faults();
    mount.advance(SETTLED);
    mount.tick().await.done();
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_set_whose_project_is_deleted_while_its_accounts_are_made_is_not_stored() {
    let mount = library::mount().await.without_lag();
    mount.watched.hold(Access::Write, "library-set/");
    let deletion = async {
        mount.watched.held().await;
        mount.delete("project/research").await.nothing();
        mount.watched.release();
    };
    let body = json!({"project": "research", "service_account_names": "a"});
    let (written, ()) = tokio::join!(mount.write(SET, body), deletion);
    written.refused("project not found");
    mount.read(SET).await.nothing();
    library::settle(&mount).await;
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}
