//! Reads an answer that arrived whole: a value, or the error that it tells of. It never quotes a body.

use chrono::Utc;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::redact;
use super::retry_after::retry_after;
use super::{Call, Error, Refusal};

/// No request id is longer.
const MAX_REQUEST_ID: usize = 128;

/// An answer that arrived whole.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// OpenAI's error body: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorObject,
}

/// All four are always there; `type` as a string is what tells it from the error bodies of others.
#[derive(Deserialize)]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default)]
    param: Value,
    #[serde(default)]
    code: Value,
}

impl Answer {
    /// The value of a success, or what is told instead. `secret` never gets into an error.
    pub(super) fn read<T: DeserializeOwned>(&self, call: Call, secret: &str) -> Result<T, Error> {
        if !(200..300).contains(&self.status) {
            return Err(Box::new(self.refusal(call, secret)).into());
        }
        serde_json::from_slice(&self.body).map_err(|error| Error::Malformed {
            call,
            reason: reason(&error),
            request_id: request_id(&self.headers, secret),
        })
    }

    fn refusal(&self, call: Call, secret: &str) -> Refusal {
        let told = serde_json::from_slice::<ErrorBody>(&self.body).ok().map(|body| body.error);
        let clean = |text: &str| redact::sentence(text, secret);
        let word = |value: &Value| value.as_str().map(clean);
        Refusal {
            call,
            status: self.status,
            message: told.as_ref().map(|error| clean(&error.message)),
            code: told.as_ref().and_then(|error| word(&error.code)),
            param: told.as_ref().and_then(|error| word(&error.param)),
            request_id: request_id(&self.headers, secret),
            retry_after: retry_after(&self.headers, Utc::now()),
        }
    }
}

/// The name that OpenAI gave the request (header `x-request-id`).
pub(super) fn request_id(headers: &HeaderMap, secret: &str) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= MAX_REQUEST_ID).then(|| redact::sentence(id, secret))
}

/// What is wrong, without the content that serde would quote.
fn reason(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => match missing_field(&error.to_string()) {
            Some(field) => format!("it has no {field}"),
            None => "a field is not of the type it should be".to_owned(),
        },
        Category::Eof => "it ends too early".to_owned(),
        Category::Syntax | Category::Io => "it is not JSON".to_owned(),
    }
}

/// The name between the backticks, which is one of ours.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}
