//! The optional metrics listener: the metrics of every mount in this process, over plain HTTP at `GET /metrics`.
//!
//! One listener serves the whole process, because a port has one owner. The label `mount` distinguishes the mounts. The
//! listener requires no token, so it is off unless the plugin was registered with an address. That address should be a
//! loopback address.
//!
//! Slow clients cannot block others: a connection carries one request and is closed after a time limit. Beyond a maximum
//! number, the oldest connection without a request, or the oldest request, is closed.
//!
//! After a reload, the plugin's previous process may still hold the address. The listener logs that and retries.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::engine::telemetry::metrics::merge;

/// Delay before the next attempt to bind an address in use.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Maximum number of requests. A further one closes the oldest.
const MAX_REQUESTS: usize = 16;
/// Maximum number of connections without a request. A further one closes the oldest.
const MAX_IDLE: usize = 64;
/// Maximum time from accepting a connection to the end of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time for the request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for a mount's metrics, which read storage. A slower mount is omitted, before the scraper gives up.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(5);

/// A mount with metrics.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The mount point.
    fn mount(&self) -> String;
    /// The metrics as text, or the error.
    async fn text(&self) -> Result<String, String>;
}

/// The metrics listener of a process.
pub struct Listener {
    address: SocketAddr,
    sources: Mutex<Vec<Weak<dyn Source>>>,
    started: AtomicBool,
    bound: OnceLock<SocketAddr>,
}

/// An open connection.
struct Connection {
    task: JoinHandle<()>,
    /// True after the request has arrived.
    has_request: Arc<AtomicBool>,
}

impl Listener {
    /// A listener for this address, which does not listen yet.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            sources: Mutex::default(),
            started: AtomicBool::new(false),
            bound: OnceLock::new(),
        })
    }

    /// A listener for the operator's address. `None` without an address, or with an invalid one, which is logged.
    pub fn parse(text: Option<&str>) -> Option<Arc<Self>> {
        let text = text.filter(|text| !text.is_empty())?;
        let Ok(address) = text.parse::<SocketAddr>() else {
            tracing::warn!(
                text,
                "metrics are not served: the setting must be an address and a port, such as 127.0.0.1:9469"
            );
            return None;
        };
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "metrics will be served, without a token, beyond this machine");
        }
        Some(Self::new(address))
    }

    /// Adds a mount, whose metrics are served while the mount exists.
    pub fn add(&self, source: Weak<dyn Source>) {
        let mut sources = self.sources.lock();
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// Starts to listen in the background. Further calls do nothing.
    pub fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).listen());
        }
    }

    /// The bound address; `None` while not listening.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.get().copied()
    }

    async fn listen(self: Arc<Self>) {
        let (address, socket) = self.bind().await;
        tracing::info!(%address, "metrics are served, without a token, to everyone who can reach this address");
        // Cannot fail: this task runs once.
        let _ = self.bound.set(address);
        self.accept(socket).await;
    }

    /// Binds the address, with retries. Each new error is logged once.
    async fn bind(&self) -> (SocketAddr, TcpListener) {
        let mut last_error = String::new();
        loop {
            let socket = TcpListener::bind(self.address).await;
            match socket.and_then(|socket| Ok((socket.local_addr()?, socket))) {
                Ok(bound) => return bound,
                Err(error) => {
                    let error = error.to_string();
                    if error != last_error {
                        tracing::warn!(address = %self.address, error, "metrics cannot be served yet");
                        last_error = error;
                    }
                }
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener) {
        let mut connections: VecDeque<Connection> = VecDeque::new();
        loop {
            match socket.accept().await {
                Ok((stream, _)) => {
                    connections.retain(|connection| !connection.task.is_finished());
                    close_oldest(&connections, true, MAX_REQUESTS);
                    close_oldest(&connections, false, MAX_IDLE);
                    let has_request = Arc::<AtomicBool>::default();
                    let task = tokio::spawn(Arc::clone(&self).serve(stream, Arc::clone(&has_request)));
                    connections.push_back(Connection { task, has_request });
                }
                // The process may be out of file descriptors, so no tight loop.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, has_request: Arc<AtomicBool>) {
        let service = service_fn(move |request| {
            has_request.store(true, Ordering::Relaxed);
            let listener = Arc::clone(&self);
            async move { Ok::<_, Infallible>(listener.answer(&request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
        let served = http.serve_connection(TokioIo::new(stream), service);
        // A client that disconnects or does not read its response is no error here.
        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "the only path is /metrics\n".to_owned());
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "the only method is GET\n".to_owned());
        }
        plain(StatusCode::OK, self.text().await)
    }

    /// The metrics of every mount that answers in time.
    async fn text(&self) -> String {
        let sources: Vec<_> = self.sources.lock().iter().filter_map(Weak::upgrade).collect();
        let texts = join_all(sources.iter().map(|source| metrics_of(&**source))).await;
        let mut texts: Vec<_> = texts.into_iter().flatten().collect();
        texts.sort();
        merge(&texts)
    }
}

/// Makes room for one more connection with or without a request: at the maximum, closes the oldest one.
fn close_oldest(connections: &VecDeque<Connection>, has_request: bool, max: usize) {
    let mut alike = connections.iter().filter(|one| one.has_request.load(Ordering::Relaxed) == has_request);
    if let Some(oldest) = alike.next().filter(|_| alike.count() + 1 >= max) {
        oldest.task.abort();
    }
}

/// A mount point and its metrics; `None` if they cannot be read in time.
async fn metrics_of(source: &dyn Source) -> Option<(String, String)> {
    let mount = source.mount();
    match tokio::time::timeout(SOURCE_TIMEOUT, source.text()).await {
        Ok(Ok(text)) => return Some((mount, text)),
        Ok(Err(error)) => tracing::debug!(mount, error, "the metrics of a mount cannot be read"),
        Err(_) => tracing::debug!(mount, "the storage of a mount does not answer in time"),
    }
    None
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(crate::engine::telemetry::metrics::TEXT_FORMAT));
    response
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
