//! Converts errors to the protocol's errors (PROTOCOL 8.6), and logs them. No other file of this module logs the error
//! of a request.

use crate::logical::{Error, Kind, StorageError, data};

use super::pb::{self, ProtoError};
use super::task::Panicked;
use super::value;

/// The server's numbers for error types.
mod kind {
    pub(super) const PLAIN: u32 = 0;
    pub(super) const USER: u32 = 1;
    pub(super) const INTERNAL: u32 = 2;
    pub(super) const CODED: u32 = 3;
    pub(super) const UNSUPPORTED_OPERATION: u32 = 5;
    pub(super) const UNSUPPORTED_PATH: u32 = 6;
    pub(super) const PERMISSION_DENIED: u32 = 8;
}

/// The error text by which the server concludes that the plugin process has ended. The server then restarts the
/// process.
const SHUT_DOWN: &str = "connection is shut down";

/// The call that failed, for the log.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) operation: String,
    pub(super) path: String,
    pub(super) mount: String,
    pub(super) request_id: String,
}

impl Origin {
    /// A call that is not a request.
    pub(super) fn call(operation: &str) -> Self {
        Self { operation: operation.to_owned(), ..Self::default() }
    }

    /// A request, with the server's own word for the operation.
    pub(super) fn of(request: &pb::Request) -> Self {
        Self {
            operation: request.operation.clone(),
            path: request.path.clone(),
            mount: request.mount_point.clone(),
            request_id: request.id.clone(),
        }
    }

    /// The error for a panic in this call.
    pub(super) fn panicked(&self, Panicked: Panicked) -> Error {
        Error::internal(format!("internal error in operation {:?}", self.operation))
            .with_detail("the plugin's code panicked; other requests are not affected")
    }

    /// Logs an error of interest to an operator: an error that is not the caller's fault, or an error with a detail.
    pub(super) fn report(&self, error: &Error) {
        let Self { operation, path, mount, request_id } = self;
        let detail = error.detail().unwrap_or_default();
        match error.kind() {
            Kind::Internal => {
                tracing::error!(%operation, %path, %mount, %request_id, %detail, "request failed: {error}");
            }
            Kind::Status(500..) => {
                tracing::warn!(%operation, %path, %mount, %request_id, %detail, "request failed: {error}");
            }
            _ if error.detail().is_some() => {
                tracing::warn!(%operation, %path, %mount, %request_id, %detail, "request refused: {error}");
            }
            _ => {}
        }
    }
}

/// Converts an error to the protocol's error. A bad request has type 1, which becomes HTTP 400 only in an existence
/// check. See [`reply`].
pub(super) fn message(error: &Error) -> ProtoError {
    let of = |err_type, err_msg: String| ProtoError { err_type, err_msg, err_code: 0 };
    match error.kind() {
        Kind::BadRequest => of(kind::USER, text(error)),
        Kind::Internal => of(kind::INTERNAL, text(error)),
        // The server searches for exactly this text and then forwards the request.
        Kind::ReadOnly => of(kind::PLAIN, StorageError::READ_ONLY.to_owned()),
        // The server replaces the texts of these two types.
        Kind::UnsupportedOperation => of(kind::UNSUPPORTED_OPERATION, text(error)),
        Kind::UnsupportedPath => of(kind::UNSUPPORTED_PATH, text(error)),
        Kind::PermissionDenied => of(kind::PERMISSION_DENIED, text(error)),
        Kind::Status(code) => {
            ProtoError { err_code: http_status(code).into(), ..of(kind::CODED, text(error)) }
        }
    }
}

/// Converts an error to the reply of a request. A bad request becomes an error response, because only an error response
/// reaches the user as HTTP 400 with its text.
pub(super) fn reply(error: &Error) -> pb::HandleRequestReply {
    if error.kind() == Kind::BadRequest {
        let data = data([("error", text(error).into())]);
        let response = pb::Response { data: value::json(&data), ..pb::Response::default() };
        return pb::HandleRequestReply { response: Some(response), ..pb::HandleRequestReply::default() };
    }
    pb::HandleRequestReply { err: Some(message(error)), ..pb::HandleRequestReply::default() }
}

/// The text for the caller. An empty text would count as success in some replies, and the text [`SHUT_DOWN`] would make
/// the server restart the plugin.
pub(super) fn text(error: &Error) -> String {
    match error.message() {
        "" => "internal error".to_owned(),
        SHUT_DOWN => format!("{SHUT_DOWN}."),
        message => message.to_owned(),
    }
}

/// The status code, or 500 for a code that is not an HTTP error. The server drops its client's connection on other
/// codes.
fn http_status(code: u16) -> u16 {
    if (400..600).contains(&code) { code } else { 500 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types_and_texts(error: &Error) -> (u32, String, i64) {
        let reply = reply(error);
        assert!(reply.response.is_none(), "an error response would override the status");
        let ProtoError { err_type, err_msg, err_code } = reply.err.unwrap();
        (err_type, err_msg, err_code)
    }

    #[test]
    fn a_bad_request_is_an_error_response_with_its_sentence_alone() {
        let reply = reply(&Error::bad_request("ttl must be \"short\""));
        assert_eq!(reply.response.unwrap().data, r#"{"error":"ttl must be \"short\""}"#);
        assert!(reply.err.is_none());
    }

    #[test]
    fn every_other_kind_has_its_number() {
        let expected = [
            (Error::internal("broken"), (2, "broken", 0)),
            (Error::read_only(), (0, "cannot write to readonly storage", 0)),
            (Error::new(Kind::ReadOnly, "other words"), (0, "cannot write to readonly storage", 0)),
            (Error::unsupported_operation(), (5, "unsupported operation", 0)),
            (Error::unsupported_path(), (6, "unsupported path", 0)),
            (Error::permission_denied(), (8, "permission denied", 0)),
            (Error::status(503, "wait"), (3, "wait", 503)),
        ];
        for (error, (err_type, err_msg, err_code)) in expected {
            assert_eq!(types_and_texts(&error), (err_type, err_msg.to_owned(), err_code));
        }
    }

    #[test]
    fn no_status_reaches_the_server_that_would_break_its_connection() {
        for code in [0, 1, 99, 200, 399, 600, u16::MAX] {
            assert_eq!(types_and_texts(&Error::new(Kind::Status(code), "odd")).2, 500, "{code}");
        }
    }

    #[test]
    fn no_text_passes_for_success_or_restarts_the_plugin() {
        assert_eq!(text(&Error::internal("")), "internal error");
        assert_ne!(text(&Error::internal(SHUT_DOWN)), SHUT_DOWN);
    }
}
