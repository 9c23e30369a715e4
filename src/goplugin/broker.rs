//! Connections back to the host. The host numbers its services. [`Broker::channel`] connects to a number, over a separate
//! socket (`addresses.rs`) or over a stream of the shared connection (`stream_dialer.rs`).

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::Error;
use super::addresses::Addresses;
use super::channel::Channel;
use super::connection::{Dialed, Raw, handshake};
use super::multiplexed::Session;
use super::pb;
use super::stream_dialer::{Outgoing, StreamDialer};

/// The name in the host's certificate.
const NAME: &str = "localhost";
/// The number of messages to the host that may wait. At most one knock is pending at a time.
const OUTGOING_BUFFER: usize = 16;

/// Dials services of the host. Clones share one state.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    tls: TlsConnector,
    dialer: Dialer,
    stop: CancellationToken,
    metadata_mode: bool,
}

/// The transport to the host.
pub(super) enum Dialer {
    /// One socket per id.
    Sockets(Addresses),
    /// Streams on the shared connection.
    Streams(StreamDialer),
}

impl Dialer {
    /// Uses streams over `session` if a session is given, and sockets otherwise.
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

    /// True if the host started this process only to query the plugin's metadata. No service stands behind the ids
    /// then, and requests must be refused (PROTOCOL 5.3).
    pub fn metadata_mode(&self) -> bool {
        self.0.metadata_mode
    }

    /// The channel to the service `id` of the host. The host may announce the address of the id late: a call waits up to
    /// five seconds for the announcement.
    pub fn channel(&self, id: u32) -> Channel {
        let broker = self.clone();
        Channel::new(move || broker.clone().connect(id))
    }

    /// Runs to its end even if the caller gives up. An unfinished knock would route the next stream to the wrong id.
    async fn connect(self, id: u32) -> Result<Dialed, Error> {
        let connected = tokio::spawn(async move { self.establish(id).await }).await;
        connected.unwrap_or(Err(Error::SessionEnded))
    }

    async fn establish(&self, id: u32) -> Result<Dialed, Error> {
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
                // The TLS handshake proves that the host has seen the stream. From here on the next stream may belong
                // to another id.
                drop(guard);
                encrypted
            }
        }
    }

    async fn start_tls(&self, id: u32, raw: Raw) -> Result<Dialed, Error> {
        let name = ServerName::try_from(NAME).map_err(|error| Error::Connect {
            id,
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        let stream = handshake(self.0.tls.connect(name, raw)).await;
        stream.map(|stream| Dialed::new(stream, ())).map_err(|source| Error::Connect { id, source })
    }

    /// Reads the host's messages until the host or this process ends the stream.
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
                // The host knocks for an id of this plugin, which serves no ids. A failed send means that the host is
                // gone.
                let _ = outgoing.send(Ok(no_listener(id))).await;
            }
            (None, Dialer::Sockets(addresses)) => addresses.insert(id, info.network, info.address),
            _ => tracing::debug!(id, "unexpected message on the broker stream of the host"),
        }
    }
}

/// The refusal of a knock for an id of this plugin.
fn no_listener(id: u32) -> pb::ConnInfo {
    let error = format!("no listener for id {id}");
    let knock = pb::conn_info::Knock { knock: true, ack: true, error };
    pb::ConnInfo { service_id: id, knock: Some(knock), ..pb::ConnInfo::default() }
}

#[tonic::async_trait]
impl pb::grpc_broker_server::GrpcBroker for Broker {
    type StartStreamStream = ReceiverStream<Result<pb::ConnInfo, Status>>;

    /// The host opens one such stream and keeps it open (PROTOCOL 4.1). A second stream replaces the first.
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
