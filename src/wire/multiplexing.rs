//! Reports that this process serves several mounts (PROTOCOL 5.1).

use tonic::{Request, Response, Status};

use super::pb::multiplexing::plugin_multiplexing_server::{PluginMultiplexing, PluginMultiplexingServer};
use super::pb::multiplexing::{MultiplexingSupportRequest, MultiplexingSupportResponse};

/// Always reports support.
pub(super) struct Multiplexing;

pub(super) fn service() -> PluginMultiplexingServer<Multiplexing> {
    PluginMultiplexingServer::new(Multiplexing)
}

#[tonic::async_trait]
impl PluginMultiplexing for Multiplexing {
    async fn multiplexing_support(
        &self,
        _: Request<MultiplexingSupportRequest>,
    ) -> Result<Response<MultiplexingSupportResponse>, Status> {
        Ok(Response::new(MultiplexingSupportResponse { supported: true }))
    }
}
