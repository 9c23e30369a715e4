//! A client for a server's HTTP API in JSON: any method, one connection for each request. It knows no path of the
//! plugin.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Time limit of one request. Servers allow 90 s, which no test may need.
const MAX_WAIT: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client of one server with one token.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    token: String,
}

/// A response of the server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) fn new(address: SocketAddr, token: impl Into<String>) -> Self {
        Self { address, token: token.into() }
    }

    /// The same server with another token.
    pub(crate) fn with_token(&self, token: impl Into<String>) -> Self {
        Self::new(self.address, token)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn read(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub(crate) async fn list(&self, path: &str) -> Answer {
        self.send("LIST", path, None).await
    }

    pub(crate) async fn write(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send("PATCH", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None).await
    }

    /// The output of `vault path-help`.
    pub(crate) async fn help(&self, path: &str) -> Answer {
        self.read(&format!("{path}?help=1")).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.try_send(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path} got no answer: {error}"))
    }

    /// Like `send`, for a server that may be down.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let media_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let headers = [
            ("Content-Type", media_type),
            ("X-Vault-Request", "true"),
            ("X-Vault-Token", self.token.as_str()),
        ];
        exchange(self.address, method, &format!("/v1/{path}"), &headers, body).await
    }
}

/// Sends one request over its own connection.
pub(crate) async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> Result<Answer, Failure> {
    let host = address.to_string();
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes())?).uri(path);
    for (name, value) in headers.iter().chain(&[("Host", host.as_str())]) {
        request = request.header(*name, *value);
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    tokio::time::timeout(MAX_WAIT, send(address, request.body(Full::new(body))?)).await?
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    // The task ends with `sender`. The request reports connection errors.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Answer::parse(head.status, &body.collect().await?.to_bytes())
}

impl Answer {
    /// A body that is not JSON, such as metrics, becomes a string.
    fn parse(status: StatusCode, body: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(body)?;
        let body =
            if text.is_empty() { Value::Null } else { serde_json::from_str(text).unwrap_or(json!(text)) };
        Ok(Self { status: status.as_u16(), body })
    }

    /// Asserts success.
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "expected success, got {self:?}");
        self
    }

    /// A field of `data`; null if missing.
    pub(crate) fn data(&self, field: &str) -> &Value {
        &self.body["data"][field]
    }

    /// A required text in `data`.
    pub(crate) fn text(&self, field: &str) -> String {
        let text = self.data(field).as_str();
        text.unwrap_or_else(|| panic!("no text in {field}: {self:?}")).to_owned()
    }

    pub(crate) fn lease_id(&self) -> &str {
        self.body["lease_id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| panic!("no lease: {self:?}"))
    }

    /// The keys of a list, sorted.
    pub(crate) fn keys(&self) -> Vec<&str> {
        let keys = self.data("keys").as_array().unwrap_or_else(|| panic!("no list: {self:?}"));
        let mut keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
        keys.sort_unstable();
        keys
    }

    /// The error texts in one text.
    pub(crate) fn errors(&self) -> String {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {self:?}"));
        errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Asserts an error with this status and this sentence.
    pub(crate) fn refused(&self, status: u16, sentence: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.errors().contains(sentence), "{:?} does not say {sentence:?}", self.errors());
    }
}
