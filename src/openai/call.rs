//! The calls of the Admin API and the token exchange, and a request as a plain value. This file sends nothing.

use std::fmt;

use reqwest::Method;
use serde::Serialize;

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
            Self::CreateIdentityProvider => "create_identity_provider",
            Self::IdentityProvider => "identity_provider",
            Self::ListIdentityProviders => "list_identity_providers",
            Self::UpdateIdentityProvider => "update_identity_provider",
            Self::DeleteIdentityProvider => "delete_identity_provider",
            Self::CreateFederationRule => "create_federation_rule",
            Self::ListFederationRules => "list_federation_rules",
            Self::UpdateFederationRule => "update_federation_rule",
            Self::DeleteFederationRule => "delete_federation_rule",
            Self::ExchangeToken => "exchange_token",
            Self::Costs => "costs",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::CreateServiceAccount => Kind::CreateAccount,
            Self::CreateKey => Kind::CreateKey,
            Self::DeleteServiceAccount => Kind::DeleteAccount,
            Self::DeleteKey => Kind::DeleteKey,
            Self::UpdateServiceAccount | Self::UpdateKey => Kind::Update,
            Self::ListServiceAccounts | Self::ListKeys => Kind::List,
            Self::Project | Self::ServiceAccount | Self::Key => Kind::Read,
            Self::Costs => Kind::Costs,
            Self::CreateAdminKey | Self::AdminKey | Self::ListAdminKeys | Self::DeleteAdminKey => {
                Kind::AdminKeys
            }
            Self::CreateIdentityProvider
            | Self::IdentityProvider
            | Self::ListIdentityProviders
            | Self::UpdateIdentityProvider
            | Self::DeleteIdentityProvider
            | Self::CreateFederationRule
            | Self::ListFederationRules
            | Self::UpdateFederationRule
            | Self::DeleteFederationRule => Kind::Federation,
            Self::ExchangeToken => Kind::ExchangeToken,
        }
    }

    pub(super) fn effect(self) -> Effect {
        match self {
            Self::CreateServiceAccount
            | Self::CreateKey
            | Self::CreateAdminKey
            | Self::CreateIdentityProvider
            | Self::CreateFederationRule => Effect::Creation,
            Self::UpdateServiceAccount
            | Self::UpdateKey
            | Self::DeleteServiceAccount
            | Self::DeleteKey
            | Self::DeleteAdminKey
            | Self::UpdateIdentityProvider
            | Self::DeleteIdentityProvider
            | Self::UpdateFederationRule
            | Self::DeleteFederationRule => Effect::Idempotent,
            Self::Project
            | Self::ServiceAccount
            | Self::ListServiceAccounts
            | Self::Key
            | Self::ListKeys
            | Self::AdminKey
            | Self::ListAdminKeys
            | Self::IdentityProvider
            | Self::ListIdentityProviders
            | Self::ListFederationRules
            | Self::ExchangeToken
            | Self::Costs => Effect::None,
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
