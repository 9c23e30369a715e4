//! Connections: TLS over any byte stream, which is a socket or one of many streams on a shared socket. The protocol
//! inside is not known here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::{client, server};

use super::host_liveness::ConnectionGuard;

/// The longest TLS handshake. The host needs a millisecond; the limit is for peers that connect and send nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A byte stream below TLS.
pub(super) type Raw = Box<dyn Stream>;

/// The traits that a byte stream must implement.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to the host, over the TLS stream `S`. `G` is dropped with the connection.
///
/// It has no vectored writes. HTTP/2 therefore copies messages of up to 1 KiB into one buffer, and messages that are ready
/// together leave in one TLS record and one system call.
pub(super) struct Connection<S, G> {
    stream: S,
    _guard: G,
}

/// A connection of the host to the plugin's server. The host counts as alive while the connection exists.
pub(super) type Accepted = Connection<server::TlsStream<Raw>, ConnectionGuard>;

/// A connection to a service of the host.
pub(super) type Dialed = Connection<client::TlsStream<Raw>, ()>;

/// Waits for a TLS handshake of either side, for at most ten seconds.
pub(super) async fn handshake<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
    timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(timed_out)?
}

impl<S, G> Connection<S, G> {
    /// The connection over `stream`, which keeps `guard` until its end.
    pub(super) fn new(stream: S, guard: G) -> Self {
        Self { stream, _guard: guard }
    }
}

impl<S: AsyncRead + Unpin, G: Unpin> AsyncRead for Connection<S, G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, G: Unpin> AsyncWrite for Connection<S, G> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
