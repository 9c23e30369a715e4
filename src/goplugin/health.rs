//! gRPC's health service for the one service name that go-plugin hosts query. The status never changes, so the
//! tonic-health crate with its status reporter is not needed.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::control::empty_stream_until;
use super::pb::health;
use super::pb::health::health_check_response::ServingStatus;

/// The service name of every plugin in health checks (PROTOCOL 1.1).
const SERVICE: &str = "plugin";

/// Reports SERVING until the plugin ends.
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
