//! What a crash under load leaves: many write-ahead entries at once, in a project of many accounts.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use openai_secrets::logical::{Entry, Storage};
use serde_json::json;

use super::world::World;
use crate::simulator::endpoint::LIST_ACCOUNTS;
use crate::simulator::{Action, Fault};
use crate::support::openai::{ORGANIZATION, PROJECT};
use crate::support::wait::within;

/// Two pages of a list, with the account that was there before.
const LEFT: usize = 150;
/// After so many refusals OpenAI is left alone for half a minute at a time; the rest is for a busy machine.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn one_listing_serves_every_entry() {
    let world = left_behind().await;
    world.tick(None).await.expect("it goes on").expect("the tick succeeds");
    assert!(left(&world).is_empty());
    assert!(world.storage.keys().iter().all(|key| !key.starts_with("wal/")));
    assert_eq!(world.openai.state().calls(LIST_ACCOUNTS), 2);
}

#[tokio::test]
async fn a_listing_that_cannot_go_on_is_no_proof_that_nothing_was_made() {
    let world = left_behind().await;
    let gone = Fault::on(LIST_ACCOUNTS, Action::status(404));
    world.openai.simulator().fault(gone.skipping(1).times(1));
    world.tick(None).await.expect("it goes on").expect_err("the tick fails");
    world.nothing_is_lost();
    world.tick(None).await.expect("it goes on").expect("the tick succeeds");
    assert!(left(&world).is_empty());
}

#[tokio::test]
async fn a_listing_that_was_cut_off_goes_on_where_it_was() {
    let world = left_behind().await;
    let cut = Fault::on(LIST_ACCOUNTS, Action::status(429));
    world.openai.simulator().fault(cut.skipping(1));
    world.tick(None).await.expect("it goes on").expect("a limit is no failure");
    world.nothing_is_lost();
    world.openai.simulator().clear_faults();
    assert_eq!(world.openai.state().answered(LIST_ACCOUNTS, 200), 1);
    let asked = within(LONGEST_PAUSE, async || {
        // A tick passes over a project whose listing failed in the tick before.
        let ticked = world.tick(None).await.expect("it goes on");
        (ticked.is_ok() && left(&world).is_empty()).then_some(())
    });
    assert!(asked.await.is_some(), "OpenAI is not asked again");
    assert!(left(&world).is_empty());
    assert_eq!(world.openai.state().answered(LIST_ACCOUNTS, 200), 2);
}

/// Accounts that were made a while ago and that nothing but a write-ahead entry names. Each tick lets 9 minutes pass by the
/// monotonic clock alone, so they are older than a few of these: else a listing of an earlier tick would be too old.
async fn left_behind() -> World {
    let world = World::begin().await;
    let announced = Utc::now() - TimeDelta::hours(10);
    for number in 0..LEFT {
        let name = format!("left-{number}");
        world.openai.simulator().seed_account(PROJECT, &name, true).expect("the project is there");
        let creation = json!({
            "organization_id": ORGANIZATION, "project_id": PROJECT, "name": name, "service_account_id": null,
            "owner": {"ledger": format!("00000001/00/{name}")}, "announced": announced,
        });
        let record = json!({"type": "creation", "data": creation, "created_at": announced.timestamp()});
        let key = format!("wal/00000000-0000-0000-0000-{number:012}");
        let entry = Entry { key, value: record.to_string().into_bytes(), seal_wrap: false };
        world.storage.put(entry).await.expect("storage in memory takes it");
    }
    world
}

/// What is still there of them.
fn left(world: &World) -> Vec<String> {
    world.openai.accounts().into_iter().filter(|name| name.starts_with("left-")).collect()
}
