//! The life of a mount: setup, type, special paths, initialization, cleanup, and several mounts in one process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tonic::{Code, Request};

use super::logs::Logs;
use super::server::{State, request};
use super::{Caller, Mounts, Server};
use crate::logical::Storage as _;
use crate::wire::pb;
use crate::wire::pb::logical::plugin_version_client::PluginVersionClient;
use crate::wire::pb::multiplexing::MultiplexingSupportRequest;
use crate::wire::pb::multiplexing::plugin_multiplexing_client::PluginMultiplexingClient;

async fn setup_with(caller: &Caller, config: &[(&str, &str)], uuid: &str) -> String {
    let config: HashMap<String, String> =
        config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let args = pb::SetupArgs { broker_id: 1, config, backend_uuid: uuid.to_owned() };
    caller.backend.clone().setup(caller.call(args)).await.unwrap().into_inner().err
}

#[tokio::test]
async fn version_and_multiplexing_need_no_mount() {
    let plugin = Server::vault().plugin(Mounts::new().0);
    let version = PluginVersionClient::new(plugin.clone()).version(pb::logical::Empty {}).await.unwrap();
    assert_eq!(version.into_inner().plugin_version, "v1.2.3");
    let support = PluginMultiplexingClient::new(plugin)
        .multiplexing_support(MultiplexingSupportRequest {})
        .await
        .unwrap();
    assert!(support.into_inner().supported);
}

#[tokio::test]
async fn registration_works_with_nothing_behind_the_broker() {
    let server = Server::new(State { unserved: true, ..State::default() });
    server.state.failing_dials.store(usize::MAX, Ordering::SeqCst);
    let caller = Caller::new(server.plugin(Mounts::new().0), Some("a"));
    assert_eq!(setup_with(&caller, &[], "").await, "");
    let kind = caller.backend.clone().r#type(caller.call(pb::Empty {})).await.unwrap();
    assert_eq!(kind.into_inner().r#type, 1);
    let paths = caller.backend.clone().special_paths(caller.call(pb::Empty {})).await.unwrap();
    assert_eq!(paths.into_inner().paths.unwrap().seal_wrap_storage, ["config"]);
    assert_eq!(server.state.dials.load(Ordering::SeqCst), 0, "nothing was dialled");
}

#[tokio::test]
async fn a_refused_setup_says_why_and_leaves_no_mount() {
    let caller = Caller::new(Server::vault().plugin(Mounts::new().0), Some("a"));
    let logs = Logs::capture();
    assert_eq!(setup_with(&caller, &[("refuse", "OPENAI_X is odd")], "u").await, "OPENAI_X is odd");
    let panicked = setup_with(&caller, &[("refuse", "panic")], "u").await;
    assert_eq!(panicked, "internal error in operation \"setup\"");
    assert_eq!(logs.lines().len(), 1, "{:?}", logs.lines());
    let status = caller.send("read", "uuid", "null").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "no backend instance found"));
}

#[tokio::test]
async fn a_second_setup_takes_the_firsts_place() {
    let (mounts, _notices) = Mounts::new();
    let caller = Caller::new(Server::vault().plugin(mounts.clone()), Some("a"));
    assert_eq!(setup_with(&caller, &[], "first").await, "");
    assert_eq!(setup_with(&caller, &[], "second").await, "");
    let reply = caller.ask("read", "uuid").await;
    assert_eq!(reply.response.unwrap().data, r#"{"uuid":"second"}"#);
    assert_eq!(mounts.seen.cleanups.load(Ordering::SeqCst), 1);
    assert_eq!(mounts.seen.alive.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_setup_moves_storage_to_its_broker_id() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    caller.ask("update", "put/a").await;
    assert_eq!(*server.state.open.borrow(), [1]);
    assert_eq!(caller.setup(2).await, "");
    assert!(caller.ask("read", "get/a").await.response.is_some());
    server.state.open.subscribe().wait_for(|open| *open == [2]).await.unwrap();
}

#[tokio::test]
async fn a_request_that_outlives_its_mount_reaches_storage_and_then_the_connection_ends() {
    let (mounts, mut notices) = Mounts::new();
    let server = Server::vault();
    let caller = server.mount(mounts.clone()).await;
    caller.ask("update", "put/a").await;
    let running = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send("read", "wait", "null").await }
    });
    assert_eq!(notices.recv().await.unwrap(), "waiting");
    caller.cleanup().await.unwrap();
    running.abort();
    assert_eq!(notices.recv().await.unwrap(), "cancelled");
    mounts.seen.go_on.notify_one();
    assert_eq!(notices.recv().await.unwrap(), "finished");
    assert!(server.state.entries.get("finished").await.unwrap().is_some());
    assert_eq!(server.state.dials.load(Ordering::SeqCst), 1);
    server.state.open.subscribe().wait_for(Vec::is_empty).await.unwrap();
}

