//! The two services that every plugin serves in addition: process shutdown, and a stream of standard output. The owner
//! of the token decides what a shutdown does.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::pb;

/// Ends the plugin on the host's request. The reply leaves before the connections close.
pub(super) struct Controller(pub(super) CancellationToken);

/// An empty stream: all output of this plugin is log lines on stderr, and the hosts discard this stream (PROTOCOL 3.2).
pub(super) struct Stdio(pub(super) CancellationToken);

#[tonic::async_trait]
impl pb::grpc_controller_server::GrpcController for Controller {
    async fn shutdown(&self, _: Request<pb::Empty>) -> Result<Response<pb::Empty>, Status> {
        self.0.cancel();
        Ok(Response::new(pb::Empty {}))
    }
}

#[tonic::async_trait]
impl pb::grpc_stdio_server::GrpcStdio for Stdio {
    type StreamStdioStream = Pin<Box<dyn Stream<Item = Result<pb::StdioData, Status>> + Send>>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(empty_stream_until(self.0.clone()).boxed()))
    }
}

/// An empty stream that stays open until `stop` is cancelled.
pub(super) fn empty_stream_until<T>(stop: CancellationToken) -> impl Stream<Item = T> {
    stream::once(stop.cancelled_owned()).filter_map(|()| std::future::ready(None))
}
