//! Workload identity federation: providers, whose public keys OpenAI trusts, and federation rules, each of which binds
//! tokens of a provider to one service account.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::call::Request;
use super::{Call, Client, Error, FederationRuleId, IdentityProviderId, ProjectId, ServiceAccountId};

/// The only type of provider.
const OIDC: &str = "oidc";
/// Type of a provider's `verification` with uploaded keys.
const UPLOADED: &str = "uploaded_jwks";
/// The claim that rules of this client match.
const SUBJECT: &str = "sub";

/// A workload identity provider.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct IdentityProvider {
    /// Id.
    pub id: IdentityProviderId,
    /// Name, unique in the organization.
    pub name: String,
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
    /// Description.
    #[serde(default)]
    pub description: Option<String>,
    /// The token exchange takes its tokens.
    #[serde(default = "by_default")]
    pub enabled: bool,
    /// Source of its public keys.
    #[serde(default)]
    verification: Value,
}

/// Settings of a new provider.
#[derive(Clone, Debug)]
pub struct NewIdentityProvider {
    /// Name, unique in the organization.
    pub name: String,
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
    /// Description.
    pub description: Option<String>,
    /// Set of its public keys (RFC 7517).
    pub jwks: Value,
}

/// A change of a provider's tokens. Its keys stay.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityProviderChange {
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
}

/// A federation rule.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct FederationRule {
    /// Id.
    pub id: FederationRuleId,
    /// Name, unique in the provider.
    #[serde(default)]
    pub name: Option<String>,
    /// The token exchange follows the rule.
    #[serde(default = "by_default")]
    pub enabled: bool,
    /// Project of the account.
    pub project_id: ProjectId,
    /// The account. A provider has at most one rule for an account.
    pub service_account_id: ServiceAccountId,
    /// Claims that a token must have.
    #[serde(default)]
    attribute_matchers: Map<String, Value>,
    /// Permissions of the access tokens.
    #[serde(default)]
    pub permissions: Permissions,
}

/// Settings of a new rule.
#[derive(Clone, Debug)]
pub struct NewFederationRule {
    /// Name, unique in the provider.
    pub name: String,
    /// Project of the account.
    pub project_id: ProjectId,
    /// The account.
    pub service_account_id: ServiceAccountId,
    /// The exact `sub` of the tokens. OpenAI takes a `*` at the end for a wildcard.
    pub subject: String,
    /// Scopes of the access tokens; an empty list grants everything that the account may do.
    pub scopes: Vec<String>,
    /// The token exchange follows the rule.
    pub enabled: bool,
}

/// A change of a rule. OpenAI changes neither its project nor its account.
#[derive(Clone, Debug, Serialize)]
pub struct FederationRuleChange {
    /// The token exchange follows the rule.
    pub enabled: bool,
    /// Permissions of the access tokens.
    pub permissions: Permissions,
}

/// Permissions of the access tokens of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Permissions {
    /// Everything that the account may do.
    #[default]
    ServiceAccountDefault,
    /// At most these scopes.
    Restricted {
        /// At least one scope.
        scopes: Vec<String>,
    },
    /// Permissions that this client does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl IdentityProvider {
    /// The uploaded public keys; none if the provider finds its keys by discovery.
    pub fn keys(&self) -> &[Value] {
        self.verification["jwks"]["keys"].as_array().map_or(&[], Vec::as_slice)
    }
}

impl FederationRule {
    /// The `sub` that a token must have, if the rule demands nothing else.
    pub fn subject(&self) -> Option<&str> {
        let subject = self.attribute_matchers.get(SUBJECT)?.as_str()?;
        (self.attribute_matchers.len() == 1).then_some(subject)
    }
}

impl Permissions {
    /// Permissions of these scopes; an empty list grants everything that the account may do.
    pub fn of_scopes(scopes: &[String]) -> Self {
        if scopes.is_empty() {
            Self::ServiceAccountDefault
        } else {
            Self::Restricted { scopes: scopes.to_owned() }
        }
    }
}

impl Client {
    /// Creates a provider with uploaded public keys.
    pub async fn create_identity_provider(
        &self,
        provider: &NewIdentityProvider,
    ) -> Result<IdentityProvider, Error> {
        let NewIdentityProvider { name, issuer, audience, description, jwks } = provider;
        let mut body = json!({
            "name": name, "type": OIDC, "issuer": issuer, "audience": audience, "verification": uploaded(jwks),
        });
        if let Some(description) = description {
            body["description"] = json!(description);
        }
        let request = Request::post(Call::CreateIdentityProvider, &providers(), &body);
        let made: IdentityProvider = self.send(request).await?;
        self.note_created(made.id.as_str());
        Ok(made)
    }

