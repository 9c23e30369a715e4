//! Accounts of a library set that OpenAI no longer has, and lists that still show them.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Lag, Logged, endpoint};
use crate::support::Mount;
use crate::support::library::{self, SET};
use crate::support::storage::Access;
use crate::support::wait::eventually;

const HOUR: Duration = Duration::from_secs(3600);

fn check_out() -> String {
    format!("{SET}/check-out")
}

/// The project's list of accounts as it is now.
fn listed(mount: &Mount) -> Value {
    let accounts = mount.sim.state().accounts.into_iter().map(|account| {
        json!({
            "object": "organization.project.service_account", "id": account.id, "name": account.name,
            "role": account.role, "created_at": 1_700_000_000,
        })
    });
    let data: Vec<Value> = accounts.collect();
    json!({
        "object": "list", "first_id": data.first().map(|one| &one["id"]),
        "last_id": data.last().map(|one| &one["id"]), "data": data, "has_more": false,
    })
}

/// The list answers this, whatever the project has.
fn lag(mount: &Mount, list: Value) -> u64 {
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::status_with(200, list)))
}

#[tokio::test]
async fn a_set_made_anew_while_the_list_still_shows_its_old_account_gets_another_one() {
    let mount = library::mount_with("a").await;
    mount.advance(HOUR);
    let (stale, old) = (listed(&mount), mount.sim.state().accounts[0].id.clone());
    mount.delete(SET).await.nothing();
    let fault = lag(&mount, stale);
    mount.write(SET, json!({"project": "research", "service_account_names": "a"})).await.done();
    mount.sim.remove_fault(fault);
    assert_ne!(mount.sim.state().accounts[0].id, old);
    let lent = library::check_out(&mount).await;
    assert!(lent.warnings().is_empty());
    library::check_in(&mount, &lent).await.done();
    mount.revoke(lent.lease()).await.done();
    library::assert_at_rest(&mount, &["a"]).await;
    mount.finish().await;
}

