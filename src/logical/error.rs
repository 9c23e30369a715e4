//! Errors that Vault distinguishes. The text for the caller and the detail for the operator are separate.

use std::fmt;

use super::StorageError;

/// The reason why a request failed. `Display` prints the text for the caller. [`Error::detail`] goes to the log only.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
}

/// Vault's reaction to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller's fault: HTTP 400 with the text.
    BadRequest,
    /// HTTP 403; Vault replaces the text.
    PermissionDenied,
    /// The path does not support the operation: HTTP 405; Vault replaces the text.
    UnsupportedOperation,
    /// The path does not exist: HTTP 404; Vault replaces the text.
    UnsupportedPath,
    /// This node may not write: Vault forwards the request to the active node.
    ReadOnly,
    /// Any other HTTP status, with the text. Never 0, because 0 aborts Vault's connection.
    Status(u16),
    /// A fault of this plugin or of OpenAI: HTTP 500 with the text.
    Internal,
}

impl Error {
    /// The placeholder for the mount's path in a text; see [`Error::at_mount`].
    pub const MOUNT: &'static str = "<mount>";

    /// The caller's fault. The text names the field and the requirement.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// A fault that is not the caller's.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An error with its own HTTP status, such as 503. A status of 0 becomes 500.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self::new(Kind::Status(if status == 0 { 500 } else { status }), message)
    }

    /// The path does not support the operation.
    pub fn unsupported_operation() -> Self {
        Self::new(Kind::UnsupportedOperation, "unsupported operation")
    }

    /// The path does not exist.
    pub fn unsupported_path() -> Self {
        Self::new(Kind::UnsupportedPath, "unsupported path")
    }

    /// The caller lacks permission.
    #[cfg(test)]
    pub fn permission_denied() -> Self {
        Self::new(Kind::PermissionDenied, "permission denied")
    }

    /// This node may not write. Both servers forward the request if they find this text (PROTOCOL 8.7).
    pub fn read_only() -> Self {
        Self::new(Kind::ReadOnly, StorageError::READ_ONLY)
    }

    /// An error of this kind with a text for the caller.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None }
    }

    /// Adds a detail for the operator's log. The detail must not hold secrets.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// The same error with its subject in front of the text.
    #[must_use]
    pub fn about(self, what: &str) -> Self {
        let say = |text: String| format!("{what}: {text}");
        Self { message: say(self.message), detail: self.detail.map(say), ..self }
    }

    /// The same error with the mount's path in place of [`Error::MOUNT`].
    #[must_use]
    pub fn at_mount(mut self, path: &str) -> Self {
        name_mount(&mut self.message, path);
        self
    }

    /// Vault's reaction to this error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The detail for the log.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// Puts the mount's path in place of [`Error::MOUNT`].
pub(super) fn name_mount(text: &mut String, path: &str) {
    let path = path.trim_end_matches('/');
    if !path.is_empty() && text.contains(Error::MOUNT) {
        *text = text.replace(Error::MOUNT, path);
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
