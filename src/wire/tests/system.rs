//! The system view and events behind the broker.

use super::server::State;
use super::{Mounts, Server};

const SYSTEM: &str =
    r#"{"default":3600,"local":false,"max":7200,"may_write":true,"tainted":true,"version":"1.21.4"}"#;

#[tokio::test]
async fn the_system_view_is_read_and_what_the_server_does_not_know_is_no() {
    let server = Server::new(State { replication: 12288, ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    assert_eq!(caller.ask("read", "system").await.response.unwrap().data, SYSTEM);
}

#[tokio::test]
async fn a_performance_standby_is_known_by_its_bit() {
    let server = Server::new(State { replication: 1 << 14, ..State::default() });
    let caller = server.mount(Mounts::new().0).await;
    let data = caller.ask("read", "system").await.response.unwrap().data;
    assert!(data.contains(r#""may_write":false"#), "{data}");
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
