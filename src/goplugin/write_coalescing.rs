//! Coalesces the writes of one scheduler turn. HTTP/2 writes headers and message separately. Each separate write would
//! cost both sides a system call, a TLS record and a wake-up.
//!
//! *Guarantees:* all bytes leave in order. A flush waits only for the tasks that are ready at that moment; no timer
//! delays the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest number of buffered bytes, which is one TLS record. Larger writes are not buffered.
const MAX_BUFFERED: usize = 16 * 1024;

/// A byte stream that delays flushed writes to the end of the scheduler turn.
pub(super) struct WriteCoalescing<S> {
    stream: S,
    buffer: Vec<u8>,
    /// The number of buffered bytes that were already written.
    written: usize,
    /// True if a flush was requested in an earlier turn.
    flush_requested: bool,
}

impl<S: AsyncWrite + Unpin> WriteCoalescing<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), written: 0, flush_requested: false }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.buffer[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.buffer.clear();
        self.written = 0;
        self.flush_requested = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteCoalescing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteCoalescing<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = slices.iter().map(|slice| slice.len()).sum();
        if self.buffer.len() + count > MAX_BUFFERED {
            ready!(self.poll_drain(context))?;
        }
        if count > MAX_BUFFERED {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        for slice in slices {
            self.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffer.is_empty() && !self.flush_requested {
            self.flush_requested = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
