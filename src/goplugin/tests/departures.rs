//! What is to be done when an answer leaves: before the host can have it, or never.

use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::super::connection::{Connection, Raw};
use super::super::departures::{Departing, Departures, carry};
use super::super::host_liveness::HostLiveness;
use super::super::pb::health::health_server::{Health, HealthServer};
use super::super::pb::health::{HealthCheckRequest, HealthCheckResponse};
use super::super::tls::{Identity, Tls};
use super::super::{multiplexed, server};
use super::host::{channel, check, start_tls};

type Leave = Box<dyn FnOnce() + Send>;

/// Answers "departing" with something to be done, once it may go on, and anything else at once.
#[derive(Clone, Default)]
struct Answering {
    leave: Arc<Mutex<Option<Leave>>>,
    waits: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// How a host's connection comes over a socket.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Multiplexed,
}

/// A plugin that answers over one socket, and its host.
struct Pair {
    answering: Answering,
    host: Channel,
    /// The plugin's end of the socket.
    socket: Socket,
}

#[tonic::async_trait]
impl Health for Answering {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let mut response = Response::new(HealthCheckResponse::default());
        if request.get_ref().service == "departing" {
            let leave = self.leave.lock().unwrap().take().unwrap();
            request.extensions().get::<Departures>().unwrap().announce(&mut response, leave);
            self.waits.notify_one();
            self.go_on.notified().await;
        }
        Ok(response)
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl Pair {
    async fn over(way: Way) -> Self {
        let (ours, theirs) = Socket::pair().unwrap();
        let (ours_too, answering) = (ours.try_clone().unwrap(), Answering::default());
        let (plugin, host) = (Identity::generate().unwrap(), Identity::of_a_host());
        let (at_plugin, at_host) = (
            Tls::new(&plugin, host.certificate.clone()).unwrap(),
            Tls::new(&host, plugin.certificate.clone()).unwrap(),
        );
        let acceptor = TlsAcceptor::from(at_plugin.server);
        tokio::spawn(serve(way, tokio_socket(ours), acceptor, answering.clone()));
        let raw = Arc::new(Mutex::new(Some(connect(way, tokio_socket(theirs)).await)));
        let connector = TlsConnector::from(at_host.client);
        let host = channel(move || {
            let (raw, connector) = (raw.lock().unwrap().take().unwrap(), connector.clone());
            async move { start_tls(&connector, raw).await }
        });
        Self { answering, host: host.await.unwrap(), socket: ours_too }
    }

    /// Has this done when the next "departing" leaves.
    fn leave(&self, leave: impl FnOnce() + Send + 'static) {
        *self.answering.leave.lock().unwrap() = Some(Box::new(leave));
    }
}

fn tokio_socket(socket: Socket) -> UnixStream {
    socket.set_nonblocking(true).unwrap();
    UnixStream::from_std(socket).unwrap()
}

/// The plugin's side, until dropped.
async fn serve(way: Way, socket: UnixStream, tls: TlsAcceptor, answering: Answering) {
    let (sender, connections) = mpsc::channel(1);
    let (raw, departures) = match way {
        Way::Plain => {
            let departures = Departures::default();
            (Box::new(Departing::new(socket, departures.clone())) as Raw, departures)
        }
        Way::Multiplexed => {
            let (session, driver) = multiplexed::server(socket);
            let (streams, mut stream) = mpsc::channel(1);
            tokio::spawn(driver.run(move |raw| streams.try_send(raw).ok().unwrap()));
            (stream.recv().await.unwrap(), session.departures())
        }
    };
    let stream = tls.accept(raw).await.unwrap();
    sender
        .send(Connection::new(stream, departures, HostLiveness::default().track_connection()))
        .await
        .unwrap();
    let routes = Routes::new(HealthServer::new(answering));
    server::serve(routes, connections, CancellationToken::new()).await.unwrap();
}

/// The host's side.
async fn connect(way: Way, socket: UnixStream) -> Raw {
    match way {
        Way::Plain => Box::new(socket),
        Way::Multiplexed => {
            let (session, driver) = multiplexed::client(socket);
            tokio::spawn(driver.run(drop));
            session.open().await.unwrap()
        }
    }
}

#[tokio::test]
async fn it_is_done_and_the_host_has_the_answer() {
    for way in [Way::Plain, Way::Multiplexed] {
        let pair = Pair::over(way).await;
        let (done, is_done) = oneshot::channel();
        pair.leave(move || done.send(()).unwrap());
        pair.answering.go_on.notify_one();
        assert_eq!(check(&pair.host, "departing").await, Ok(0), "{way:?}");
        is_done.await.unwrap();
    }
}

#[tokio::test]
async fn it_is_done_before_the_host_can_have_the_answer() {
    for way in [Way::Plain, Way::Multiplexed] {
        let pair = Pair::over(way).await;
        assert_eq!(check(&pair.host, "another").await, Ok(0), "{way:?}");
        // As if the process ended there: what the socket holds by then still reaches the host.
        let socket = pair.socket.try_clone().unwrap();
        pair.leave(move || socket.shutdown(Shutdown::Both).unwrap());
        pair.answering.go_on.notify_one();
        let answer = check(&pair.host, "departing").await;
        assert!(matches!(answer, Err(code) if code != Code::Unimplemented), "{way:?}: {answer:?}");
    }
}

#[tokio::test]
async fn it_is_not_done_for_a_call_that_the_host_dropped() {
    let pair = Pair::over(Way::Plain).await;
    let (done, is_done) = oneshot::channel();
    pair.leave(move || done.send(()).unwrap());
    let host = pair.host.clone();
    let call = tokio::spawn(async move { check(&host, "departing").await });
    pair.answering.waits.notified().await;
    assert_eq!(check(&pair.host, "another").await, Ok(0));
    call.abort();
    is_done.await.unwrap_err();
}

/// What a unary call's answer is made of.
fn body() -> Body {
    let frames = [Frame::data(Bytes::from_static(b"message")), Frame::trailers(http::HeaderMap::new())];
    Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Status>))))
}

