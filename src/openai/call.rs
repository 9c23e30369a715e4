//! The calls of the Admin API and the token exchange, and a request as a plain value. This file sends nothing.

use std::fmt;

use reqwest::Method;
use serde::Serialize;

/// Longest response body, in bytes. Responses of the Admin API are far shorter, except costs.
const MAX_BODY: usize = 1 << 20;
/// Longest response with costs, in bytes: some 250 for each account and day. A mount may create an account every few
/// seconds.
const MAX_COSTS_BODY: usize = 32 << 20;

/// The calls that this client makes. Their small number suits metric labels.
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
    CreateIdentityProvider,
    IdentityProvider,
    ListIdentityProviders,
    UpdateIdentityProvider,
    DeleteIdentityProvider,
    CreateFederationRule,
    ListFederationRules,
    UpdateFederationRule,
    DeleteFederationRule,
    ExchangeToken,
    Costs,
}

/// Kinds of calls. OpenAI limits each kind by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    CreateAccount,
    CreateKey,
    DeleteAccount,
    DeleteKey,
    /// Changes of an account or a key.
    Update,
    List,
    /// Reads of one object.
    Read,
    Costs,
    /// All calls about admin keys.
    AdminKeys,
    /// All calls about workload identity providers and their rules.
    Federation,
    ExchangeToken,
}

/// Effect of a repeated call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The call only reads, or makes a token that ends by itself.
    None,
    /// A repeated call changes nothing more.
    Idempotent,
    /// A repeated call creates a second object.
    Creation,
}

/// A request that is ready to be sent.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) call: Call,
    pub(super) method: Method,
    /// Path segments below the endpoint.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
}

impl Call {
    /// Value of the metric label `endpoint`.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// True if the call deletes an object.
    pub fn is_deletion(self) -> bool {
        matches!(
            self,
            Self::DeleteServiceAccount
                | Self::DeleteKey
                | Self::DeleteAdminKey
                | Self::DeleteIdentityProvider
                | Self::DeleteFederationRule
        )
    }

    pub(super) fn kind(self) -> Kind {
        self.facts().1
    }

    pub(super) fn effect(self) -> Effect {
        self.facts().2
    }

    /// Longest response body, in bytes.
    pub(super) fn max_body(self) -> usize {
        if self == Self::Costs { MAX_COSTS_BODY } else { MAX_BODY }
    }

    const fn facts(self) -> (&'static str, Kind, Effect) {
        match self {
            Self::Project => ("project", Kind::Read, Effect::None),
            Self::CreateServiceAccount => ("create_service_account", Kind::CreateAccount, Effect::Creation),
            Self::ServiceAccount => ("service_account", Kind::Read, Effect::None),
            Self::ListServiceAccounts => ("list_service_accounts", Kind::List, Effect::None),
            Self::UpdateServiceAccount => ("update_service_account", Kind::Update, Effect::Idempotent),
            Self::DeleteServiceAccount => ("delete_service_account", Kind::DeleteAccount, Effect::Idempotent),
            Self::CreateKey => ("create_key", Kind::CreateKey, Effect::Creation),
            Self::Key => ("key", Kind::Read, Effect::None),
            Self::ListKeys => ("list_keys", Kind::List, Effect::None),
            Self::UpdateKey => ("update_key", Kind::Update, Effect::Idempotent),
            Self::DeleteKey => ("delete_key", Kind::DeleteKey, Effect::Idempotent),
            Self::CreateAdminKey => ("create_admin_key", Kind::AdminKeys, Effect::Creation),
            Self::AdminKey => ("admin_key", Kind::AdminKeys, Effect::None),
            Self::ListAdminKeys => ("list_admin_keys", Kind::AdminKeys, Effect::None),
            Self::DeleteAdminKey => ("delete_admin_key", Kind::AdminKeys, Effect::Idempotent),
            Self::CreateIdentityProvider => ("create_identity_provider", Kind::Federation, Effect::Creation),
            Self::IdentityProvider => ("identity_provider", Kind::Federation, Effect::None),
            Self::ListIdentityProviders => ("list_identity_providers", Kind::Federation, Effect::None),
            Self::UpdateIdentityProvider => {
                ("update_identity_provider", Kind::Federation, Effect::Idempotent)
            }
            Self::DeleteIdentityProvider => {
                ("delete_identity_provider", Kind::Federation, Effect::Idempotent)
            }
            Self::CreateFederationRule => ("create_federation_rule", Kind::Federation, Effect::Creation),
            Self::ListFederationRules => ("list_federation_rules", Kind::Federation, Effect::None),
            Self::UpdateFederationRule => ("update_federation_rule", Kind::Federation, Effect::Idempotent),
            Self::DeleteFederationRule => ("delete_federation_rule", Kind::Federation, Effect::Idempotent),
            Self::ExchangeToken => ("exchange_token", Kind::ExchangeToken, Effect::None),
            Self::Costs => ("costs", Kind::Costs, Effect::None),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Kind {
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::CreateAccount,
        Self::CreateKey,
        Self::DeleteAccount,
        Self::DeleteKey,
        Self::Update,
        Self::List,
        Self::Read,
        Self::Costs,
        Self::AdminKeys,
        Self::Federation,
        Self::ExchangeToken,
    ];
    pub(super) const COUNT: usize = Self::ExchangeToken as usize + 1;

    /// Place in an array of all kinds.
    pub(super) fn index(self) -> usize {
        self as usize
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

    /// Adds the page cursor and the page size.
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
