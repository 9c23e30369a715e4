//! Connections: TLS over any byte stream, which is a socket or one of many streams on a shared socket. The protocol
//! inside is not known here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::host_liveness::ConnectionGuard;

/// The longest TLS handshake. The host needs a millisecond; the limit is for peers that connect and send nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A byte stream below TLS.
pub(super) type Raw = Box<dyn Stream>;

/// The traits that a byte stream must implement.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection of the host to the plugin's server. The host counts as alive while the connection exists.
pub(super) struct Connection {
    stream: TlsStream<Raw>,
    _guard: ConnectionGuard,
}

/// Waits for a TLS handshake of either side, for at most ten seconds.
pub(super) async fn handshake<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
    timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(timed_out)?
}

impl Connection {
    /// The connection of an authenticated host. `guard` counts the connection until its end.
    pub(super) fn new(stream: TlsStream<Raw>, guard: ConnectionGuard) -> Self {
        Self { stream, _guard: guard }
    }
}

/// The pinned host is the only peer, so connections carry no information about it.
impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
