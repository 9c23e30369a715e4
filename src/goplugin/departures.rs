//! What is to be done right before an answer leaves for the host. Between "it is ready" and "the host can have it" lie
//! tasks and queues, and a process that is killed takes along what is in them. It knows nothing of what is done.
//!
//! *Guarantees:* it is done before the host can have the answer, and not before the answer's end, the status, is about
//! to be written: to the host a unary call without one failed, whatever came before it. It is never done for an answer
//! whose call or connection ended earlier.
//!
//! *Not told:* what else is in the way by then. Other answers' bytes may go first, so some microseconds may lie between
//! what is done and the answer's last byte in the socket.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http_body_util::BodyExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::Response;
use tonic::body::Body;
use tonic::codegen::http;

/// What is to be done.
type Leave = Box<dyn FnOnce() + Send>;

/// Of one socket: what is to be done before the next write. Clones share it; each request has one in its extensions.
#[derive(Clone, Default)]
pub struct Departures(Arc<Mutex<Vec<Leave>>>);

/// A socket that does what is to be done before it writes.
pub(super) struct Departing {
    socket: UnixStream,
    departures: Departures,
}

/// On its way in a response's extensions, which can be cloned; taken once.
#[derive(Clone)]
struct Announced(Arc<Mutex<Option<(Departures, Leave)>>>);

impl Departures {
    /// Has `leave` called when this response leaves over this socket; it is dropped uncalled if that does not happen.
    /// It must be quick and must not fail: all that the socket carries waits for it.
    pub fn announce<T>(&self, response: &mut Response<T>, leave: impl FnOnce() + Send + 'static) {
        let leave: Leave = Box::new(leave);
        response.extensions_mut().insert(Announced(Arc::new(Mutex::new(Some((self.clone(), leave))))));
    }

    fn add(&self, leave: Leave) {
        lock(&self.0).push(leave);
    }

    fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    fn leave(&self) {
        // Not under the lock, under which others get ready.
        let leaving = std::mem::take(&mut *lock(&self.0));
        for leave in leaving {
            leave();
        }
    }
}

/// Takes what was announced from a response to the end of its body. The other responses stay as they are.
pub(super) fn carry(mut response: http::Response<Body>) -> http::Response<Body> {
    let announced = response.extensions_mut().remove::<Announced>();
    let Some((departures, leave)) = announced.and_then(|announced| lock(&announced.0).take()) else {
        return response;
    };
    let mut leave = Some(leave);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if frame.is_trailers() {
                leave.take().into_iter().for_each(|leave| departures.add(leave));
            }
            frame
        }))
    })
}

impl Departing {
    pub(super) fn new(socket: UnixStream, departures: Departures) -> Self {
        Self { socket, departures }
    }

    /// Before a write. While the socket takes nothing, nothing leaves.
    fn poll_leave(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.departures.is_empty() {
            ready!(self.socket.poll_write_ready(context))?;
            self.departures.leave();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Departing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Departing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_leave(context))?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_leave(context))?;
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
