//! The simulator's own tests: each rule of strictness, each kind of fault, its state, its program, and OpenAI's SDK.
#![allow(clippy::unwrap_used, reason = "clippy takes the helpers of tests for no tests")]

mod faults;
mod federation;
mod lag;
mod limits;
mod program;
mod state;
mod strict;

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use crate::simulator::Simulator;

/// A simulator and a client that tries everything on it.
struct Caller {
    sim: Simulator,
    http: reqwest::Client,
}

/// What came back; a body that is no JSON is its text.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Caller {
    async fn start() -> Self {
        Self { sim: Simulator::start().await, http: client(None) }
    }

    /// A call with the admin key.
    fn admin(&self, method: &str, path: &str) -> RequestBuilder {
        self.with_key(self.sim.admin_key(), method, path)
            .header("OpenAI-Organization", self.sim.organization())
    }

    /// A call with this key.
    fn with_key(&self, key: &str, method: &str, path: &str) -> RequestBuilder {
        self.anonymous(method, path).header("Authorization", format!("Bearer {key}"))
    }

    fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.sim.url()))
    }

    async fn get(&self, path: &str) -> Answer {
        sent(self.admin("GET", path)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        sent(with_json(self.admin("POST", path), &body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        sent(self.admin("DELETE", path)).await
    }

    /// A control call.
    async fn control(&self, method: &str, path: &str, body: &Value) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}/_sim{path}", self.sim.origin()));
        sent(with_json(request, body)).await
    }

    /// The path of the first project's service accounts.
    fn accounts(&self) -> String {
        format!("/organization/projects/{}/service_accounts", self.sim.project())
    }

    /// The path of the first project's keys.
    fn keys(&self) -> String {
        format!("/organization/projects/{}/api_keys", self.sim.project())
    }

    /// A new account, as answered.
    async fn account(&self, name: &str) -> Value {
        self.post(&self.accounts(), json!({"name": name})).await.ok()
    }

    /// Whether a service account's key opens anything.
    async fn opens(&self, key: &str) -> bool {
        sent(self.with_key(key, "GET", "/models")).await.status == 200
    }
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Refused as OpenAI refuses: status, code, the field at fault, and a sentence.
    #[track_caller]
    fn refused(&self, status: u16, code: impl Into<Value>, param: impl Into<Value>) {
        assert_eq!(self.status, status, "{}", self.body);
        let error = &self.body["error"];
        assert_eq!((&error["code"], &error["param"]), (&code.into(), &param.into()), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert!(error["type"].is_string(), "{error}");
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn text(&self, pointer: &str) -> String {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// A client that trusts just this authority, uses no proxy, follows nothing, repeats nothing.
fn client(authority: Option<&str>) -> reqwest::Client {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = authority {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let mut tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("Content-Type", "application/json").body(body.to_string())
}

/// Sends; every answer has to carry a request id.
async fn sent(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
