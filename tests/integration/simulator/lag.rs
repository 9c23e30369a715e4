//! OpenAI that lags behind itself: what is made answers 404 for a while, what is deleted is visible for a while.

use std::time::Duration;

use serde_json::json;

use super::{Caller, text};
use crate::simulator::Lag;

const SECOND: Duration = Duration::from_secs(1);

async fn lagging(lag: Lag) -> Caller {
    let caller = Caller::start().await;
    caller.sim.lag(Some(lag));
    caller
}

/// How many accounts, keys and admin keys are listed.
async fn listed(caller: &Caller) -> (usize, usize, usize) {
    let count = async |path: String| caller.get(&path).await.ok()["data"].as_array().unwrap().len();
    (
        count(caller.accounts()).await,
        count(caller.keys()).await,
        count("/organization/admin_api_keys".to_owned()).await,
    )
}

#[tokio::test]
async fn what_is_made_is_not_found_by_any_call_until_its_time() {
    let caller = lagging(Lag::of(SECOND * 20)).await;
    let account = caller.account("new").await;
    let (account, key) = (text(&account["id"]), text(&account["api_key"]["id"]));
    let admin = caller.post("/organization/admin_api_keys", json!({"name": "n"})).await.ok();
    let account = format!("{}/{account}", caller.accounts());
    let key = format!("{}/{key}", caller.keys());
    let admin = format!("/organization/admin_api_keys/{}", text(&admin["id"]));
    for _ in 0..2 {
        for path in [&account, &key, &admin] {
            assert_eq!((caller.get(path).await.status, caller.delete(path).await.status), (404, 404));
        }
        assert_eq!(caller.post(&account, json!({"name": "newer"})).await.status, 404);
        assert_eq!(caller.post(&format!("{account}/api_keys"), json!({})).await.status, 404);
        assert_eq!(caller.post(&key, json!({"scopes": ["a"]})).await.status, 404);
        assert_eq!(listed(&caller).await, (0, 0, 1));
        caller.sim.advance(SECOND * 9);
    }
    caller.sim.advance(SECOND * 2);
    assert_eq!(listed(&caller).await, (1, 1, 2));
    for path in [&key, &account, &admin] {
        assert_eq!((caller.get(path).await.status, caller.delete(path).await.status), (200, 200));
    }
}

#[tokio::test]
async fn the_key_of_what_is_made_works_at_once() {
    let caller = lagging(Lag::of(SECOND * 20)).await;
    let account = caller.account("new").await;
    assert!(caller.opens(&text(&account["api_key"]["value"])).await);
}

#[tokio::test]
async fn what_is_deleted_is_listed_and_opens_for_a_while() {
    let caller = lagging(Lag { most_ms: 0, deleted_ms: 60_000, ..Lag::default() }).await;
    let account = caller.account("old").await;
    let (id, value) = (text(&account["id"]), text(&account["api_key"]["value"]));
    let path = format!("{}/{id}", caller.accounts());
    caller.delete(&path).await.ok();
    assert_eq!(caller.sim.state().accounts.len(), 0);
    assert_eq!(caller.get(&path).await.status, 404);
    assert_eq!(listed(&caller).await, (1, 1, 1));
    assert!(caller.opens(&value).await);
    caller.sim.advance(SECOND * 61);
    assert_eq!(listed(&caller).await, (0, 0, 1));
    assert!(!caller.opens(&value).await);
}

#[tokio::test]
async fn what_was_there_before_does_not_lag_and_each_kind_of_call_has_its_own_time() {
    let caller = lagging(Lag { get: false, delete: false, ..Lag::of(SECOND * 20) }).await;
    let before = caller.sim.seed_account(caller.sim.project(), "before", true).unwrap();
    caller.get(&format!("{}/{}", caller.accounts(), before.id)).await.ok();
    let account = format!("{}/{}", caller.accounts(), text(&caller.account("new").await["id"]));
    caller.get(&account).await.ok();
    assert_eq!(caller.post(&account, json!({"name": "newer"})).await.status, 404);
    assert_eq!(listed(&caller).await, (1, 1, 1));
    caller.delete(&account).await.ok();
}

#[tokio::test]
async fn a_lag_is_set_by_a_control_call_too() {
    let caller = Caller::start().await;
    caller.control("POST", "/lag", &json!({"least_ms": 5000})).await.ok();
    assert_eq!(
        caller
            .get(&format!("{}/{}", caller.accounts(), text(&caller.account("new").await["id"])))
            .await
            .status,
        404
    );
    caller.control("DELETE", "/lag", &json!({})).await.ok();
    caller.get(&format!("{}/{}", caller.accounts(), text(&caller.account("new").await["id"]))).await.ok();
    assert_eq!(caller.control("POST", "/lag", &json!({"most": 5000})).await.status, 400);
}
