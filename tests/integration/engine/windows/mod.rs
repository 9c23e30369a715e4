//! Creation windows: how what is made for `creds` reads is owned or undone. The ends of processes in every gap are
//! `crashes`. Which sentence of the design has which test is a table in the engine's module `windows`.

mod backups;
mod recovery;

use std::time::Duration;

use openai_secrets::logical::{Operation, Storage as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::logs::ThreadLog;
use crate::support::storage::{Access, CrashPoint, WriteOutcome};
use crate::support::{Answered, Mount, windows};

const PATH: &str = "creds/app";
const MINUTE: Duration = Duration::from_secs(60);
const TTL: u64 = 3_600;

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await.with_role(json!({"ttl": TTL})).await
}

/// Makes a credential that neither the mount nor its caller hears of again, and that is not found at once.
async fn lose(mount: &Mount, when_listed: Action) -> String {
    let before = names(mount);
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, when_listed).times(1));
    mount.read(PATH).await.refused("removed within 10 minutes");
    names(mount).into_iter().find(|name| !before.contains(name)).expect("it was made")
}

/// OpenAI does not know the account.
fn no_such_account() -> Action {
    let error = json!({"message": "No such account.", "type": "invalid_request_error", "param": null,
        "code": "not_found"});
    Action::status_with(404, json!({"error": error}))
}

/// A process that dies between OpenAI's answer and the ledger's record leaves an account; its name.
async fn die_with_one_made(mount: &Mount) -> String {
    let before = names(mount);
    // The entry of an open window is no write: the first is the record.
    let death = CrashPoint::Before(usize::from(mount.stored("wal/").is_empty()));
    assert!(mount.killed(mount.request(Operation::Read, PATH, json!({})), death).await);
    names(mount).into_iter().find(|name| !before.contains(name)).expect("it was made")
}

fn names(mount: &Mount) -> Vec<String> {
    mount.sim.state().accounts.into_iter().map(|account| account.name).collect()
}

/// The minute's tick, after some time by the clock that nobody sets.
async fn tick_after(mount: &Mount, time: Duration) -> Answered {
    mount.advance_monotonic(time);
    mount.tick().await
}

/// The key of the account of this name.
fn key_of(mount: &Mount, name: &str) -> String {
    let account = mount.sim.state().accounts.into_iter().find(|account| account.name == name);
    account.expect("it is there").keys[0].value.clone()
}

fn ledger_place(mount: &Mount, name: &str) -> Option<String> {
    mount.stored("ledger/").into_iter().find(|key| key.ends_with(name))
}

#[tokio::test]
async fn an_entry_says_where_and_by_what_id_and_nothing_else() {
    let mount = mount().await;
    let made = mount.read(PATH).await;
    let entry: Value = serde_json::from_str(&mount.storage_text("wal/")).unwrap();
    assert_eq!(entry["type"], "window");
    let fields: Vec<_> = entry["data"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["id", "opened", "organization_id", "project_id", "service_account_id"]);
    let name = made.text("service_account");
    assert!(windows::stored(&mount.storage).contains(windows::of(&name).unwrap()), "{name}");
}

#[tokio::test]
async fn where_the_record_stands_is_known_from_the_name() {
    let mount = mount().await;
    for ttl in [1, 60, 86_400] {
        let made = mount.read_with(PATH, json!({"ttl": ttl})).await;
        let [place, _] = windows::places(&made.text("service_account"));
        assert!(mount.stored("ledger/").contains(&place), "{place} is none of {:?}", mount.stored("ledger/"));
    }
}

#[tokio::test]
async fn alone_a_credential_is_two_writes_and_a_deletion_later_and_with_others_hardly_more_than_one() {
    let mount = mount().await;
    let before = mount.storage.calls();
    mount.read(PATH).await.done();
    let alone = mount.storage.calls();
    assert_eq!((alone.puts - before.puts, alone.deletes), (2, before.deletes));
    for _ in 0..20 {
        mount.read(PATH).await.done();
    }
    assert_eq!(mount.storage.calls().puts - alone.puts, 20);
    assert_eq!(mount.entries_left().await, 0);
    assert_eq!(mount.storage.calls().deletes, before.deletes + 1);
}

#[tokio::test]
async fn each_project_and_each_account_has_windows_of_its_own() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    let on_account = json!({"project_id": mount.sim.project(), "service_account_id": account});
    mount.write("roles/worker", on_account).await.done();
    mount.write("roles/like-app", json!({"project_id": mount.sim.project()})).await.done();
    for (role, entries) in [("app", 1), ("like-app", 1), ("worker", 2)] {
        mount.read(&format!("creds/{role}")).await.done();
        assert_eq!(mount.stored("wal/").len(), entries, "{role}");
    }
}

