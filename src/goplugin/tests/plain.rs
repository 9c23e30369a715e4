//! Process plugins of Vault, and all plugins of OpenBao: each connection has its own socket.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::pb;
use super::super::pb::grpc_broker_client::GrpcBrokerClient;
use super::super::pb::grpc_controller_client::GrpcControllerClient;
use super::super::pb::grpc_stdio_client::GrpcStdioClient;
use super::super::tls::{Identity, Tls};
use super::super::{Channel, Error};
use super::host::{Host, Started, check, connect_as, pass_large_message, serve_on, start_tls};

/// Opens the broker stream. The returned sender sends messages to the plugin.
async fn broker_stream(channel: &Channel) -> mpsc::Sender<pb::ConnInfo> {
    let (sender, messages) = mpsc::channel(1);
    let mut client = GrpcBrokerClient::new(channel.clone());
    let mut answers = client.start_stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
    tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
    sender
}

fn at(id: u32, path: &Path) -> pb::ConnInfo {
    let address = path.to_str().unwrap().to_owned();
    pb::ConnInfo { service_id: id, network: "unix".to_owned(), address, knock: None }
}

fn path_of(host: &Host, id: u32) -> PathBuf {
    host.directory.path().join(format!("brokered{id}"))
}

fn acceptor(started: &Started) -> TlsAcceptor {
    TlsAcceptor::from(started.tls.server.clone())
}

#[tokio::test]
async fn the_line_says_where_the_plugin_is() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let start = format!("1|5|unix|{}/plugin", host.directory.path().display());
    assert!(started.line.starts_with(&start), "{}", started.line);
    assert_eq!(started.line.matches('|').count(), 5);
    assert_eq!(started.line.matches('\n').count(), 1);
}

#[tokio::test]
async fn the_host_is_answered_what_every_plugin_answers() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let channel = started.connect().await;
    assert_eq!(check(&channel, "plugin").await, Ok(1));
    assert_eq!(check(&channel, "other").await, Err(Code::NotFound));
    let stdio = GrpcStdioClient::new(channel.clone()).stream_stdio(()).await.unwrap();
    let quiet =
        tokio::time::timeout(std::time::Duration::from_millis(50), stdio.into_inner().message()).await;
    assert!(quiet.is_err(), "the stream must stay open and empty");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let mut grpc = tonic::client::Grpc::new(started.connect().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<pb::Empty, pb::Empty>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/pb.Nothing/Nothing");
    let status = grpc.unary(tonic::Request::new(pb::Empty {}), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_host_is_dialled_whether_it_speaks_first_or_last() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let channel = started.connect().await;
    let stream = broker_stream(&channel).await;
    for id in [1, 2] {
        tokio::spawn({
            let (path, tls) = (path_of(&host, id), acceptor(&started));
            async move { serve_on(&path, id, tls).await }
        });
    }
    let first = async {
        stream.send(at(1, &path_of(&host, 1))).await.unwrap();
        check(&started.broker().await.channel(1), "1").await
    };
    first.await.unwrap();

    let broker = started.broker().await;
    let dialling = tokio::spawn(async move { check(&broker.channel(2), "2").await });
    tokio::task::yield_now().await;
    stream.send(at(2, &path_of(&host, 2))).await.unwrap();
    dialling.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_broken_channel_connects_again() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let stream = broker_stream(&started.connect().await).await;
    let path = path_of(&host, 1);
    let serving = |tls| {
        let path = path.clone();
        tokio::spawn(async move { serve_on(&path, 1, tls).await })
    };
    let before = serving(acceptor(&started));
    stream.send(at(1, &path)).await.unwrap();
    let channel = started.broker().await.channel(1);
    check(&channel, "1").await.unwrap();

    before.abort();
    assert!(before.await.unwrap_err().is_cancelled());
    std::fs::remove_file(&path).unwrap();
    let _after = serving(acceptor(&started));
    // Connection tasks of the aborted server may live a little longer, so a call can meet a connection that ends.
    let mut result = check(&channel, "1").await;
    if result.is_err() {
        result = check(&channel, "1").await;
    }
    result.unwrap();
}

#[tokio::test]
async fn thirty_mebibytes_pass_both_ways_beside_small_calls() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let stream = broker_stream(&started.connect().await).await;
    let path = path_of(&host, 1);
    stream.send(at(1, &path)).await.unwrap();
    let passing = async {
        let channel = started.broker().await.channel(1);
        pass_large_message(&channel, 1, 30 << 20).await;
    };
    tokio::select! {
        () = serve_on(&path, 1, acceptor(&started)) => unreachable!("the host serves until the end"),
        () = passing => {}
    }
}