#[tokio::test]
async fn of_two_accounts_of_a_name_the_one_that_is_gone_does_not_count() {
    let mount = library::mount().await;
    let old = mount.seed("a", false);
    let new = mount.seed("a", false);
    let stale = listed(&mount);
    library::delete_account(&mount, &old.id).await;
    lag(&mount, stale);
    mount.write(SET, json!({"project": "research", "service_account_names": "a"})).await.nothing();
    let lent = library::check_out(&mount).await;
    assert_eq!(lent.text("service_account_id"), new.id);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_the_list_still_shows_by_its_name_of_before_is_not_adopted() {
    let mount = library::mount().await;
    let renamed = mount.seed("production", false);
    let mut stale = listed(&mount);
    stale["data"][0]["name"] = json!("a");
    let fault = lag(&mount, stale);
    let body = json!({"project": "research", "service_account_names": "a"});
    let refused = mount.write(SET, body.clone()).await;
    refused.refused(&format!("lists account {} as \"a\", but it is called \"production\"", renamed.id));
    mount.read(SET).await.nothing();
    mount.sim.remove_fault(fault);
    mount.write(SET, body).await.done();
    assert_ne!(library::check_out(&mount).await.text("service_account_id"), renamed.id);
    mount.finish().await;
}

#[tokio::test]
async fn writing_a_set_again_mends_what_was_deleted_at_openai() {
    let mount = library::mount_with("a,b").await.without_lag();
    let old = mount.sim.state().accounts[0].id.clone();
    mount.advance(HOUR);
    library::delete_account(&mount, &old).await;
    let answer = mount.write(SET, json!({"service_account_names": "a,b"})).await;
    assert!(answer.warnings().iter().any(|one| one.contains("made") && one.ends_with(": a")), "{answer:?}");
    let mut names = library::names(&mount);
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    mount.write(&check_out(), json!({"service_account": "a"})).await.done();
    assert_eq!(mount.read(SET).await.json()["service_account_names"], json!(["a", "b"]));
    assert_eq!(mount.stored("account-owner/").len(), 2);
    mount.finish().await;
}

#[tokio::test]
async fn an_adopted_account_that_was_made_anew_elsewhere_is_adopted_anew() {
    let mount = library::mount().await.without_lag();
    let old = mount.seed("theirs", false);
    let body = json!({"project": "research", "service_account_names": "theirs", "create_missing": false});
    mount.write(SET, body.clone()).await.done();
    mount.advance(HOUR);
    library::delete_account(&mount, &old.id).await;
    mount.write(SET, body.clone()).await.refused("theirs");
    let new = mount.seed("theirs", false);
    mount.write(SET, body).await.done();
    assert_eq!(library::check_out(&mount).await.text("service_account_id"), new.id);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_made_a_moment_ago_that_openai_does_not_know_yet_is_not_replaced() {
    let mount = library::mount_with("a").await;
    let id = mount.sim.state().accounts[0].id.clone();
    lag(&mount, json!({"object": "list", "first_id": null, "last_id": null, "data": [], "has_more": false}));
    mount.sim.fault(Fault::on("GET /organization/projects/*/service_accounts/*", Action::status(404)));
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    assert_eq!(mount.sim.state().accounts[0].id, id);
    assert_eq!(mount.sim.state().created.accounts, 1);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_made_at_the_end_of_a_long_write_is_young_after_a_restart() {
    let mount = library::mount().await.without_lag();
    mount.watched.hold(Access::Write, "library-set/");
    let write = mount.write(SET, json!({"project": "research", "service_account_names": "a"}));
    let long = async {
        mount.watched.held().await;
        mount.advance(Duration::from_secs(120));
        mount.watched.release();
    };
    tokio::join!(write, long).0.done();
    let id = mount.sim.state().accounts[0].id.clone();
    mount.restart().await;
    lag(&mount, json!({"object": "list", "first_id": null, "last_id": null, "data": [], "has_more": false}));
    mount.sim.fault(Fault::on("GET /organization/projects/*/service_accounts/*", Action::status(404)));
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    assert_eq!(mount.sim.state().accounts[0].id, id);
    assert_eq!(mount.sim.state().created.accounts, 1);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_that_somebody_made_a_moment_ago_is_waited_for_and_never_made_twice() {
    let get = "GET /organization/projects/*/service_accounts/*";
    let mount = library::mount().await;
    let theirs = mount.seed("theirs", false);
    mount.sim.fault(Fault::on(get, Action::status(404)).times(3));
    let body = json!({"project": "research", "service_account_names": "theirs"});
    mount.write(SET, body).await.nothing();
    assert_eq!(library::check_out(&mount).await.text("service_account_id"), theirs.id);

    mount.seed("others", false);
    let fault = mount.sim.fault(Fault::on(get, Action::status(404)));
    let body = json!({"project": "research", "service_account_names": "others"});
    mount.write("library-sets/second", body).await.refused("try again in a minute");
    mount.sim.remove_fault(fault);
    assert_eq!(library::names(&mount), ["theirs", "others"]);
    mount.finish().await;
}

#[tokio::test]
async fn a_set_is_destroyed_and_made_anew_at_an_openai_that_lags_behind_itself() {
    for seed in 0..6 {
        let mount = library::mount().await;
        mount.sim.lag(Some(Lag { seed, deleted_ms: 120_000, ..Lag::default() }));
        let body = json!({"project": "research", "service_account_names": "a,b"});
        for _ in 0..3 {
            mount.write(SET, body.clone()).await.done();
            mount.advance(Duration::from_secs(90));
            for _ in 0..2 {
                let lent = library::check_out(&mount).await;
                assert!(mount.sim.state().is_live(&lent.text("api_key")), "seed {seed}");
                mount.advance(Duration::from_secs(90));
                library::check_in(&mount, &lent).await.done();
                mount.revoke(lent.lease()).await.done();
            }
            mount.write(SET, body.clone()).await.nothing();
            mount.delete(SET).await.nothing();
        }
        mount.advance(HOUR);
        assert!(library::names(&mount).is_empty(), "seed {seed}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_lent_account_is_never_replaced() {
    let mount = library::mount_with("a").await;
    let lent = library::check_out(&mount).await;
    mount.advance(Duration::from_secs(600));
    lag(&mount, json!({"object": "list", "first_id": null, "last_id": null, "data": [], "has_more": false}));
    mount.sim.fault(Fault::on("GET /organization/projects/*/service_accounts/*", Action::status(404)));
    mount.write(SET, json!({"service_account_names": "a"})).await.done();
    assert!(mount.sim.state().is_live(&lent.text("api_key")));
    assert_eq!(mount.sim.state().created.accounts, 1);
    library::check_in(&mount, &lent).await.done();
    mount.revoke(lent.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_set_is_changed_in_an_outage_where_it_gets_no_new_account() {
    let mount = library::mount_with("a,b").await;
    let outage = mount.sim.fault(Fault::everywhere(Action::status(403)));
    let answer = mount.write(SET, json!({"service_account_names": "a,b", "max_ttl": "2h"})).await;
    assert!(answer.warnings()[0].contains("could not be checked"), "{answer:?}");
    mount.write(SET, json!({"service_account_names": "a,b,c"})).await.error();
    mount.sim.remove_fault(outage);
    assert_eq!(mount.read(SET).await.json()["max_ttl"], 7200);
    mount.finish().await;
}

#[tokio::test]
async fn an_account_deleted_at_openai_is_told_by_status_health_and_metrics_and_passed_over_from_then_on() {
    let mount = library::mount_with("a,b,c").await;
    let id = mount.sim.state().accounts[0].id.clone();
    mount.advance(HOUR);
    library::delete_account(&mount, &id).await;
    let first = library::check_out(&mount).await;
    assert_eq!(first.text("service_account"), "b");
    assert!(first.warnings()[0].contains("service account a"), "{:?}", first.warnings());

    let status = mount.read(&format!("{SET}/status")).await.json();
    let said = json!({"a": "missing", "b": "checked-out", "c": "available"});
    assert_eq!(status["account_status"], said);
    let counts = ["available_accounts", "checked_out_accounts", "missing_accounts"];
    assert_eq!(counts.map(|count| status[count].clone()), [1, 1, 1].map(Value::from));
    let health = mount.read("health").await.json();
    assert_eq!(health["status"], "degraded");
    assert!(health["reasons"].to_string().contains("library set pool"), "{health}");
    let metrics = mount.read("metrics").await.text("http_raw_body");
    for line in ["state=\"missing\"} 1", "state=\"free\"} 1", "state=\"out\"} 1"] {
        assert!(metrics.contains(&format!("openai_library_accounts{{set=\"pool\",{line}")), "{metrics}");
    }

    let calls = mount.sim.state().all_calls();
    let second = library::check_out(&mount).await;
    assert_eq!((second.text("service_account"), second.warnings().len()), ("c".to_owned(), 0));
    assert_eq!(mount.sim.state().all_calls() - calls, 1, "it is not asked for again");
    mount.write(&check_out(), json!({})).await.refused("API key creation failed");
    mount.write(&check_out(), json!({"service_account": "a"})).await.refused("write the set's");

    mount.write(SET, json!({"service_account_names": "a,b,c"})).await.done();
    assert_eq!(library::status(&mount).await["a"], "available");
    assert_eq!(library::check_out(&mount).await.text("service_account"), "a");
    mount.tick().await.done();
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    assert!(mount.stored("library-missing/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn many_that_are_missing_do_not_keep_a_borrower_from_the_one_that_is_there() {
    let mount = library::mount_with("a,b,c,d,e,f,g").await;
    mount.advance(HOUR);
    for account in &mount.sim.state().accounts[..6] {
        library::delete_account(&mount, &account.id).await;
    }
    assert_eq!(library::check_out(&mount).await.text("service_account"), "g");
    mount.finish().await;
}

#[tokio::test]
async fn what_openai_knows_again_is_available_again() {
    let mount = library::mount_with("a").await;
    mount.advance(HOUR);
    let fault = mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)).times(1));
    mount.write(&check_out(), json!({})).await.refused("API key creation failed");
    assert_eq!(library::status(&mount).await["a"], "missing");
    mount.sim.remove_fault(fault);
    mount.advance(Duration::from_secs(90));
    mount.tick().await.done();
    assert_eq!(library::status(&mount).await["a"], "available");
    library::assert_at_rest(&mount, &["a"]).await;

    // A borrower who comes before the tick gets it, too.
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)).times(1));
    mount.write(&check_out(), json!({})).await.error();
    let lent = library::check_out(&mount).await;
    assert!(mount.stored("library-missing/").is_empty());
    library::check_in(&mount, &lent).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_set_without_its_missing_account_forgets_it() {
    for delete in [false, true] {
        let mount = library::mount_with("a,b").await;
        mount.advance(HOUR);
        let id = mount.sim.state().accounts[0].id.clone();
        library::delete_account(&mount, &id).await;
        let lent = library::check_out(&mount).await;
        library::check_in(&mount, &lent).await.done();
        mount.revoke(lent.lease()).await.done();
        assert_eq!(mount.stored("library-missing/").len(), 1);
        if delete {
            mount.delete(SET).await.done();
        } else {
            mount.write(SET, json!({"service_account_names": "b"})).await.done();
        }
        assert!(mount.stored("library-missing/").is_empty());
        mount.advance(HOUR);
        mount.tick().await.done();
        assert_eq!(mount.read("health").await.json()["status"], "ok");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_set_that_cannot_be_read_hides_no_missing_account_of_another() {
    let mount = library::mount_with("a").await;
    let others = "library-sets/any";
    mount.write(others, json!({"project": "research", "service_account_names": "b"})).await.done();
    mount.advance(HOUR);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)).times(2));
    for set in [SET, others] {
        mount.write(&format!("{set}/check-out"), json!({})).await.refused("API key creation failed");
    }
    let mut entries = mount.storage.snapshot();
    for entry in entries.iter_mut().filter(|entry| entry.key == "library-set/any") {
        entry.value = br#"{"version": 99}"#.to_vec();
    }
    mount.storage.restore(entries);
    mount.restart().await;
    mount.advance(Duration::from_secs(90));
    assert!(mount.tick().await.error().message().contains("a newer release"), "it is told");
    assert_eq!(library::status(&mount).await["a"], "available");
    assert_eq!(mount.stored("library-missing/").len(), 1, "the other record stays");
    let _said = mount.tick().await;
    let metrics = mount.read("metrics").await.text("http_raw_body");
    assert!(metrics.contains("openai_library_accounts{set=\"pool\",state=\"free\"} 1"), "{metrics}");
    mount.abandon();
}

const GET_ACCOUNT: &str = "GET /organization/projects/*/service_accounts/*";

/// A set of so many accounts, none of which OpenAI finds.
async fn mount_without_its_accounts(count: usize) -> Mount {
    let names: Vec<String> = (0..count).map(|number| format!("a{number}")).collect();
    let mount = library::mount_with(&names.join(",")).await.without_lag();
    mount.advance(HOUR);
    mount.sim.fault(Fault::on(GET_ACCOUNT, Action::status(404)));
    let fault = mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(404)));
    mount.write(&check_out(), json!({})).await.error();
    mount.sim.remove_fault(fault);
    assert_eq!(mount.stored("library-missing/").len(), count);
    mount.advance(Duration::from_secs(90));
    mount
}

/// The number of times that OpenAI was asked for an account.
fn looks(mount: &Mount) -> usize {
    let asks = |call: &&Logged| call.method == "GET" && call.path.contains("/service_accounts/");
    mount.sim.log().iter().filter(asks).count()
}

#[tokio::test]
async fn a_tick_looks_for_a_bounded_number_of_missing_accounts_and_the_next_one_for_the_others() {
    let mount = mount_without_its_accounts(22).await;
    let mut ticks = Vec::new();
    for _ in 0..3 {
        mount.sim.forget_log();
        mount.tick().await.done();
        ticks.push(looks(&mount));
    }
    assert_eq!(ticks, [20, 2, 0]);
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_that_is_over_looks_for_no_further_missing_account() {
    let mount = mount_without_its_accounts(3).await;
    mount.sim.clear_faults();
    mount.sim.forget_log();
    mount.sim.fault(Fault::on(GET_ACCOUNT, Action::delay(Duration::from_millis(200))).times(1));
    let tick = mount.request(Operation::Rollback, "", json!({}));
    let over = tick.cancelled.clone();
    let cancel = async {
        let is_asked = async || (mount.sim.faults_left() == 0).then_some(());
        eventually("the first account is asked for", is_asked).await;
        over.cancel();
    };
    let (_said, ()) = tokio::join!(mount.ask(tick), cancel);
    assert_eq!(looks(&mount), 1);
    mount.tick().await.done();
    assert!(mount.stored("library-missing/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_rate_limit_says_nothing_about_a_missing_account_and_is_no_failure_of_the_tick() {
    let mount = mount_without_its_accounts(1).await;
    mount.sim.clear_faults();
    let headers = [("Retry-After".to_owned(), "300".to_owned())].into();
    mount.sim.fault(Fault::on(GET_ACCOUNT, Action::Status { status: 429, headers, body: None }));
    let before = mount.storage_text("library-missing/");
    mount.sim.forget_log();
    mount.tick().await.done();
    assert_eq!((looks(&mount), mount.storage_text("library-missing/")), (1, before));
    mount.finish().await;
}
