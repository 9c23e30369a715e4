//! Errors between a plugin and its host. No error in this file holds a secret: certificates are public, and private
//! keys stay in `tls.rs`.

use std::io;
use std::path::PathBuf;

/// The reason why the plugin could not serve, or could not connect back to the host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process was not started by a host. The text tells the user how to register the plugin.
    #[error("{0}")]
    StartedByHand(&'static str),
    /// The host does not offer the protocol version of this plugin. The host learns this version from stdout and
    /// reports the mismatch in its own words.
    #[error("the host offers the plugin protocol versions {offered:?}, this plugin speaks only {ours}")]
    Version {
        /// The versions that the host offers.
        offered: Vec<u32>,
        /// The version of this plugin.
        ours: u32,
    },
    /// The host sent no certificate, so the plugin could not authenticate it.
    #[error("PLUGIN_CLIENT_CERT is missing: this plugin serves only a host that uses AutoMTLS")]
    NoHostCertificate,
    /// The host's certificate is not exactly one PEM certificate.
    #[error("PLUGIN_CLIENT_CERT does not hold exactly one PEM certificate")]
    HostCertificate,
    /// The one-time certificate of this process could not be created.
    #[error("cannot make the certificate of this process: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library rejected the settings or the keys.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket could not be created.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket's path is longer than the system's limit of 107 bytes.
    #[error("the socket path {} is longer than 107 bytes: set a shorter TMPDIR", .0.display())]
    PathTooLong(PathBuf),
    /// The group in `PLUGIN_UNIX_SOCKET_GROUP` is neither a number nor a name in `/etc/group`.
    #[error("PLUGIN_UNIX_SOCKET_GROUP names the group {0:?}, which /etc/group does not know")]
    Group(String),
    /// The handshake line could not be written.
    #[error("cannot write the handshake line to stdout: {0}")]
    Handshake(#[source] io::Error),
    /// The asynchronous runtime could not start.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// Signal handlers could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] io::Error),
    /// The host did not announce an address for this id in time.
    #[error("the host gave no connection info for id {0} in time")]
    NoConnectionInfo(u32),
    /// The host listens on a network that is not a unix socket.
    #[error("the host listens for id {id} on the network {network:?}, not on a unix socket")]
    Network {
        /// The broker's id.
        id: u32,
        /// The network that the host named.
        network: String,
    },
    /// The host has no main connection or no broker stream.
    #[error("the host's broker is not connected")]
    NoHost,
    /// The host did not answer a knock.
    #[error("the host did not answer the knock for id {0} in time")]
    Unanswered(u32),
    /// The host answered a knock with an error.
    #[error("the host refused the knock for id {id}: {reason}")]
    Refused {
        /// The broker's id.
        id: u32,
        /// The host's error text.
        reason: String,
    },
    /// The shared connection has ended.
    #[error("the connection that carries all streams has ended")]
    SessionEnded,
    /// A socket or its TLS handshake failed.
    #[error("no connection for id {id}: {source}")]
    Connect {
        /// The broker's id.
        id: u32,
        /// The system's or the TLS library's reason.
        source: io::Error,
    },
}

/// The text of an error followed by the texts of its causes. A cause that an error already quotes is skipped.
pub(super) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}
