//! The server's services for one mount.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Status;

use crate::goplugin::Channel;

use super::MESSAGE_LIMIT;
use super::pb::events_client::EventsClient;
use super::pb::storage_client::StorageClient;
use super::pb::system_view_client::SystemViewClient;

/// The server from the view of one mount.
///
/// The channel connects with the first call. While Vault registers the plugin no service is there. After a mount's Setup
/// the broker may still wait for the address of an id (PROTOCOL 4.2).
pub(super) struct Host {
    channel: Channel,
    pages_unsupported: AtomicBool,
    events_unsupported: AtomicBool,
}

impl Host {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            pages_unsupported: AtomicBool::new(false),
            events_unsupported: AtomicBool::new(false),
        }
    }

    pub(super) fn storage(&self) -> StorageClient<Channel> {
        StorageClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    pub(super) fn system(&self) -> SystemViewClient<Channel> {
        SystemViewClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    pub(super) fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
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