/// A response with something to be done; and whether it is, once it is dropped.
fn departing(departures: &Departures) -> (Body, oneshot::Receiver<()>) {
    let (done, is_done) = oneshot::channel();
    let mut response = Response::new(());
    departures.announce(&mut response, move || done.send(()).unwrap());
    let (_, (), extensions) = response.into_parts();
    let mut response = http::Response::new(body());
    *response.extensions_mut() = extensions;
    (carry(response).into_body(), is_done)
}

#[tokio::test]
async fn it_is_done_with_the_write_that_follows_the_end_of_the_body() {
    let departures = Departures::default();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut socket = Departing::new(ours, departures.clone());
    let (mut body, mut is_done) = departing(&departures);
    for _ in 0..2 {
        socket.write_all(b"of others").await.unwrap();
        is_done.try_recv().unwrap_err();
        body.frame().await.unwrap().unwrap();
    }
    is_done.try_recv().unwrap_err();
    socket.write_all(b"its own").await.unwrap();
    is_done.try_recv().unwrap();
}

#[tokio::test]
async fn it_is_not_done_for_a_body_that_is_dropped_before_its_end() {
    let departures = Departures::default();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (mut body, is_done) = departing(&departures);
    body.frame().await.unwrap().unwrap();
    drop(body);
    Departing::new(ours, departures).write_all(b"of others").await.unwrap();
    is_done.await.unwrap_err();
}

#[tokio::test]
async fn it_is_not_done_while_the_socket_takes_nothing() {
    let departures = Departures::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    while ours.try_write(&[0; 1 << 10]).is_ok() {}
    let mut socket = Departing::new(ours, departures.clone());
    let (body, mut is_done) = departing(&departures);
    body.collect().await.unwrap();
    let context = &mut Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut socket).poll_write(context, b"its own").is_pending());
    is_done.try_recv().unwrap_err();
    let reading = tokio::spawn(async move { theirs.read_to_end(&mut Vec::new()).await });
    socket.write_all(b"its own").await.unwrap();
    is_done.try_recv().unwrap();
    drop(socket);
    reading.await.unwrap().unwrap();
}
