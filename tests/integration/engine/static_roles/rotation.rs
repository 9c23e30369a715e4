//! Rotation by hand: what becomes of the new key and of the old one.

use serde_json::json;

use super::*;
use crate::simulator::{Action, Fault, endpoint};

#[tokio::test]
async fn a_rotation_answers_a_new_key_on_the_same_account_and_the_old_one_is_dead() {
    let (mount, account) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    let before = mount.read("static-creds/app").await.json();
    mount.advance(MINUTE);
    let rotated = mount.write("static-creds/app/rotate", json!({})).await;
    assert!(rotated.warnings().is_empty());
    let rotated = rotated.json();
    assert_eq!(rotated, mount.read("static-creds/app").await.json());
    assert_ne!(
        (&rotated["api_key"], &rotated["last_rotation"]),
        (&before["api_key"], &before["last_rotation"])
    );
    assert_eq!(rotated["service_account_id"], account.id.as_str());
    let state = mount.sim.state();
    assert!(state.is_live(rotated["api_key"].as_str().unwrap()) && !state.is_live(&old));
    assert!(is_untouched(&mount, &account));
    assert!(mount.stored("wal/").is_empty());
}

#[tokio::test]
async fn in_grace_the_old_key_works_and_openai_knows_its_end() {
    let (mount, account) = with_app(json!({"grace_period": "1h"})).await;
    let old = key(&mount, "app").await;
    let new = rotate(&mount, "app").await;
    let keys = live_keys(&mount, &account.id);
    let retiring = keys.iter().find(|key| key.value == old).expect("the old key works");
    let left = retiring.expires_at.expect("it has an end") - mount.sim.state().now;
    assert!((3598..=3600).contains(&left), "{left}");
    let shown = &role(&mount, "app").await["grace_keys"][&retiring.id];
    assert_eq!(shown["last_error"], "");
    assert!(shown["ends"].is_string());

    mount.advance(HOUR + MINUTE);
    assert!(!mount.sim.state().is_live(&old), "OpenAI ends it by itself");
    mount.tick().await.done();
    assert_eq!(mount.sim.state().account(&account.id).unwrap().keys.len(), 2, "the tick removes it");
    assert_eq!(role(&mount, "app").await["grace_keys"], json!({}));
    assert_eq!(key(&mount, "app").await, new);
}

#[tokio::test]
async fn grace_can_be_given_and_taken_for_one_rotation() {
    let (mount, _) = with_app(json!({"grace_period": "1h"})).await;
    let first = key(&mount, "app").await;
    let second = mount.write("static-creds/app/rotate", json!({"grace_period": 0})).await.text("api_key");
    assert!(!mount.sim.state().is_live(&first));
    mount.write("static-creds/app/rotate", json!({"grace_period": "30h"})).await.done();
    assert!(mount.sim.state().is_live(&second));
    mount.write("static-creds/app/rotate", json!({"grace_period": "9000h"})).await.refused("one year");
}

#[tokio::test]
async fn an_old_key_that_cannot_be_ended_is_told_and_ended_by_a_later_tick() {
    let (mount, _) = with_app(json!({})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)).times(2));
    let rotated = mount.write("static-creds/app/rotate", json!({})).await;
    assert!(rotated.warnings()[0].contains("is not complete yet"), "{:?}", rotated.warnings());
    assert_eq!(rotated.text("api_key"), key(&mount, "app").await);
    for _ in 0..2 {
        assert!(mount.sim.state().is_live(&old));
        assert_eq!(role(&mount, "app").await["grace_keys"].as_object().unwrap().len(), 1);
        mount.advance(MINUTE * 2);
        mount.tick().await.done();
    }
    assert!(!mount.sim.state().is_live(&old));
    assert_eq!(role(&mount, "app").await["grace_keys"], json!({}));
}

