//! Accepts connections: plain or TLS, HTTP/1.1 or HTTP/2. Faults can close a connection in the middle.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::exchange::Shared;
use super::refusal::Refusal;
use super::reply::{Body, Outcome, Reply};

/// Maximum body size, in bytes.
const LARGEST_BODY: usize = 1024 * 1024;
/// Path of the token exchange.
const TOKEN_EXCHANGE: &str = "/oauth/token";

/// Accepts connections until `stop`, which also closes every connection.
pub async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((socket, _)) => {
                tokio::spawn(connection(socket, tls.clone(), Arc::clone(&shared), stop.child_token()));
            }
            // No file descriptor is free; a connection must end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    // A failure costs only latency.
    let _ = socket.set_nodelay(true);
    match tls {
        None => serve(socket, shared, stop).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(socket).await {
                serve(stream, shared, stop).await;
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let stopped = stop.clone();
    let service = service_fn(move |request| respond(request, Arc::clone(&shared), stop.clone()));
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    // The client decides how the connection ends.
    let _ = stopped.run_until_cancelled(connection).await;
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    connection: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    match outcome(request, shared).await {
        Outcome::Complete(reply) => Ok(reply.into_response(false)),
        Outcome::Cut(reply) => Ok(reply.into_response(true)),
        Outcome::Dropped => {
            connection.cancel();
            pending().await
        }
    }
}

async fn outcome(request: Request<Incoming>, shared: Arc<Shared>) -> Outcome {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Outcome::Complete(Reply::of(Err(Refusal::too_large())));
    };
    let body = body.to_bytes();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    if let Some(control) = path.strip_prefix("/_sim") {
        return Outcome::Complete(shared.control(method, control, &body));
    }
    let Some(below) = below(path) else {
        return Outcome::Complete(Reply::of(Err(Refusal::no_such_url(method, path))));
    };
    match Call::new(&parts, below, body) {
        Err(refusal) => Outcome::Complete(Reply::of(Err(refusal))),
        // A separate task completes the call even if the caller hangs up.
        Ok(call) => tokio::spawn(shared.exchange(call)).await.unwrap_or(Outcome::Dropped),
    }
}

/// The path as the endpoints know it. The token exchange is on a host of its own at OpenAI, so not below `/v1`.
fn below(path: &str) -> Option<&str> {
    if path == TOKEN_EXCHANGE {
        return Some(path);
    }
    path.strip_prefix("/v1").filter(|below| below.starts_with('/') && *below != TOKEN_EXCHANGE)
}
