//! The optional listener: every mount's metrics in this process over plain HTTP, for whom the operator lets near it.
//!
//! There is one for the process, as a port has one owner; mounts are told apart by the label `mount`. It asks for no
//! token, so it is off unless the plugin was registered with an address, which should be loopback's. It serves
//! `GET /metrics` alone and knows nothing of what is in it.
//!
//! Few can keep others out: a connection carries one request and is closed after a time limit. One silent connection too
//! many closes the oldest silent one, and one request too many the oldest request: who asks is not closed for who does not.
//!
//! An address that is taken (an earlier process of the plugin may still hold it after a reload) is a line in the log,
//! and is tried again every few seconds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::engine::telemetry::metrics::merge;

/// An address that is taken is tried again after so long.
const RETRY: Duration = Duration::from_secs(5);
/// A request more closes the oldest.
const MOST_REQUESTS: usize = 16;
/// A connection more that has not asked yet closes the oldest of them.
const MOST_SILENT: usize = 64;
/// From accepting a connection to the end of its answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// A connection that says nothing is not kept.
const HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Storage that takes longer is left out of the answer: a scrape is over by then.
const SOURCE_PATIENCE: Duration = Duration::from_secs(5);

/// A mount that has metrics.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Where it is mounted.
    fn mount(&self) -> String;
    /// Its metrics as text, or why there is none.
    async fn text(&self) -> Result<String, String>;
}

/// The listener of a process.
pub struct Listener {
    address: SocketAddr,
    sources: Mutex<Vec<Weak<dyn Source>>>,
    started: AtomicBool,
    bound: OnceLock<SocketAddr>,
}

/// A connection that is served.
struct Served {
    task: JoinHandle<()>,
    /// Whether its request has come.
    has_asked: Arc<AtomicBool>,
}

impl Listener {
    /// A listener that will listen at this address.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            sources: Mutex::default(),
            started: AtomicBool::new(false),
            bound: OnceLock::new(),
        })
    }

    /// The listener of an address as the operator wrote it: none for no text, and for one that is no address, which is
    /// a line in the log.
    pub fn parse(text: Option<&str>) -> Option<Arc<Self>> {
        let text = text.filter(|text| !text.is_empty())?;
        let Ok(address) = text.parse::<SocketAddr>() else {
            tracing::warn!(
                text,
                "metrics are not served: it must be an address and a port, such as 127.0.0.1:9469"
            );
            return None;
        };
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "metrics will be served, without a token, beyond this machine");
        }
        Some(Self::new(address))
    }

    /// From now on the answer holds this mount's metrics, for as long as the mount is there.
    pub fn add(&self, source: Weak<dyn Source>) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// Listens from now on, in the background. Once is enough.
    pub fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).listen());
        }
    }

    /// Where it listens, if it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.bound.get().copied()
    }

    async fn listen(self: Arc<Self>) {
        let (address, socket) = self.bind().await;
        tracing::info!(%address, "metrics are served, without a token, to whoever reaches this address");
        // Nobody else sets it: there is one task.
        let _ = self.bound.set(address);
        self.accept(socket).await;
    }

    /// Tries until the address is ours; each new reason why it is not is told once.
    async fn bind(&self) -> (SocketAddr, TcpListener) {
        let mut told = String::new();
        loop {
            let socket = TcpListener::bind(self.address).await;
            match socket.and_then(|socket| Ok((socket.local_addr()?, socket))) {
                Ok(bound) => return bound,
                Err(error) => {
                    let error = error.to_string();
                    if error != told {
                        tracing::warn!(address = %self.address, error, "metrics cannot be served here yet");
                        told = error;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn accept(self: Arc<Self>, socket: TcpListener) {
        let mut served: VecDeque<Served> = VecDeque::new();
        loop {
            match socket.accept().await {
                Ok((connection, _)) => {
                    served.retain(|connection| !connection.task.is_finished());
                    close_oldest(&mut served, true, MOST_REQUESTS);
                    close_oldest(&mut served, false, MOST_SILENT);
                    let has_asked = Arc::<AtomicBool>::default();
                    let task = tokio::spawn(Arc::clone(&self).serve(connection, Arc::clone(&has_asked)));
                    served.push_back(Served { task, has_asked });
                }
                // Out of file descriptors, say: not to be tried in a tight loop.
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    async fn serve(self: Arc<Self>, connection: TcpStream, has_asked: Arc<AtomicBool>) {
        let service = service_fn(move |request| {
            has_asked.store(true, Ordering::Relaxed);
            let listener = Arc::clone(&self);
            async move { Ok::<_, Infallible>(listener.answer(&request).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).keep_alive(false);
        let served = http.serve_connection(TokioIo::new(connection), service);
        // A scraper that goes away in the middle, or does not read, is its own affair.
        let _ = tokio::time::timeout(CONNECTION_LIMIT, served).await;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "there is only /metrics\n".to_owned());
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read\n".to_owned());
        }
        plain(StatusCode::OK, self.text().await)
    }

    /// The metrics of every mount that can tell them in time.
    async fn text(&self) -> String {
        let sources: Vec<_> = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.iter().filter_map(Weak::upgrade).collect()
        };
        let told = join_all(sources.iter().map(|source| told(&**source))).await;
        let mut texts: Vec<_> = told.into_iter().flatten().collect();
        texts.sort();
        merge(&texts)
    }
}

/// Makes room for one more of those that have asked, or have not: closes the oldest of them if there are `most`.
fn close_oldest(served: &mut VecDeque<Served>, has_asked: bool, most: usize) {
    let mut alike = served.iter().filter(|one| one.has_asked.load(Ordering::Relaxed) == has_asked);
    if let Some(oldest) = alike.next().filter(|_| alike.count() + 1 >= most) {
        oldest.task.abort();
    }
}

/// A mount and its metrics, if it can tell them in time.
async fn told(source: &dyn Source) -> Option<(String, String)> {
    let mount = source.mount();
    match tokio::time::timeout(SOURCE_PATIENCE, source.text()).await {
        Ok(Ok(text)) => return Some((mount, text)),
        Ok(Err(error)) => tracing::debug!(mount, error, "a mount has no metrics now"),
        Err(_) => tracing::debug!(mount, "a mount's storage does not answer"),
    }
    None
}

fn plain(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(crate::engine::operator::health::CONTENT_TYPE));
    response
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
