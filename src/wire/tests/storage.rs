//! A mount's storage behind the broker.

use std::sync::atomic::Ordering;

use tonic::metadata::AsciiMetadataValue;

use super::server::{State, request};
use super::{Caller, Mounts, Server};
use crate::wire::pb;

fn failure(reply: pb::HandleRequestReply) -> (u32, String) {
    let err = reply.err.unwrap();
    (err.err_type, err.err_msg)
}

#[tokio::test]
async fn entries_are_written_read_and_deleted_over_one_channel() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    assert!(caller.ask("read", "get/a").await.response.is_none());
    caller.ask("update", "put/a").await;
    assert_eq!(caller.ask("read", "get/a").await.response.unwrap().data, r#"{"key":"a"}"#);
    caller.ask("delete", "delete/a").await;
    assert!(caller.ask("read", "get/a").await.response.is_none());
    assert_eq!(server.state.dials.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failed_dial_is_tried_again_by_the_next_call() {
    let server = Server::vault();
    server.state.failing_dials.store(1, Ordering::SeqCst);
    let caller = server.mount(Mounts::new().0).await;
    let (kind, text) = failure(caller.ask("read", "get/a").await);
    assert_eq!(kind, 2);
    assert_eq!(text, "storage: cannot reach the host: the host gave no connection info for id 1 in time");
    assert_eq!(caller.ask("read", "get/a").await, pb::HandleRequestReply::default());
}

#[tokio::test]
async fn refusals_keep_the_servers_words() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    server.state.entries.fail_put("a");
    assert_eq!(failure(caller.ask("update", "put/a").await), (2, "storage: injected fault".to_owned()));
    let unserved = Server::new(State { unserved: true, ..State::default() });
    let caller = unserved.mount(Mounts::new().0).await;
    let (_, text) = failure(caller.ask("update", "put/a").await);
    assert!(text.contains("missing storage implementation"), "{text}");
}

#[tokio::test]
async fn read_only_storage_is_told_in_the_words_that_forward_the_request() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    server.state.entries.set_read_only(true);
    for path in ["put/a", "delete/a"] {
        let told = failure(caller.ask("update", path).await);
        assert_eq!(told, (0, "cannot write to readonly storage".to_owned()));
    }
}

#[tokio::test]
async fn a_list_comes_sorted_whatever_order_the_server_lists_in() {
    let caller = Server::vault().mount(Mounts::new().0).await;
    for name in ["b", "c/d", "a", "c", "10", "9"] {
        caller.ask("update", &format!("put/roles/{name}")).await;
    }
    let data = caller.ask("read", "list/roles/").await.response.unwrap().data;
    assert_eq!(data, r#"{"keys":["10","9","a","b","c","c/"]}"#);
}

async fn pages(caller: &Caller) {
    for name in ["a", "b", "c", "d"] {
        caller.ask("update", &format!("put/roles/{name}")).await;
    }
    for (page, expected) in [(":2", r#"["a","b"]"#), ("b:9", r#"["c","d"]"#), ("d:9", "[]"), (":0", "[]")] {
        let data = caller.ask("read", &format!("page/{page}")).await.response.unwrap().data;
        assert_eq!(data, format!(r#"{{"keys":{expected}}}"#));
    }
}

#[tokio::test]
async fn openbao_pages_by_itself() {
    let server = Server::openbao();
    pages(&server.mount(Mounts::new().0).await).await;
    assert_eq!(server.state.page_calls.load(Ordering::SeqCst), 3);
    assert!(
        server.state.metadata.lock().unwrap().len() == 4,
        "only the four writes reached storage by other calls"
    );
}

#[tokio::test]
async fn vault_is_asked_for_a_page_only_once() {
    let server = Server::vault();
    pages(&server.mount(Mounts::new().0).await).await;
    assert_eq!(server.state.page_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_requests_snapshot_and_index_go_along_and_its_writes_come_back() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    let mut call = caller.call(request("update", "put/a", "null"));
    for (name, value) in [("snapshot_id", "s1"), ("index_state_local", "7"), ("unrelated", "x")] {
        call.metadata_mut().insert(name, AsciiMetadataValue::from_static(value));
    }
    let reply = caller.backend.clone().handle_request(call).await.unwrap().into_inner();
    assert_eq!(reply.wal_index, Some(pb::WalIndex { local_index: 101, replicated_index: 200 }));
    let read = caller.ask("read", "get/a").await;
    assert_eq!(read.wal_index, None, "an index belongs to the request that wrote");
    let seen = server.state.metadata.lock().unwrap();
    assert_eq!(seen[0].get("snapshot_id").unwrap(), "s1");
    assert_eq!(seen[0].get("index_state_local").unwrap(), "7");
    assert!(!seen[0].contains_key("unrelated") && !seen[1].contains_key("snapshot_id"));
}
