//! Responses to Vault.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Data;
use super::error::name_mount;

/// The response to a request.
#[derive(Default)]
pub struct Response {
    /// The data for the user.
    pub data: Data,
    /// The lease that Vault must store. On renewal this lease replaces the stored one, so the lease must be complete.
    pub lease: Option<Lease>,
    /// Warnings, which Vault shows next to the data.
    pub warnings: Vec<String>,
    /// Response headers. Vault passes on those that the mount's tuning allows.
    pub headers: HashMap<String, Vec<String>>,
}

/// Data with these fields.
pub fn data<N: Into<String>>(fields: impl IntoIterator<Item = (N, Value)>) -> Data {
    // Not by `collect`, which sorts first: 5 kB of the program for each kind of iterator.
    let mut data = Data::new();
    data.extend(fields.into_iter().map(|(name, value)| (name.into(), value)));
    data
}

impl Response {
    /// A response with this data.
    pub fn new(data: Data) -> Self {
        Self { data, ..Self::default() }
    }

    /// A response with these fields.
    pub fn of<const N: usize>(fields: [(&str, Value); N]) -> Self {
        Self::new(data(fields))
    }

    /// The response to a list: `keys`, and `key_info` if an entry has details. Vault answers an empty list with 404.
    pub fn list(entries: Vec<(String, Data)>) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let keys = entries.iter().map(|(key, _)| Value::String(key.clone())).collect();
        let described = entries.into_iter().filter(|(_, info)| !info.is_empty());
        let info = data(described.map(|(key, info)| (key, Value::Object(info))));
        let mut answer = data([("keys", Value::Array(keys))]);
        if !info.is_empty() {
            answer.insert("key_info".to_owned(), Value::Object(info));
        }
        Self::new(answer)
    }

    /// A raw HTTP body with its content type, without Vault's JSON envelope (PROTOCOL 8.6). The body must not be valid
    /// base64, because Vault would decode it.
    pub fn raw(status: u16, content_type: &str, body: String) -> Self {
        Self::of([
            ("http_status_code", Value::from(status)),
            ("http_content_type", Value::from(content_type)),
            ("http_raw_body", Value::from(body)),
        ])
    }

    /// Adds the lease that Vault must store.
    #[must_use]
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Adds a warning.
    #[must_use]
    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// The same response with the mount's path in place of [`Error::MOUNT`](super::Error::MOUNT): in its warnings, and in
    /// data fields that tell an error, whose names end in `_error`.
    #[must_use]
    pub fn at_mount(mut self, path: &str) -> Self {
        for warning in &mut self.warnings {
            name_mount(warning, path);
        }
        name_mount_in(&mut self.data, path);
        self
    }
}

fn name_mount_in(data: &mut Data, path: &str) {
    for (name, value) in data {
        match value {
            Value::String(text) if name.ends_with("_error") => name_mount(text, path),
            Value::Object(inner) => name_mount_in(inner, path),
            _ => {}
        }
    }
}

/// Shows only the names of data fields, because values may be secrets.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("fields", &self.data.keys().collect::<Vec<_>>())
            .field("leased", &self.lease.is_some())
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// A lease for Vault to store.
#[derive(Clone)]
pub struct Lease {
    /// The plugin's own data. Vault returns the data on renew and revoke, and never shows it to users.
    pub internal: Data,
    /// The lifetime. Zero means the mount's default.
    pub ttl: Duration,
    /// The longest lifetime with renewals. Zero means Vault's limit.
    pub max_ttl: Duration,
    /// True if users may renew the lease.
    pub renewable: bool,
}

/// Omits the internal data.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("ttl", &self.ttl)
            .field("renewable", &self.renewable)
            .finish_non_exhaustive()
    }
}
