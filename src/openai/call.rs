//! What can be asked of the Admin API, and a request for it as a plain value. It never sends.

use std::fmt;

use reqwest::Method;
use serde::Serialize;

/// The calls there are: few, so that they can label metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // each is named after the method that makes it
pub enum Call {
    Project,
    CreateServiceAccount,
    ServiceAccount,
    ListServiceAccounts,
    UpdateServiceAccount,
    DeleteServiceAccount,
    CreateKey,
    Key,
    ListKeys,
    UpdateKey,
    DeleteKey,
    CreateAdminKey,
    AdminKey,
    ListAdminKeys,
    DeleteAdminKey,
    Costs,
}

/// How often a call may be repeated without doing more than once what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Reads only.
    None,
    /// A second time changes nothing more.
    Idempotent,
    /// A second time makes a second one.
    Creation,
}

/// One call, ready to be sent.
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) method: Method,
    /// Segments below the endpoint.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Call {
    /// The value of a metric's `endpoint` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::CreateServiceAccount => "create_service_account",
            Self::ServiceAccount => "service_account",
            Self::ListServiceAccounts => "list_service_accounts",
            Self::UpdateServiceAccount => "update_service_account",
            Self::DeleteServiceAccount => "delete_service_account",
            Self::CreateKey => "create_key",
            Self::Key => "key",
            Self::ListKeys => "list_keys",
            Self::UpdateKey => "update_key",
            Self::DeleteKey => "delete_key",
            Self::CreateAdminKey => "create_admin_key",
            Self::AdminKey => "admin_key",
            Self::ListAdminKeys => "list_admin_keys",
            Self::DeleteAdminKey => "delete_admin_key",
            Self::Costs => "costs",
        }
    }

    pub(super) fn effect(self) -> Effect {
        match self {
            Self::CreateServiceAccount | Self::CreateKey | Self::CreateAdminKey => Effect::Creation,
            Self::UpdateServiceAccount
            | Self::UpdateKey
            | Self::DeleteServiceAccount
            | Self::DeleteKey
            | Self::DeleteAdminKey => Effect::Idempotent,
            Self::Project
            | Self::ServiceAccount
            | Self::ListServiceAccounts
            | Self::Key
            | Self::ListKeys
            | Self::AdminKey
            | Self::ListAdminKeys
            | Self::Costs => Effect::None,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Request {
    pub(super) fn get(call: Call, path: &[&str]) -> Self {
        Self::new(call, Method::GET, path)
    }

    pub(super) fn delete(call: Call, path: &[&str]) -> Self {
        Self::new(call, Method::DELETE, path)
    }

    pub(super) fn post(call: Call, path: &[&str], body: &impl Serialize) -> Self {
        // Plain structs of strings and numbers always serialize.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { body: Some(body), ..Self::new(call, Method::POST, path) }
    }

    /// Adds a query parameter.
    pub(super) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds where a page begins and how long it is.
    pub(super) fn page(self, after: Option<&str>, limit: u32) -> Self {
        let request = self.with("limit", limit);
        match after {
            Some(after) => request.with("after", after),
            None => request,
        }
    }

    fn new(call: Call, method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self { call, method, path, query: Vec::new(), body: None }
    }
}
