//! The record of a library set says what is being made and what has to go; a set that was deleted stays as a tombstone until
//! both are empty.

use std::time::Duration;

use openai_secrets::logical::{Entry, Operation, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET, SETTLED};
use crate::support::storage::{Access, CrashPoint, WriteOutcome};

/// Longer than OpenAI may take to list what was made, and any request to end.
const A_WHILE: Duration = Duration::from_secs(400);

fn record(mount: &Mount) -> Value {
    serde_json::from_str(&mount.storage_text("library-set/pool")).unwrap()
}

fn names(names: &str) -> Value {
    json!({"project": "research", "service_account_names": names})
}

/// Has the next creation of an account done without an answer. OpenAI's list shows the account some seconds later.
fn lose_the_next_creation(mount: &Mount) {
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Cut).after_the_work().times(1));
}

async fn tick_after(mount: &Mount, time: Duration) {
    mount.advance(time);
    mount.tick_immediately().await.done();
}

#[tokio::test]
async fn an_account_whose_creation_has_no_answer_is_named_by_the_record_until_it_is_found() {
    let mount = library::mount_with("a").await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a,b")).await.error();
    mount.sim.clear_faults();
    let making = record(&mount)["making"][0].clone();
    assert_eq!(making["project_id"], mount.sim.project(), "{making}");
    assert_eq!(library::names(&mount), ["a".to_owned(), making["name"].as_str().unwrap().to_owned()]);
    assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a"]));
    tick_after(&mount, Duration::from_secs(60)).await;
    assert_eq!(library::names(&mount).len(), 2, "a list that lags proves nothing");
    tick_after(&mount, A_WHILE).await;
    library::assert_at_rest(&mount, &["a"]).await;
    assert_eq!(record(&mount)["making"], Value::Null);
    mount.finish().await;
}

