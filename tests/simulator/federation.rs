//! Workload identity federation: providers, rules, and the switches for what OpenAI's documents leave open.
//!
//! A provider names an issuer and its public keys. A rule binds tokens of that issuer to one service account.
//! [`super::token_exchange`] takes the tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::id;
use super::input::Fields;
use super::lag::Operation;
use super::page::{cursor, page};
use super::refusal::Refusal;
use super::world::World;

/// Prefix of provider ids.
pub const PROVIDER: &str = "idp";
/// Prefix of rule ids.
pub const RULE: &str = "idpm";
/// Maximum number of providers of an organization, and of rules of a provider.
const MOST: usize = 50;
/// Maximum number of attribute transformations of a provider.
const MOST_TRANSFORMATIONS: usize = 20;
/// Parameters of a JWK that hold private material.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Behaviour that OpenAI's documents leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Time until the token exchange sees a change of a provider or a rule, in milliseconds.
    pub propagation_ms: u64,
    /// Disabling or deleting a provider or a rule ends its access tokens.
    pub revoke_on_disable: bool,
    /// A change of a provider's issuer or keys ends its access tokens.
    pub revoke_on_key_change: bool,
    /// Refuses tokens whose `exp` is more than an hour after `iat`.
    pub strict_lifetime: bool,
    /// Tolerated difference between the clocks, in seconds.
    pub leeway_seconds: u64,
    /// The exchange answers `expires_at`.
    pub with_expires_at: bool,
    /// The admin key's owner may not manage providers and rules.
    pub forbidden: bool,
}

/// Providers, rules and access tokens.
#[derive(Debug, Default)]
pub struct Federated {
    /// The switches.
    pub switches: Federation,
    /// Providers by serial number.
    pub providers: BTreeMap<u64, Versions<Provider>>,
    /// Rules by serial number.
    pub rules: BTreeMap<u64, Versions<Rule>>,
    /// Access tokens by value.
    pub tokens: BTreeMap<String, AccessToken>,
}

/// The number of added tokens after which the expired ones are dropped. A pass over all tokens for each exchange would
/// make exchanges slower with every token.
const TOKENS_BETWEEN_CLEANUPS: usize = 1024;

impl Federated {
    /// Adds an access token. Expired tokens stay for a while.
    pub fn add(&mut self, value: String, token: AccessToken, now: u64) {
        if self.tokens.len().is_multiple_of(TOKENS_BETWEEN_CLEANUPS) {
            self.tokens.retain(|_, token| token.expires_at > now);
        }
        self.tokens.insert(value, token);
    }
}

/// The versions of an object. The exchange sees a change only after a while.
#[derive(Debug, Clone)]
pub struct Versions<T> {
    created_at: u64,
    updated_at: u64,
    /// Creation time; `None` for an object that OpenAI finds everywhere.
    pub made: Option<Duration>,
    history: Vec<(Duration, T)>,
}

/// A workload identity provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// `idp_...`
    pub id: String,
    /// Name, unique in the organization.
    pub name: String,
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
    /// Description.
    pub description: Option<String>,
    /// Tokens are taken.
    pub enabled: bool,
    /// `discovery` or `uploaded_jwks`, as sent.
    pub verification: Value,
    /// The uploaded keys.
    pub keys: JwkSet,
    /// Attribute transformations, as sent.
    pub transformations: Value,
}

/// A federation rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// `idpm_...`
    pub id: String,
    /// Serial number of the provider.
    pub provider: u64,
    /// Name, unique in the provider.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Tokens are taken.
    pub enabled: bool,
    /// Id of the project.
    pub project: String,
    /// Id of the service account.
    pub account: String,
    /// Required attributes of a token.
    pub matchers: Map<String, Value>,
    /// The permissions of the access tokens; `None` for the account's own.
    pub scopes: Option<Vec<String>>,
}

/// An access token.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// Id of the service account.
    pub account: String,
    /// Serial number of the provider.
    pub provider: u64,
    /// Serial number of the rule.
    pub rule: u64,
    /// The permissions; `None` for the account's own.
    pub scopes: Option<Vec<String>>,
    /// End, in Unix seconds.
    pub expires_at: u64,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            propagation_ms: 0,
            revoke_on_disable: false,
            revoke_on_key_change: false,
            strict_lifetime: true,
            leeway_seconds: 0,
            with_expires_at: true,
            forbidden: false,
        }
    }
}

