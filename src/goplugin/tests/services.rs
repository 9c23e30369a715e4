//! Calls of a host that writes its frames by hand: calls that it cancels, and calls at the end of the plugin.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::super::Services;
use super::super::pb::ConnInfo;
use super::super::pb::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use super::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame, read,
};

/// Returns each message of a call to its sender, when `permits` has a permit.
struct Echo {
    permits: Arc<Semaphore>,
    started: mpsc::UnboundedSender<()>,
}

#[tonic::async_trait]
impl GrpcBroker for Echo {
    type StartStreamStream = ReceiverStream<Result<ConnInfo, Status>>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let _ = self.started.send(());
        self.permits.acquire().await.unwrap().forget();
        let mut messages = request.into_inner();
        let (sender, answers) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(message) = messages.message().await.transpose() {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A connection on which a test writes frames by hand.
struct Frames {
    stream: DuplexStream,
    permits: Arc<Semaphore>,
    started: mpsc::UnboundedReceiver<()>,
    stop: CancellationToken,
    end: tokio::task::JoinHandle<()>,
}

const ECHO: &str = "/plugin.GRPCBroker/StartStream";

fn literal(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat()
}

fn headers(id: u32) -> Vec<u8> {
    let block = [vec![0x83, 0x86], literal(1, "localhost"), literal(4, ECHO)].concat();
    frame(HEADERS, END_HEADERS, id, &block)
}

/// A whole call with one message.
fn call(id: u32) -> Vec<u8> {
    [headers(id), frame(DATA, END_STREAM, id, &[0, 0, 0, 0, 2, 8, 7])].concat()
}

impl Frames {
    /// A connection whose preface is exchanged.
    async fn open() -> Self {
        let (permits, (sender, started)) = (Arc::new(Semaphore::new(0)), mpsc::unbounded_channel());
        let services = Services::default()
            .with(GrpcBrokerServer::new(Echo { permits: Arc::clone(&permits), started: sender }));
        let (ours, theirs) = tokio::io::duplex(8 << 20);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let end = tokio::spawn(async move { services.serve(theirs, &stopped).await });
        let mut frames = Self { stream: ours, permits, started, stop, end };
        frames.write(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, 1, 0, &[])].concat()).await;
        frames
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn read(&mut self) -> Option<Frame> {
        read(&mut self.stream).await
    }

    /// Reads to the end of the stream `id`, and returns its frames.
    async fn answer(&mut self, id: u32) -> Vec<(u8, u8)> {
        let mut seen = Vec::new();
        while let Some((kind, flags, of, payload)) =
            timeout(Duration::from_secs(5), self.read()).await.unwrap()
        {
            if kind == PING && flags == 0 {
                let ack = frame(PING, 1, 0, &payload);
                self.write(&ack).await;
            }
            if of == id {
                seen.push((kind, flags));
                if kind == RST_STREAM || flags & END_STREAM != 0 {
                    break;
                }
            }
        }
        seen
    }
}

/// The kinds and flags of a whole answer: headers, a message, trailers.
const ANSWER: [(u8, u8); 3] = [(HEADERS, 4), (DATA, 0), (HEADERS, 5)];

#[tokio::test]
async fn thousands_of_calls_that_are_cancelled_at_once_harm_no_other() {
    let mut frames = Frames::open().await;
    let cancel = 8_u32.to_be_bytes();
    let cancelled = |id| [call(id), frame(RST_STREAM, 0, id, &cancel)].concat();
    let flood: Vec<u8> = (1..10_000).step_by(2).flat_map(cancelled).collect();
    frames.permits.add_permits(10_000);
    frames.write(&[flood, call(10_001)].concat()).await;
    assert_eq!(frames.answer(10_001).await, ANSWER);
}

#[tokio::test]
async fn a_running_call_is_answered_at_the_end_and_a_later_one_is_not_begun() {
    let mut frames = Frames::open().await;
    frames.write(&call(1)).await;
    frames.started.recv().await.unwrap();
    frames.stop.cancel();
    // The second GOAWAY names the last call that is answered.
    while let Some((kind, flags, _, payload)) = frames.read().await {
        match kind {
            PING if flags == 0 => frames.write(&frame(PING, 1, 0, &payload)).await,
            GOAWAY if payload.starts_with(&1_u32.to_be_bytes()) => break,
            _ => {}
        }
    }
    frames.write(&call(3)).await;
    frames.permits.add_permits(2);
    assert_eq!(frames.answer(1).await, ANSWER);
    timeout(Duration::from_secs(5), &mut frames.end).await.unwrap().unwrap();
    assert!(frames.started.try_recv().is_err(), "the later call was begun");
}
