//! Leases: issue, renewal, revocation, and a caller that hung up.

use super::*;
use crate::logical::{Kind, Lease, Secret};

/// A lease as Vault sends it from its storage.
fn stored(internal: Value) -> Secret {
    Secret {
        lease_id: "paint/lend/a/x".to_owned(),
        internal: object(internal),
        ttl: Duration::from_secs(60),
        max_ttl: Duration::from_secs(600),
        increment: Duration::ZERO,
        renewable: true,
        issue_time: None,
    }
}

fn asking(mount: &Mount, operation: Operation, secret: Option<Secret>) -> Request {
    let mut request = mount.request(operation, "lend/a", json!({"key": "open sesame"}));
    request.secret = secret;
    request
}

#[tokio::test]
async fn a_lease_carries_its_type_beside_what_the_engine_needs() {
    let mount = Mount::new();
    let answer = mount.ask(Operation::Read, "lend/a", Value::Null).await.unwrap().unwrap();
    let Lease { internal, ttl, max_ttl, renewable } = answer.lease.unwrap();
    assert_eq!(Value::Object(internal), json!({"pot": "a", "secret_type": "loan"}));
    assert_eq!((ttl.as_secs(), max_ttl.as_secs(), renewable), (60, 600, true));
}

#[tokio::test]
async fn revocation_finds_the_engines_function_by_the_type() {
    let mount = Mount::new();
    for (kind, pot) in [("loan", "a"), ("gift", "b")] {
        let secret = stored(json!({"pot": pot, "secret_type": kind}));
        let answer = mount.backend.handle(asking(&mount, Operation::Revoke, Some(secret))).await;
        assert!(answer.unwrap().is_none());
    }
    assert_eq!(mount.toy.notes(), ["take back a at lend/a", "take back b at lend/a"]);
}

#[tokio::test]
async fn renewal_echoes_the_internal_data_but_not_what_was_shown() {
    let mount = Mount::new();
    let secret = stored(json!({"pot": "a", "secret_type": "loan"}));
    let answer = mount.backend.handle(asking(&mount, Operation::Renew, Some(secret))).await.unwrap().unwrap();
    assert!(answer.data.is_empty());
    let Lease { internal, ttl, max_ttl, renewable } = answer.lease.unwrap();
    assert_eq!(Value::Object(internal), json!({"pot": "a", "secret_type": "loan"}));
    assert_eq!((ttl.as_secs(), max_ttl.as_secs(), renewable), (90, 600, true));
}

#[tokio::test]
async fn a_type_without_renewal_refuses_it() {
    let mount = Mount::new();
    let secret = stored(json!({"pot": "a", "secret_type": "gift"}));
    let error = mount.backend.handle(asking(&mount, Operation::Renew, Some(secret))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::UnsupportedOperation);
}

#[tokio::test]
async fn a_lease_that_is_not_ours_is_refused_in_the_words_of_vault() {
    let mount = Mount::new();
    for operation in [Operation::Renew, Operation::Revoke] {
        let error = mount.backend.handle(asking(&mount, operation, None)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::Internal, "request has no secret"));
        for internal in [Value::Null, json!({"secret_type": "x"}), json!({"secret_type": 5})] {
            let request = asking(&mount, operation, Some(stored(internal)));
            let error = mount.backend.handle(request).await.unwrap_err();
            assert_eq!(error.message(), "secret is unsupported by this backend");
            assert_eq!(error.kind(), Kind::Internal);
        }
    }
}

#[tokio::test]
async fn internal_data_that_does_not_fit_is_an_error_that_quotes_nothing() {
    let mount = Mount::new();
    let secret = stored(json!({"sesame": "sesame", "secret_type": "loan"}));
    let error = mount.backend.handle(asking(&mount, Operation::Revoke, Some(secret))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert!(!error.to_string().contains("sesame"), "{error}");
}

#[test]
fn only_an_object_can_be_internal_data() {
    let error = GIFT.grant(&"text", Duration::ZERO, Duration::ZERO, false).unwrap_err();
    assert_eq!(error.message(), "the internal data of a gift lease is no object");
}

#[tokio::test]
async fn what_was_issued_for_a_caller_who_hung_up_is_revoked_at_once() {
    let mount = Mount::new();
    let request = mount.request(Operation::Read, "lend/a", Value::Null);
    *mount.toy.hang_up.lock().unwrap() = Some(request.cancelled.clone());
    let error = mount.backend.handle(request).await.unwrap_err();
    assert_eq!(error.message(), "the caller hung up, so what was issued was revoked");
    assert_eq!(mount.toy.notes(), ["lend", "take back a at lend/a"]);
}

#[tokio::test]
async fn a_failed_revocation_for_a_caller_who_hung_up_is_reported() {
    let mount = Mount::new();
    let request = mount.request(Operation::Read, "lend/stuck", Value::Null);
    *mount.toy.hang_up.lock().unwrap() = Some(request.cancelled.clone());
    assert_eq!(mount.backend.handle(request).await.unwrap_err().message(), "stuck");
}

#[tokio::test]
async fn a_renewal_for_a_caller_who_hung_up_ends_no_lease() {
    let mount = Mount::new();
    let request = asking(&mount, Operation::Renew, Some(stored(json!({"pot": "a", "secret_type": "loan"}))));
    request.cancelled.cancel();
    assert!(mount.backend.handle(request).await.unwrap().unwrap().lease.is_some());
    assert_eq!(mount.toy.notes(), [""; 0]);
}