impl<T> Versions<T> {
    /// The newest version.
    pub fn latest(&self) -> &T {
        &self.history[self.history.len() - 1].1
    }

    /// The version that the exchange sees; `None` while it sees nothing of a new object.
    pub fn effective(&self, now: Duration, delay: Duration) -> Option<&T> {
        self.history.iter().rev().find(|(since, _)| *since + delay <= now).map(|(_, version)| version)
    }
}

impl World {
    fn may_federate(&self) -> Result<(), Refusal> {
        if self.federated.switches.forbidden {
            return Err(Refusal::forbidden(
                "You have insufficient permissions to manage workload identity providers.",
            ));
        }
        Ok(())
    }

    fn versions<T>(&self, first: T) -> Versions<T> {
        let now = self.now();
        let made = self.clock.now();
        Versions { created_at: now, updated_at: now, made: Some(made), history: vec![(made, first)] }
    }

    fn provider(&self, id: &str, operation: Operation) -> Result<u64, Refusal> {
        self.may_federate()?;
        let is_it =
            |one: &Versions<Provider>| one.latest().id == id && self.is_visible(id, one.made, operation);
        id::serial(PROVIDER, id)
            .filter(|serial| self.federated.providers.get(serial).is_some_and(is_it))
            .ok_or_else(|| Refusal::not_found("Workload identity provider", id))
    }

    fn rule(&self, call: &Call, operation: Operation) -> Result<u64, Refusal> {
        let provider = self.provider(call.id("workload_identity_provider_id"), operation)?;
        let id = call.id("workload_identity_federation_rule_id");
        let is_it = |one: &Versions<Rule>| {
            one.latest().id == id
                && one.latest().provider == provider
                && self.is_visible(id, one.made, operation)
        };
        id::serial(RULE, id)
            .filter(|serial| self.federated.rules.get(serial).is_some_and(is_it))
            .ok_or_else(|| Refusal::not_found("Federation rule", id))
    }

    fn rules_of(&self, provider: u64) -> impl Iterator<Item = (u64, &Rule)> {
        let rules = self.federated.rules.iter().map(|(serial, rule)| (*serial, rule.latest()));
        rules.filter(move |(_, rule)| rule.provider == provider)
    }

    fn revoke_tokens(&mut self, is_ended: impl Fn(&AccessToken) -> bool) {
        self.federated.tokens.retain(|_, token| !is_ended(token));
    }
}

/// `POST /organization/workload_identity_providers`
pub fn create_provider(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    world.may_federate()?;
    let mut fields = Fields::of(call)?.nullable(&["description"]);
    fields.choice("type", &["oidc"])?.ok_or_else(|| Refusal::missing("type"))?;
    let (name, issuer) = (fields.required_text("name")?, fields.required_text("issuer")?);
    let audience = fields.required_text("audience")?;
    let description = fields.text("description")?;
    let enabled = fields.flag("enabled")?.unwrap_or(true);
    let (verification, keys) = match fields.value("verification") {
        Some(sent) => verification(sent)?,
        None => (json!({"type": "discovery", "discovery_url": null}), JwkSet { keys: Vec::new() }),
    };
    let transformations = transformations(fields.value("attribute_transformations"))?;
    fields.end()?;
    check_issuer(&issuer)?;
    check_provider_name(world, &name, None)?;
    if world.federated.providers.len() >= MOST {
        return Err(Refusal::conflict(format!(
            "An organization may have at most {MOST} workload identity providers."
        )));
    }
    let serial = world.serial();
    let id = id::id(PROVIDER, serial);
    let provider =
        Provider { id, name, issuer, audience, description, enabled, verification, keys, transformations };
    let versions = world.versions(provider);
    world.federated.providers.insert(serial, versions);
    Ok(provider_shape(&world.federated.providers[&serial]))
}

/// `GET /organization/workload_identity_providers`
pub fn list_providers(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    world.may_federate()?;
    let all = world.federated.providers.iter();
    let all = all.filter(|(_, one)| world.is_visible(&one.latest().id, one.made, Operation::List));
    listed(call, PROVIDER, all.map(|(serial, one)| (*serial, provider_shape(one))).collect())
}

/// `GET /organization/workload_identity_providers/{id}`
pub fn read_provider(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.provider(call.id("workload_identity_provider_id"), Operation::Get)?;
    Ok(provider_shape(&world.federated.providers[&serial]))
}