#[tokio::test]
async fn what_is_known_to_be_settled_is_not_looked_up() {
    let refusals = [401, 403, 429].map(Action::status);
    for action in refusals {
        let mount = mount().await;
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, action.clone()));
        mount.read(PATH).await.error();
        assert_eq!(mount.entries_left().await, 0, "{action:?}");
        assert_eq!(mount.sim.calls(endpoint::LIST_ACCOUNTS), 0);
    }
    // Undone at once, as OpenAI said.
    let mount = mount().await.without_lag();
    mount.storage.fail_put("ledger/");
    mount.read(PATH).await.error();
    assert_eq!((names(&mount).len(), mount.entries_left().await), (0, 0));
    assert_eq!(mount.sim.calls(endpoint::LIST_ACCOUNTS), 0);
}

#[tokio::test]
async fn a_refusal_may_come_after_the_work() {
    for status in [400, 404, 409] {
        let mount = mount().await;
        mount
            .sim
            .fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::status(status)).after_the_work().times(1));
        mount.read(PATH).await.error();
        assert_eq!(names(&mount).len(), 1, "OpenAI made it all the same");
        tick_after(&mount, MINUTE * 2).await.done();
        assert_eq!(names(&mount).len(), 1, "OpenAI may not be done with it");
        tick_after(&mount, MINUTE).await.done();
        assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
    }
}

#[tokio::test]
async fn of_its_own_windows_a_process_looks_up_what_it_left_unsettled_and_nothing_else() {
    let mount = mount().await;
    let lost = lose(&mount, Action::Html).await;
    let made = mount.read(PATH).await;
    assert_eq!(windows::of(&lost), windows::of(&made.text("service_account")), "in one window");
    // As if its record were not there.
    mount.storage.delete(&ledger_place(&mount, &made.text("service_account")).unwrap()).await.unwrap();
    tick_after(&mount, MINUTE * 3).await.done();
    assert_eq!(names(&mount), [made.text("service_account")]);
    assert_eq!(mount.sim.calls(endpoint::LIST_KEYS), 0, "it knows that nobody has it");
}

#[tokio::test]
async fn an_account_of_its_own_window_that_a_list_still_shows_is_looked_up_again() {
    let mount = mount().await;
    lose(&mount, Action::Html).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, no_such_account()).after_the_work().times(1));
    for entries in [1, 0] {
        mount.advance(MINUTE * 3);
        mount.tick().await.done();
        assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, entries));
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_project_that_openai_does_not_list_keeps_no_other_window_from_its_turn() {
    let mount = mount().await;
    let roles: Vec<_> = (0..6).map(|number| format!("role-{number}")).collect();
    for role in &roles {
        mount.sim.add_project(&format!("proj_{role}"));
        mount
            .write(&format!("roles/{role}"), json!({"project_id": format!("proj_{role}"), "ttl": TTL}))
            .await
            .done();
        mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
        mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
        mount.read(&format!("creds/{role}")).await.error();
    }
    let slow =
        mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::delay(Duration::from_secs(70))).times(5));
    mount.advance_monotonic(MINUTE * 3);
    tokio::time::pause();
    let begun = Instant::now();
    let _said = mount.tick().await;
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    tokio::time::resume();
    assert_eq!(names(&mount).len(), 5, "the project that is listed at once has its turn");
    mount.sim.remove_fault(slow);
    tick_after(&mount, MINUTE).await.done();
    assert_eq!((names(&mount).len(), mount.stored("wal/").len()), (0, 0));
}

#[tokio::test]
async fn a_mount_that_goes_away_ends_what_it_left_itself_and_leaves_the_others_their_time() {
    let mount = mount().await;
    let foreign = die_with_one_made(&mount).await;
    let own = lose(&mount, Action::Html).await;
    mount.host.set_tainted(true);
    let slow = Fault::on(endpoint::CREATE_ACCOUNT, Action::delay(Duration::from_millis(300))).times(1);
    mount.sim.fault(slow);
    let read = mount.read(PATH);
    let tick = async {
        while mount.sim.faults_left() > 0 {
            tokio::task::yield_now().await;
        }
        mount.tick().await
    };
    let (inside, ticked) = tokio::join!(read, tick);
    ticked.done();
    assert!(mount.sim.state().is_live(&inside.text("api_key")), "it was waited for");
    assert!(!names(&mount).contains(&own));
    assert!(names(&mount).contains(&foreign), "{foreign}");
    // The mount was moved.
    mount.host.set_tainted(false);
    mount.restart().await;
    mount.tick_now().await.done();
    assert!(!names(&mount).contains(&foreign));
    mount.finish().await;
}

