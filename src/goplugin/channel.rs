//! Calls of the services that a host serves under one broker id.
//!
//! Each call goes directly to its HTTP/2 connection. tonic's own channel puts a queue, a load balancer and five layers
//! between, for many servers and for limits. One host needs none of them.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::Shared;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};

use super::Error;
use super::error::error_chain;

/// The authority of each call, which is the name in the host's certificate.
const AUTHORITY: &str = "localhost";

/// A connection to services of the host. The first call opens it, and a call after its end opens it again. Clones share
/// it, and it ends with the last of them.
///
/// The connection sends no keepalive pings, because gRPC's Go server ends connections with frequent pings
/// (PROTOCOL 9).
#[derive(Clone)]
pub struct Channel(Arc<State>);

struct State {
    connect: Box<dyn Fn() -> BoxFuture<Sender, Status> + Send + Sync>,
    connection: Mutex<Option<Connecting>>,
}

/// A connection that opens, is open, or failed. Calls that come while it opens share its outcome.
type Connecting = Shared<BoxFuture<Sender, Status>>;

/// Sends requests over an open connection.
type Sender = http2::SendRequest<Body>;

impl Channel {
    /// A channel whose connections run over the streams that `open` opens.
    pub fn new<S, F>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = Result<S, Error>> + Send + 'static,
    {
        let connect = move || -> BoxFuture<Sender, Status> {
            let stream = open();
            Box::pin(async move { start_http2(stream.await.map_err(unreachable)?).await })
        };
        Self(Arc::new(State { connect: Box::new(connect), connection: Mutex::default() }))
    }

    /// The connection of this call: the present one, or a new one after its end or failure. A new one opens in its own
    /// task, because the call that waits for it may be given up.
    fn connection(&self) -> Connecting {
        let mut connection = self.0.connection.lock();
        if let Some(connection) = connection.as_ref().filter(|connection| !has_ended(connection)) {
            return connection.clone();
        }
        let opening = connection.insert((self.0.connect)().shared()).clone();
        tokio::spawn(opening.clone());
        opening
    }

    /// Sends a call. After GOAWAY or its end, a connection returns a call of which it has sent nothing. Such a call goes
    /// to a new connection, once. No other call is repeated, because the host may have seen it.
    async fn send(self, mut request: Request<Body>) -> Result<Response<Incoming>, Status> {
        *request.uri_mut() = absolute(request.uri())?;
        let mut sent = self.connection().await?.try_send_request(request).await;
        if let Some(unsent) = sent.as_mut().err().and_then(TrySendError::take_message) {
            sent = self.connection().await?.try_send_request(unsent).await;
        }
        sent.map_err(|error| unanswered(&error.into_error()))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// The connection ends when its last sender is dropped, or when the host ends it.
async fn start_http2<S>(stream: S) -> Result<Sender, Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    // An answer to a call that was given up is no fault of the host. HTTP/2's usual limit ends a connection after 1024.
    http2.max_local_error_reset_streams(None);
    let (sender, connection) = http2.handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to the host ended: {}", error_chain(&error));
        }
    });
    Ok(sender)
}

fn has_ended(connection: &Connecting) -> bool {
    connection.peek().is_some_and(|outcome| outcome.as_ref().map_or(true, Sender::is_closed))
}

fn unreachable(error: impl std::error::Error + 'static) -> Status {
    Status::unavailable(format!("cannot reach the host: {}", error_chain(&error)))
}

/// The host may have handled the call.
fn unanswered(error: &hyper::Error) -> Status {
    Status::unavailable(format!("the host did not answer: {}", error_chain(error)))
}

/// The call's path with the scheme and the authority, which HTTP/2 requires.
fn absolute(call: &Uri) -> Result<Uri, Status> {
    let path = call.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(Authority::from_static(AUTHORITY));
    uri.path_and_query(path).build().map_err(|error| Status::internal(error.to_string()))
}
