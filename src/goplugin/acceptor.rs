//! Accepts connections; admits only peers with the host's certificate. Each connection has its own task, so a stalled
//! peer blocks no other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Accepted, Raw, handshake};
use super::host_liveness::HostLiveness;
use super::multiplexed::{self, Session};
use super::rejections::RejectionLog;

/// The longest time until a stream of a shared connection authenticates as the host's.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(20);
/// The number of streams on a shared connection before one has authenticated. The host opens one. Each stream can take
/// 256 KiB of memory.
const MAX_UNAUTHENTICATED_STREAMS: usize = 4;
/// The delay after a failed accept. Without free file descriptors the next accept would fail at once.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts connections of the host on the plugin's socket.
#[derive(Clone)]
pub(super) struct Acceptor {
    /// Authenticates the peers.
    pub(super) tls: TlsAcceptor,
    /// Counts the host's connections.
    pub(super) liveness: HostLiveness,
    /// Logs the rejected connections.
    pub(super) rejections: Arc<RejectionLog>,
    /// Passes accepted connections to the gRPC server.
    pub(super) server: mpsc::Sender<Accepted>,
    /// Publishes the host's shared connection. `None` if each connection has its own socket.
    pub(super) sessions: Option<Arc<watch::Sender<Option<Session>>>>,
}

impl Acceptor {
    /// Accepts connections on `listener` for as long as the future is polled.
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

    /// Handles a socket with one connection.
    async fn accept_connection(self, socket: UnixStream) {
        if let Some(stream) = self.authenticate(Box::new(socket)).await {
            self.hand_over(stream).await;
        }
    }

    /// Handles a socket with many streams. The session is published when a stream has authenticated, before the
    /// server sees a call that may need the session.
    async fn accept_streams(self, socket: UnixStream, sessions: Arc<watch::Sender<Option<Session>>>) {
        let authenticated = CancellationToken::new();
        let (session, driver) = multiplexed::server(socket);
        let mut unauthenticated_streams = 0;
        let on_stream = |raw| {
            if !authenticated.is_cancelled() {
                unauthenticated_streams += 1;
                if unauthenticated_streams > MAX_UNAUTHENTICATED_STREAMS {
                    self.rejections.record(&"too many streams before authentication");
                    session.end();
                    return;
                }
            }
            let (acceptor, session) = (self.clone(), session.clone());
            let (sessions, authenticated) = (Arc::clone(&sessions), authenticated.clone());
            tokio::spawn(async move {
                let Some(stream) = acceptor.authenticate(raw).await else { return };
                authenticated.cancel();
                sessions.send_replace(Some(session));
                acceptor.hand_over(stream).await;
            });
        };
        tokio::select! {
            () = driver.run(on_stream) => {}
            () = authentication_timeout(&authenticated) => {}
        }
    }

    /// Runs the TLS handshake. A failure is recorded as a rejection.
    async fn authenticate(&self, raw: Raw) -> Option<TlsStream<Raw>> {
        let result: io::Result<_> = handshake(self.tls.accept(raw)).await;
        result.inspect_err(|error| self.rejections.record(error)).ok()
    }

    /// Hands the stream to the server, which is gone only when the process ends.
    async fn hand_over(&self, stream: TlsStream<Raw>) {
        let _ = self.server.send(Accepted::new(stream, self.liveness.track_connection())).await;
    }
}

/// Returns when the time for authentication is over; never returns after a successful authentication.
async fn authentication_timeout(authenticated: &CancellationToken) {
    if timeout(AUTHENTICATION_TIMEOUT, authenticated.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
