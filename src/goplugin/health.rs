//! gRPC's health checking for the one service name that go-plugin's hosts ask for. Written here, and not taken from
//! the tonic-health crate, because the answer never changes: that crate's worth is in its reporter.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::control::empty_stream_until;
use super::pb::health;
use super::pb::health::health_check_response::ServingStatus;

/// The name of every plugin to its host (PROTOCOL 1.1).
const SERVICE: &str = "plugin";

/// Says that the plugin serves, until it ends.
pub(super) struct Health(pub(super) CancellationToken);

#[tonic::async_trait]
impl health::health_server::Health for Health {
    async fn check(
        &self,
        request: Request<health::HealthCheckRequest>,
    ) -> Result<Response<health::HealthCheckResponse>, Status> {
        if request.get_ref().service != SERVICE {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(response(ServingStatus::Serving)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<health::HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<health::HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service == SERVICE;
        let status = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let now = stream::iter([Ok(response(status))]);
        Ok(Response::new(now.chain(empty_stream_until(self.0.clone())).boxed()))
    }
}

fn response(status: ServingStatus) -> health::HealthCheckResponse {
    health::HealthCheckResponse { status: status.into() }
}
