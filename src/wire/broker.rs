//! Implements [`Dial`] for the broker of a real server.

use async_trait::async_trait;
use tonic::transport::Channel;

use crate::goplugin::Broker;

use super::{Dial, DialError};

#[async_trait]
impl Dial for Broker {
    async fn dial(&self, id: u32) -> Result<Channel, DialError> {
        Broker::dial(self, id).await.map_err(|error| DialError(error.to_string()))
    }
}
