//! Calls to a host that reads and writes its frames by hand: connections that open late, end early or stall.

use std::collections::HashSet;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::super::pb::health::HealthCheckRequest;
use super::super::pb::health::health_client::HealthClient;
use super::super::{Channel, Error};
use super::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, frame, read,
};

/// The longest wait of a test. The clock is paused, so only a test that waits for ever takes this long.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// The number of the last stream in a GOAWAY that leaves all running calls alone.
const NO_STREAM: u32 = u32::MAX >> 1;
/// HTTP/2's code for a cancelled call.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
/// The number of bytes that HTTP/2 lets a host send before the plugin makes room for more.
const FIRST_WINDOW: usize = 65_535;
/// The message "serving" after its length.
const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// The host's end of a connection.
struct Peer {
    stream: DuplexStream,
    /// The number of bytes for which the plugin has made room again.
    freed: usize,
}

/// The connections that a channel opens.
struct Host(mpsc::UnboundedReceiver<DuplexStream>);

/// A channel to a host, whose connections hold `buffer` bytes on their way.
fn channel(buffer: usize) -> (Channel, Host) {
    let (opened, connections) = mpsc::unbounded_channel();
    let channel = Channel::new(move || {
        let (ours, theirs) = tokio::io::duplex(buffer);
        opened.send(theirs).unwrap();
        future::ready(Ok(ours))
    });
    (channel, Host(connections))
}

/// A channel whose connection opens when the host's end is made.
fn opening() -> (Channel, oneshot::Sender<DuplexStream>) {
    let (open, opening) = oneshot::channel();
    let opening = Arc::new(Mutex::new(opening));
    let channel = Channel::new(move || {
        let opening = Arc::clone(&opening);
        async move { (&mut *opening.lock().await).await.map_err(|_| Error::SessionEnded) }
    });
    (channel, open)
}

/// A call that has begun.
async fn begun(channel: &Channel) -> JoinHandle<Result<i32, Status>> {
    let call = call(channel);
    tokio::task::yield_now().await;
    call
}

async fn give_up(call: JoinHandle<Result<i32, Status>>) {
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

fn call(channel: &Channel) -> JoinHandle<Result<i32, Status>> {
    let mut client = HealthClient::new(channel.clone());
    tokio::spawn(async move {
        client.check(HealthCheckRequest::default()).await.map(|answer| answer.into_inner().status)
    })
}

async fn outcome(call: JoinHandle<Result<i32, Status>>) -> Result<i32, Code> {
    timeout(FOR_EVER, call).await.expect("the call hangs").unwrap().map_err(|status| status.code())
}

fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// The fields at the start of an answer.
fn start() -> Vec<u8> {
    [vec![0x88], field("content-type", "application/grpc")].concat()
}

fn head(id: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, id, &start())
}

fn trailers(id: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, id, &field("grpc-status", "0"))
}

/// The answer "serving" to a call.
fn answer(id: u32) -> Vec<u8> {
    [head(id), frame(DATA, 0, id, MESSAGE), trailers(id)].concat()
}

fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

impl Host {
    /// The next connection.
    async fn accept(&mut self) -> Peer {
        Peer::meet(timeout(FOR_EVER, self.0.recv()).await.expect("no connection").unwrap()).await
    }
}

/// Opens the connection. A host ends a connection on which no preface comes.
async fn open_now(open: oneshot::Sender<DuplexStream>) -> Peer {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    open.send(ours).unwrap();
    Peer::meet(theirs).await
}

impl Peer {
    /// Exchanges the preface.
    async fn meet(mut stream: DuplexStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        timeout(FOR_EVER, stream.read_exact(&mut preface)).await.expect("no preface").unwrap();
        assert_eq!(preface, PREFACE);
        let mut peer = Self { stream, freed: 0 };
        peer.write(&frame(SETTINGS, 0, 0, &[])).await;
        peer
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn read(&mut self) -> Option<Frame> {
        let frame = timeout(FOR_EVER, read(&mut self.stream)).await.expect("no frame")?;
        if let (WINDOW_UPDATE, _, 0, size) = &frame {
            self.freed += u32::from_be_bytes(size.as_slice().try_into().unwrap()) as usize;
        }
        Some(frame)
    }

    /// The stream of the next whole call.
    async fn call(&mut self) -> u32 {
        loop {
            let (kind, flags, id, _) = self.read().await.expect("the connection ended");
            if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return id;
            }
        }
    }

