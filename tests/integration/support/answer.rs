//! Responses of the mount, with assertions.

use openai_secrets::logical::{Answer, Error, Kind, Response};
use serde_json::{Map, Value};

use super::leases::Granted;

/// A response that passed the general checks of [`super::Mount`].
#[derive(Debug)]
#[must_use]
pub struct Answered {
    pub request: String,
    pub answer: Answer,
    /// The lease as the server stores it, if any.
    pub lease: Option<Granted>,
}

impl Answered {
    /// Asserts success.
    #[track_caller]
    pub fn done(&self) -> &Self {
        if let Err(error) = &self.answer {
            panic!("{}: {:?} {error}", self.request, error.kind());
        }
        self
    }

    /// Asserts success with a response.
    #[track_caller]
    pub fn response(&self) -> &Response {
        match &self.done().answer {
            Ok(Some(response)) => response,
            _ => panic!("{}: an empty answer", self.request),
        }
    }

    /// Data of the response.
    #[track_caller]
    pub fn data(&self) -> &Map<String, Value> {
        &self.response().data
    }

    /// The data as a JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        Value::Object(self.data().clone())
    }

    /// A text field of the data.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        match self.data().get(field) {
            Some(Value::String(text)) => text.clone(),
            other => panic!("{}: {field} is {:?}", self.request, other.is_some()),
        }
    }

    /// The `keys` of a list; empty for an empty list.
    #[track_caller]
    pub fn keys(&self) -> Vec<String> {
        let Ok(Some(response)) = &self.done().answer else { return Vec::new() };
        let keys = response.data.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Warnings of the response.
    #[track_caller]
    pub fn warnings(&self) -> &[String] {
        match &self.done().answer {
            Ok(Some(response)) => &response.warnings,
            _ => &[],
        }
    }

    /// Asserts success without a response: 404 on a read, 204 on a write.
    #[track_caller]
    pub fn nothing(&self) {
        let Ok(answer) = &self.done().answer else { return };
        assert!(answer.is_none(), "{}: {answer:?}", self.request);
    }

    /// Asserts that the response has a lease.
    #[track_caller]
    pub fn lease(&self) -> &Granted {
        self.done().lease.as_ref().unwrap_or_else(|| panic!("{}: no lease", self.request))
    }

    /// Asserts a failure.
    #[track_caller]
    pub fn error(&self) -> &Error {
        match &self.answer {
            Err(error) => error,
            Ok(answer) => panic!("{}: done: {answer:?}", self.request),
        }
    }

    /// Asserts a failure of this kind whose message contains this text.
    #[track_caller]
    pub fn failed(&self, kind: Kind, says: &str) -> &Error {
        let error = self.error();
        assert_eq!(error.kind(), kind, "{}: {error}", self.request);
        assert!(error.message().contains(says), "{}: {error}\nlacks: {says}", self.request);
        error
    }

    /// Asserts HTTP 400 with a message that contains this text.
    #[track_caller]
    pub fn refused(&self, says: &str) {
        self.failed(Kind::BadRequest, says);
    }

    /// HTTP status that the server sends for this response.
    pub fn status(&self) -> u16 {
        match &self.answer {
            Ok(Some(_)) => 200,
            Ok(None) => 204,
            Err(error) => match error.kind() {
                Kind::BadRequest => 400,
                Kind::PermissionDenied => 403,
                Kind::UnsupportedOperation => 405,
                Kind::UnsupportedPath => 404,
                Kind::Status(status) => status,
                Kind::ReadOnly | Kind::Internal => 500,
            },
        }
    }
}
