//! One client: one connection kept alive, one request after the other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::arguments::{Arguments, Until};

/// After a failed connection the next try waits, so that a dead server is not hammered.
const PAUSE: Duration = Duration::from_millis(100);

type Failure = Box<dyn Error + Send + Sync>;

/// Reads one path again and again.
#[derive(Debug)]
pub(crate) struct Client {
    server: SocketAddr,
    request: Request<Empty<Bytes>>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How long each success took.
    pub(crate) latencies: Vec<Duration>,
    /// Failures by what was wrong.
    pub(crate) failures: BTreeMap<String, usize>,
    /// From each client's start to the end of its last request, of all clients together.
    pub(crate) time: Duration,
}

/// What all clients together have still to do. They share one thread.
#[derive(Debug)]
pub(crate) enum Left {
    /// Whatever is done until then.
    Until(Instant),
    /// So many requests.
    Requests(Cell<usize>),
}

impl Left {
    /// From now on.
    pub(crate) fn start(until: Until) -> Self {
        match until {
            Until::Elapsed(duration) => Self::Until(Instant::now() + duration),
            Until::Requests(count) => Self::Requests(Cell::new(count)),
        }
    }

    /// Takes one request to do, if there is one.
    fn take(&self) -> bool {
        match self {
            Self::Until(end) => Instant::now() < *end,
            Self::Requests(count) => {
                let left = count.get();
                count.set(left.saturating_sub(1));
                left > 0
            }
        }
    }
}

impl Client {
    /// A client that is not connected yet.
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let mut request = Request::new(Empty::new());
        let path = format!("/v1/{}", arguments.path);
        // A path or token that fits no request is seen as the server's refusal.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let host = arguments.server.to_string();
        for (name, value) in
            [("host", host.as_str()), ("x-vault-token", &arguments.token), ("x-vault-request", "true")]
        {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        Self { server: arguments.server, request, connection: None }
    }

    /// Reads while there is something to do; the read that is under way at the end is finished.
    pub(crate) async fn read_while(mut self, left: Rc<Left>) -> Tally {
        let mut tally = Tally::default();
        let begin = Instant::now();
        while left.take() {
            let start = Instant::now();
            match self.read().await {
                Ok(200) => tally.latencies.push(start.elapsed()),
                Ok(status) => tally.fail(format!("status {status}")),
                Err(error) => {
                    tally.fail(error.to_string());
                    self.connection = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        tally.time = begin.elapsed();
        tally
    }

    /// The status; the body is read to its end and dropped.
    async fn read(&mut self) -> Result<u16, Failure> {
        let request = self.request.clone();
        let connection = self.connected().await?;
        connection.ready().await?;
        let (head, mut body) = connection.send_request(request).await?.into_parts();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(head.status.as_u16())
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, Failure> {
        let open = self.connection.take().filter(|connection| !connection.is_closed());
        let connection = match open {
            Some(connection) => connection,
            None => connect(self.server).await?,
        };
        Ok(self.connection.insert(connection))
    }
}

async fn connect(server: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong on it reaches the request as its error.
    tokio::spawn(connection);
    Ok(sender)
}

impl Tally {
    /// Counts a failure.
    pub(crate) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// Takes in what another client saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.time += other.time;
        for (reason, count) in other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
    }
}
