//! Connections back to the host. The host names what it serves by a number; [`Broker::dial`] makes a channel to
//! it, over a socket of its own (`addresses.rs`) or a stream of the shared connection (`stream_dialer.rs`).

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::Error;
use super::addresses::Addresses;
use super::connection::{Raw, handshake};
use super::multiplexed::Session;
use super::pb;
use super::stream_dialer::{Outgoing, StreamDialer};
use super::write_coalescing::WriteCoalescing;

/// The name in the host's certificate, and thereby the authority of our calls.
const NAME: &str = "localhost";
/// How many messages to the host may wait. There is one knock at a time.
const OUTGOING_BUFFER: usize = 16;

/// Dials what the host serves. Clones share the host.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    tls: TlsConnector,
    dialer: Dialer,
    stop: CancellationToken,
    metadata_mode: bool,
}

/// How the host is reached.
pub(super) enum Dialer {
    /// Each id has a socket.
    Sockets(Addresses),
    /// Each id has streams on the shared connection.
    Streams(StreamDialer),
}

impl Dialer {
    /// Over sockets that the host names, or over `session` once there is one.
    pub(super) fn new(session: Option<watch::Receiver<Option<Session>>>) -> Self {
        session.map_or_else(
            || Self::Sockets(Addresses::default()),
            |session| Self::Streams(StreamDialer::new(session)),
        )
    }
}

impl Broker {
    pub(super) fn new(
        tls: TlsConnector,
        dialer: Dialer,
        stop: CancellationToken,
        metadata_mode: bool,
    ) -> Self {
        Self(Arc::new(Shared { tls, dialer, stop, metadata_mode }))
    }

    /// Whether the host started this process only to ask what it is: there is nothing behind the ids then, and
    /// requests are to be refused (PROTOCOL 5.3).
    pub fn metadata_mode(&self) -> bool {
        self.0.metadata_mode
    }

    /// Connects to what the host serves as `id`. The host's word of where that is may come before or after; it is
    /// awaited for five seconds. When the connection breaks, the channel's next call makes a new one.
    ///
    /// The channel sends no keepalive pings, for which gRPC's Go server would end the connection (PROTOCOL 9).
    pub async fn dial(&self, id: u32) -> Result<Channel, Error> {
        let broker = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let broker = broker.clone();
            async move { broker.connect(id).await.map(WriteCoalescing::new).map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        endpoint.connect_with_connector(connector).await.map_err(Error::Dial)
    }

    /// A connection that is once begun is made, whether or not the caller still wants it: to leave the exchange of
    /// knocks half-way would give the next stream to the wrong id.
    async fn connect(self, id: u32) -> Result<TlsStream<Raw>, Error> {
        let connected = tokio::spawn(async move { self.establish(id).await }).await;
        connected.unwrap_or(Err(Error::SessionEnded))
    }

    async fn establish(&self, id: u32) -> Result<TlsStream<Raw>, Error> {
        match &self.0.dialer {
            Dialer::Sockets(addresses) => {
                let path = addresses.wait_for(id).await?;
                let socket =
                    UnixStream::connect(path).await.map_err(|source| Error::Connect { id, source })?;
                self.start_tls(id, Box::new(socket)).await
            }
            Dialer::Streams(streams) => {
                let (stream, guard) = streams.open(id).await?;
                let encrypted = self.start_tls(id, stream).await;
                // Only now has the host certainly seen the stream, and its next one can be another id's.
                drop(guard);
                encrypted
            }
        }
    }

    async fn start_tls(&self, id: u32, raw: Raw) -> Result<TlsStream<Raw>, Error> {
        let name = ServerName::try_from(NAME).map_err(|error| Error::Connect {
            id,
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        handshake(self.0.tls.connect(name, raw)).await.map_err(|source| Error::Connect { id, source })
    }

    /// Hears the host out, until it ends its stream or we end.
    async fn read_messages(self, mut incoming: Streaming<pb::ConnInfo>, outgoing: Outgoing) {
        let stop = self.0.stop.clone();
        let reading = async {
            while let Ok(Some(info)) = incoming.message().await {
                self.handle_message(info, &outgoing).await;
            }
        };
        tokio::select! {
            () = reading => {}
            () = stop.cancelled() => {}
        }
        if let Dialer::Streams(streams) = &self.0.dialer {
            streams.broker_disconnected(&outgoing);
        }
    }

    async fn handle_message(&self, info: pb::ConnInfo, outgoing: &Outgoing) {
        let id = info.service_id;
        match (info.knock, &self.0.dialer) {
            (Some(knock), Dialer::Streams(streams)) if knock.ack => streams.knock_answered(id, knock.error),
            (Some(knock), _) if knock.knock && !knock.ack => {
                // The host asks for something that we serve by number, and there is nothing. A host that left
                // needs no answer.
                let _ = outgoing.send(Ok(no_listener(id))).await;
            }
            (None, Dialer::Sockets(addresses)) => addresses.insert(id, info.network, info.address),
            _ => tracing::debug!(id, "the host's broker said something out of place"),
        }
    }
}

/// The answer to a knock for an id of ours.
fn no_listener(id: u32) -> pb::ConnInfo {
    let error = format!("no listener for id {id}");
    let knock = pb::conn_info::Knock { knock: true, ack: true, error };
    pb::ConnInfo { service_id: id, knock: Some(knock), ..pb::ConnInfo::default() }
}

#[tonic::async_trait]
impl pb::grpc_broker_server::GrpcBroker for Broker {
    type StartStreamStream = ReceiverStream<Result<pb::ConnInfo, Status>>;

    /// The host opens one such stream and keeps it (PROTOCOL 4.1). A second one takes the first one's place.
    async fn start_stream(
        &self,
        request: Request<Streaming<pb::ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let (outgoing, messages) = mpsc::channel(OUTGOING_BUFFER);
        if let Dialer::Streams(streams) = &self.0.dialer {
            streams.broker_connected(outgoing.clone());
        }
        tokio::spawn(self.clone().read_messages(request.into_inner(), outgoing));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
