//! `POST /oauth/token` of `auth.openai.com`: a token of a registered issuer for an access token of a service account.
//!
//! Another library than the plugin's verifies the signatures.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value, json};

use super::call::Call;
use super::federation::{AccessToken, PROVIDER, Provider, Rule};
use super::id;
use super::refusal::Refusal;
use super::signatures;
use super::world::World;

/// The only grant.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The types of a subject token.
const SUBJECT_TYPES: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
/// Type of the answer.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Longest life of an access token, in seconds.
const LONGEST: u64 = 3_600;
/// Required fields.
const REQUIRED: [&str; 5] =
    ["grant_type", "subject_token", "subject_token_type", "identity_provider_id", "service_account_id"];
/// Fields that are accepted and change nothing.
const IGNORED: [&str; 2] = ["client_id", "scope"];

/// `POST /oauth/token`
pub fn exchange(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let sent = parameters(call)?;
    let (serial, provider) = provider(world, &sent["identity_provider_id"])?;
    let claims = verified(world, &provider, &sent["subject_token"])?;
    let (rule_serial, rule) = matching(world, serial, &sent["service_account_id"], &claims)?;
    let now = world.now();
    let end = claims["exp"].as_u64().unwrap_or_default();
    let lifetime = LONGEST.min(end.saturating_sub(now));
    let expires_at = now + lifetime;
    let value = format!("eyJ{}.{}.{}", id::random(30), id::random(200), id::random(86));
    let token = AccessToken {
        account: rule.account.clone(),
        provider: serial,
        rule: rule_serial,
        scopes: rule.scopes.clone(),
        expires_at,
    };
    world.federated.add(value.clone(), token, now);
    let mut answer = json!({
        "access_token": value, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": lifetime,
    });
    if world.federated.switches.with_expires_at {
        answer["expires_at"] = json!(expires_at);
    }
    if let Some(scopes) = &rule.scopes {
        answer["scope"] = json!(scopes.join(" "));
    }
    Ok(answer)
}

fn parameters(call: &Call) -> Result<Map<String, Value>, Refusal> {
    let refuse = |description: String| Refusal::oauth(400, "invalid_request", description);
    let kind = call.content_type.as_deref().unwrap_or("none");
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(refuse(format!("unsupported content type {kind}")));
    }
    let Ok(Value::Object(sent)) = serde_json::from_slice(&call.body) else {
        return Err(refuse("the body is not a JSON object".to_owned()));
    };
    for name in REQUIRED {
        if sent.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(refuse(format!("missing or invalid parameter {name}")));
        }
    }
    if let Some(name) = sent.keys().find(|name| !REQUIRED.contains(&&***name) && !IGNORED.contains(&&***name))
    {
        return Err(refuse(format!("unsupported parameter {name}")));
    }
    if sent["grant_type"] != GRANT {
        return Err(Refusal::oauth(400, "unsupported_grant_type", "unsupported grant_type".to_owned()));
    }
    if !SUBJECT_TYPES.iter().any(|kind| sent["subject_token_type"] == *kind) {
        return Err(refuse("unsupported subject_token_type".to_owned()));
    }
    Ok(sent)
}

/// The provider, as the exchange sees it.
fn provider(world: &World, id: &Value) -> Result<(u64, Provider), Refusal> {
    let refuse = |what: &str| Refusal::oauth(400, "invalid_grant", format!("identity provider is {what}"));
    let id = id.as_str().unwrap_or_default();
    let serial = id::serial(PROVIDER, id).ok_or_else(|| refuse("malformed"))?;
    let known = world.federated.providers.get(&serial).filter(|one| one.latest().id == id);
    let known = known.and_then(|one| one.effective(world.clock.now(), delay(world)));
    let known = known.ok_or_else(|| refuse("unknown"))?;
    if known.enabled { Ok((serial, known.clone())) } else { Err(refuse("disabled")) }
}

fn delay(world: &World) -> Duration {
    Duration::from_millis(world.federated.switches.propagation_ms)
}

