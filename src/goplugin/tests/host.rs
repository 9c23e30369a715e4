//! A host like go-plugin's client, with both transports.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::super::connection::{Accepted, Raw};
use super::super::environment::Environment;
use super::super::host_liveness::HostLiveness;
use super::super::pb::ConnInfo;
use super::super::pb::grpc_broker_client::GrpcBrokerClient;
use super::super::pb::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use super::super::pb::health::health_client::HealthClient;
use super::super::pb::health::health_server::{Health, HealthServer};
use super::super::pb::health::{HealthCheckRequest, HealthCheckResponse};
use super::super::server::{self, Process};
use super::super::tls::{Identity, Tls};
use super::super::{Broker, Channel, Cookie, Error, Plugin, Services};

const PLUGIN: Plugin = Plugin {
    cookie: Cookie { key: "TEST_PLUGIN", value: "crumbs" },
    protocol_version: 5,
    about: "This is a plugin.",
};

/// A host that has not started a plugin yet.
pub(super) struct Host {
    identity: Identity,
    pub(super) directory: TempDir,
}

/// A started plugin whose handshake line the host has read.
pub(super) struct Started {
    pub(super) line: String,
    pub(super) socket: PathBuf,
    broker: watch::Receiver<Option<Broker>>,
    pub(super) stop: CancellationToken,
    pub(super) end: JoinHandle<Result<(), Error>>,
    /// The plugin's certificate, from the line.
    pub(super) certificate: CertificateDer<'static>,
    /// TLS towards the plugin.
    pub(super) tls: Tls,
}

/// A service of the host that answers health checks for its own id only, and returns messages.
pub(super) struct Numbered(pub(super) u32);

/// The plugin's stdout.
struct Stdout(Arc<Mutex<Vec<u8>>>, Option<oneshot::Sender<()>>);

impl Host {
    pub(super) fn new() -> Self {
        Self { identity: Identity::of_a_host(), directory: tempfile::tempdir().unwrap() }
    }

    /// The environment of a start without multiplexing.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_PLUGIN", "crumbs".to_owned()),
            ("PLUGIN_PROTOCOL_VERSIONS", "5".to_owned()),
            ("PLUGIN_CLIENT_CERT", self.identity.pem()),
            ("TMPDIR", self.directory.path().to_str().unwrap().to_owned()),
        ]
    }

    /// Starts a plugin with `environment` and reads its handshake line.
    pub(super) async fn start(&self, environment: Vec<(&'static str, String)>) -> Started {
        let variables = environment.into_iter().map(|(key, value)| (key.into(), value.into()));
        let environment = Environment::read(PLUGIN.cookie.key, variables);
        let (printed, (told, line)) = (Arc::new(Mutex::new(Vec::new())), oneshot::channel());
        let stdout = Stdout(Arc::clone(&printed), Some(told));
        let stop = CancellationToken::new();
        let process = Process { plugin: PLUGIN, environment, stdout, stop: stop.clone() };
        let (hand_out, broker) = watch::channel(None);
        let end = tokio::spawn(process.run(move |broker| {
            hand_out.send_replace(Some(broker));
            Services::default()
        }));
        line.await.ok();
        let line = String::from_utf8(printed.lock().unwrap().clone()).unwrap();
        self.read(line, broker, stop, end)
    }

    fn read(
        &self,
        line: String,
        broker: watch::Receiver<Option<Broker>>,
        stop: CancellationToken,
        end: JoinHandle<Result<(), Error>>,
    ) -> Started {
        let fields: Vec<&str> = line.trim_end().split('|').collect();
        let socket = PathBuf::from(fields.get(3).copied().unwrap_or_default());
        let certificate = STANDARD_NO_PAD.decode(fields.get(5).copied().unwrap_or_default()).unwrap();
        let certificate = CertificateDer::from(certificate);
        let tls = Tls::new(&self.identity, certificate.clone()).unwrap();
        Started { line, socket, broker, stop, end, certificate, tls }
    }
}

