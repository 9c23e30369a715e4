//! What every plugin serves beside its own service: the end of the process, and a stream of printed output. What
//! the end means is decided by whoever holds the token.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::pb;

/// Ends the plugin on the host's word. The answer leaves before the connections are closed.
pub(super) struct Controller(pub(super) CancellationToken);

/// Carries nothing: all our output is log lines on stderr, and the hosts throw this stream away (PROTOCOL 3.2).
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

/// A stream that stays open, and empty, until `stop`.
pub(super) fn empty_stream_until<T>(stop: CancellationToken) -> impl Stream<Item = T> {
    stream::once(stop.cancelled_owned()).filter_map(|()| std::future::ready(None))
}
