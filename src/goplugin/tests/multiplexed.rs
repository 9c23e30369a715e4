//! Container plugins of Vault: all streams share one connection.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;

use super::super::Channel;
use super::super::Error;
use super::super::connection::Raw;
use super::super::multiplexed::{self, Session};
use super::super::pb;
use super::super::pb::grpc_broker_client::GrpcBrokerClient;
use super::super::pb::grpc_controller_client::GrpcControllerClient;
use super::super::pb::health::HealthCheckRequest;
use super::super::pb::health::health_client::HealthClient;
use super::host::{Host, Started, check, pass_large_message, serve, start_tls};

/// The host's end of the shared connection.
struct Shared {
    main: Channel,
    streams: mpsc::Receiver<Raw>,
    driver: JoinHandle<()>,
}

async fn start(host: &Host) -> Started {
    let mut environment = host.environment();
    environment.push(("PLUGIN_MULTIPLEX_GRPC", "true".to_owned()));
    host.start(environment).await
}

/// Connects as go-plugin's client does: yamux first, then the main connection as the first stream.
async fn connect(started: &Started) -> Shared {
    let (session, driver) = multiplexed::client(UnixStream::connect(&started.socket).await.unwrap());
    let (sender, streams) = mpsc::channel(16);
    let driver = tokio::spawn(driver.run(move |stream| sender.try_send(stream).ok().unwrap()));
    let tls = TlsConnector::from(Arc::clone(&started.tls.client));
    let main = Channel::new(move || stream(session.clone(), tls.clone()));
    Shared { main, streams, driver }
}

async fn stream(session: Session, tls: TlsConnector) -> Result<tokio_rustls::client::TlsStream<Raw>, Error> {
    start_tls(&tls, session.open().await?).await
}

/// Opens the broker stream and answers knocks for the ids in `listening`. Each accepted knock admits the next stream.
async fn answer_knocks(
    main: &Channel,
    mut streams: mpsc::Receiver<Raw>,
    tls: TlsAcceptor,
    listening: Arc<Mutex<HashSet<u32>>>,
) {
    let (sender, messages) = mpsc::channel(1);
    let mut client = GrpcBrokerClient::new(main.clone());
    let mut knocks = client.start_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
    // An open queue keeps its connection served.
    let mut open = Vec::new();
    while let Ok(Some(knock)) = knocks.message().await {
        let id = knock.service_id;
        let known = listening.lock().unwrap().contains(&id);
        let error = if known { String::new() } else { format!("no listener for id {id}") };
        sender.send(ack(id, error)).await.unwrap();
        if known {
            let (one, queue) = mpsc::channel(1);
            one.send(streams.recv().await.unwrap()).await.unwrap();
            tokio::spawn(serve(id, tls.clone(), queue));
            open.push(one);
        }
    }
}

fn ack(id: u32, error: String) -> pb::ConnInfo {
    let knock = pb::conn_info::Knock { knock: true, ack: true, error };
    pb::ConnInfo { service_id: id, knock: Some(knock), ..pb::ConnInfo::default() }
}

/// A started plugin with a connected host that listens for `ids`.
async fn with_listeners(
    host: &Host,
    ids: &[u32],
) -> (Started, Channel, Arc<Mutex<HashSet<u32>>>, JoinHandle<()>) {
    let started = start(host).await;
    let Shared { main, streams, driver } = connect(&started).await;
    let listening = Arc::new(Mutex::new(ids.iter().copied().collect::<HashSet<_>>()));
    let (tls, knocked, broker) =
        (TlsAcceptor::from(started.tls.server.clone()), Arc::clone(&listening), main.clone());
    tokio::spawn(async move { answer_knocks(&broker, streams, tls, knocked).await });
    (started, main, listening, driver)
}

#[tokio::test]
async fn the_line_says_that_we_can() {
    let host = Host::new();
    assert!(start(&host).await.line.ends_with("|true\n"));
}

#[tokio::test]
async fn every_stream_reaches_the_id_it_was_opened_for() {
    let host = Host::new();
    let (started, main, ..) = with_listeners(&host, &[1, 2, 3]).await;
    assert_eq!(check(&main, "plugin").await, Ok(1));
    let mut dials = JoinSet::new();
    for id in [1, 2, 3, 2, 1, 3] {
        let broker = started.broker().await;
        dials.spawn(async move {
            let channel = broker.channel(id);
            check(&channel, &id.to_string()).await.unwrap()
        });
    }
    assert_eq!(dials.join_all().await.len(), 6);
}

#[tokio::test]
async fn thirty_mebibytes_pass_both_ways_beside_small_calls() {
    let host = Host::new();
    let (started, _main, ..) = with_listeners(&host, &[1]).await;
    let channel = started.broker().await.channel(1);
    pass_large_message(&channel, 1, 30 << 20).await;
}

