//! The errors that Vault knows, with the caller's sentence apart from the operator's.

use std::fmt;

use super::StorageError;

/// Why a request was not done. `Display` is the caller's sentence; [`Error::detail`] is for the log only.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
}

/// What Vault makes of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller's fault: HTTP 400 with the sentence.
    BadRequest,
    /// HTTP 403; Vault replaces the text.
    PermissionDenied,
    /// The path has no such operation: HTTP 405; Vault replaces the text.
    UnsupportedOperation,
    /// There is no such path: HTTP 404; Vault replaces the text.
    UnsupportedPath,
    /// This node may not write: Vault forwards the request to the active node.
    ReadOnly,
    /// Any other HTTP status, with the sentence. Never 0, which aborts Vault's connection.
    Status(u16),
    /// Our fault or OpenAI's: HTTP 500 with the sentence.
    Internal,
}

impl Error {
    /// Stands in a sentence for the path of the mount; see [`Error::at_mount`].
    pub const MOUNT: &'static str = "<mount>";

    /// The caller's fault; the sentence names the field and what it must be.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// A fault that is not the caller's.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An answer with a status of its own, such as 503. A status of 0 becomes 500.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self::new(Kind::Status(if status == 0 { 500 } else { status }), message)
    }

    /// The path lacks this operation.
    pub fn unsupported_operation() -> Self {
        Self::new(Kind::UnsupportedOperation, "unsupported operation")
    }

    /// No such path.
    pub fn unsupported_path() -> Self {
        Self::new(Kind::UnsupportedPath, "unsupported path")
    }

    /// The caller may not.
    #[cfg(test)]
    pub fn permission_denied() -> Self {
        Self::new(Kind::PermissionDenied, "permission denied")
    }

    /// This node may not write. The text is what both servers match to forward the request (PROTOCOL 8.7).
    pub fn read_only() -> Self {
        Self::new(Kind::ReadOnly, StorageError::READ_ONLY)
    }

    /// An error of this kind with this sentence for the caller.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None }
    }

    /// Adds what only the operator's log shall show. It must hold no secret.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// The same error, which says first what it is about.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        let say = |text: String| format!("{what}: {text}");
        Self { message: say(self.message), detail: self.detail.map(say), ..self }
    }

    /// The same error with the path of the mount in its sentence.
    #[must_use]
    pub fn at_mount(self, path: &str) -> Self {
        let path = path.trim_end_matches('/');
        if path.is_empty() || !self.message.contains(Self::MOUNT) {
            return self;
        }
        Self { message: self.message.replace(Self::MOUNT, path), ..self }
    }

    /// What Vault makes of it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The caller's sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What only the log shows.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::ReadOnly => Self::read_only(),
            other => Self::internal(other.to_string()),
        }
    }
}