/// `POST /organization/workload_identity_providers/{id}` keeps omitted fields.
pub fn update_provider(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.provider(call.id("workload_identity_provider_id"), Operation::Post)?;
    let before = world.federated.providers[&serial].latest().clone();
    let mut after = before.clone();
    let mut fields = Fields::of(call)?;
    if let Some(description) = fields.value("description") {
        after.description = description.as_str().map(str::to_owned);
    }
    after.name = fields.text("name")?.unwrap_or(after.name);
    after.issuer = fields.text("issuer")?.unwrap_or(after.issuer);
    after.audience = fields.text("audience")?.unwrap_or(after.audience);
    after.enabled = fields.flag("enabled")?.unwrap_or(after.enabled);
    if let Some(sent) = fields.value("verification") {
        (after.verification, after.keys) = verification(sent)?;
    }
    if let Some(sent) = fields.value("attribute_transformations") {
        after.transformations = transformations(Some(sent))?;
    }
    fields.end()?;
    check_issuer(&after.issuer)?;
    check_provider_name(world, &after.name, Some(serial))?;
    let switches = world.federated.switches;
    let is_disabled = before.enabled && !after.enabled;
    let is_changed = before.issuer != after.issuer || before.keys != after.keys;
    if (switches.revoke_on_disable && is_disabled) || (switches.revoke_on_key_change && is_changed) {
        world.revoke_tokens(|token| token.provider == serial);
    }
    let (now, seconds) = (world.clock.now(), world.now());
    if let Some(provider) = world.federated.providers.get_mut(&serial) {
        provider.updated_at = seconds;
        provider.history.push((now, after));
    }
    Ok(provider_shape(&world.federated.providers[&serial]))
}

/// `DELETE /organization/workload_identity_providers/{id}` needs all rules deleted first.
pub fn delete_provider(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.provider(call.id("workload_identity_provider_id"), Operation::Delete)?;
    if world.rules_of(serial).next().is_some() {
        return Err(Refusal::conflict("Delete the federation rules of this provider first.".to_owned()));
    }
    world.federated.providers.remove(&serial);
    if world.federated.switches.revoke_on_disable {
        world.revoke_tokens(|token| token.provider == serial);
    }
    let id = call.id("workload_identity_provider_id");
    Ok(json!({"id": id, "deleted": true, "object": "organization.workload_identity_provider.deleted"}))
}

/// `POST .../federation_rules`
pub fn create_rule(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let provider = world.provider(call.id("workload_identity_provider_id"), Operation::Post)?;
    let mut fields = Fields::of(call)?.nullable(&["name", "description"]);
    let (project, account) =
        (fields.required_text("project_id")?, fields.required_text("service_account_id")?);
    let matchers =
        fields.value("attribute_matchers").ok_or_else(|| Refusal::missing("attribute_matchers"))?;
    let matchers = check_matchers(matchers)?;
    let (name, description) = (fields.text("name")?, fields.text("description")?);
    let enabled = fields.flag("enabled")?.unwrap_or(true);
    let scopes = fields.value("permissions").map(permissions).transpose()?.flatten();
    fields.end()?;
    world.active_project(&project)?;
    world.account(&project, &account, Operation::Get)?;
    check_rule_name(world, provider, name.as_deref(), None)?;
    if world.rules_of(provider).any(|(_, rule)| rule.account == account) {
        let message = "This provider already has a federation rule for this service account.";
        return Err(Refusal::conflict(message.to_owned()));
    }
    if world.rules_of(provider).count() >= MOST {
        return Err(Refusal::conflict(format!("A provider may have at most {MOST} federation rules.")));
    }
    let serial = world.serial();
    let id = id::id(RULE, serial);
    let rule = Rule { id, provider, name, description, enabled, project, account, matchers, scopes };
    let versions = world.versions(rule);
    world.federated.rules.insert(serial, versions);
    Ok(rule_shape(world, serial))
}

/// `GET .../federation_rules`
pub fn list_rules(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let provider = world.provider(call.id("workload_identity_provider_id"), Operation::Get)?;
    let wanted = call.parameter("service_account_id");
    let rules = world.rules_of(provider).filter(|(serial, rule)| {
        let made = world.federated.rules[serial].made;
        wanted.is_none_or(|wanted| rule.account == wanted)
            && world.is_visible(&rule.id, made, Operation::List)
    });
    listed(call, RULE, rules.map(|(serial, _)| (serial, rule_shape(world, serial))).collect())
}

