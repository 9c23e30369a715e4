//! The way back to the server: one channel for each mount, dialled when it is first needed.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tonic::Status;
use tonic::transport::Channel;

use super::MESSAGE_LIMIT;
use super::pb::events_client::EventsClient;
use super::pb::storage_client::StorageClient;
use super::pb::system_view_client::SystemViewClient;
use super::peeked_body::{PeekingChannel, peeking};

/// Reaches what the server serves behind a broker id.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a channel to the services behind `id`. The channel connects again by itself when it breaks.
    async fn dial(&self, id: u32) -> Result<Channel, DialError>;
}

/// The server could not be reached, in the dialler's words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the server cannot be reached: {0}")]
pub struct DialError(pub String);

/// The server as one mount sees it.
///
/// Nothing is dialled before the first call: while Vault merely registers the plugin nothing is there, and the
/// broker may learn the address of an id after the mount's Setup (PROTOCOL 4.2).
pub(super) struct Host {
    dial: Arc<dyn Dial>,
    broker_id: u32,
    channel: OnceCell<PeekingChannel>,
    pages_unsupported: AtomicBool,
    events_unsupported: AtomicBool,
}

impl Host {
    pub(super) fn new(dial: Arc<dyn Dial>, broker_id: u32) -> Self {
        Self {
            dial,
            broker_id,
            channel: OnceCell::new(),
            pages_unsupported: AtomicBool::new(false),
            events_unsupported: AtomicBool::new(false),
        }
    }

    pub(super) async fn storage(&self) -> Result<StorageClient<PeekingChannel>, DialError> {
        Ok(StorageClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn system(&self) -> Result<SystemViewClient<PeekingChannel>, DialError> {
        Ok(SystemViewClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn events(&self) -> Result<EventsClient<PeekingChannel>, DialError> {
        Ok(EventsClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// Whether the server may be able to list in pages: OpenBao can, Vault says no once.
    pub(super) fn may_support_pages(&self) -> bool {
        !self.pages_unsupported.load(Ordering::Relaxed)
    }

    /// The server said that it cannot list in pages.
    pub(super) fn mark_pages_unsupported(&self) {
        self.pages_unsupported.store(true, Ordering::Relaxed);
    }

    /// Whether the server may have an event bus: OpenBao says no once.
    pub(super) fn may_support_events(&self) -> bool {
        !self.events_unsupported.load(Ordering::Relaxed)
    }

    /// The server said that it has no event bus.
    pub(super) fn mark_events_unsupported(&self) {
        self.events_unsupported.store(true, Ordering::Relaxed);
    }

    /// The mount's channel; a failed dial leaves nothing behind, so the next call tries again.
    async fn channel(&self) -> Result<PeekingChannel, DialError> {
        let dialled = || async { self.dial.dial(self.broker_id).await.map(peeking) };
        self.channel.get_or_try_init(dialled).await.cloned()
    }
}

/// What a failed call says: its message, or its code's where it has none, and what the transport gives as the
/// first cause of it.
pub(super) fn status_text(status: &Status) -> String {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match std::iter::successors(status.source(), |cause| (*cause).source()).last() {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }
}
