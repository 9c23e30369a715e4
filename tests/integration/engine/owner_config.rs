//! The configuration's record says which admin key is being made and which has to go.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Lag, endpoint};
use crate::support::{Mount, library};

/// Longer than any rotation goes on.
const A_WHILE: Duration = Duration::from_secs(400);

fn record(mount: &Mount) -> Value {
    serde_json::from_str(&mount.storage_text("config")).unwrap()
}

fn live(mount: &Mount) -> Vec<String> {
    let keys = mount.sim.state().admin_keys.into_iter();
    keys.filter(|key| key.live).map(|key| key.name).collect()
}

async fn lose_a_creation(mount: &Mount) -> String {
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Cut).after_the_work().times(1));
    mount.write("config/rotate", json!({})).await.error();
    assert_eq!(live(mount).len(), 2);
    record(mount)["making"][0]["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rotation_writes_three_times() {
    let mount = Mount::start().await.configured().await.without_lag();
    let count = || mount.storage.calls().puts + mount.storage.calls().deletes;
    let before = count();
    mount.write("config/rotate", json!({})).await.done();
    assert_eq!(count() - before, 3, "its name, the new key, the end of the old one");
    mount.finish().await;
}

#[tokio::test]
async fn a_key_whose_creation_has_no_answer_is_named_by_the_record_until_it_is_found() {
    let mount = Mount::start().await.configured().await;
    let name = lose_a_creation(&mount).await;
    assert!(live(&mount).contains(&name));
    assert_eq!(mount.read("config").await.json()["rotation_failures"], 1);
    mount.advance(Duration::from_secs(60));
    mount.tick_immediately().await.done();
    assert_eq!(live(&mount).len(), 2, "a list that lags proves nothing");
    mount.advance(A_WHILE);
    assert_eq!(mount.read("health").await.json()["unfinished_creations"], 1);
    mount.tick_now().await.done();
    assert!(!live(&mount).contains(&name) && record(&mount)["making"] == Value::Null);
    assert_eq!(mount.read("health").await.json()["unfinished_creations"], 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_key_is_looked_for_only_in_the_organization_that_was_asked_for_it() {
    let mount = Mount::start().await.configured().await;
    let name = lose_a_creation(&mount).await;
    mount.configure_elsewhere().await;
    for _ in 0..2 {
        mount.advance(A_WHILE);
        mount.tick_now().await.done();
    }
    assert!(live(&mount).contains(&name));
    mount.write("config", mount.config()).await.done();
    mount.tick_now().await.done();
    assert!(!live(&mount).contains(&name));
    mount.finish().await;
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_forgets_no_creation_in_another_organization() {
    const YEARS: Duration = Duration::from_secs(100_000_000);
    let mount = Mount::start().await.configured().await;
    let name = lose_a_creation(&mount).await;
    mount.configure_elsewhere().await;
    // A new process cannot ask OpenAI for the time.
    mount.sim.fault(Fault::everywhere(Action::status(503)));
    mount.put_clock_ahead(YEARS);
    mount.restart().await;
    for _ in 0..2 {
        mount.advance(A_WHILE);
        let _failed = mount.tick_now().await;
    }
    mount.put_clock_back(YEARS);
    mount.sim.clear_faults();
    mount.write("config", mount.config()).await.done();
    mount.tick_now().await.done();
    assert!(!live(&mount).contains(&name));
    mount.finish().await;
}

#[tokio::test]
async fn more_than_five_creations_without_an_outcome_are_refused() {
    let mount = Mount::start().await.configured().await;
    for _ in 0..5 {
        mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).times(1));
        mount.write("config/rotate", json!({})).await.error();
    }
    mount.write("config/rotate", json!({})).await.refused("5 creations here have an unknown outcome");
    mount.advance(A_WHILE);
    mount.tick_now().await.done();
    mount.write("config/rotate", json!({})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn creations_in_an_organization_that_is_gone_refuse_none_in_another() {
    let mount = Mount::start().await.configured().await;
    for _ in 0..5 {
        mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Drop).times(1));
        mount.write("config/rotate", json!({})).await.error();
    }
    let mut config = record(&mount);
    for making in config["making"].as_array_mut().unwrap() {
        making["organization_id"] = "org-gone".into();
    }
    let entry = Entry { key: "config".to_owned(), value: config.to_string().into(), seal_wrap: true };
    mount.storage.put(entry).await.unwrap();
    mount.restart().await;
    mount.write("config/rotate", json!({})).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_entry_of_the_release_before_moves_to_the_record() {
    let mount = Mount::start().await.configured().await;
    let name = lose_a_creation(&mount).await;
    let mut config = record(&mount);
    config.as_object_mut().unwrap().remove("making");
    let data = json!({"organization_id": mount.sim.organization(), "name": name});
    let entry = json!({"type": "admin_key_creation", "data": data, "created_at": 1_700_000_000});
    for (key, value) in [("config", config), ("wal/admin", entry)] {
        let entry = Entry { key: key.to_owned(), value: value.to_string().into(), seal_wrap: true };
        mount.storage.put(entry).await.unwrap();
    }
    mount.restart().await;
    for _ in 0..3 {
        mount.advance(A_WHILE);
        mount.tick_now().await.done();
    }
    assert!(!live(&mount).contains(&name) && mount.stored("wal/").is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_may_live_for_ever_is_looked_for_however_late_its_organization_is_named_again() {
    let mount = Mount::start().await.configured().await;
    let name = lose_a_creation(&mount).await;
    mount.configure_elsewhere().await;
    mount.advance(Duration::from_secs(400 * 86_400));
    mount.tick_now().await.done();
    mount.write("config", mount.config()).await.done();
    for _ in 0..2 {
        mount.advance(A_WHILE);
        mount.tick_now().await.done();
    }
    assert!(!live(&mount).contains(&name));
    mount.finish().await;
}

/// Stores this record. A new process reads it.
async fn store(mount: &Mount, config: &Value) {
    let entry = Entry { key: "config".to_owned(), value: config.to_string().into(), seal_wrap: true };
    mount.storage.put(entry).await.unwrap();
    mount.restart().await;
}

/// A mount with a replaced admin key that OpenAI did not delete.
async fn with_a_replaced_key() -> (Mount, String) {
    let mount = Mount::start().await.configured().await.without_lag();
    let unended = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(403)));
    mount.write("config/rotate", json!({})).await.done();
    mount.sim.remove_fault(unended);
    let old = record(&mount)["ending"][0]["id"].as_str().unwrap().to_owned();
    mount.advance(A_WHILE);
    (mount, old)
}

#[tokio::test]
async fn a_404_of_another_organization_does_not_prove_that_a_replaced_key_is_gone() {
    let (mount, old) = with_a_replaced_key().await;
    let own = mount.sim.organization().to_owned();
    let elsewhere = json!({"organization_id": "org-other", "verify_connection": false});
    mount.write("config", elsewhere).await.done();
    let gone = mount.sim.fault(Fault::on(endpoint::DELETE_ADMIN_KEY, Action::status(404)));
    mount.tick().await.error();
    assert_eq!(record(&mount)["ending"][0]["id"], old);
    mount.sim.remove_fault(gone);
    mount.write("config", json!({"organization_id": own})).await.done();
    mount.advance(A_WHILE);
    mount.tick().await.done();
    assert_eq!((live(&mount).len(), &record(&mount)["ending"]), (1, &Value::Null));
    mount.finish().await;
}

#[tokio::test]
async fn the_present_key_is_not_deleted_though_the_record_names_it_among_those_that_go() {
    let (mount, _) = with_a_replaced_key().await;
    let mut config = record(&mount);
    config["ending"][0]["id"] = config["admin_api_key_id"].clone();
    store(&mount, &config).await;
    mount.tick().await.done();
    assert_eq!((live(&mount).len(), &record(&mount)["ending"]), (2, &Value::Null));
    mount.read("config/check").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_present_key_is_known_by_its_name_its_id_or_its_value_alone_when_a_lost_one_is_looked_for() {
    for known_by in ["admin_api_key_name", "admin_api_key_id", "admin_api_key"] {
        let mount = Mount::start().await.configured().await.without_lag();
        mount.write("config/rotate", json!({})).await.done();
        let (mut config, name) = (record(&mount), live(&mount).remove(0));
        config["making"] = json!([{
            "name": name, "organization_id": mount.sim.organization(), "since": mount.now(),
        }]);
        if known_by == "admin_api_key_name" {
            config["admin_api_key_id"] = "key_other".into();
        }
        for field in ["admin_api_key_name", "admin_api_key_id"] {
            if known_by != "admin_api_key_name" && known_by != field {
                config.as_object_mut().unwrap().remove(field);
            }
        }
        store(&mount, &config).await;
        mount.tick().await.done();
        mount.advance(A_WHILE);
        mount.tick().await.done();
        assert_eq!((live(&mount), &record(&mount)["making"]), (vec![name], &Value::Null), "{known_by}");
        mount.finish().await;
    }
}

fn nothing_listed() -> Fault {
    let nothing = json!({"object": "list", "data": [], "has_more": false});
    Fault::on(endpoint::LIST_ADMIN_KEYS, Action::status_with(200, nothing))
}

#[tokio::test]
async fn a_configuration_is_not_deleted_while_openai_may_still_list_a_lost_key() {
    let mount = Mount::start().await.configured().await.without_lag();
    let late = mount.sim.fault(nothing_listed());
    lose_a_creation(&mount).await;
    mount.delete("config").await.refused("one whose creation was interrupted");
    mount.sim.remove_fault(late);
    mount.delete("config").await.nothing();
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn the_last_tick_of_a_mount_waits_until_openai_lists_a_key_that_was_lost_a_moment_ago() {
    let mount = Mount::start().await.configured().await;
    mount.sim.lag(Some(Lag::of(Duration::from_secs(20))));
    let name = lose_a_creation(&mount).await;
    mount.host.set_tainted(true);
    mount.tick().await.done();
    assert!(!live(&mount).contains(&name));
    mount.abandon();
}

#[tokio::test]
async fn a_look_for_a_lost_key_that_fails_keeps_the_name_and_notes_only_why() {
    let mount = Mount::start().await.configured().await;
    let late = mount.sim.fault(Fault::on(endpoint::LIST_ADMIN_KEYS, Action::Html));
    lose_a_creation(&mount).await;
    mount.advance(A_WHILE);
    let before = record(&mount);
    mount.tick().await.error();
    let mut noted = record(&mount);
    let retry = noted["making"][0].as_object_mut().unwrap().remove("retry").unwrap();
    assert!(retry["last_error"].as_str().unwrap().contains("not JSON"), "{retry}");
    noted["revision"] = before["revision"].clone();
    assert_eq!(noted, before);
    mount.sim.remove_fault(late);
    mount.advance(Duration::from_secs(60));
    mount.tick_now().await.done();
    assert_eq!(live(&mount).len(), 1);
    mount.finish().await;
}

#[tokio::test]
async fn a_lost_key_that_is_found_at_once_is_deleted_at_once() {
    let mount = Mount::start().await.configured().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::Cut).after_the_work().times(1));
    let failed = mount.write("config/rotate", json!({})).await;
    assert!(!failed.error().message().contains("within 10 minutes"), "{}", failed.error());
    assert_eq!((live(&mount).len(), &record(&mount)["making"]), (1, &Value::Null));
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_openai_made_although_it_refused_is_found_by_the_tick() {
    let mount = Mount::start().await.configured().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::status(400)).after_the_work().times(1));
    mount.write("config/rotate", json!({})).await.error();
    assert_eq!(live(&mount).len(), 2);
    mount.advance(A_WHILE);
    mount.tick_now().await.done();
    assert_eq!((live(&mount).len(), &record(&mount)["making"]), (1, &Value::Null));
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_that_fails_again_and_again_is_tried_within_its_period() {
    let mount = Mount::start().await.configured().await;
    mount.write("config", json!({"automatic_rotation_period": "2m"})).await.done();
    mount.sim.fault(Fault::on(endpoint::CREATE_ADMIN_KEY, Action::status(403)));
    for _ in 0..8 {
        mount.write("config/rotate", json!({})).await.error();
        mount.advance(A_WHILE);
        mount.tick().await.error();
    }
    mount.sim.clear_faults();
    mount.advance(Duration::from_secs(121));
    mount.tick().await.done();
    assert_eq!(mount.read("config").await.json()["rotation_failures"], 0);
    mount.finish().await;
}

#[tokio::test]
async fn the_present_key_that_another_process_made_a_moment_ago_is_known_by_its_id() {
    let mount = Mount::start().await.configured().await.without_lag();
    let unknown = |skip: u64| {
        mount.sim.fault(Fault::on(endpoint::READ_ADMIN_KEY, Action::status(404)).skipping(skip).times(1));
        mount.sim.fault(nothing_listed());
    };
    mount.write("config/rotate", json!({})).await.done();
    mount.restart().await;
    unknown(0);
    mount.write("config/rotate", json!({})).await.done();
    mount.sim.clear_faults();
    assert_eq!(live(&mount).len(), 1);

    let (operator, _) = library::admin_with(&mount, record(&mount)["admin_api_key"].as_str().unwrap());
    let given = operator.create_admin_key("by hand", None).await.unwrap();
    mount.restart().await;
    // The given key is looked up first.
    unknown(1);
    let body = json!({"new_admin_api_key": given.value.expose(), "new_admin_api_key_id": given.id.as_str()});
    let replaced = mount.write("config/rotate-admin-key", body).await;
    assert!(replaced.warnings().is_empty(), "{:?}", replaced.warnings());
    assert_eq!(live(&mount), ["by hand"]);
    mount.sim.clear_faults();
    mount.finish().await;
}
