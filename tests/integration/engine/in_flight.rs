//! What is under way is not undone, whatever the clock says and wherever the mount goes; and what is slow keeps nothing else
//! from its turn.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::simulator::{Action, Fault, endpoint};
use crate::support::mount::PROJECT;
use crate::support::{Answered, Mount};

const MINUTE: Duration = Duration::from_secs(60);

/// As long as OpenAI takes to tell what it has made.
const SLOW: Duration = Duration::from_millis(700);

/// A mount with everything that makes something.
async fn mount() -> Mount {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let given = mount.seed("given", false).id;
    let on_account = json!({"project": PROJECT, "service_account_id": given});
    mount.write("roles/on-account", on_account).await.done();
    let account = mount.seed("app", false).id;
    mount.write("static-roles/app", json!({"project": PROJECT, "service_account_id": account})).await.done();
    mount
}

/// What makes a key, and the key it answers with.
async fn issues(mount: &Mount, what: &str) -> String {
    match what {
        "static-creds/app/rotate" => mount.write(what, json!({})).await.text("api_key"),
        path => mount.read(path).await.text("api_key"),
    }
}

/// Waits until OpenAI has made something more.
async fn made(mount: &Mount, keys_before: u64) {
    while mount.sim.state().created.keys == keys_before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The key that is handed out while something else happens right after OpenAI has made it.
async fn issued_meanwhile(mount: &Mount, what: &str, happens: impl AsyncFnOnce()) -> String {
    for endpoint in [endpoint::CREATE_KEY, endpoint::CREATE_ACCOUNT] {
        mount.sim.fault(Fault::on(endpoint, Action::delay(SLOW)).times(1).after_the_work());
    }
    let before = mount.sim.state().created.keys;
    let (key, ()) = tokio::join!(issues(mount, what), async {
        made(mount, before).await;
        happens().await;
    });
    mount.sim.clear_faults();
    key
}

const ALL: [&str; 3] = ["static-creds/app/rotate", "creds/app", "creds/on-account"];

#[tokio::test]
async fn what_is_made_while_the_mount_is_moved_lives() {
    for what in ALL {
        let mount = mount().await;
        let key = issued_meanwhile(&mount, what, async || {
            mount.host.set_tainted(true);
            mount.tick().await.done();
            mount.host.set_tainted(false);
        })
        .await;
        assert!(mount.sim.state().is_live(&key), "{what}");
        assert_eq!(mount.stored("wal/"), Vec::<String>::new(), "{what}");
        mount.abandon();
    }
}

/// The clock was wrong when the entries were written, or is now.
async fn make_older(mount: &Mount, by: i64) {
    for key in mount.stored("wal/") {
        let entry = mount.storage.get(&key).await.unwrap().unwrap();
        let mut record: Value = serde_json::from_slice(&entry.value).unwrap();
        record["created_at"] = (record["created_at"].as_i64().unwrap() - by).into();
        let value = record.to_string().into_bytes();
        mount.storage.put(Entry { value, ..entry }).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_made_while_the_clock_jumps_lives() {
    for what in ALL {
        for jump in [400, -400, 40_000_000] {
            let mount = mount().await;
            let key = issued_meanwhile(&mount, what, async || {
                make_older(&mount, jump).await;
                mount.tick().await.done();
            })
            .await;
            assert!(mount.sim.state().is_live(&key), "{what} {jump}");
            mount.abandon();
        }
    }
}

#[tokio::test]
async fn what_was_cut_off_a_moment_ago_is_not_taken_for_old_when_the_clock_jumps() {
    let mount = mount().await;
    // OpenAI works on after it was given up.
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read("creds/app").await.error();
    make_older(&mount, 400).await;
    mount.tick().await.done();
    assert_eq!(mount.stored("wal/").len(), 1, "it may still be made");
    mount.tick_now().await.done();
    assert_eq!(mount.stored("wal/").len(), 0);
    mount.abandon();
}

/// A read whose answer is lost, and what it made stays for the sweep.
async fn leave_behind(mount: &Mount, role: &str) {
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read(&format!("creds/{role}")).await.error();
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_forgets_nothing_that_waits_for_openai() {
    const YEARS: i64 = 100_000_000;
    let mount = mount().await;
    leave_behind(&mount, "app").await;
    mount.sim.fault(Fault::everywhere(Action::final_status(503)));
    mount.restart().await;
    make_older(&mount, YEARS).await;
    let _failed = mount.tick().await;
    assert_eq!(mount.stored("wal/").len(), 1);
    make_older(&mount, -YEARS).await;
    mount.sim.clear_faults();
    for _ in 0..2 {
        mount.advance(MINUTE * 10);
        mount.tick_now().await.done();
    }
    assert_eq!((mount.orphans(), mount.stored("wal/")), (Vec::new(), Vec::new()));
    mount.finish().await;
}

#[tokio::test]
async fn a_project_whose_list_hangs_keeps_no_other_projects_leftover_from_its_turn() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    mount.sim.add_project("proj_healthy");
    mount.write("roles/healthy", json!({"project_id": "proj_healthy"})).await.done();
    for _ in 0..6 {
        leave_behind(&mount, "app").await;
    }
    leave_behind(&mount, "healthy").await;
    let mut hangs = Fault::on(endpoint::LIST_ACCOUNTS, Action::delay(MINUTE * 2));
    hangs.path = format!("/organization/projects/{}/service_accounts", mount.sim.project());
    mount.sim.fault(hangs);
    tokio::time::pause();
    for _ in 0..2 {
        let _said = mount.tick_now().await;
    }
    tokio::time::resume();
    let state = mount.sim.state();
    assert!(state.accounts.iter().all(|account| account.project != "proj_healthy"), "its leftover is gone");
    assert_eq!(state.accounts.len(), 6);
    mount.sim.clear_faults();
    for _ in 0..2 {
        mount.tick_now().await.done();
    }
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_tick_ends_in_time_however_slowly_accounts_leave_their_set_and_the_next_goes_on() {
    let mount = Mount::start().await.configured().await.with_project().await;
    let names = ('a'..='n').map(String::from).collect::<Vec<_>>().join(",");
    mount
        .write("library-sets/pool", json!({"project": PROJECT, "service_account_names": names}))
        .await
        .done();
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)));
    mount.delete("library-sets/pool").await.done();
    mount.sim.clear_faults();
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::delay(Duration::from_secs(7))));
    mount.advance(MINUTE * 16);
    tokio::time::pause();
    let begun = Instant::now();
    mount.tick().await.done();
    assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
    let left = mount.sim.state().accounts.len();
    assert!((1..14).contains(&left), "{left}");
    for _ in 0..3 {
        mount.advance(MINUTE);
        mount.tick().await.done();
    }
    tokio::time::resume();
    assert_eq!(mount.sim.state().accounts.len(), 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_role_that_somebody_rotates_keeps_the_tick_from_no_other() {
    let mount = mount().await;
    let other = mount.seed("other", false).id;
    mount.write("static-roles/other", json!({"project": PROJECT, "service_account_id": other})).await.done();
    mount.advance(Duration::from_secs(86_400 + 60));
    let slow = Action::delay(Duration::from_secs(25));
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, slow).times(1).after_the_work());
    let before = mount.sim.state().created.keys;
    let rotates = async || -> Answered { mount.write("static-creds/app/rotate", json!({})).await };
    tokio::time::pause();
    let (rotated, ticked) = tokio::join!(rotates(), async {
        while mount.sim.state().created.keys == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        mount.tick().await.done();
        begun.elapsed()
    });
    tokio::time::resume();
    rotated.done();
    assert!(ticked < Duration::from_secs(20), "{ticked:?}");
    assert_eq!(mount.sim.state().created.keys, before + 2, "the other is rotated");
    mount.abandon();
}

#[tokio::test]
async fn a_storage_that_knows_nothing_does_not_prove_that_a_lent_key_is_dead() {
    for is_failing in [false, true] {
        let mount = crate::support::library::mount_with("a").await;
        let lent = crate::support::library::check_out(&mount).await;
        mount.write("library-sets/pool", json!({"description": "it is cached"})).await.done();
        mount.storage.restore(Vec::new());
        mount.write("library-sets/pool/check-out", json!({})).await.refused("reload the plugin");
        if is_failing {
            mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::final_status(500)));
        }
        // It checks itself that a revocation that succeeds leaves no living key.
        let revoked = mount.revoke(lent.lease()).await;
        assert_eq!(revoked.answer.is_err(), is_failing);
        mount.abandon();
    }
}