    /// Reads one provider.
    pub async fn identity_provider(&self, provider: &IdentityProviderId) -> Result<IdentityProvider, Error> {
        self.send(Request::get(Call::IdentityProvider, &one_provider(provider))).await
    }

    /// All providers of the organization. The search ends after this client's maximum wait.
    pub async fn identity_providers(&self) -> Result<Vec<IdentityProvider>, Error> {
        let request = Request::get(Call::ListIdentityProviders, &providers());
        self.whole(&request, |provider: &IdentityProvider| provider.id.as_str()).await
    }

    /// Changes a provider.
    pub async fn update_identity_provider(
        &self,
        provider: &IdentityProviderId,
        change: &IdentityProviderChange,
    ) -> Result<IdentityProvider, Error> {
        self.send(Request::post(Call::UpdateIdentityProvider, &one_provider(provider), change)).await
    }

    /// Replaces the uploaded public keys of a provider.
    pub async fn update_identity_provider_keys(
        &self,
        provider: &IdentityProviderId,
        jwks: &Value,
    ) -> Result<IdentityProvider, Error> {
        let body = json!({"verification": uploaded(jwks)});
        self.send(Request::post(Call::UpdateIdentityProvider, &one_provider(provider), &body)).await
    }

    /// Deletes a provider. OpenAI refuses that while the provider has rules.
    pub async fn delete_identity_provider(&self, provider: &IdentityProviderId) -> Result<(), Error> {
        self.delete(Call::DeleteIdentityProvider, &one_provider(provider)).await
    }

    /// Creates a rule of a provider.
    pub async fn create_federation_rule(
        &self,
        provider: &IdentityProviderId,
        rule: &NewFederationRule,
    ) -> Result<FederationRule, Error> {
        let NewFederationRule { name, project_id, service_account_id, subject, scopes, enabled } = rule;
        let body = json!({
            "name": name, "project_id": project_id, "service_account_id": service_account_id, "enabled": enabled,
            "attribute_matchers": {SUBJECT: subject}, "permissions": Permissions::of_scopes(scopes),
        });
        let request = Request::post(Call::CreateFederationRule, &rules(provider), &body);
        let made: FederationRule = self.send(request).await?;
        self.note_created(made.id.as_str());
        Ok(made)
    }

    /// All rules of a provider. The search ends after this client's maximum wait.
    pub async fn federation_rules(
        &self,
        provider: &IdentityProviderId,
    ) -> Result<Vec<FederationRule>, Error> {
        let request = Request::get(Call::ListFederationRules, &rules(provider));
        self.whole(&request, |rule: &FederationRule| rule.id.as_str()).await
    }

    /// Changes a rule.
    pub async fn update_federation_rule(
        &self,
        provider: &IdentityProviderId,
        rule: &FederationRuleId,
        change: &FederationRuleChange,
    ) -> Result<FederationRule, Error> {
        self.send(Request::post(Call::UpdateFederationRule, &one_rule(provider, rule), change)).await
    }

    /// Disables a rule. Its permissions stay.
    pub async fn disable_federation_rule(
        &self,
        provider: &IdentityProviderId,
        rule: &FederationRuleId,
    ) -> Result<FederationRule, Error> {
        let body = json!({"enabled": false});
        self.send(Request::post(Call::UpdateFederationRule, &one_rule(provider, rule), &body)).await
    }

    /// Deletes a rule.
    pub async fn delete_federation_rule(
        &self,
        provider: &IdentityProviderId,
        rule: &FederationRuleId,
    ) -> Result<(), Error> {
        self.delete(Call::DeleteFederationRule, &one_rule(provider, rule)).await
    }
}

/// OpenAI's default of `enabled`.
fn by_default() -> bool {
    true
}

fn uploaded(jwks: &Value) -> Value {
    json!({"type": UPLOADED, "jwks": jwks})
}

fn providers() -> [&'static str; 2] {
    ["organization", "workload_identity_providers"]
}

fn one_provider(provider: &IdentityProviderId) -> [&str; 3] {
    ["organization", "workload_identity_providers", provider.as_str()]
}

fn rules(provider: &IdentityProviderId) -> [&str; 4] {
    ["organization", "workload_identity_providers", provider.as_str(), "federation_rules"]
}

fn one_rule<'a>(provider: &'a IdentityProviderId, rule: &'a FederationRuleId) -> [&'a str; 5] {
    ["organization", "workload_identity_providers", provider.as_str(), "federation_rules", rule.as_str()]
}