/// `GET .../federation_rules/{id}`
pub fn read_rule(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.rule(call, Operation::Get)?;
    Ok(rule_shape(world, serial))
}

/// `POST .../federation_rules/{id}` keeps omitted fields; project and account cannot be changed.
pub fn update_rule(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.rule(call, Operation::Post)?;
    let before = world.federated.rules[&serial].latest().clone();
    let mut after = before.clone();
    let mut fields = Fields::of(call)?;
    if let Some(name) = fields.value("name") {
        after.name = name.as_str().map(str::to_owned);
    }
    if let Some(description) = fields.value("description") {
        after.description = description.as_str().map(str::to_owned);
    }
    after.enabled = fields.flag("enabled")?.unwrap_or(after.enabled);
    if let Some(sent) = fields.value("attribute_matchers") {
        after.matchers = check_matchers(sent)?;
    }
    if let Some(sent) = fields.value("permissions") {
        after.scopes = permissions(sent)?;
    }
    fields.end()?;
    check_rule_name(world, before.provider, after.name.as_deref(), Some(serial))?;
    if world.federated.switches.revoke_on_disable && before.enabled && !after.enabled {
        world.revoke_tokens(|token| token.rule == serial);
    }
    let (now, seconds) = (world.clock.now(), world.now());
    if let Some(rule) = world.federated.rules.get_mut(&serial) {
        rule.updated_at = seconds;
        rule.history.push((now, after));
    }
    Ok(rule_shape(world, serial))
}

/// `DELETE .../federation_rules/{id}`
pub fn delete_rule(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = world.rule(call, Operation::Delete)?;
    world.federated.rules.remove(&serial);
    if world.federated.switches.revoke_on_disable {
        world.revoke_tokens(|token| token.rule == serial);
    }
    let id = call.id("workload_identity_federation_rule_id");
    Ok(json!({"id": id, "deleted": true, "object": "organization.workload_identity_federation_rule.deleted"}))
}

fn listed(call: &Call, prefix: &str, mut all: Vec<(u64, Value)>) -> Result<Value, Refusal> {
    let newest_first = call.one_of("order", &["asc", "desc"])? == Some("desc");
    let (limit, after) = (call.limit(20, 100)?, cursor(call, prefix)?);
    if newest_first {
        all.reverse();
    }
    let is_asked_for = |serial: u64| match after {
        Some(after) if newest_first => serial < after,
        Some(after) => serial > after,
        None => true,
    };
    Ok(page(all.into_iter().filter(|(serial, _)| is_asked_for(*serial)).map(|(_, shape)| shape), limit))
}

/// An issuer is an https URL.
fn check_issuer(issuer: &str) -> Result<(), Refusal> {
    if issuer.starts_with("https://") && issuer.len() > "https://".len() {
        return Ok(());
    }
    Err(Refusal::invalid("issuer", "Invalid 'issuer': expected an https URL.".to_owned()))
}

fn check_provider_name(world: &World, name: &str, own: Option<u64>) -> Result<(), Refusal> {
    let mut others = world.federated.providers.iter().filter(|(serial, _)| Some(**serial) != own);
    if others.any(|(_, one)| one.latest().name == name) {
        return Err(Refusal::conflict(format!(
            "A workload identity provider named '{name}' already exists."
        )));
    }
    Ok(())
}

fn check_rule_name(
    world: &World,
    provider: u64,
    name: Option<&str>,
    own: Option<u64>,
) -> Result<(), Refusal> {
    let mut others = world.rules_of(provider).filter(|(serial, _)| Some(*serial) != own);
    if name.is_some() && others.any(|(_, one)| one.name.as_deref() == name) {
        return Err(Refusal::conflict("A federation rule of this name already exists.".to_owned()));
    }
    Ok(())
}

