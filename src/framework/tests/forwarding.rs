//! Requests that a read-only node forwards.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::logical::{Event, Kind, ReplicationState, SystemError, SystemView};

const STANDBY: u32 = 1 << 14;
const SECONDARY: u32 = 1 << 6;
const DR_SECONDARY: u32 = 1 << 9;

/// A cluster node that counts reads of its replication state.
struct Node {
    state: u32,
    local: bool,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl SystemView for Node {
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError> {
        Err(SystemError("unasked".to_owned()))
    }
    async fn max_lease_ttl(&self) -> Result<Duration, SystemError> {
        Err(SystemError("unasked".to_owned()))
    }
    async fn tainted(&self) -> Result<bool, SystemError> {
        Ok(false)
    }
    async fn local_mount(&self) -> Result<bool, SystemError> {
        Ok(self.local)
    }
    async fn replication_state(&self) -> Result<ReplicationState, SystemError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(ReplicationState(self.state))
    }
    async fn vault_version(&self) -> Result<String, SystemError> {
        Err(SystemError("none".to_owned()))
    }
    async fn send_event(&self, _: Event) -> Result<(), SystemError> {
        Ok(())
    }
    async fn deregister_rotation_job(&self, _: &str, _: &str) -> Result<(), SystemError> {
        Ok(())
    }
}

fn node(state: u32, local: bool) -> (Mount, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let system = Node { state, local, asked: Arc::clone(&asked) };
    (Mount::on(Arc::new(system)), asked)
}

#[tokio::test]
async fn what_writes_is_forwarded_before_its_handler_runs() {
    for (state, local) in [(STANDBY, false), (STANDBY, true), (SECONDARY, false)] {
        let (mount, _) = node(state, local);
        for (operation, path) in [
            (Operation::Create, "pots/a"),
            (Operation::Update, "pots/a"),
            (Operation::Patch, "pots/a"),
            (Operation::Delete, "pots/a"),
            (Operation::Update, "lend/a"),
            (Operation::Read, "lend/a"),
            (Operation::Rotate, "pots/a"),
        ] {
            let error = mount.refusal(operation, path, json!({"color": "red"})).await;
            assert_eq!(error.kind(), Kind::ReadOnly, "{operation:?} {path} in state {state}");
        }
        assert_eq!(mount.toy.notes(), [""; 0]);
    }
}

#[tokio::test]
async fn a_local_mount_of_a_secondary_writes_for_itself() {
    let (mount, _) = node(SECONDARY, true);
    mount.data(Operation::Read, "lend/a", Value::Null).await;
    mount.data(Operation::Update, "pots/a", json!({"color": "red"})).await;
}

#[tokio::test]
async fn reads_ask_nothing_of_the_system() {
    let (mount, asked) = node(STANDBY, false);
    mount.data(Operation::Read, "pots/a", Value::Null).await;
    mount.data(Operation::List, "pots/", Value::Null).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_unknown_path_or_operation_is_not_forwarded() {
    let (mount, asked) = node(STANDBY, false);
    assert_eq!(mount.refusal(Operation::Update, "x", Value::Null).await.kind(), Kind::UnsupportedPath);
    assert_eq!(
        mount.refusal(Operation::Delete, "lend/a", Value::Null).await.kind(),
        Kind::UnsupportedOperation
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_writes_only_local_storage_is_answered_by_a_secondary() {
    const LEND: Help = Help { synopsis: "", description: "" };
    for operation in [Operation::Read, Operation::Update] {
        for (state, answers) in [(SECONDARY, true), (STANDBY, false), (DR_SECONDARY, false)] {
            let (mount, _) = node(state, false);
            let system = Node { state, local: false, asked: Arc::default() };
            let path = Path::new("lend/:name", LEND).field(&NAME).on(operation, lend);
            let paths = vec![path.writes_locally(operation)];
            let toy = Arc::clone(&mount.toy);
            let backend = Backend::builder(toy, Arc::new(system), "").paths(paths).build();
            let answer = backend.handle(mount.request(operation, "lend/a", Value::Null)).await;
            assert_eq!(answer.is_ok(), answers, "{operation:?} in state {state}");
        }
    }
}

#[tokio::test]
async fn a_tick_does_only_what_the_node_may_write() {
    for (state, local, periodic, swept) in [
        (0, false, &[Writable::Everything][..], true),
        (SECONDARY, true, &[Writable::Everything], true),
        (SECONDARY, false, &[Writable::LocalOnly], true),
        (STANDBY, true, &[], false),
        (DR_SECONDARY, true, &[], false),
    ] {
        let (mount, _) = node(state, local);
        let storage = Arc::clone(&mount.storage) as Arc<dyn Storage>;
        MIXING.write(&*storage, "wal/a".to_owned(), &Mixing { pot: "a".to_owned() }).await.unwrap();
        assert!(mount.ask(Operation::Rollback, "", json!({"immediate": true})).await.unwrap().is_none());
        assert_eq!(*mount.toy.ticks.lock().unwrap(), periodic, "state {state}");
        assert_eq!(mount.storage.keys().is_empty(), swept, "state {state}");
    }
}

#[tokio::test]
async fn the_rotation_manager_reaches_the_engine_where_it_may() {
    let mount = Mount::new();
    assert!(mount.ask(Operation::Rotate, "config", Value::Null).await.unwrap().is_none());
    assert_eq!(mount.toy.notes(), ["rotate config"]);
    let bare = Backend::builder(Arc::new(Toy::default()), Arc::new(FixedSystem::default()), "").build();
    let error = bare.handle(mount.request(Operation::Rotate, "config", Value::Null)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::UnsupportedOperation);
}

#[tokio::test]
async fn help_does_without_the_servers_version() {
    let (mount, _) = node(0, false);
    let help = mount.data(Operation::Help, "", Value::Null).await;
    assert_eq!(help["openapi"]["info"]["version"], json!(""));
}
