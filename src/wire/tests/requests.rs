//! Requests: responses, refusals, panics, callers that go away, sizes.

use std::sync::atomic::Ordering;

use super::logs::Logs;
use super::server::request;
use super::{Mounts, Server};
use crate::logical::Storage;
use crate::wire::pb;

fn error(reply: pb::HandleRequestReply) -> (u32, String, i64) {
    assert!(reply.response.is_none());
    let pb::ProtoError { err_type, err_msg, err_code } = reply.err.unwrap();
    (err_type, err_msg, err_code)
}

#[tokio::test]
async fn data_goes_in_and_comes_out() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    let reply = caller.send("update", "echo", "{ \"b\":[1,null],\n\"a\":{} }").await.unwrap();
    assert_eq!(reply.response.unwrap().data, r#"{"a":{},"b":[1,null]}"#);
    let nothing = caller.ask("read", "nothing").await;
    assert_eq!(nothing, pb::HandleRequestReply::default());
    let lease = caller.send("read", "lease", r#"{"secret_type":"x"}"#).await.unwrap().response.unwrap();
    assert_eq!(lease.data, "null");
    let secret = lease.secret.unwrap();
    assert_eq!(secret.internal_data, r#"{"secret_type":"x"}"#);
    assert_eq!(secret.lease_options.unwrap().ttl, 60_000_000_000);
}

#[tokio::test]
async fn a_bad_request_and_a_fault_of_ours_are_told_apart() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    let bad = caller.ask("read", "bad").await;
    assert_eq!(bad.response.unwrap().data, r#"{"error":"ttl must be at most max_ttl"}"#);
    assert_eq!(bad.err, None);
    assert_eq!(error(caller.ask("read", "internal").await), (2, "OpenAI is down".to_owned(), 0));
    assert_eq!(error(caller.ask("read", "limited").await), (3, "OpenAI is limiting".to_owned(), 503));
    assert_eq!(error(caller.ask("read", "no-such-path").await).0, 6);
}

#[tokio::test]
async fn an_error_is_logged_once_with_its_detail() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    let logs = Logs::capture();
    caller.ask("read", "internal").await;
    caller.ask("read", "no-such-path").await;
    caller.ask("read", "limited").await;
    let lines = logs.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for part in [
        "ERROR",
        "operation=read",
        "path=internal",
        "mount=openai/",
        "request_id=request-1",
        "detail=request id req_1",
    ] {
        assert!(lines[0].contains(part), "{part} is not in {:?}", lines[0]);
    }
    assert!(lines[1].starts_with("WARN"), "{lines:?}");
}

#[tokio::test]
async fn malformed_data_is_an_error_for_that_request_alone() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    for data in ["[]", "\"sk-secret\"", "{", "12", "{\"a\":1e999}"] {
        let response = caller.send("update", "echo", data).await.unwrap().response.unwrap();
        assert!(
            response.data.contains("malformed request: its data is not a JSON object"),
            "{}",
            response.data
        );
        assert!(!response.data.contains("sk-secret"));
    }
    let empty = pb::HandleRequestArgs { request: None };
    let reply = caller.backend.clone().handle_request(empty).await.unwrap().into_inner();
    assert_eq!(error(reply).0, 5);
    assert!(caller.ask("read", "uuid").await.response.is_some());
}

#[tokio::test]
async fn a_panic_is_that_requests_error_and_no_others() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    let logs = Logs::capture();
    let (kind, text, _) = error(caller.ask("update", "panic").await);
    assert_eq!((kind, text.as_str()), (2, "internal error in operation \"update\""));
    let check = pb::HandleExistenceCheckArgs { request: request("update", "panic", "null").request };
    let reply = caller.backend.clone().handle_existence_check(check).await.unwrap().into_inner();
    assert_eq!(reply.err.unwrap().err_type, 2);
    let lines = logs.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("panicked") && !line.contains("sk-secret")), "{lines:?}");
    assert!(caller.ask("read", "uuid").await.response.is_some(), "the mount goes on");
}

#[tokio::test]
async fn a_request_goes_on_to_its_end_when_its_caller_is_gone() {
    let (mounts, mut notices) = Mounts::new();
    let server = Server::vault();
    let caller = server.mount(mounts.clone()).await;
    let call = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send("read", "wait", "null").await }
    });
    assert_eq!(notices.recv().await.unwrap(), "waiting");
    call.abort();
    assert_eq!(notices.recv().await.unwrap(), "cancelled");
    mounts.seen.go_on.notify_one();
    assert_eq!(notices.recv().await.unwrap(), "finished");
    assert!(server.state.entries.get("finished").await.unwrap().is_some());
}

#[tokio::test]
async fn openbaos_questions_are_answered_without_touching_anything() {
    let server = Server::openbao();
    let caller = server.mount(Mounts::new().0).await;
    for operation in ["resolve-path", "scan", "something-new"] {
        let reply = caller.send(operation, "panic", "not even JSON").await.unwrap();
        assert_eq!(error(reply), (5, "unsupported operation".to_owned(), 0));
    }
    assert_eq!(server.state.dials.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_existence_check_tells_create_from_update() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    caller.ask("update", "put/there").await;
    for (path, expected) in [
        ("there", (true, true, None)),
        ("absent", (true, false, None)),
        ("unchecked", (false, false, None)),
        ("bad", (false, false, Some((1, "the name is odd".to_owned())))),
    ] {
        let check = pb::HandleExistenceCheckArgs { request: request("update", path, "null").request };
        let reply = caller.backend.clone().handle_existence_check(check).await.unwrap().into_inner();
        let err = reply.err.map(|err| (err.err_type, err.err_msg));
        assert_eq!((reply.check_found, reply.exists, err), expected, "{path}");
    }
}

#[tokio::test]
async fn nine_megabytes_pass_but_for_a_requests_body() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(1_000_000));
    let reply = caller.send("update", "size", &data).await.unwrap();
    assert_eq!(reply.response.unwrap().data, r#"{"size":1000000}"#);
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(9 << 20));
    let reply = caller.send("update", "size", &data).await.unwrap();
    assert!(reply.err.is_none(), "{:?}", reply.err);
    let says = r#"{"error":"the body must be at most 1048576 bytes long, not 9437195"}"#;
    assert_eq!(reply.response.unwrap().data, says);
    let check = pb::HandleExistenceCheckArgs { request: request("update", "size", &data).request };
    let err = caller.backend.clone().handle_existence_check(check).await.unwrap().into_inner().err.unwrap();
    assert_eq!((err.err_type, err.err_msg.contains("at most 1048576 bytes")), (1, true), "HTTP 400");
    assert!(caller.ask("read", "big").await.response.unwrap().data.len() > 9 << 20);
    let stored = caller.ask("update", "big-put/entry").await;
    assert_eq!(stored.response.unwrap().data, format!(r#"{{"size":{}}}"#, 9 << 20));
}
