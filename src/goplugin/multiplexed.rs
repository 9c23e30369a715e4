//! Many streams over one socket with yamux, as Vault connects to a plugin in a container (PROTOCOL 4.3). The plugin is
//! the yamux server. TLS runs inside each stream, so this layer handles no secrets and does not authenticate the peer.

use std::task::{Context, Poll};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use yamux::{Config, Connection, Mode};

use super::Error;
use super::connection::Raw;

/// A handle on a shared connection. Dropping the handle does not end the [`Driver`].
#[derive(Clone)]
pub(super) struct Session {
    requests: mpsc::Sender<Request>,
    end: CancellationToken,
}

/// The shared connection. Its streams make progress, and pings are answered, only while [`Driver::run`] is polled.
pub(super) struct Driver {
    connection: Connection<Compat<UnixStream>>,
    requests: mpsc::Receiver<Request>,
    waiting: Option<Request>,
    end: CancellationToken,
}

/// The receiver of a requested stream.
type Request = oneshot::Sender<Raw>;

/// Starts yamux on `socket` as the server.
pub(super) fn server(socket: UnixStream) -> (Session, Driver) {
    over(socket, Mode::Server)
}

/// Starts yamux on `socket` as the client, which is the host's role.
#[cfg(test)]
pub(super) fn client(socket: UnixStream) -> (Session, Driver) {
    over(socket, Mode::Client)
}

fn over(socket: UnixStream, mode: Mode) -> (Session, Driver) {
    let (sender, requests) = mpsc::channel(1);
    let end = CancellationToken::new();
    let connection = Connection::new(socket.compat(), Config::default(), mode);
    let driver = Driver { connection, requests, waiting: None, end: end.clone() };
    (Session { requests: sender, end }, driver)
}

impl Session {
    /// Opens a stream. The peer sees the stream with the first written byte.
    pub(super) async fn open(&self) -> Result<Raw, Error> {
        let (request, stream) = oneshot::channel();
        self.requests.send(request).await.map_err(|_| Error::SessionEnded)?;
        stream.await.map_err(|_| Error::SessionEnded)
    }

    /// Ends the connection and all of its streams.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}

impl Driver {
    /// Drives the connection until it ends. `on_stream` receives each stream that the peer opens.
    pub(super) async fn run(mut self, mut on_stream: impl FnMut(Raw)) {
        let end = self.end.clone();
        tokio::select! {
            () = std::future::poll_fn(|context| self.poll(context, &mut on_stream)) => {}
            () = end.cancelled() => {}
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, on_stream: &mut impl FnMut(Raw)) -> Poll<()> {
        loop {
            self.poll_requests(context);
            match self.connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(stream))) => {
                    on_stream(Box::new(stream.compat()));
                    // Stop at once, before further frames from the peer are read.
                    if self.end.is_cancelled() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Opens the requested streams until no request is left or the peer has to acknowledge earlier streams.
    fn poll_requests(&mut self, context: &mut Context<'_>) {
        loop {
            if self.waiting.is_none() {
                let Poll::Ready(Some(request)) = self.requests.poll_recv(context) else { return };
                self.waiting = Some(request);
            }
            let Poll::Ready(stream) = self.connection.poll_new_outbound(context) else { return };
            if let (Some(request), Ok(stream)) = (self.waiting.take(), stream) {
                // The requester may have given up. The stream is then dropped before the peer sees it.
                let _ = request.send(Box::new(stream.compat()));
            }
        }
    }
}