#[tokio::test]
async fn the_log_names_each_entry_that_a_mount_leaves_behind() {
    let mount = mount().await;
    die_with_one_made(&mount).await;
    let entry = mount.stored("wal/").remove(0);
    let log = ThreadLog::start();
    mount.tick_immediately().await.done();
    assert!(!log.has(&[&entry]), "it waits for a later tick");
    mount.host.set_tainted(true);
    mount.tick_immediately().await.done();
    assert!(log.has(&[&entry, mount.sim.project()]));
    // The mount was moved.
    mount.host.set_tainted(false);
    mount.tick_now().await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_undone_and_answers_nothing() {
    for by_wall in [true, false] {
        let mount = mount().await.without_lag();
        mount
            .sim
            .fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::delay(Duration::from_millis(100))).times(1));
        let passes = async {
            while mount.sim.faults_left() > 0 {
                tokio::task::yield_now().await;
            }
            let time = Duration::from_secs(91);
            if by_wall { mount.put_clock_ahead(time) } else { mount.advance_monotonic(time) }
        };
        let (answered, ()) = tokio::join!(mount.read(PATH), passes);
        answered.failed(answered.error().kind(), "took too long");
        assert_eq!(answered.status(), 503);
        assert_eq!((names(&mount).len(), mount.stored("ledger/").len()), (0, 0));
        assert_eq!(mount.entries_left().await, 0);
    }
}

#[tokio::test]
async fn a_request_whose_entry_was_written_too_late_sends_nothing() {
    let mount = mount().await;
    mount.watched.hold(Access::Write, "wal/");
    let (answered, ()) = tokio::join!(mount.read(PATH), too_much_time_passes(&mount));
    answered.failed(answered.error().kind(), "took too long");
    assert_eq!((mount.sim.calls(endpoint::CREATE_ACCOUNT), mount.entries_left().await), (0, 0));
}

#[tokio::test]
async fn a_credential_that_was_recorded_too_late_is_ended_and_not_answered() {
    for openai_fails in [false, true] {
        let mount = mount().await;
        if openai_fails {
            mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
        }
        mount.watched.hold(Access::Write, "ledger/");
        let (answered, ()) = tokio::join!(mount.read(PATH), too_much_time_passes(&mount));
        answered.failed(answered.error().kind(), "took too long");
        let left = usize::from(openai_fails);
        assert_eq!((names(&mount).len(), mount.stored("ledger/").len()), (left, left));
        mount.finish().await;
    }
}

/// The write of the record is reported as failed although it came through, or the credential was recorded too late; and
/// OpenAI does not end the credential now.
#[tokio::test]
async fn a_recorded_credential_that_nobody_got_does_not_live_until_its_own_end() {
    for failure in [Failed::Record, Failed::LateRecord, Failed::Move] {
        let mount = mount().await.without_lag();
        mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
        let answered = failure.of_a_read(&mount).await;
        answered.refused("removed within 10 minutes");
        mount.watched.commit_late_writes().await;
        assert_eq!((names(&mount).len(), mount.stored("ledger/").len()), (1, 1), "{failure:?}");
        tick_after(&mount, MINUTE * 3).await.done();
        mount.tick().await.done();
        assert_eq!((names(&mount).len(), mount.stored("ledger/").len()), (0, 0), "{failure:?}");
        assert_eq!(mount.entries_left().await, 0, "{failure:?}");
        mount.finish().await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Failed {
    /// The write of the record, which storage has all the same.
    Record,
    /// The write of the record, which storage carries out later.
    LateRecord,
    /// The move of a record that was written too late to the early revocations.
    Move,
}

impl Failed {
    async fn of_a_read(self, mount: &Mount) -> Answered {
        match self {
            Self::Record => mount.watched.set_write_outcomes("ledger/", &[WriteOutcome::Done]),
            Self::LateRecord => mount.watched.set_write_outcomes("ledger/", &[WriteOutcome::Late]),
            Self::Move => {
                mount.watched.set_write_outcomes_after("ledger/", 1, &[WriteOutcome::Lost]);
                mount.watched.hold(Access::Write, "ledger/");
                let (answered, ()) = tokio::join!(mount.read(PATH), too_much_time_passes(mount));
                return answered;
            }
        }
        mount.read(PATH).await
    }
}

/// While an access to storage is held.
async fn too_much_time_passes(mount: &Mount) {
    mount.watched.held().await;
    mount.advance_monotonic(Duration::from_secs(91));
    mount.watched.release();
}

#[tokio::test]
async fn another_attempt_after_a_refusal_has_a_name_of_its_own() {
    let mount = mount().await;
    let policy = json!({"error": {"message": "API keys must expire sooner.", "type": "invalid_request_error",
        "param": "expires_in_seconds", "code": null}});
    let refused = Fault::on(endpoint::CREATE_ACCOUNT, Action::status_with(400, policy));
    mount.sim.fault(refused.after_the_work().times(1));
    let made = mount.read(PATH).await;
    assert_eq!(names(&mount).len(), 2, "OpenAI made the first one all the same");
    tick_after(&mount, MINUTE * 3).await.done();
    assert_eq!(names(&mount), [made.text("service_account")]);
    assert!(mount.sim.state().is_live(&made.text("api_key")));
}