    /// Returns when the plugin has handled all frames so far.
    async fn settle(&mut self) {
        self.write(&frame(PING, 0, 0, &[7; 8])).await;
        while !matches!(self.read().await.expect("the connection ended"), (PING, 1, ..)) {}
    }

    /// Returns when the plugin has ended the connection.
    async fn end(&mut self) {
        while self.read().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_opens_to_its_end_although_its_caller_gives_up() {
    let (channel, open) = opening();
    give_up(begun(&channel).await).await;
    let mut peer = open_now(open).await;
    let served = call(&channel);
    let id = peer.call().await;
    peer.write(&answer(id)).await;
    assert_eq!(outcome(served).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_get_the_connection_although_the_first_gives_up() {
    let (channel, open) = opening();
    let first = begun(&channel).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(begun(&channel).await);
    }
    give_up(first).await;
    let mut peer = open_now(open).await;
    for _ in &others {
        let id = peer.call().await;
        peer.write(&answer(id)).await;
    }
    for other in others {
        assert_eq!(outcome(other).await, Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_no_caller_waited_for_is_not_the_next_callers() {
    let (failed, failures) = mpsc::unbounded_channel();
    let failures = Arc::new(Mutex::new(failures));
    let channel = Channel::new(move || {
        let failures = Arc::clone(&failures);
        async move { Err::<DuplexStream, _>(failures.lock().await.recv().await.unwrap()) }
    });
    give_up(begun(&channel).await).await;
    failed.send(Error::NoConnectionInfo(1)).unwrap();
    tokio::time::sleep(FOR_EVER).await;
    failed.send(Error::Unanswered(1)).unwrap();
    let status = call(&channel).await.unwrap().unwrap_err();
    assert_eq!(status.message(), "cannot reach the host: the host did not answer the knock for id 1 in time");
}

#[tokio::test(start_paused = true)]
async fn a_call_after_the_hosts_goaway_opens_a_connection_and_running_calls_complete() {
    let (channel, mut host) = channel(1 << 20);
    let running: Vec<_> = (0..20).map(|_| call(&channel)).collect();
    let mut old = host.accept().await;
    let mut ids = Vec::new();
    for _ in &running {
        ids.push(old.call().await);
    }
    old.write(&goaway(NO_STREAM)).await;
    old.settle().await;
    let next = call(&channel);
    let mut new = host.accept().await;
    let id = new.call().await;
    new.write(&answer(id)).await;
    assert_eq!(outcome(next).await, Ok(1));
    for id in ids {
        old.write(&answer(id)).await;
    }
    for call in running {
        assert_eq!(outcome(call).await, Ok(1));
    }
    old.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_goaway_fails_the_calls_that_it_does_not_name_and_no_other() {
    let (channel, mut host) = channel(1 << 20);
    let mut calls = vec![call(&channel)];
    let mut peer = host.accept().await;
    peer.call().await;
    for _ in 0..3 {
        calls.push(call(&channel));
        peer.call().await;
    }
    peer.write(&goaway(3)).await;
    peer.settle().await;
    peer.write(&[answer(1), answer(3)].concat()).await;
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(outcome(call).await);
    }
    assert_eq!(outcomes, [Ok(1), Ok(1), Err(Code::Unavailable), Err(Code::Unavailable)]);
    peer.end().await;
    let next = call(&channel);
    let id = host.accept().await.call().await;
    assert_eq!(id, 1, "a new connection");
    assert_eq!(outcome(next).await, Err(Code::Unavailable), "the host closed it without an answer");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_which_something_was_sent_is_never_repeated() {
    let (channel, mut host) = channel(1 << 20);
    for begins_answer in [false, true] {
        let failed = call(&channel);
        let mut peer = host.accept().await;
        let id = peer.call().await;
        if begins_answer {
            peer.write(&head(id)).await;
            peer.settle().await;
        }
        drop(peer);
        let status = timeout(FOR_EVER, failed).await.expect("the call hangs").unwrap().unwrap_err();
        // The host may have handled the call.
        assert!(!status.message().contains("cannot reach"), "{}", status.message());
        assert!(host.0.try_recv().is_err(), "the call was repeated");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_ends_each_connection_at_once_fails_the_call() {
    let (opened, mut connections) = mpsc::unbounded_channel();
    let channel = Channel::new(move || {
        let opened = opened.clone();
        async move {
            let (ours, mut theirs) = tokio::io::duplex(1 << 20);
            let greeting = [frame(SETTINGS, 0, 0, &[]), goaway(NO_STREAM)].concat();
            theirs.write_all(&greeting).await.unwrap();
            opened.send(theirs).unwrap();
            Ok(ours)
        }
    });
    assert_eq!(outcome(call(&channel)).await, Err(Code::Unavailable));
    drop(channel);
    assert_eq!(connections.recv_many(&mut Vec::new(), 100).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_keeps_a_call_waiting_until_its_end_and_the_next_call_connects() {
    let (channel, mut host) = channel(1 << 20);
    let waiting = call(&channel);
    let silent = host.0.recv().await.unwrap();
    tokio::time::sleep(FOR_EVER).await;
    assert!(!waiting.is_finished());
    drop(silent);
    assert_eq!(outcome(waiting).await, Err(Code::Unavailable));
    let next = call(&channel);
    let mut peer = host.accept().await;
    let id = peer.call().await;
    peer.write(&answer(id)).await;
    assert_eq!(outcome(next).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn late_answers_to_thousands_of_cancelled_calls_harm_no_other() {
    let (channel, mut host) = channel(8 << 20);
    let running = call(&channel);
    let mut peer = host.accept().await;
    let first = peer.call().await;
    for _ in 0..2000 {
        let cancelled = call(&channel);
        let id = peer.call().await;
        cancelled.abort();
        while !matches!(peer.read().await.unwrap(), (RST_STREAM, _, of, code) if of == id && code == CANCEL) {
        }
        peer.write(&answer(id)).await;
    }
    peer.settle().await;
    peer.write(&answer(first)).await;
    assert_eq!(outcome(running).await, Ok(1));
    let next = call(&channel);
    let id = peer.call().await;
    peer.write(&answer(id)).await;
    assert_eq!(outcome(next).await, Ok(1));
    assert!(host.0.try_recv().is_err(), "one connection serves all");
}

#[tokio::test(start_paused = true)]
async fn large_answers_to_cancelled_calls_leave_room_for_others() {
    const CHUNK: [u8; 1 << 14] = [0; 1 << 14];
    let (channel, mut host) = channel(8 << 20);
    let running = call(&channel);
    let mut peer = host.accept().await;
    let first = peer.call().await;
    let mut sent = 0;
    for _ in 0..20 {
        let cancelled = call(&channel);
        let id = peer.call().await;
        let chunks = |count| frame(DATA, 0, id, &CHUNK).repeat(count);
        let message = frame(DATA, 0, id, &[0, 1, 0, 0, 0]);
        peer.write(&[head(id), message, chunks(60)].concat()).await;
        cancelled.abort();
        // The rest was on its way when the call was cancelled.
        peer.write(&chunks(60)).await;
        sent += 120 * CHUNK.len();
        // The room comes after the answer to a ping.
        peer.settle().await;
        peer.settle().await;
        assert!(sent < FIRST_WINDOW + peer.freed, "no room for others after {sent} bytes");
    }
    peer.write(&answer(first)).await;
    assert_eq!(outcome(running).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_small_call_overtakes_a_large_one_in_a_small_window() {
    let (channel, mut host) = channel(1 << 20);
    let mut client = HealthClient::new(channel.clone());
    let large = tokio::spawn(async move {
        let request = HealthCheckRequest { service: "x".repeat(1 << 20) };
        client.check(request).await.map(|answer| answer.into_inner().status)
    });
    let mut peer = host.accept().await;
    let mut received = 0;
    while received < FIRST_WINDOW {
        received += match peer.read().await.expect("the connection ended") {
            (DATA, _, 1, bytes) => bytes.len(),
            _ => 0,
        };
    }
    let small = call(&channel);
    tokio::task::yield_now().await;
    let room = |id| frame(WINDOW_UPDATE, 0, id, &(1_u32 << 14).to_be_bytes());
    let mut ended = Vec::new();
    while ended.len() < 2 {
        peer.write(&[room(0), room(1), frame(PING, 0, 0, &[7; 8])].concat()).await;
        loop {
            match peer.read().await.expect("the connection ended") {
                (PING, 1, ..) => break,
                (DATA, END_STREAM, id, _) => ended.push(id),
                _ => {}
            }
        }
    }
    assert_eq!(ended, [3, 1]);
    peer.write(&[answer(1), answer(3)].concat()).await;
    assert_eq!((outcome(large).await, outcome(small).await), (Ok(1), Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stops_reading_gets_all_calls_later_but_those_given_up() {
    // The buffer holds a few calls.
    let (channel, mut host) = channel(512);
    let first = call(&channel);
    let mut peer = host.accept().await;
    let id = peer.call().await;
    peer.write(&answer(id)).await;
    assert_eq!(outcome(first).await, Ok(1));

    let mut calls: Vec<_> = (0..200).map(|_| call(&channel)).collect();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    for given_up in calls.split_off(100) {
        given_up.abort();
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut begun = HashSet::new();
    for _ in &calls {
        let id = loop {
            let (kind, flags, id, _) = peer.read().await.expect("the connection ended");
            match kind {
                HEADERS => assert!(begun.insert(id)),
                RST_STREAM => assert!(begun.contains(&id), "stream {id} was reset before it began"),
                DATA if flags & END_STREAM != 0 => break id,
                _ => {}
            }
        };
        peer.write(&answer(id)).await;
    }
    for call in calls {
        assert_eq!(outcome(call).await, Ok(1));
    }
    assert!(host.0.try_recv().is_err(), "one connection serves all");
}

/// The frames of an answer to the call with this stream id.
type Answer = Box<dyn Fn(u32) -> Vec<u8>>;

#[tokio::test(start_paused = true)]
async fn malformed_answers_are_errors_of_their_calls() {
    let (channel, mut host) = channel(1 << 20);
    let alive = call(&channel);
    let mut peer = host.accept().await;
    let first = peer.call().await;
    let only = |fields: Vec<u8>| move |id| frame(HEADERS, END_HEADERS | END_STREAM, id, &fields);
    let status = |code: &str| only([start(), field("grpc-status", code)].concat());
    let message =
        |bytes: &'static [u8]| move |id| [head(id), frame(DATA, 0, id, bytes), trailers(id)].concat();
    let cases: [(&str, Answer, Code); 11] = [
        ("neither a message nor a status", Box::new(only(start())), Code::Unknown),
        ("a refusal in the headers", Box::new(status("12")), Code::Unimplemented),
        ("success in the headers", Box::new(status("0")), Code::Internal),
        ("a status that is no number", Box::new(status("x")), Code::Unknown),
        ("not found in HTTP", Box::new(only(vec![0x8d])), Code::Unimplemented),
        ("trailers only", Box::new(|id| [head(id), trailers(id)].concat()), Code::Internal),
        ("an unknown flag", Box::new(message(&[2, 0, 0, 0, 0])), Code::Internal),
        ("an unknown compression", Box::new(message(&[1, 0, 0, 0, 0])), Code::Internal),
        ("a message without its end", Box::new(message(&[0, 0, 0, 0, 9, 8, 1])), Code::Internal),
        ("no protobuf", Box::new(message(&[0, 0, 0, 0, 1, 0xff])), Code::Internal),
        (
            "no trailers",
            Box::new(|id| [head(id), frame(DATA, END_STREAM, id, MESSAGE)].concat()),
            Code::Unknown,
        ),
    ];
    for (what, answer, code) in cases {
        let malformed = call(&channel);
        let id = peer.call().await;
        peer.write(&answer(id)).await;
        assert_eq!(outcome(malformed).await, Err(code), "{what}");
    }
    peer.write(&answer(first)).await;
    assert_eq!(outcome(alive).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_its_channel_and_then_the_connection_ends() {
    let (channel, mut host) = channel(1 << 20);
    let running = call(&channel);
    let mut peer = host.accept().await;
    let id = peer.call().await;
    drop(channel);
    peer.write(&head(id)).await;
    peer.settle().await;
    peer.write(&[frame(DATA, 0, id, MESSAGE), trailers(id)].concat()).await;
    assert_eq!(outcome(running).await, Ok(1));
    peer.end().await;
}
