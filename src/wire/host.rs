//! The way back to the server: one channel for each mount, dialled when it is first needed.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tonic::Status;
use tonic::transport::Channel;

use super::MESSAGE_LIMIT;
use super::foreseen::{Calls, calls};
use super::pb::events_client::EventsClient;
use super::pb::storage_client::StorageClient;
use super::pb::system_view_client::SystemViewClient;

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
    calls: OnceCell<Calls>,
    cannot_page: AtomicBool,
    has_no_events: AtomicBool,
}

impl Host {
    pub(super) fn new(dial: Arc<dyn Dial>, broker_id: u32) -> Self {
        Self {
            dial,
            broker_id,
            calls: OnceCell::new(),
            cannot_page: AtomicBool::new(false),
            has_no_events: AtomicBool::new(false),
        }
    }

    pub(super) async fn storage(&self) -> Result<StorageClient<Calls>, DialError> {
        Ok(StorageClient::new(self.calls().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn system(&self) -> Result<SystemViewClient<Calls>, DialError> {
        Ok(SystemViewClient::new(self.calls().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    pub(super) async fn events(&self) -> Result<EventsClient<Calls>, DialError> {
        Ok(EventsClient::new(self.calls().await?)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// Whether the server may be able to list in pages: OpenBao can, Vault says no once.
    pub(super) fn may_page(&self) -> bool {
        !self.cannot_page.load(Ordering::Relaxed)
    }

    /// The server said that it cannot list in pages.
    pub(super) fn cannot_page(&self) {
        self.cannot_page.store(true, Ordering::Relaxed);
    }

    /// Whether the server may have an event bus: OpenBao says no once.
    pub(super) fn may_have_events(&self) -> bool {
        !self.has_no_events.load(Ordering::Relaxed)
    }

    /// The server said that it has no event bus.
    pub(super) fn has_no_events(&self) {
        self.has_no_events.store(true, Ordering::Relaxed);
    }

    /// The mount's channel; a failed dial leaves nothing behind, so the next call tries again.
    async fn calls(&self) -> Result<Calls, DialError> {
        let dialled = || async { self.dial.dial(self.broker_id).await.map(calls) };
        self.calls.get_or_try_init(dialled).await.cloned()
    }
}

/// What a failed call says: its message, or its code's where it has none, and what the transport gives as the
/// first cause of it.
pub(super) fn words(status: &Status) -> String {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    match std::iter::successors(status.source(), |cause| (*cause).source()).last() {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }
}