#[tokio::test]
async fn a_first_write_without_an_outcome_is_no_set_for_readers_and_a_later_one_inherits_what_it_left() {
    let mount = library::mount().await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a")).await.error();
    mount.sim.clear_faults();
    let left = library::names(&mount);
    assert_eq!(left.len(), 1);
    mount.read(SET).await.nothing();
    assert_eq!(mount.list("library-sets").await.keys(), Vec::<String>::new());
    mount.write(&format!("{SET}/check-out"), json!({})).await.refused("not found");
    mount.write(SET, names("b")).await.done();
    assert_eq!(record(&mount)["making"][0]["name"], json!(left[0]));
    tick_after(&mount, A_WHILE).await;
    library::assert_at_rest(&mount, &["b"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_forgets_no_creation_in_another_organization() {
    const YEARS: Duration = Duration::from_secs(100_000_000);
    let mount = library::mount_with("a").await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a,b")).await.error();
    mount.configure_elsewhere().await;
    // A new process cannot ask OpenAI for the time.
    mount.sim.fault(Fault::everywhere(Action::status(503)));
    mount.put_clock_ahead(YEARS);
    mount.restart().await;
    for _ in 0..2 {
        mount.advance(A_WHILE);
        let _failed = mount.tick_immediately().await;
    }
    mount.put_clock_back(YEARS);
    mount.sim.clear_faults();
    mount.write("config", mount.config()).await.done();
    tick_after(&mount, A_WHILE).await;
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn more_than_five_creations_without_an_outcome_are_refused() {
    let mount = library::mount_with("a").await;
    for _ in 0..5 {
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
        mount.write(SET, names("a,b")).await.error();
    }
    mount.write(SET, names("a,b")).await.refused("5 creations here have an unknown outcome");
    tick_after(&mount, A_WHILE).await;
    mount.write(SET, names("a,b")).await.done();
    library::assert_at_rest(&mount, &["a", "b"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_creation_in_an_organization_that_is_gone_costs_no_writes_and_is_undone_when_it_is_back() {
    let mount = library::mount().await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a")).await.error();
    mount.sim.clear_faults();
    mount.configure_elsewhere().await;
    tick_after(&mount, A_WHILE).await;
    let puts = mount.storage.calls().puts;
    for _ in 0..10 {
        tick_after(&mount, Duration::from_secs(60)).await;
    }
    assert!(mount.storage.calls().puts - puts < 3, "{} writes", mount.storage.calls().puts - puts);
    assert_eq!(library::names(&mount).len(), 1);
    mount.write("config", mount.config()).await.done();
    mount.tick_immediately().await.done();
    assert!(library::names(&mount).is_empty() && mount.stored("library").is_empty());
    mount.finish().await;
}

/// The creation of an earlier write, in an organization that no configuration reaches.
async fn leave_a_creation_out_of_reach(mount: &Mount) {
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
    mount.write(SET, names("a")).await.error();
    let mut set = record(mount);
    set["making"][0]["organization_id"] = json!("org-gone");
    let value = set.to_string().into();
    let entry = Entry { key: "library-set/pool".to_owned(), value, seal_wrap: false };
    mount.storage.put(entry).await.unwrap();
    mount.restart().await;
    for _ in 0..3 {
        tick_after(mount, A_WHILE).await;
    }
    let retry = &record(mount)["making"][0]["retry"];
    assert!(retry["last_error"].as_str().unwrap().contains("org-gone"), "{retry}");
}

#[tokio::test]
async fn a_creation_out_of_reach_delays_no_look_for_a_later_one() {
    for is_killed in [false, true] {
        let mount = library::mount().await;
        leave_a_creation_out_of_reach(&mount).await;
        if is_killed {
            let request = mount.request(Operation::Update, SET, names("b"));
            mount.killed(request, CrashPoint::After(2)).await;
        } else {
            lose_the_next_creation(&mount);
            mount.write(SET, names("b")).await.error();
            mount.sim.clear_faults();
        }
        assert_eq!(library::names(&mount).len(), 1, "{is_killed}");
        for _ in 0..10 {
            tick_after(&mount, Duration::from_secs(60)).await;
        }
        assert_eq!(library::names(&mount), Vec::<String>::new(), "{is_killed}");
        mount.abandon();
    }
}

#[tokio::test]
async fn a_lost_account_that_a_role_took_meanwhile_is_not_deleted() {
    let mount = library::mount().await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a")).await.error();
    mount.sim.clear_faults();
    mount.advance(Duration::from_secs(60));
    let lost = mount.sim.state().accounts[0].id.clone();
    mount.write("roles/on-it", json!({"project": "research", "service_account_id": lost})).await.done();
    let key = mount.read("creds/on-it").await.text("api_key");
    for _ in 0..3 {
        tick_after(&mount, A_WHILE).await;
    }
    assert!(mount.sim.state().is_live(&key), "the role uses the account");
    assert_eq!(mount.stored("library-set/"), Vec::<String>::new(), "nothing is left to look for");
    mount.abandon();
}

/// Each time one deletion succeeds, as at an OpenAI that allows few, and the others fail.
#[tokio::test]
async fn accounts_go_one_after_another_without_ever_longer_waits() {
    let mount = library::mount_with("a,b,c,d,e,f,g,h").await.without_lag();
    for left in (0..8).rev() {
        mount.sim.clear_faults();
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).skipping(1));
        if left == 7 {
            mount.delete(SET).await.done();
        } else {
            tick_after(&mount, Duration::from_secs(60)).await;
        }
        assert_eq!(library::names(&mount).len(), left);
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_deleted_set_stays_as_a_tombstone_until_its_accounts_are_gone_and_a_new_one_inherits_it() {
    let mount = library::mount_with("a,b").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &id, "theirs").await;
    mount.delete_by_force(SET).await.done();
    mount.read(SET).await.nothing();
    assert_eq!(mount.list("library-sets").await.keys(), Vec::<String>::new());
    assert_eq!(mount.list("revocations").await.keys().len(), 1);
    mount.write(SET, names("c")).await.done();
    tick_after(&mount, SETTLED).await;
    assert_eq!(library::names(&mount), ["a", "c"]);
    library::end_key(&mount, &theirs.id).await;
    tick_after(&mount, SETTLED).await;
    library::assert_at_rest(&mount, &["c"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_is_ending_is_refused_to_everybody_else() {
    let mount = library::mount_with("a").await.without_lag();
    let id = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &id, "theirs").await;
    mount.delete_by_force(SET).await.done();
    tick_after(&mount, SETTLED).await;
    mount.write("library-sets/other", names("a")).await.refused("already belongs to library set pool");
    let role = json!({"project": "research", "service_account_id": id});
    mount.write("static-roles/app", role).await.refused("already belongs to library set pool");
    mount
        .write("roles/on-it", json!({"project": "research", "service_account_id": id}))
        .await
        .refused("pool");
    library::end_key(&mount, &theirs.id).await;
    tick_after(&mount, SETTLED).await;
    assert!(library::names(&mount).is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_vault_did_not_make_is_free_while_nothing_can_be_deleted() {
    let mount = library::mount_with("a").await.without_lag();
    mount.seed("theirs", false);
    mount.write(SET, names("a,theirs")).await.done();
    mount.delete_by_force("config").await.done();
    let answer = mount.delete(SET).await;
    assert!(answer.warnings()[0].ends_with("Vault retries: a"), "{:?}", answer.warnings());
    mount.write("config", mount.config()).await.done();
    mount.write("library-sets/other", names("theirs")).await.done();
    tick_after(&mount, A_WHILE).await;
    assert_eq!(library::names(&mount), ["theirs"]);
    mount.finish().await;
}

#[tokio::test]
async fn the_worker_deletes_no_account_that_another_owner_claims() {
    let mount = library::mount_with("a").await;
    let id = mount.sim.state().accounts[0].id.clone();
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    mount.delete(SET).await.done();
    let key = format!("account-owner/{id}");
    let claim = json!({"version": 1, "owner": {"static_role": "app"}, "made": mount.now()});
    mount.storage.put(Entry { key, value: claim.to_string().into(), seal_wrap: false }).await.unwrap();
    tick_after(&mount, SETTLED).await;
    assert_eq!(library::names(&mount), ["a"]);
    assert!(mount.stored("library-set/").is_empty(), "the set is done with it");
    mount.abandon();
}

#[tokio::test]
async fn an_account_of_a_lost_creation_that_another_owner_claims_is_not_deleted() {
    let mount = library::mount_with("a").await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a,b")).await.error();
    mount.sim.clear_faults();
    let key = format!("account-owner/{}/theirs", mount.sim.state().accounts[1].id);
    let claim = json!({"version": 1, "owner": {"static_role": "app"}, "made": mount.now()});
    mount.storage.put(Entry { key, value: claim.to_string().into(), seal_wrap: false }).await.unwrap();
    tick_after(&mount, A_WHILE).await;
    assert_eq!((library::names(&mount).len(), &record(&mount)["making"]), (2, &Value::Null));
    mount.abandon();
}

#[tokio::test]
async fn keys_that_may_live_end_before_accounts_are_tidied_up() {
    let mount = library::mount_with("a,b").await.without_lag();
    let account = mount.seed("automation", false).id;
    let role = json!({"project": "research", "service_account_id": account});
    mount.write("static-roles/app", role).await.done();
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(1));
    assert_eq!(mount.write("static-creds/app/rotate", json!({})).await.warnings().len(), 1);
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    mount.write(SET, names("a")).await.done();
    mount.advance(A_WHILE);
    // The role's record is written after its key has ended. By then the set's record has not been touched.
    mount.watched.hold(Access::Write, "static-role/");
    let meanwhile = async {
        mount.watched.held().await;
        let error = record(&mount)["last_error"].clone();
        mount.watched.release();
        error
    };
    let (tick, error) = tokio::join!(mount.tick(), meanwhile);
    tick.done();
    assert!(error.as_str().is_some_and(|error| error.contains("403")), "{error}");
    assert_eq!(library::names(&mount), ["a", "automation"]);
    mount.finish().await;
}

/// At each write of the record: an outcome that is not known ends nothing that storage then names, and leaves nothing else.
#[tokio::test]
async fn a_write_of_the_record_whose_outcome_is_unknown_loses_and_ends_nothing() {
    for fate in [WriteOutcome::Done, WriteOutcome::Late, WriteOutcome::Lost] {
        for done in 0..9 {
            let mount = library::mount_with("a").await;
            mount.seed("old", false);
            mount.watched.set_write_outcomes_after("library-set/", done, &[fate]);
            let _ = mount.write(SET, names("b,c,old")).await;
            mount.watched.commit_late_writes().await;
            mount.restart().await;
            library::settle(&mount).await;
            let members = mount.read(SET).await.json()["service_account_names"].clone();
            assert!(
                [json!(["a"]), json!(["b", "c", "old"])].contains(&members),
                "{fate:?} {done}: {members}"
            );
            let mut expected: Vec<String> = serde_json::from_value(members).unwrap();
            if !expected.contains(&"old".to_owned()) {
                expected.push("old".to_owned());
            }
            let mut there = library::names(&mount);
            there.sort_unstable();
            expected.sort_unstable();
            assert_eq!(there, expected, "{fate:?} {done}");
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn a_change_of_the_release_before_is_taken_over() {
    let mount = library::mount_with("a,b").await;
    let [a, b] = &mount.sim.state().accounts.iter().map(|account| account.id.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("two accounts")
    };
    let member = |name: &str, id: &str| {
        json!({"name": name, "id": id, "organization_id": mount.sim.organization(),
            "project_id": mount.sim.project(), "made_as": format!("vault-{name}-made")})
    };
    // The set was written without b, and the process died before b was deleted.
    let mut set = record(&mount);
    set["members"].as_array_mut().unwrap().retain(|member| member["name"] == "a");
    set.as_object_mut().unwrap().remove("failures");
    let due = mount.now() + chrono::TimeDelta::minutes(5);
    let change =
        json!({"version": 1, "touched": [member("a", a), member("b", b)], "due": due, "failures": 0});
    for (key, value) in [("library-set/pool", set), ("library-change/pool", change)] {
        let entry = Entry { key: key.to_owned(), value: value.to_string().into(), seal_wrap: false };
        mount.storage.put(entry).await.unwrap();
    }
    mount.restart().await;
    tick_after(&mount, Duration::from_secs(60)).await;
    assert_eq!(mount.stored("library-change/"), Vec::<String>::new());
    assert_eq!(library::names(&mount), ["a", "b"], "a write may still be under way");
    tick_after(&mount, A_WHILE).await;
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_creation_in_an_organization_that_is_out_of_reach_is_forgotten_after_a_year_and_a_day() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mount = library::mount_with("a").await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a,b")).await.error();
    mount.configure_elsewhere().await;
    let unfinished = async |days: u32| {
        mount.advance(DAY * days);
        mount.tick().await.done();
        mount.read("health").await.json()["unfinished_creations"].clone()
    };
    assert_eq!(unfinished(365).await, 1);
    assert_eq!(unfinished(2).await, 0);
    // The account has no key and no role in its project.
    assert_eq!(library::names(&mount).len(), 2);
    mount.abandon();
}

#[tokio::test]
async fn a_lost_account_on_which_somebody_has_a_key_is_not_deleted() {
    let mount = library::mount().await;
    lose_the_next_creation(&mount);
    mount.write(SET, names("a")).await.error();
    mount.sim.clear_faults();
    mount.advance(Duration::from_secs(60));
    let lost = mount.sim.state().accounts[0].id.clone();
    let theirs = library::foreign_key(&mount, &lost, "theirs").await;
    for _ in 0..3 {
        tick_after(&mount, A_WHILE).await;
    }
    assert!(mount.sim.state().is_live(&theirs.value), "somebody uses the account");
    library::end_key(&mount, &theirs.id).await;
    for _ in 0..3 {
        tick_after(&mount, SETTLED).await;
    }
    assert_eq!(library::names(&mount), Vec::<String>::new());
    assert_eq!(mount.stored("library-set/"), Vec::<String>::new());
    mount.finish().await;
}
