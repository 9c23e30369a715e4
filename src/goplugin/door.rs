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
use super::multiplexed::{self, Session};
use super::presence::Presence;
use super::strangers::Strangers;

/// How long a shared connection may live before one of its streams proved to be the host's.
const PROOF: Duration = Duration::from_secs(20);
/// How many streams it may open before that. The host opens one; each stream can fill 256 KiB of memory.
const UNPROVEN_STREAMS: usize = 4;
/// The pause after a failed accept: with no file descriptor left, the next one fails at once too.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What it takes to let someone in.
#[derive(Clone)]
pub(super) struct Door {
    /// Tells the host from others.
    pub(super) tls: TlsAcceptor,
    /// Counts the host's connections.
    pub(super) presence: Presence,
    /// Who was turned away.
    pub(super) strangers: Arc<Strangers>,
    /// Where the server takes its connections from.
    pub(super) server: mpsc::Sender<Connection>,
    /// The host's shared connection, where all streams go over one.
    pub(super) sessions: Option<Arc<watch::Sender<Option<Session>>>>,
}

impl Door {
    /// Accepts on `listener` for as long as the future is polled.
    pub(super) async fn keep(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => drop(tokio::spawn(self.clone().welcome(socket))),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn welcome(self, socket: UnixStream) {
        match self.sessions.clone() {
            None => self.admit(socket).await,
            Some(sessions) => self.admit_all(socket, sessions).await,
        }
    }

    /// One socket, one connection.
    async fn admit(self, socket: UnixStream) {
        let departures = Departures::default();
        let socket = Departing::new(socket, departures.clone());
        if let Some(stream) = self.prove(Box::new(socket)).await {
            self.pass(stream, departures).await;
        }
    }

    /// One socket, many streams. The session becomes the one to dial back over when a stream of it proved to be
    /// the host's, and before the host's first call can ask for that.
    async fn admit_all(self, socket: UnixStream, sessions: Arc<watch::Sender<Option<Session>>>) {
        let proven = CancellationToken::new();
        let (session, driver) = multiplexed::server(socket);
        let mut unproven_streams = 0;
        let on_stream = |raw| {
            if !proven.is_cancelled() {
                unproven_streams += 1;
                if unproven_streams > UNPROVEN_STREAMS {
                    self.strangers.turned_away(&"too many streams before a proof");
                    session.end();
                    return;
                }
            }
            let (door, session) = (self.clone(), session.clone());
            let (sessions, proven) = (Arc::clone(&sessions), proven.clone());
            tokio::spawn(async move {
                let Some(stream) = door.prove(raw).await else { return };
                proven.cancel();
                let departures = session.departures();
                sessions.send_replace(Some(session));
                door.pass(stream, departures).await;
            });
        };
        tokio::select! {
            () = driver.run(on_stream) => {}
            () = unproven(&proven) => {}
        }
    }

    /// The TLS handshake.
    async fn prove(&self, raw: Raw) -> Option<TlsStream<Raw>> {
        let result: io::Result<_> = handshake(self.tls.accept(raw)).await;
        result.inspect_err(|error| self.strangers.turned_away(error)).ok()
    }

    /// Hands the stream to the server, which is gone only when the process ends.
    async fn pass(&self, stream: TlsStream<Raw>, departures: Departures) {
        let _ = self.server.send(Connection::new(stream, departures, self.presence.enter())).await;
    }
}

/// Ends when the time for a proof is over and there is none.
async fn unproven(proven: &CancellationToken) {
    if timeout(PROOF, proven.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
