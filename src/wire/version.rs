//! Reports the plugin's version, which is the same for all mounts.

use tonic::{Request, Response, Status};

use super::pb::logical::plugin_version_server::{PluginVersion, PluginVersionServer};
use super::pb::logical::{Empty, VersionReply};

/// The version. Vault compares the text byte by byte (PROTOCOL 8.12).
pub(super) struct Version(&'static str);

/// Serves `version` unchanged.
pub(super) fn service(version: &'static str) -> PluginVersionServer<Version> {
    PluginVersionServer::new(Version(version))
}

#[tonic::async_trait]
impl PluginVersion for Version {
    async fn version(&self, _: Request<Empty>) -> Result<Response<VersionReply>, Status> {
        Ok(Response::new(VersionReply { plugin_version: self.0.to_owned() }))
    }
}