#[tokio::test]
async fn an_end_that_openai_would_not_note_is_tried_again_and_kept_by_the_tick() {
    let (mount, _) = with_app(json!({"grace_period": "10m"})).await;
    let old = key(&mount, "app").await;
    mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, Action::status(403)));
    assert_eq!(mount.write("static-creds/app/rotate", json!({})).await.warnings().len(), 1);
    for _ in 0..9 {
        mount.advance(MINUTE);
        mount.tick().await.done();
        assert!(mount.sim.state().is_live(&old));
    }
    assert!(mount.sim.calls(endpoint::UPDATE_KEY) > 2);
    mount.advance(MINUTE);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&old));
}

#[tokio::test]
async fn a_rotation_that_openai_refuses_leaves_the_role_as_it_was_but_for_the_failure() {
    let (mount, _) = with_app(json!({})).await;
    let without_trouble = |mut role: Value| {
        for told in ["rotation_failures", "last_rotation_error", "next_vault_rotation"] {
            role[told].take();
        }
        role
    };
    let before = (without_trouble(role(&mount, "app").await), key(&mount, "app").await);
    mount.sim.fault(Fault::on(endpoint::CREATE_KEY, Action::status(403)).times(1));
    mount.write("static-creds/app/rotate", json!({})).await.refused("API key creation failed:");
    assert_eq!(role(&mount, "app").await["rotation_failures"], 1);
    assert_eq!((without_trouble(role(&mount, "app").await), key(&mount, "app").await), before);
    mount.finish().await;
}

#[tokio::test]
async fn a_new_key_whose_answer_was_lost_is_undone_at_once() {
    let (mount, account) = with_app(json!({})).await;
    let mount = mount.without_lag();
    let before = key(&mount, "app").await;
    for action in [Action::Drop, Action::Cut, Action::Truncated, Action::Html, Action::status(502)] {
        mount.sim.fault(Fault::on(endpoint::CREATE_KEY, action).times(1).after_the_work());
        assert!(mount.write("static-creds/app/rotate", json!({})).await.answer.is_err());
        assert_eq!(live_keys(&mount, &account.id).len(), 2);
    }
    assert_eq!(key(&mount, "app").await, before);
    mount.finish().await;
}

#[tokio::test]
async fn old_keys_do_not_pile_up_where_openai_ends_none() {
    let (mount, account) = with_app(json!({})).await;
    mount.sim.fault(Fault::on(endpoint::DELETE_KEY, Action::status(403)));
    for _ in 0..20 {
        rotate(&mount, "app").await;
    }
    let refused = mount.write("static-creds/app/rotate", json!({})).await;
    refused.refused("20 replaced keys of this static role are not ended yet");
    mount.sim.clear_faults();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(live_keys(&mount, &account.id).len(), 2);
}

#[tokio::test]
async fn rotations_at_once_take_turns_and_leave_one_key() {
    let (mount, account) = with_app(json!({})).await;
    mount.advance(DAY * 2);
    let (one, two, tick) = tokio::join!(rotate(&mount, "app"), rotate(&mount, "app"), mount.tick());
    tick.done();
    assert_ne!(one, two);
    assert_eq!(live_keys(&mount, &account.id).len(), 2);
    mount.advance(DAY * 2);
    mount.tick().await.done();
    assert_eq!(mount.stored("due/").len(), 1);
}

#[tokio::test]
async fn an_unset_grace_keeps_the_old_key_by_the_timetable_and_not_by_hand() {
    let (mount, _) = with_app(json!({})).await;
    let first = key(&mount, "app").await;
    mount.advance(DAY + MINUTE);
    mount.tick().await.done();
    let second = key(&mount, "app").await;
    assert_ne!(second, first);
    mount.advance(MINUTE * 9);
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&first), "readers have ten minutes to come back");
    mount.advance(MINUTE * 2);
    mount.tick().await.done();
    assert!(!mount.sim.state().is_live(&first));
    rotate(&mount, "app").await;
    assert!(!mount.sim.state().is_live(&second), "by hand the old key ends at once");
}
