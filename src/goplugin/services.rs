//! The gRPC services of a plugin, and the connections on which a host calls them.
//!
//! HTTP/2 hands each call directly to its service. tonic's own server puts a router and five layers between, which no
//! call needs: they take a seventh of the instructions of a configuration read, and 0.1 MB of the program.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future;
use std::pin::pin;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// The number of calls that the host may cancel before this server accepts them. With HTTP/2's usual limit of 20, many
/// clients that hang up at once would end the connection for all others.
const MAX_PENDING_RESETS: usize = 100_000;

/// gRPC services, by name.
#[derive(Default)]
pub struct Services(HashMap<&'static str, Handler>);

type Handler = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;
type Answer = BoxFuture<Response<Body>, Infallible>;

impl Services {
    /// These services and `service`. One of the same name is replaced.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        // A generated service is always ready.
        self.0.insert(S::NAME, Box::new(move |request| service.clone().call(request)));
        self
    }

    /// Serves one connection until its end, or until `stop` and the end of its running calls. Concurrent calls are not
    /// limited, because the only client is the host. An error of the connection is the host's to report.
    pub async fn serve<S>(&self, stream: S, stop: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(None)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(None)
            .serve_connection(TokioIo::new(stream), service_fn(|request| self.call(request)));
        let mut connection = pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    /// The path of a call is `/package.Service/Method`.
    fn call(&self, request: Request<Incoming>) -> Answer {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        match self.0.get(name) {
            Some(service) => service(request),
            None => Box::pin(future::ready(Ok(Status::unimplemented("no such service").into_http()))),
        }
    }
}