#[tokio::test]
async fn shutdown_is_answered_and_leaves_nothing() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let channel = started.connect().await;
    let _stream = broker_stream(&channel).await;
    let _stdio = GrpcStdioClient::new(channel.clone()).stream_stdio(()).await.unwrap();
    let start = Instant::now();
    GrpcControllerClient::new(channel.clone()).shutdown(pb::Empty {}).await.unwrap();
    started.end.await.unwrap().unwrap();
    assert!(start.elapsed().as_millis() < 900, "open streams of ours must not hold up the end");
    assert!(!started.socket.exists());
}

#[tokio::test]
async fn being_stopped_is_as_good_as_a_shutdown() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    started.stop.cancel();
    started.end.await.unwrap().unwrap();
    assert!(!started.socket.exists());
}

#[tokio::test]
async fn a_connection_after_the_stop_is_closed_although_another_is_still_served() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let tls = TlsConnector::from(started.tls.client.clone());
    let connect = async || {
        start_tls(&tls, Box::new(UnixStream::connect(&started.socket).await.unwrap())).await.unwrap()
    };
    // The plugin sends its settings first. This host sends nothing, so the end waits for it.
    let mut silent = connect().await;
    silent.read_u8().await.unwrap();
    started.stop.cancel();
    let mut late = connect().await;
    let _ = late.read_to_end(&mut Vec::new()).await;
    assert!(!started.end.is_finished(), "the late connection waited for the end of the plugin");
    started.end.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_plugin_whose_host_is_gone_ends() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let channel = started.connect().await;
    check(&channel, "plugin").await.unwrap();
    drop(channel);
    // From here on the test waits only for the plugin's timeout.
    tokio::time::pause();
    let start = Instant::now();
    started.end.await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn unauthenticated_peers_and_garbage_harm_nobody() {
    let host = Host::new();
    let started = host.start(host.environment()).await;
    let channel = started.connect().await;
    let mut garbage = UnixStream::connect(&started.socket).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    // The server sends a TLS alert or nothing, and closes the connection.
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;
    let _silent = UnixStream::connect(&started.socket).await.unwrap();
    let unauthenticated = Tls::new(&Identity::of_another_host(), started.certificate.clone()).unwrap();
    assert_eq!(check(&connect_as(&unauthenticated, &started.socket), "plugin").await, Err(Code::Unavailable));
    let second = started.connect().await;
    assert_eq!(check(&second, "plugin").await, Ok(1));
    assert_eq!(check(&channel, "plugin").await, Ok(1));
}

#[tokio::test]
async fn two_plugins_run_in_one_process() {
    let (one, two) = (Host::new(), Host::new());
    let (first, second) = (one.start(one.environment()).await, two.start(two.environment()).await);
    first.stop.cancel();
    first.end.await.unwrap().unwrap();
    assert_eq!(check(&second.connect().await, "plugin").await, Ok(1));
}

#[tokio::test]
async fn a_host_of_other_versions_is_told_ours() {
    let host = Host::new();
    let mut environment = host.environment();
    environment.push(("PLUGIN_PROTOCOL_VERSIONS", "3,4".to_owned()));
    environment.push(("PLUGIN_CLIENT_CERT", String::new()));
    let started = host.start(environment).await;
    assert!(started.line.starts_with("1|5|unix|/") && started.line.ends_with("|grpc|\n"), "{}", started.line);
    started.stop.cancel();
    let error = started.end.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Version { offered, ours: 5 } if offered == [3, 4]));
    assert!(!started.socket.exists());
}

#[tokio::test]
async fn a_host_without_a_certificate_is_refused_before_a_word() {
    let host = Host::new();
    let mut environment = host.environment();
    environment.push(("PLUGIN_CLIENT_CERT", String::new()));
    let started = host.start(environment).await;
    assert_eq!(started.line, "");
    assert!(matches!(started.end.await.unwrap(), Err(Error::NoHostCertificate)));
}

#[tokio::test]
async fn metadata_mode_reaches_the_services() {
    let host = Host::new();
    assert!(!host.start(host.environment()).await.broker().await.metadata_mode());
    let mut environment = host.environment();
    environment.push(("VAULT_PLUGIN_METADATA_MODE", "true".to_owned()));
    assert!(host.start(environment).await.broker().await.metadata_mode());
}
