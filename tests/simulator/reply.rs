//! A response before its conversion to HTTP, and the effect of faults on it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};

use super::fault::Action;
use super::id;
use super::refusal::Refusal;

/// The body of an HTTP response; an error closes the connection.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Status, headers and body.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers by name, including `content-type`.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

/// Outcome of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A complete response.
    Complete(Reply),
    /// Half of a response body and a closed connection.
    Cut(Reply),
    /// A closed connection.
    Dropped,
}

impl Outcome {
    /// Adds the `Date` header for this time since 1970.
    pub fn dated(self, now: Duration) -> Self {
        let date = |reply: Reply| match DateTime::<Utc>::from_timestamp(now.as_secs() as i64, 0) {
            Some(date) if !reply.headers.contains_key("date") => {
                reply.with("date", date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
            _ => reply,
        };
        match self {
            Self::Complete(reply) => Self::Complete(date(reply)),
            Self::Cut(reply) => Self::Cut(date(reply)),
            Self::Dropped => Self::Dropped,
        }
    }
}

/// Size beyond the limit of every client.
const HUGE: usize = 2 * 1024 * 1024;

impl Reply {
    /// A JSON response.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// The response to the result of the work.
    pub fn of(result: Result<Value, Refusal>) -> Self {
        match result {
            Ok(body) => Self::json(200, &body),
            Err(refusal) => Self::json(refusal.status, &refusal.body()),
        }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: String) -> Self {
        self.headers.insert(name.to_owned(), value);
        self
    }

    fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = BTreeMap::from([("content-type".to_owned(), content_type.to_owned())]);
        Self { status, headers, body: body.into() }.with("x-request-id", format!("req_{}", id::random(24)))
    }

    /// Converts to HTTP. If `cut`, half of the body is sent and the connection closes.
    pub fn into_response(self, cut: bool) -> Response<Body> {
        let length = self.body.len();
        let body = if cut { broken_off(self.body) } else { whole(self.body) };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }
}

impl Action {
    /// The outcome of a call with this failure. `answer` is the real response if the work was done.
    pub fn outcome(&self, answer: Option<Reply>) -> Outcome {
        let answer = answer.unwrap_or_else(|| Reply::json(200, &json!({})));
        Outcome::Complete(match self {
            Self::Delay { .. } => answer,
            Self::Drop => return Outcome::Dropped,
            Self::Cut => return Outcome::Cut(answer),
            Self::Html => Reply::new(200, "text/html", "<!DOCTYPE html><html><body>Welcome</body></html>"),
            Self::Empty => Reply::new(200, "application/json", ""),
            Self::Endless => Reply::json(200, &endless()),
            Self::Huge => altered(answer, |mut body| {
                body["padding"] = Value::String("x".repeat(HUGE));
                body.to_string().into()
            }),
            Self::Truncated => Reply { body: answer.body.slice(..answer.body.len() / 2), ..answer },
            Self::WrongTypes => altered(answer, |body| retyped(body).to_string().into()),
            Self::Redirect { location } => Reply::json(307, &json!({})).with("location", location.clone()),
            Self::Status { status, headers, body } => status_reply(*status, headers, body.as_ref()),
        })
    }
}

fn status_reply(status: u16, headers: &BTreeMap<String, String>, body: Option<&Value>) -> Reply {
    let mut reply = match body {
        None => Reply::json(status, &server_error(status)),
        Some(Value::String(text)) => Reply::new(status, "text/plain", text.clone()),
        Some(body) => Reply::json(status, body),
    };
    reply.headers.extend(headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    reply
}

fn server_error(status: u16) -> Value {
    let (kind, code) = match status {
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => ("invalid_request_error", None),
    };
    let message = format!("The simulator was told to answer {status}.");
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// A list page with an object that fits every list, and with more pages to come.
fn endless() -> Value {
    let id = format!("any_{}", id::random(24));
    let item =
        json!({"id": id, "name": id, "role": "member", "redacted_value": "sk-...any", "created_at": 1});
    json!({"object": "list", "data": [item], "first_id": id, "last_id": id, "has_more": true})
}

fn altered(answer: Reply, alter: impl FnOnce(Value) -> Bytes) -> Reply {
    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
    Reply { body: alter(body), ..answer }
}

/// The same structure with a wrong type for every leaf. `object` stays, so the response still looks plausible.
fn retyped(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = |name: &str, value| if name == "object" { value } else { retyped(value) };
            fields.into_iter().map(|(name, value)| (name.clone(), kept(&name, value))).collect()
        }
        Value::Array(_) => json!("not an array"),
        Value::String(_) => json!(["not a string"]),
        Value::Number(_) => json!("not a number"),
        Value::Bool(_) | Value::Null => json!({"not": "that"}),
    }
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// Half of the body, then an error. Hyper flushes the first half when the body stream yields.
fn broken_off(body: Bytes) -> Body {
    let half = stream::once(std::future::ready(Ok(Frame::data(body.slice(..body.len() / 2)))));
    let end = stream::once(async {
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    });
    StreamBody::new(half.chain(end)).boxed_unsync()
}
