//! The rotation of the signing key of a provider that Vault manages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Mutex;
use tokio::task::yield_now;

use super::*;
use crate::simulator::{Action, Fault, Federation, endpoint};

async fn kid(mount: &Mount) -> String {
    mount.read("config/federation").await.text("current_kid")
}

#[tokio::test]
async fn a_rotation_proves_the_new_key_and_takes_the_old_one_out_when_no_token_of_it_lives() {
    let mount = with_app().await;
    let (old, before) = (kid(&mount).await, token(&mount).await);
    let rotated = mount.write("config/federation/rotate", json!({})).await;
    assert_eq!(rotated.text("message"), "Signing key has been rotated.");
    let new = kid(&mount).await;
    assert_ne!(new, old);
    assert_eq!(provider(&mount).kids, [old.clone(), new.clone()]);
    assert!(rotated.warnings()[0].contains("may end live access tokens"));
    assert!(opens(&mount, &before).await);
    token(&mount).await;
    mount.advance(Duration::from_secs(3_500));
    mount.tick().await.done();
    assert_eq!(provider(&mount).kids.len(), 2);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_eq!(provider(&mount).kids, [new]);
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn the_key_rotates_by_its_period() {
    let mount = with_app().await;
    mount.write("config/federation", json!({"key_rotation_period": "30d"})).await.nothing();
    let old = kid(&mount).await;
    mount.advance(HOUR * 24 * 29);
    mount.tick().await.done();
    assert_eq!(kid(&mount).await, old);
    mount.advance(HOUR * 30);
    mount.tick().await.done();
    assert_ne!(kid(&mount).await, old);
    token(&mount).await;
    let read = mount.read("config/federation").await.json();
    assert_ne!(read["next_rotation"], "");
    mount.finish().await;
}

#[tokio::test]
async fn a_key_that_openai_sees_late_signs_only_then() {
    let mount = with_app().await;
    mount.sim.federation(Federation { propagation_ms: 600_000, ..Federation::default() });
    mount.advance(HOUR);
    let old = kid(&mount).await;
    let begun = mount.write("config/federation/rotate", json!({})).await;
    assert!(begun.text("rotation_waits_for").contains("which OpenAI may see late"), "{:?}", begun.json());
    assert_eq!(kid(&mount).await, old);
    token(&mount).await;
    mount.advance(Duration::from_secs(1_200));
    let health = mount.read("health").await.json();
    assert!(health["reasons"].to_string().contains("the rotation of the signing key waits for"), "{health}");
    mount.tick().await.done();
    assert_ne!(kid(&mount).await, old);
    token(&mount).await;
    assert_eq!(mount.read("health").await.json()["status"], "ok");
    mount.finish().await;
}

#[tokio::test]
async fn without_a_role_the_new_key_signs_after_a_while() {
    let mount = managed().await;
    let old = kid(&mount).await;
    let begun = mount.write("config/federation/rotate", json!({})).await;
    assert_ne!(begun.text("rotation_waits_for"), "");
    mount.advance(Duration::from_secs(900));
    mount.tick().await.done();
    assert_ne!(kid(&mount).await, old);
    mount.write("roles/app", role()).await.done();
    token(&mount).await;
    mount.finish().await;
}

#[tokio::test]
async fn a_rotation_is_proved_by_a_role_that_works() {
    let mount = managed().await;
    for name in ["a", "b", "c", "d"] {
        mount.write(&format!("roles/{name}"), role()).await.done();
    }
    let provider = provider(&mount).id;
    for name in ["a", "b", "c"] {
        let rule = mount.read(&format!("roles/{name}")).await.text("federation_rule_id");
        let path = format!("/workload_identity_providers/{provider}/federation_rules/{rule}");
        administer(&mount, "POST", &path, Some(json!({"enabled": false}))).await.ok();
    }
    let old = kid(&mount).await;
    mount.write("config/federation/rotate", json!({})).await.done();
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_ne!(kid(&mount).await, old);
    mount.read("creds/d").await.done();
    mount.finish().await;
}

#[tokio::test]
async fn an_upload_that_fails_is_repeated() {
    let mount = with_app().await;
    let fault = mount.sim.fault(Fault::on(endpoint::UPDATE_PROVIDER, Action::status(403)));
    let old = kid(&mount).await;
    let begun = mount.write("config/federation/rotate", json!({})).await;
    assert!(begun.text("rotation_waits_for").contains("the upload of key"), "{:?}", begun.json());
    token(&mount).await;
    mount.sim.remove_fault(fault);
    mount.advance(HOUR);
    mount.tick().await.done();
    assert_ne!(kid(&mount).await, old);
    assert_eq!(provider(&mount).kids.len(), 2);
    mount.finish().await;
}

#[tokio::test]
async fn no_exchange_fails_while_the_key_rotates() {
    let mount = with_app().await;
    mount.sim.federation(Federation { propagation_ms: 300, ..Federation::default() });
    let (done, reads, jump) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(()));
    let load = async {
        while !done.load(Ordering::Relaxed) {
            // No token is on its way while hours pass.
            let _no_jump = jump.lock().await;
            mount.read("creds/app").await.done();
            reads.fetch_add(1, Ordering::Relaxed);
        }
    };
    let rotations = async {
        for _ in 0..3 {
            let (old, before) = (kid(&mount).await, reads.load(Ordering::Relaxed));
            mount.write("config/federation/rotate", json!({})).await.done();
            for _ in 0..5 {
                mount.advance(Duration::from_secs(60));
                mount.tick().await.done();
            }
            assert_ne!(kid(&mount).await, old);
            while reads.load(Ordering::Relaxed) < before + 4 {
                yield_now().await;
            }
            let _no_read = jump.lock().await;
            mount.advance(HOUR * 2);
            mount.tick().await.done();
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, rotations);
    assert_eq!(provider(&mount).kids.len(), 1);
    mount.finish().await;
}