impl Started {
    /// The main connection over its own socket. It is open.
    pub(super) async fn connect(&self) -> Channel {
        let channel = connect_as(&self.tls, &self.socket);
        check(&channel, "plugin").await.unwrap();
        channel
    }

    pub(super) async fn broker(&self) -> Broker {
        let mut broker = self.broker.clone();
        broker.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.take().map_or(Ok(()), |told| told.send(()).map_err(|()| io::Error::other("nobody reads")))
    }
}

#[tonic::async_trait]
impl Health for Numbered {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let mine = request.get_ref().service == self.0.to_string();
        if mine {
            Ok(Response::new(HealthCheckResponse::default()))
        } else {
            Err(Status::not_found(format!("this is {}", self.0)))
        }
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl GrpcBroker for Numbered {
    type StartStreamStream = Streaming<ConnInfo>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// Connects to the socket at `path` with the identity in `tls`.
pub(super) fn connect_as(tls: &Tls, path: &Path) -> Channel {
    let (tls, path) = (TlsConnector::from(Arc::clone(&tls.client)), path.to_owned());
    Channel::new(move || {
        let (tls, path) = (tls.clone(), path.clone());
        async move { start_tls(&tls, Box::new(UnixStream::connect(path).await.unwrap())).await }
    })
}

/// Runs the TLS handshake as a client.
pub(super) async fn start_tls(
    tls: &TlsConnector,
    raw: Raw,
) -> Result<tokio_rustls::client::TlsStream<Raw>, Error> {
    let stream = tls.connect(ServerName::try_from("localhost").unwrap(), raw).await;
    stream.map_err(|source| Error::Connect { id: 0, source })
}

/// Serves `id` on each stream from `streams`, until dropped.
pub(super) async fn serve(id: u32, tls: TlsAcceptor, mut streams: mpsc::Receiver<Raw>) {
    let (sender, connections) = mpsc::channel(1);
    let accepting = async {
        while let Some(raw) = streams.recv().await {
            let stream = tls.accept(raw).await.unwrap();
            let connection = Accepted::new(stream, HostLiveness::default().track_connection());
            sender.send(connection).await.unwrap();
        }
    };
    let echo = GrpcBrokerServer::new(Numbered(id)).max_decoding_message_size(usize::MAX);
    let services = Services::default().with(HealthServer::new(Numbered(id))).with(echo);
    let stop = CancellationToken::new();
    tokio::join!(server::serve(services, connections, &stop), accepting);
}

/// Serves `id` on a socket, as hosts without multiplexing do.
pub(super) async fn serve_on(path: &Path, id: u32, tls: TlsAcceptor) {
    let listener = UnixListener::bind(path).unwrap();
    let (sender, streams) = mpsc::channel(1);
    let accepting = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            sender.send(Box::new(socket) as Raw).await.unwrap();
        }
    };
    tokio::select! {
        () = serve(id, tls, streams) => {}
        () = accepting => {}
    }
}

/// Queries the health of `service` over `channel`.
pub(super) async fn check(channel: &Channel, service: &str) -> Result<i32, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let response = HealthClient::new(channel.clone()).check(request).await;
    response.map(|response| response.into_inner().status).map_err(|status| status.code())
}

/// Sends a message of `size` bytes to the service `id` over `channel` and back, beside 50 small calls.
pub(super) async fn pass_large_message(channel: &Channel, id: u32, size: usize) {
    let large = async {
        let mut client = GrpcBrokerClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let message = ConnInfo { address: "x".repeat(size), ..ConnInfo::default() };
        let mut echo = client.start_stream(tokio_stream::once(message)).await.unwrap().into_inner();
        assert_eq!(echo.message().await.unwrap().unwrap().address.len(), size);
        assert_eq!(echo.message().await.unwrap(), None);
    };
    let small = async {
        for _ in 0..50 {
            check(channel, &id.to_string()).await.unwrap();
        }
    };
    tokio::join!(large, small);
}