#[tokio::test]
async fn a_call_may_overtake_the_hosts_broker_stream() {
    let host = Host::new();
    let started = start(&host).await;
    let broker = started.broker().await;
    let dialling = tokio::spawn(async move { check(&broker.channel(7), "7").await });
    tokio::task::yield_now().await;
    let Shared { main, streams, .. } = connect(&started).await;
    let tls = TlsAcceptor::from(started.tls.server.clone());
    let listening = Arc::new(Mutex::new(HashSet::from([7])));
    tokio::spawn(async move { answer_knocks(&main, streams, tls, listening).await });
    dialling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_host_that_begins_to_listen_late_is_knocked_again() {
    let host = Host::new();
    let (started, _main, listening, _) = with_listeners(&host, &[]).await;
    let broker = started.broker().await;
    let dialling = tokio::spawn(async move { check(&broker.channel(4), "4").await });
    tokio::task::yield_now().await;
    listening.lock().unwrap().insert(4);
    dialling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dial_that_is_given_up_does_not_misdirect_the_next() {
    let host = Host::new();
    let (started, ..) = with_listeners(&host, &[1, 2]).await;
    let broker = started.broker().await;
    let given_up = tokio::spawn(async move { check(&broker.channel(1), "1").await });
    tokio::task::yield_now().await;
    given_up.abort();
    check(&started.broker().await.channel(2), "2").await.unwrap();
}

#[tokio::test]
async fn garbage_on_the_socket_harms_nobody() {
    let host = Host::new();
    let started = start(&host).await;
    let mut garbage = UnixStream::connect(&started.socket).await.unwrap();
    garbage.write_all(&[0xff; 64]).await.unwrap();
    let _silent = UnixStream::connect(&started.socket).await.unwrap();
    let Shared { main, .. } = connect(&started).await;
    assert_eq!(check(&main, "plugin").await, Ok(1));
}

/// Opens `count` streams that never authenticate, and returns true if the connection survives.
async fn survives_unauthenticated_streams(started: &Started, count: usize) -> bool {
    let (session, driver) = multiplexed::client(UnixStream::connect(&started.socket).await.unwrap());
    let (kept, mut raws) = mpsc::unbounded_channel();
    let opening = async move {
        for _ in 0..count {
            let mut raw = session.open().await.unwrap();
            // The peer sees a stream with its first byte. These bytes begin a TLS record that never ends.
            raw.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
            raw.flush().await.unwrap();
            kept.send(raw).unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = driver.run(drop) => false,
        () = opening => unreachable!("the future never ends"),
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
            assert_eq!(std::iter::from_fn(|| raws.try_recv().ok()).count(), count);
            true
        }
    }
}

#[tokio::test]
async fn a_connection_may_open_few_streams_before_one_has_authenticated() {
    let host = Host::new();
    let started = start(&host).await;
    assert!(survives_unauthenticated_streams(&started, 4).await);
    assert!(!survives_unauthenticated_streams(&started, 5).await);
    let Shared { main, .. } = connect(&started).await;
    assert_eq!(check(&main, "plugin").await, Ok(1), "the host is admitted all the same");
}

#[tokio::test]
async fn the_host_opens_as_many_streams_as_it_wants() {
    let host = Host::new();
    let started = start(&host).await;
    let (session, driver) = multiplexed::client(UnixStream::connect(&started.socket).await.unwrap());
    tokio::spawn(driver.run(drop));
    let tls = TlsConnector::from(Arc::clone(&started.tls.client));
    let mut channels = Vec::new();
    for _ in 0..12 {
        let (session, tls) = (session.clone(), tls.clone());
        let main = Channel::new(move || stream(session.clone(), tls.clone()));
        assert_eq!(check(&main, "plugin").await, Ok(1));
        channels.push(main);
    }
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_plugin() {
    let host = Host::new();
    let (started, main, ..) = with_listeners(&host, &[1]).await;
    let _channel = started.broker().await.channel(1);
    GrpcControllerClient::new(main.clone()).shutdown(pb::Empty {}).await.unwrap();
    started.end.await.unwrap().unwrap();
    assert!(!started.socket.exists());
}

#[tokio::test]
async fn calls_that_wait_for_a_connection_share_its_failure_and_the_next_call_tries_again() {
    let host = Host::new();
    let started = start(&host).await;
    let channel = started.broker().await.channel(1);
    // The test waits only for the broker's timeouts.
    tokio::time::pause();
    for _ in 0..2 {
        let start = Instant::now();
        let mut calls = JoinSet::new();
        for _ in 0..64 {
            let channel = channel.clone();
            calls.spawn(async move { HealthClient::new(channel).check(HealthCheckRequest::default()).await });
        }
        for call in calls.join_all().await {
            let status = call.unwrap_err();
            assert_eq!(status.message(), "cannot reach the host: the host's broker is not connected");
        }
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
