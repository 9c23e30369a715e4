//! What OpenAI's documents leave open: the mount works either way.

use std::collections::BTreeMap;

use super::*;
use crate::simulator::{Action, Fault, Federation, endpoint};

#[tokio::test]
async fn a_new_rule_that_the_exchange_sees_late_is_waited_for() {
    let mount = mount().await;
    mount.sim.federation(Federation { propagation_ms: 6_000, ..Federation::default() });
    mount.write("config/federation", json!({"token_endpoint": mount.sim.token_url()})).await.done();
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    // An old rule is not waited for.
    mount.advance(HOUR);
    change_rule(&mount, json!({"enabled": false})).await;
    mount.advance(Duration::from_secs(10));
    let before = mount.now();
    mount.read("creds/app").await.refused("invalid_grant");
    assert!((mount.now() - before).num_seconds() < 5);
    mount.finish().await;
}

#[tokio::test]
async fn an_end_is_told_with_and_without_expires_at() {
    for with_expires_at in [true, false] {
        let mount = with_app().await;
        mount.sim.federation(Federation { with_expires_at, ..Federation::default() });
        let answer = mount.read_with("creds/app", json!({"ttl": 300})).await.json();
        let end: chrono::DateTime<chrono::Utc> = answer["expires_at"].as_str().unwrap().parse().unwrap();
        let left = (end - mount.now()).num_seconds();
        assert!((295..=300).contains(&left), "{left}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn the_longest_ttl_keeps_to_the_strict_lifetime() {
    let mount = managed().await;
    mount.write("roles/app", role_with(json!({"ttl": "1h"}))).await.done();
    for strict_lifetime in [true, false] {
        for leeway_seconds in [0, 60] {
            mount.sim.federation(Federation { strict_lifetime, leeway_seconds, ..Federation::default() });
            token(&mount).await;
        }
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_rule_whose_answer_was_lost_is_taken_over_although_the_list_shows_it_late() {
    let mount = managed().await.without_lag();
    mount.sim.fault(Fault::on(endpoint::CREATE_RULE, Action::Cut).times(1).after_the_work());
    let nothing = Action::status_with(200, json!({"data": [], "has_more": false}));
    let late = mount.sim.fault(Fault::on(endpoint::LIST_RULES, nothing));
    for _ in 0..2 {
        mount.write("roles/app", role()).await.error();
    }
    mount.sim.remove_fault(late);
    mount.advance(HOUR);
    mount.tick().await.done();
    token(&mount).await;
    mount.delete("roles/app").await.done();
    mount.delete("config/federation").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn the_date_of_a_refusal_by_a_proxy_ends_no_credential() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mount = with_app().await;
    mount.write("roles/keys", json!({"project": PROJECT, "ttl": "1h"})).await.done();
    let lease = mount.read("creds/keys").await.lease().clone();
    // The clocks of this server and of the proxy are wrong alike.
    mount.put_clock_ahead(DAY);
    let date = mount.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    mount.sim.fault(Fault::on(
        endpoint::EXCHANGE_TOKEN,
        Action::Status {
            status: 403,
            headers: BTreeMap::from([("date".to_owned(), date)]),
            body: Some(json!({"error": "access_denied"})),
        },
    ));
    mount.read("creds/app").await.error();
    mount.tick().await.done();
    assert!(mount.sim.state().is_live(&lease.api_key));
    mount.put_clock_back(DAY);
    mount.sim.clear_faults();
    mount.revoke(&lease).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn clocks_that_are_apart_by_minutes_fail_no_read() {
    for is_ahead in [true, false] {
        let mount = with_app().await;
        if is_ahead {
            mount.put_clock_ahead(Duration::from_secs(300));
        } else {
            mount.put_clock_back(Duration::from_secs(300));
        }
        token(&mount).await;
        // A process that has made no call yet learns OpenAI's time from the refusal.
        mount.restart().await;
        token(&mount).await;
        mount.finish().await;
    }
}

#[tokio::test]
async fn clocks_that_are_apart_by_less_than_a_minute_fail_no_read() {
    for seconds in [10, 31, 45, 59] {
        for is_ahead in [true, false] {
            let (mount, by) = (with_app().await, Duration::from_secs(seconds));
            if is_ahead {
                mount.put_clock_ahead(by);
            } else {
                mount.put_clock_back(by);
            }
            token(&mount).await;
            let answer = mount.read_with("creds/app", json!({"ttl": 300})).await.json();
            let again = answer["ttl"].as_u64().unwrap();
            assert!((190..=200).contains(&again), "two thirds of what is left: {again}");
            let identity = mount.read("identity-token/app").await.json();
            exchange_elsewhere(&mount, &identity).await;
            mount.restart().await;
            token(&mount).await;
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn tokens_that_end_with_a_change_are_followed_by_others() {
    let mount = with_app().await;
    for both in [true, false] {
        mount.sim.federation(Federation {
            revoke_on_disable: both,
            revoke_on_key_change: both,
            ..Federation::default()
        });
        let before = token(&mount).await;
        mount.write("config/federation/rotate", json!({})).await.done();
        assert_eq!(opens(&mount, &before).await, !both);
        let before = token(&mount).await;
        mount.write("roles/app", json!({"enabled": false})).await.nothing();
        assert_eq!(opens(&mount, &before).await, !both);
        mount.write("roles/app", json!({"enabled": true})).await.nothing();
        token(&mount).await;
        mount.advance(HOUR * 2);
        mount.tick().await.done();
        token(&mount).await;
    }
    mount.finish().await;
}