/// The claims of the token, if the provider vouches for it.
fn verified(world: &World, provider: &Provider, token: &Value) -> Result<Map<String, Value>, Refusal> {
    let refuse = |description: &str| Refusal::oauth(401, "invalid_subject_token", description.to_owned());
    signatures::prepare().map_err(|error| Refusal::oauth(501, "server_error", error.to_owned()))?;
    let token = token.as_str().unwrap_or_default();
    let header = decode_header(token).map_err(|_| refuse("the token is malformed"))?;
    if !matches!(header.alg, Algorithm::ES256 | Algorithm::ES384 | Algorithm::RS256) {
        return Err(refuse("unsupported alg"));
    }
    let kid = header.kid.ok_or_else(|| refuse("the token has no kid"))?;
    let key = provider.keys.find(&kid).ok_or_else(|| refuse("no key for this kid"))?;
    let key = DecodingKey::from_jwk(key).map_err(|_| refuse("the key cannot be used"))?;
    let mut validation = Validation::new(header.alg);
    // The times are checked below, by the simulator's clock.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    let decoded = decode::<Map<String, Value>>(token, &key, &validation);
    let claims = decoded.map_err(|_| refuse("the signature is not valid"))?.claims;
    for name in ["iss", "aud", "sub", "exp", "iat"] {
        if claims.get(name).is_none_or(Value::is_null) {
            return Err(refuse(&format!("the token has no {name}")));
        }
    }
    let plain = |issuer: &str| issuer.trim_end_matches('/').to_owned();
    if claims["iss"].as_str().map(plain) != Some(plain(&provider.issuer)) {
        return Err(refuse("iss does not match"));
    }
    let is_for_us = match &claims["aud"] {
        Value::Array(list) => list.contains(&json!(provider.audience)),
        one => *one == json!(provider.audience),
    };
    if !is_for_us {
        return Err(refuse("aud does not match"));
    }
    let (Some(begin), Some(end)) = (claims["iat"].as_u64(), claims["exp"].as_u64()) else {
        return Err(refuse("iat and exp must be numbers"));
    };
    let (now, switches) = (world.now(), world.federated.switches);
    if begin > now + switches.leeway_seconds {
        return Err(refuse("the token is not valid yet"));
    }
    if end + switches.leeway_seconds <= now {
        return Err(refuse("the token has expired"));
    }
    if switches.strict_lifetime && end.saturating_sub(begin) > LONGEST {
        return Err(refuse("the token lives for too long"));
    }
    Ok(claims)
}

/// The only enabled rule of the account that the claims match.
fn matching(
    world: &World,
    provider: u64,
    account: &Value,
    claims: &Map<String, Value>,
) -> Result<(u64, Rule), Refusal> {
    let (now, delay) = (world.clock.now(), delay(world));
    let seen = world
        .federated
        .rules
        .iter()
        .filter_map(|(serial, rule)| Some((*serial, rule.effective(now, delay)?)));
    let of_account = seen.filter(|(_, rule)| rule.provider == provider && *account == json!(rule.account));
    let mut found = of_account.filter(|(_, rule)| rule.enabled && matches(&rule.matchers, claims));
    let refuse = |what: &str| Refusal::oauth(400, "invalid_grant", what.to_owned());
    let (serial, rule) = found.next().ok_or_else(|| refuse("no mapping matches the token"))?;
    if found.next().is_some() {
        return Err(refuse("several mappings match the token"));
    }
    if !world.accounts.values().any(|one| one.id == rule.account && one.project == rule.project) {
        return Err(refuse("the service account does not exist"));
    }
    Ok((serial, rule.clone()))
}

/// True if every matcher fits a claim at the top. An `openai.*` attribute comes from a transformation, and the
/// simulator has none.
fn matches(matchers: &Map<String, Value>, claims: &Map<String, Value>) -> bool {
    matchers.iter().all(|(name, wanted)| {
        let sent = claims.get(name).filter(|_| !name.starts_with("openai."));
        match (sent, wanted) {
            (Some(Value::String(sent)), Value::String(wanted)) => match wanted.strip_suffix('*') {
                Some(prefix) => sent.starts_with(prefix),
                None => sent == wanted,
            },
            (Some(sent), wanted) => sent == wanted,
            (None, _) => false,
        }
    })
}
