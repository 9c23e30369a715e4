//! One incoming call: method, path below `/v1`, query, three headers and body.
//!
//! This file only decodes; it knows no endpoint.

use http::{HeaderMap, header, request::Parts};
use hyper::body::Bytes;

use super::refusal::Refusal;

/// One call to the simulated API.
#[derive(Debug, Default)]
pub struct Call {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path below `/v1`, as sent.
    pub path: String,
    /// Ids in the path by capture name.
    pub ids: Vec<(&'static str, String)>,
    /// Decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `OpenAI-Organization`.
    pub organization: Option<String>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body as sent.
    pub body: Bytes,
}

impl Call {
    /// Decodes a request with this path below `/v1`.
    pub fn new(parts: &Parts, path: &str, body: Bytes) -> Result<Self, Refusal> {
        Ok(Self {
            method: parts.method.to_string(),
            path: path.to_owned(),
            ids: Vec::new(),
            query: pairs(parts.uri.query().unwrap_or_default())?,
            authorization: text(&parts.headers, header::AUTHORIZATION.as_str()),
            organization: text(&parts.headers, "openai-organization"),
            content_type: text(&parts.headers, header::CONTENT_TYPE.as_str()),
            body,
        })
    }

    /// The id that the route captured as `name`; an empty text if the route has no such capture.
    pub fn id(&self, name: &str) -> &str {
        self.ids.iter().find(|(known, _)| *known == name).map_or("", |(_, id)| id)
    }

    /// The bearer token of the `Authorization` header.
    pub fn bearer(&self) -> Option<&str> {
        self.authorization.as_deref()?.strip_prefix("Bearer ").filter(|token| !token.is_empty())
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn pair(pair: &str) -> Result<(String, String), Refusal> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((decoded(name)?, decoded(value)?))
}

/// Decodes percent-encoding and `+`.
fn decoded(text: &str) -> Result<String, Refusal> {
    let garbled = || Refusal::invalid("query", format!("Invalid percent-encoding in '{text}'."));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits =
                    tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).ok_or_else(garbled)?;
                rest = &tail[2..];
                u8::from_str_radix(digits, 16).map_err(|_| garbled())?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| garbled())
}
