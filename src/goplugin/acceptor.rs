//! Lets the host in. Everyone may knock on the socket; only a peer that proves to hold the host's certificate
//! reaches the server. Each newcomer has a task of its own, so one that stalls holds up nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Raw, handshake};
use super::departures::{Departing, Departures};
use super::host_liveness::HostLiveness;
use super::multiplexed::{self, Session};
use super::rejections::RejectionLog;

/// How long a shared connection may live before one of its streams proved to be the host's.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(20);
/// How many streams it may open before that. The host opens one; each stream can fill 256 KiB of memory.
const MAX_UNAUTHENTICATED_STREAMS: usize = 4;
/// The pause after a failed accept: with no file descriptor left, the next one fails at once too.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What it takes to let someone in.
#[derive(Clone)]
pub(super) struct Acceptor {
    /// Tells the host from others.
    pub(super) tls: TlsAcceptor,
    /// Counts the host's connections.
    pub(super) liveness: HostLiveness,
    /// Who was turned away.
    pub(super) rejections: Arc<RejectionLog>,
    /// Where the server takes its connections from.
    pub(super) server: mpsc::Sender<Connection>,
    /// The host's shared connection, where all streams go over one.
    pub(super) sessions: Option<Arc<watch::Sender<Option<Session>>>>,
}

impl Acceptor {
    /// Accepts on `listener` for as long as the future is polled.
    pub(super) async fn run(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => drop(tokio::spawn(self.clone().handle_socket(socket))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn handle_socket(self, socket: UnixStream) {
        match self.sessions.clone() {
            None => self.accept_connection(socket).await,
            Some(sessions) => self.accept_streams(socket, sessions).await,
        }
    }

    /// One socket, one connection.
    async fn accept_connection(self, socket: UnixStream) {
        let departures = Departures::default();
        let socket = Departing::new(socket, departures.clone());
        if let Some(stream) = self.authenticate(Box::new(socket)).await {
            self.hand_over(stream, departures).await;
        }
    }

    /// One socket, many streams. The session becomes the one to dial back over when a stream of it proved to be
    /// the host's, and before the host's first call can ask for that.
    async fn accept_streams(self, socket: UnixStream, sessions: Arc<watch::Sender<Option<Session>>>) {
        let authenticated = CancellationToken::new();
        let (session, driver) = multiplexed::server(socket);
        let mut unauthenticated_streams = 0;
        let on_stream = |raw| {
            if !authenticated.is_cancelled() {
                unauthenticated_streams += 1;
                if unauthenticated_streams > MAX_UNAUTHENTICATED_STREAMS {
                    self.rejections.record(&"too many streams before a proof");
                    session.end();
                    return;
                }
            }
            let (acceptor, session) = (self.clone(), session.clone());
            let (sessions, authenticated) = (Arc::clone(&sessions), authenticated.clone());
            tokio::spawn(async move {
                let Some(stream) = acceptor.authenticate(raw).await else { return };
                authenticated.cancel();
                let departures = session.departures();
                sessions.send_replace(Some(session));
                acceptor.hand_over(stream, departures).await;
            });
        };
        tokio::select! {
            () = driver.run(on_stream) => {}
            () = authentication_timeout(&authenticated) => {}
        }
    }

    /// The TLS handshake.
    async fn authenticate(&self, raw: Raw) -> Option<TlsStream<Raw>> {
        let result: io::Result<_> = handshake(self.tls.accept(raw)).await;
        result.inspect_err(|error| self.rejections.record(error)).ok()
    }

    /// Hands the stream to the server, which is gone only when the process ends.
    async fn hand_over(&self, stream: TlsStream<Raw>, departures: Departures) {
        let _ = self.server.send(Connection::new(stream, departures, self.liveness.track_connection())).await;
    }
}

/// Ends when the time for a proof is over and there is none.
async fn authentication_timeout(authenticated: &CancellationToken) {
    if timeout(AUTHENTICATION_TIMEOUT, authenticated.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