#[tokio::test]
async fn every_call_of_an_unknown_mount_says_so() {
    let plugin = Server::vault().plugin(Mounts::new().0);
    let known = Caller::new(plugin.clone(), Some("known"));
    assert_eq!(known.setup(1).await, "");
    for unknown in [Caller::new(plugin.clone(), Some("unknown")), Caller::new(plugin, None)] {
        let mut backend = unknown.backend.clone();
        let check = pb::HandleExistenceCheckArgs { request: request("update", "a", "null").request };
        let refusals = [
            unknown.send("read", "uuid", "null").await.unwrap_err(),
            unknown.send("resolve-path", "uuid", "null").await.unwrap_err(),
            backend.handle_existence_check(unknown.call(check)).await.unwrap_err(),
            backend.initialize(unknown.call(pb::InitializeArgs {})).await.unwrap_err(),
            backend.special_paths(unknown.call(pb::Empty {})).await.unwrap_err(),
            backend.r#type(unknown.call(pb::Empty {})).await.unwrap_err(),
            backend.invalidate_key(unknown.call(pb::InvalidateKeyArgs::default())).await.unwrap_err(),
        ];
        for status in refusals {
            assert_eq!((status.code(), status.message()), (Code::Unknown, "no backend instance found"));
        }
    }
}

#[tokio::test]
async fn two_mounts_live_beside_each_other() {
    let (mounts, mut notices) = Mounts::new();
    let plugin = Server::vault().plugin(mounts.clone());
    let [a, b] = [Some("a"), Some("b")].map(|id| Caller::new(plugin.clone(), id));
    tokio::join!(async { assert_eq!(setup_with(&a, &[], "uuid-a").await, "") }, async {
        assert_eq!(setup_with(&b, &[], "uuid-b").await, "");
    });
    // A hanging request of one mount must not delay the other mount.
    let hanging = tokio::spawn({
        let a = a.clone();
        async move { a.send("read", "wait", "null").await }
    });
    assert_eq!(notices.recv().await.unwrap(), "waiting");
    for (caller, uuid) in [(&a, "uuid-a"), (&b, "uuid-b")] {
        let data = caller.ask("read", "uuid").await.response.unwrap().data;
        assert_eq!(data, format!(r#"{{"uuid":"{uuid}"}}"#));
    }
    a.cleanup().await.unwrap();
    assert!(a.send("read", "uuid", "null").await.is_err());
    assert!(b.ask("read", "uuid").await.response.is_some());
    hanging.abort();
}

#[tokio::test]
async fn cleanup_frees_the_mount_and_may_come_twice() {
    let (mounts, _notices) = Mounts::new();
    let caller = Server::vault().mount(mounts.clone()).await;
    assert_eq!(mounts.seen.alive.load(Ordering::SeqCst), 1);
    caller.cleanup().await.unwrap();
    caller.cleanup().await.unwrap();
    assert_eq!(mounts.seen.cleanups.load(Ordering::SeqCst), 1);
    assert_eq!(mounts.seen.alive.load(Ordering::SeqCst), 0, "the engine is dropped");
    assert!(caller.send("read", "uuid", "null").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_cleanup_does_not_keep_the_server_waiting() {
    let (mounts, mut notices) = Mounts::new();
    let caller = Caller::new(Server::vault().plugin(mounts.clone()), None);
    assert_eq!(setup_with(&caller, &[], "slow").await, "");
    caller.cleanup().await.unwrap();
    mounts.seen.go_on.notify_one();
    assert_eq!(notices.recv().await.unwrap(), "cleaned up");
}

#[tokio::test]
async fn initialization_fails_in_the_reply_and_invalidation_reaches_the_engine() {
    let (mounts, mut notices) = Mounts::new();
    let caller = Server::vault().mount(mounts).await;
    let logs = Logs::capture();
    let mut backend = caller.backend.clone();
    let reply = backend.initialize(caller.call(pb::InitializeArgs {})).await.unwrap().into_inner();
    let err = reply.err.unwrap();
    assert_eq!((err.err_type, err.err_msg.as_str()), (2, "initialization failed"));
    assert!(logs.lines()[0].contains("detail=for the log"), "{:?}", logs.lines());
    let args = pb::InvalidateKeyArgs { key: "config".to_owned() };
    backend.invalidate_key(caller.call(args)).await.unwrap();
    assert_eq!(notices.recv().await.unwrap(), "initialized");
    assert_eq!(notices.recv().await.unwrap(), "invalidated config");
}

#[tokio::test]
async fn metadata_mode_answers_what_the_plugin_is_and_refuses_to_work() {
    let server = Server::vault();
    let services = crate::wire::services(Arc::new(Mounts::new().0), server.channels(), "v1.2.3", true);
    let caller = Caller::new(super::server::connect(services), None);
    assert_eq!(caller.setup(1).await, "");
    let mut backend = caller.backend.clone();
    backend.r#type(Request::new(pb::Empty {})).await.unwrap();
    backend.special_paths(Request::new(pb::Empty {})).await.unwrap();
    let check = pb::HandleExistenceCheckArgs { request: request("update", "a", "null").request };
    let refusals = [
        caller.send("read", "uuid", "null").await.unwrap_err(),
        backend.handle_existence_check(check).await.unwrap_err(),
        backend.initialize(pb::InitializeArgs {}).await.unwrap_err(),
        backend.invalidate_key(pb::InvalidateKeyArgs::default()).await.unwrap_err(),
    ];
    for status in refusals {
        assert_eq!(status.message(), "plugin server can not perform action while in metadata mode");
    }
    caller.cleanup().await.unwrap();
}