/// Reads `verification`.
fn verification(sent: Value) -> Result<(Value, JwkSet), Refusal> {
    let refuse =
        |message: &str| Refusal::invalid("verification", format!("Invalid 'verification': {message}"));
    match sent["type"].as_str() {
        Some("discovery") => Ok((sent, JwkSet { keys: Vec::new() })),
        Some("uploaded_jwks") => {
            let keys = sent["jwks"]["keys"].as_array().ok_or_else(|| refuse("jwks has no keys."))?;
            let mut kids = Vec::new();
            for key in keys {
                if PRIVATE.iter().any(|name| key.get(name).is_some()) {
                    return Err(refuse("a key holds private material."));
                }
                match key["kid"].as_str().filter(|kid| !kid.is_empty()) {
                    Some(kid) if !kids.contains(&kid) => kids.push(kid),
                    _ => return Err(refuse("each key needs a kid of its own.")),
                }
            }
            if kids.is_empty() {
                return Err(refuse("jwks has no keys."));
            }
            let set =
                serde_json::from_value(sent["jwks"].clone()).map_err(|_| refuse("a key cannot be read."))?;
            Ok((sent, set))
        }
        _ => Err(refuse("type must be 'discovery' or 'uploaded_jwks'.")),
    }
}

fn transformations(sent: Option<Value>) -> Result<Value, Refusal> {
    let name = "attribute_transformations";
    match sent {
        None => Ok(json!([])),
        Some(Value::Array(list)) if list.len() > MOST_TRANSFORMATIONS => {
            Err(Refusal::above(name, MOST_TRANSFORMATIONS as i64, list.len()))
        }
        Some(sent @ Value::Array(_)) => Ok(sent),
        Some(other) => Err(Refusal::wrong_type(name, "an array of objects", &other)),
    }
}

/// `*` may stand at the end of a text only, after something else.
fn check_matchers(sent: Value) -> Result<Map<String, Value>, Refusal> {
    let name = "attribute_matchers";
    let Value::Object(matchers) = sent else { return Err(Refusal::wrong_type(name, "an object", &sent)) };
    if matchers.is_empty() {
        return Err(Refusal::invalid(
            name,
            "Invalid 'attribute_matchers': at least one is needed.".to_owned(),
        ));
    }
    for value in matchers.values() {
        let is_valid = match value {
            Value::String(text) => {
                !text.is_empty() && text.find('*').is_none_or(|at| at > 0 && at + 1 == text.len())
            }
            Value::Bool(_) | Value::Number(_) => true,
            _ => false,
        };
        if !is_valid {
            return Err(Refusal::invalid(
                name,
                format!("Invalid 'attribute_matchers': {value} matches nothing."),
            ));
        }
    }
    Ok(matchers)
}

fn permissions(sent: Value) -> Result<Option<Vec<String>>, Refusal> {
    let name = "permissions";
    match sent["type"].as_str() {
        Some("service_account_default") => Ok(None),
        Some("restricted") => {
            let scopes = sent["scopes"].as_array().into_iter().flatten();
            let scopes: Vec<String> = scopes.filter_map(|scope| scope.as_str().map(str::to_owned)).collect();
            // As with keys, admin permissions cannot be given, and every name has this form.
            let is_odd = |scope: &String| !scope.starts_with("api.") || scope.starts_with("api.management");
            if scopes.is_empty() || scopes.iter().any(is_odd) {
                return Err(Refusal::invalid(name, "Invalid 'permissions.scopes'.".to_owned()));
            }
            Ok(Some(scopes))
        }
        _ => Err(Refusal::not_one_of(
            name,
            &["service_account_default", "restricted"],
            &sent["type"].to_string(),
        )),
    }
}

fn provider_shape(provider: &Versions<Provider>) -> Value {
    let Versions { created_at, updated_at, .. } = provider;
    let one = provider.latest();
    json!({
        "object": "organization.workload_identity_provider",
        "id": one.id,
        "type": "oidc",
        "name": one.name,
        "issuer": one.issuer,
        "audience": one.audience,
        "description": one.description,
        "enabled": one.enabled,
        "verification": one.verification,
        "attribute_transformations": one.transformations,
        "created_at": created_at,
        "updated_at": updated_at,
    })
}

fn rule_shape(world: &World, serial: u64) -> Value {
    let rule = &world.federated.rules[&serial];
    let one = rule.latest();
    let permissions = match &one.scopes {
        Some(scopes) => json!({"type": "restricted", "scopes": scopes}),
        None => json!({"type": "service_account_default"}),
    };
    let provider = world.federated.providers.get(&one.provider).map(|provider| provider.latest().id.clone());
    json!({
        "object": "organization.workload_identity_federation_rule",
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "enabled": one.enabled,
        "project_id": one.project,
        "service_account_id": one.account,
        "workload_identity_provider_id": provider,
        "attribute_matchers": one.matchers,
        "permissions": permissions,
        "created_at": rule.created_at,
        "updated_at": rule.updated_at,
    })
}
