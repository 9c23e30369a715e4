//! The channels to the server: one for each mount, opened on first use.

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

/// Opens channels to services of the server by broker id.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Opens a channel to the services behind `id`. A broken channel reconnects by itself.
    async fn dial(&self, id: u32) -> Result<Channel, DialError>;
}

/// The server could not be reached. The text is the dialer's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the server cannot be reached: {0}")]
pub struct DialError(pub String);

/// The server from the view of one mount.
///
/// The channel opens with the first call. While Vault registers the plugin no service is there. After a mount's Setup
/// the broker may still wait for the address of an id (PROTOCOL 4.2).
pub(super) struct Host {
    dial: Arc<dyn Dial>,
    broker_id: u32,
    channel: OnceCell<Channel>,
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

    pub(super) async fn storage(&self) -> Result<StorageClient<Channel>, DialError> {
        Ok(StorageClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn system(&self) -> Result<SystemViewClient<Channel>, DialError> {
        Ok(SystemViewClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn events(&self) -> Result<EventsClient<Channel>, DialError> {
        Ok(EventsClient::new(self.channel().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// False after the server rejected a paged list. OpenBao supports pages; Vault rejects the first request.
    pub(super) fn may_support_pages(&self) -> bool {
        !self.pages_unsupported.load(Ordering::Relaxed)
    }

    /// Records that the server does not support paged lists.
    pub(super) fn mark_pages_unsupported(&self) {
        self.pages_unsupported.store(true, Ordering::Relaxed);
    }

    /// False after the server rejected an event. OpenBao rejects the first one.
    pub(super) fn may_support_events(&self) -> bool {
        !self.events_unsupported.load(Ordering::Relaxed)
    }

    /// Records that the server has no event bus.
    pub(super) fn mark_events_unsupported(&self) {
        self.events_unsupported.store(true, Ordering::Relaxed);
    }

    /// The mount's channel. After a failed dial the next call dials again.
    async fn channel(&self) -> Result<Channel, DialError> {
        let dialled = || async { self.dial.dial(self.broker_id).await };
        self.channel.get_or_try_init(dialled).await.cloned()
    }
}

/// The text of a failed call: its message, or the description of its code, followed by the transport's root cause.
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
