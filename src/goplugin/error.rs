//! What can go wrong between a plugin and its host. No error here holds a secret: certificates are public, and
//! the keys never leave `tls.rs`.

use std::io;
use std::path::PathBuf;

/// Why the plugin could not be served, or a connection back to the host not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No host started this process: it holds the sentence for the person who did.
    #[error("{0}")]
    StartedByHand(&'static str),
    /// The host does not speak our protocol version; it was told ours on stdout and words its own complaint.
    #[error("the host offers the plugin protocol versions {offered:?}, this plugin speaks only {ours}")]
    Version {
        /// What the host offered.
        offered: Vec<u32>,
        /// What we speak.
        ours: u32,
    },
    /// The host gave no certificate of its own, so nobody could be told from it.
    #[error("PLUGIN_CLIENT_CERT is missing: this plugin serves only a host that uses AutoMTLS")]
    NoHostCertificate,
    /// The host's certificate is not one PEM certificate.
    #[error("PLUGIN_CLIENT_CERT does not hold exactly one PEM certificate")]
    HostCertificate,
    /// Our one-time certificate could not be made.
    #[error("cannot make the certificate of this process: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the settings or the keys.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket could not be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket's path is longer than the system's 107 bytes.
    #[error("the socket path {} is longer than 107 bytes: set a shorter TMPDIR", .0.display())]
    PathTooLong(PathBuf),
    /// The group of `PLUGIN_UNIX_SOCKET_GROUP` is neither a number nor in `/etc/group`.
    #[error("PLUGIN_UNIX_SOCKET_GROUP names the group {0:?}, which /etc/group does not know")]
    Group(String),
    /// The handshake line could not be written.
    #[error("cannot write the handshake line to stdout: {0}")]
    Handshake(#[source] io::Error),
    /// The process cannot run anything concurrently.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    /// Signal handlers could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] io::Error),
    /// The gRPC server ended by itself.
    #[error("the plugin's server failed: {}", reason(.0))]
    Serve(#[source] tonic::transport::Error),
    /// The host never said where it listens for this id.
    #[error("the host gave no connection info for id {0} in time")]
    NoConnectionInfo(u32),
    /// The host listens on a network that this plugin has no use for.
    #[error("the host listens for id {id} on the network {network:?}, not on a unix socket")]
    Network {
        /// The broker's id.
        id: u32,
        /// What the host named.
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
        /// The host's words.
        reason: String,
    },
    /// The connection that all streams share has ended.
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
    /// The first connection of a brokered channel failed.
    #[error("cannot reach the host: {}", reason(.0))]
    Dial(#[source] tonic::transport::Error),
}

impl Error {
    /// Whether a person, not a host, started the process.
    pub fn is_started_by_hand(&self) -> bool {
        matches!(self, Self::StartedByHand(_))
    }
}

/// tonic's own text is "transport error"; the reason is its cause.
fn reason(error: &tonic::transport::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), error_chain)
}

/// An error's text and its causes' texts, each once: some errors repeat their cause in their own text.
pub(super) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}
