//! The system view and events behind the broker.

use std::sync::Mutex;

use super::server::State;
use super::{Mounts, Server};
use crate::wire::pb;

const SYSTEM: &str = r#"{"default":3600,"entities":["alice",""],"local":false,"max":7200,"shared":false,"tainted":true,"version":"1.21.4","writable":"Everything"}"#;

#[tokio::test]
async fn the_system_view_is_read_and_what_the_server_does_not_know_is_no() {
    let server = Server::new(State { replication: 12288, ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    assert_eq!(caller.ask("read", "system").await.response.unwrap().data, SYSTEM);
}

#[tokio::test]
async fn a_nodes_part_in_replication_is_known_by_its_bits() {
    const PRIMARY: i32 = 1 << 5;
    const SECONDARY: i32 = 1 << 6;
    const DR_PRIMARY: i32 = 1 << 8;
    const DR_SECONDARY: i32 = 1 << 9;
    const BOOTSTRAPPING: i32 = 1 << 10;
    const STANDBY: i32 = 1 << 14;
    for (replication, local_mount, writable, shared) in [
        (0, false, "Everything", false),
        (PRIMARY | DR_PRIMARY, false, "Everything", true),
        (PRIMARY, true, "Everything", false),
        (DR_PRIMARY, false, "Everything", false),
        (STANDBY, false, "Nothing", false),
        (STANDBY, true, "Nothing", false),
        (SECONDARY, false, "LocalOnly", true),
        (SECONDARY | BOOTSTRAPPING, false, "LocalOnly", true),
        (SECONDARY, true, "Everything", false),
        (SECONDARY | STANDBY, false, "Nothing", true),
        (DR_SECONDARY, false, "Nothing", false),
        (SECONDARY | DR_SECONDARY, true, "Nothing", false),
    ] {
        let server = Server::new(State { replication, local_mount, ..State::default() });
        let caller = server.mount(Mounts::new().0).await;
        let data = caller.ask("read", "system").await.response.unwrap().data;
        let expected = [format!(r#""writable":"{writable}""#), format!(r#""shared":{shared}"#)];
        assert!(expected.iter().all(|part| data.contains(part)), "{replication} {local_mount}: {data}");
    }
}

#[tokio::test]
async fn local_storage_of_a_secondary_is_written_and_the_rest_forwarded() {
    let server = Server::new(State { writable: Some(&["wal/", "ledger/"]), ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    for path in ["put/ledger/a", "put/wal/a", "delete/ledger/a"] {
        assert!(caller.ask("update", path).await.err.is_none(), "{path}");
    }
    for path in ["put/roles/a", "delete/roles/a"] {
        let err = caller.ask("update", path).await.err.unwrap();
        assert_eq!((err.err_type, err.err_msg.as_str()), (0, "cannot write to readonly storage"), "{path}");
    }
}

#[tokio::test]
async fn a_rotation_job_is_taken_away_where_there_is_a_rotation_manager() {
    let server = Server::new(State { rotation_manager: Some(Mutex::default()), ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    assert_eq!(caller.ask("update", "deregister/config").await, pb::HandleRequestReply::default());
    let place = pb::RotationJobPlace { mount_point: "openai/".to_owned(), req_path: "config".to_owned() };
    assert_eq!(*server.state.rotation_manager.as_ref().unwrap().lock().unwrap(), [place]);
    let err = caller.ask("update", "deregister/broken").await.err.unwrap();
    assert!(err.err_msg.contains("error deregistering rotation job"), "{}", err.err_msg);
    for without in [Server::openbao(), Server::vault()] {
        let caller = without.mount(Mounts::new().0).await;
        assert_eq!(caller.ask("update", "deregister/config").await, pb::HandleRequestReply::default());
    }
}

#[tokio::test]
async fn vault_gets_events_with_an_id_and_text_for_metadata() {
    let server = Server::vault();
    let caller = server.mount(Mounts::new().0).await;
    caller.ask("read", "system").await;
    let events = server.state.events.lock().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event_type, "openai/creds-create");
    let event = events[0].event.as_ref().unwrap();
    assert!(uuid::Uuid::parse_str(&event.id).is_ok(), "{}", event.id);
    let path = &event.metadata.as_ref().unwrap().fields["path"];
    assert_eq!(path.kind, Some(prost_types::value::Kind::StringValue("openai/".to_owned())));
}

#[tokio::test]
async fn openbao_has_no_events_and_that_is_no_error() {
    let caller = Server::openbao().mount(Mounts::new().0).await;
    assert_eq!(caller.ask("read", "system").await.response.unwrap().data, SYSTEM);
}

#[tokio::test]
async fn an_unserved_system_view_is_an_error_of_the_request() {
    let server = Server::new(State { unserved: true, ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    let err = caller.ask("read", "system").await.err.unwrap();
    assert!(err.err_msg.starts_with("system view: missing"), "{}", err.err_msg);
}
