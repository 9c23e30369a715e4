//! What a mount answers.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::{Data, Departure};

/// An answer to a request.
#[derive(Default)]
pub struct Response {
    /// What the user sees.
    pub data: Data,
    /// The lease that Vault shall keep, if any. On renewal it replaces the stored one, so it must be whole.
    pub lease: Option<Lease>,
    /// Warnings that Vault shows beside the data.
    pub warnings: Vec<String>,
    /// Response headers; Vault passes on those that the mount's tuning allows.
    pub headers: HashMap<String, Vec<String>>,
    /// Asks Vault to wrap the answer.
    pub wrap: Option<WrapInfo>,
    /// What is to be done when it leaves for the server.
    pub departure: Option<Departure>,
}

impl Response {
    /// An answer with this data.
    pub fn new(data: Data) -> Self {
        Self { data, ..Self::default() }
    }

    /// An answer with these fields.
    pub fn of<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::new(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The answer to a list: `keys`, and `key_info` where there is any. Vault makes a 404 of an empty one.
    pub fn list(entries: Vec<(String, Data)>) -> Self {
        let mut data = Data::new();
        if entries.is_empty() {
            return Self::new(data);
        }
        let keys = entries.iter().map(|(key, _)| Value::String(key.clone())).collect();
        let info: Data = entries
            .into_iter()
            .filter(|(_, info)| !info.is_empty())
            .map(|(key, info)| (key, Value::Object(info)))
            .collect();
        data.insert("keys".to_owned(), Value::Array(keys));
        if !info.is_empty() {
            data.insert("key_info".to_owned(), Value::Object(info));
        }
        Self::new(data)
    }

    /// A raw HTTP body with its content type, instead of Vault's JSON envelope (PROTOCOL 8.6). Vault decodes a
    /// body that happens to be valid base64, so the text must not be.
    pub fn raw(status: u16, content_type: &str, body: String) -> Self {
        Self::of([
            ("http_status_code", Value::from(status)),
            ("http_content_type", Value::from(content_type)),
            ("http_raw_body", Value::from(body)),
        ])
    }

    /// Adds the lease that Vault shall keep.
    #[must_use]
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Adds what is to be done when it leaves, if anything is.
    #[must_use]
    pub fn departing(mut self, departure: Option<Departure>) -> Self {
        self.departure = departure;
        self
    }

    /// Adds a warning.
    #[must_use]
    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }
}

/// Shows the names of the data's fields only: values may be secrets.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("fields", &self.data.keys().collect::<Vec<_>>())
            .field("leased", &self.lease.is_some())
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// A lease for Vault to keep.
#[derive(Clone)]
pub struct Lease {
    /// Kept by Vault, handed back on renew and revoke, never shown.
    pub internal: Data,
    /// How long it lives; zero is the mount's default.
    pub ttl: Duration,
    /// The longest it may live by renewals; zero leaves it to Vault.
    pub max_ttl: Duration,
    /// Whether users may renew it.
    pub renewable: bool,
}

/// Shows no internal data.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("ttl", &self.ttl)
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}

/// A wish that Vault wraps the answer; Vault takes the shorter of this and the caller's.
#[derive(Clone, Copy, Debug)]
pub struct WrapInfo {
    /// How long the wrapping token lives.
    pub ttl: Duration,
}
