//! The exchange of a signed token for an access token. It writes nothing, and reads records from memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use super::record::{Federation, Provider};
use super::role::FederatedRole;
use super::signing::SigningKey;
use super::token;
use crate::engine::config::checks;
use crate::engine::config::configuration::{Config, ONLY};
use crate::engine::telemetry::metrics::ExchangeResult;
use crate::engine::telemetry::openai_status::{OpenAiStatus, Outcomes};
use crate::engine::time::clock::Times;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{AccessToken, Endpoint, ExchangeError, IdentityProviderId, SubjectToken, TokenExchange};

/// Time after a change of a rule in which a refusal proves nothing, as the token exchange sees changes late.
const YOUNG: TimeDelta = TimeDelta::minutes(2);
/// Pauses between the attempts while the rule is young, in seconds.
const PAUSES: [u64; 4] = [1, 2, 4, 8];
/// Difference of the clocks above which OpenAI may refuse a token.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::seconds(30);
/// OAuth's code for a provider, rule or account that does not fit.
const INVALID_GRANT: &str = "invalid_grant";

/// The client of the token exchange and what became of the last exchanges. In memory, so a new process knows nothing.
pub(in crate::engine) struct Exchanges {
    connected: Mutex<Option<Connected>>,
    status: Arc<OpenAiStatus>,
    refused: Mutex<BTreeMap<String, Refused>>,
}

/// The client for one configuration.
#[derive(Clone)]
struct Connected {
    token_endpoint: String,
    /// Revision of the configuration whose certificates the client uses; none without a configuration.
    revision: Option<u64>,
    client: TokenExchange,
}

/// OpenAI's refusal of a role's tokens, since its last success.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Refused {
    /// Time of the first refusal.
    pub(in crate::engine) since: DateTime<Utc>,
    /// The last refusal.
    pub(in crate::engine) error: String,
}

impl Exchanges {
    /// No exchanges yet.
    pub(in crate::engine) fn new(times: Arc<Times>) -> Self {
        let status = Arc::new(OpenAiStatus::new(times));
        Self { connected: Mutex::default(), status, refused: Mutex::default() }
    }

    /// The outcomes of the last exchanges.
    pub(in crate::engine) fn outcomes(&self) -> Outcomes {
        self.status.outcomes()
    }

    /// The roles whose tokens OpenAI refuses, by name.
    pub(in crate::engine) fn refused(&self) -> BTreeMap<String, Refused> {
        self.refused.lock().clone()
    }

    /// Forgets the refusals of a role that was written or deleted, or whose tokens OpenAI takes.
    pub(in crate::engine) fn forget(&self, role: &str) {
        self.refused.lock().remove(role);
    }

    fn note_refused(&self, role: &str, error: &Error, now: DateTime<Utc>) {
        let new = || Refused { since: now, error: String::new() };
        self.refused.lock().entry(role.to_owned()).or_insert_with(new).error = error.to_string();
    }
}

/// A token of the role, signed by this mount now.
pub(super) fn sign_now(
    engine: &Engine,
    federation: &Federation,
    key: &SigningKey,
    role: &FederatedRole,
    lifetime: Duration,
) -> Result<SubjectToken, Error> {
    sign(federation, key, role, lifetime, time_of_token(engine))
}

/// The time with which tokens are signed and their ends are compared.
pub(super) fn time_of_token(engine: &Engine) -> DateTime<Utc> {
    engine.times.of_token(CLOCK_DIFFERENCE)
}

fn sign(
    federation: &Federation,
    key: &SigningKey,
    role: &FederatedRole,
    lifetime: Duration,
    now: DateTime<Utc>,
) -> Result<SubjectToken, Error> {
    let Federation { issuer, audience, .. } = federation;
    token::sign(key, issuer, audience, &role.subject, lifetime, now)
        .map_err(|error| Error::field(format!("the token cannot be signed: {error}")))
}

/// Exchanges a token of the role. While its rule is young, a refusal is tried again for some seconds.
pub(super) async fn exchange(
    engine: &Engine,
    storage: &dyn Storage,
    federation: &Federation,
    name: &str,
    role: &FederatedRole,
    lifetime: Duration,
) -> Result<AccessToken, Error> {
    let key = &federation.current.key;
    let mut outcome = once(engine, storage, federation, key, role, lifetime).await;
    for pause in PAUSES {
        if !matches!(&outcome, Err(error) if is_refused_grant(error) && is_young(role, engine.now())) {
            break;
        }
        engine.clock.pause(Duration::from_secs(pause)).await;
        outcome = once(engine, storage, federation, key, role, lifetime).await;
    }
    engine.metrics.token_exchanged(name, result_of(&outcome));
    match &outcome {
        Ok(_) => engine.federation.exchanges.forget(name),
        Err(error @ Error::Exchange { error: ExchangeError::Refused(_), .. }) => {
            note_refused(engine, storage, name, error).await;
        }
        Err(_) => {}
    }
    outcome
}

/// Notes a refusal, unless the role was deleted or stopped during the exchange. The check comes after the note: whoever
/// deletes or stops the role forgets the note after the role's record is stored.
async fn note_refused(engine: &Engine, storage: &dyn Storage, name: &str, error: &Error) {
    engine.federation.exchanges.note_refused(name, error, engine.now());
    let role = engine.federation.roles.get(storage, name).await;
    if role.is_ok_and(|role| role.is_none_or(|role| !role.settings.enabled)) {
        engine.federation.exchanges.forget(name);
    }
}

/// One exchange with this key. If OpenAI's time in the refusal shows that the clocks differ, a token by OpenAI's time
/// follows.
pub(super) async fn once(
    engine: &Engine,
    storage: &dyn Storage,
    federation: &Federation,
    key: &SigningKey,
    role: &FederatedRole,
    lifetime: Duration,
) -> Result<AccessToken, Error> {
    let (Some(provider), Some(account)) = (federation.provider.id(), role.account()) else {
        return Err(Error::field("the role is not registered at OpenAI yet"));
    };
    let client = client(engine, storage, federation).await?;
    let before = time_of_token(engine);
    let token = sign(federation, key, role, lifetime, before)?;
    let error = match client.exchange(&token, provider, account).await {
        Ok(granted) => return Ok(granted),
        Err(error) => error,
    };
    if let ExchangeError::Refused(refusal) = &error
        && let Some(date) = refusal.date.filter(|date| (*date - before).abs() > CLOCK_DIFFERENCE)
    {
        // A proxy may have refused. So its date counts for this token alone, and a success shows that it is OpenAI's.
        let token = sign(federation, key, role, lifetime, date)?;
        let again = client.exchange(&token, provider, account).await;
        return again.map_err(|error| explained(error, federation, key, role, provider));
    }
    Err(explained(error, federation, key, role, provider))
}

/// The outcome as the metrics count it.
fn result_of(outcome: &Result<AccessToken, Error>) -> ExchangeResult {
    match outcome {
        Ok(_) => ExchangeResult::Done,
        Err(Error::Exchange { error, .. }) => match error {
            ExchangeError::Refused(_) => ExchangeResult::Refused,
            ExchangeError::Limited { .. } => ExchangeResult::Limited,
            ExchangeError::Unreachable(_) => ExchangeResult::Failed,
            _ => ExchangeResult::Unusable,
        },
        Err(_) => ExchangeResult::Failed,
    }
}

fn is_refused_grant(error: &Error) -> bool {
    let Error::Exchange { error: ExchangeError::Refused(refusal), .. } = error else { return false };
    refusal.code == INVALID_GRANT
}

/// True if OpenAI changed the rule a moment ago. A clock that was put back makes it young, which costs some seconds.
fn is_young(role: &FederatedRole, now: DateTime<Utc>) -> bool {
    role.managed.as_ref().and_then(|managed| managed.changed).is_some_and(|changed| now - changed < YOUNG)
}

/// The client of the token exchange, made anew after a change of its URL or its certificates.
async fn client(
    engine: &Engine,
    storage: &dyn Storage,
    federation: &Federation,
) -> Result<TokenExchange, Error> {
    let held = engine.federation.exchanges.connected.lock().clone();
    let config = match (&federation.provider, &held) {
        // Without a configuration, each look for one would read storage.
        (Provider::ByHand { .. }, Some(Connected { revision: None, .. })) => engine.config.stored.peek(ONLY),
        _ => engine.config.stored.get(storage, ONLY).await?,
    };
    let revision = config.as_ref().map(|config| config.revision);
    let fits =
        |held: &Connected| held.revision == revision && held.token_endpoint == federation.token_endpoint;
    if let Some(held) = held.filter(fits) {
        return Ok(held.client);
    }
    let client = connect(engine, federation, config.as_deref())?;
    let token_endpoint = federation.token_endpoint.clone();
    *engine.federation.exchanges.connected.lock() =
        Some(Connected { token_endpoint, revision, client: client.clone() });
    Ok(client)
}

fn connect(
    engine: &Engine,
    federation: &Federation,
    config: Option<&Config>,
) -> Result<TokenExchange, Error> {
    let endpoint: Endpoint = checks::parsed(&federation.token_endpoint, "token_endpoint")?;
    let authorities = config.map(|config| config.ca_cert.as_str()).filter(|pem| !pem.is_empty());
    let certificate = config.and_then(Config::client_certificate);
    let client = TokenExchange::new(endpoint, authorities, certificate.as_ref())?;
    Ok(client.observed_by(engine.config.clients.recorder(&engine.federation.exchanges.status)))
}

/// Adds what to look at to a refusal.
fn explained(
    error: ExchangeError,
    federation: &Federation,
    key: &SigningKey,
    role: &FederatedRole,
    provider: &IdentityProviderId,
) -> Error {
    let ExchangeError::Refused(refusal) = &error else {
        return Error::Exchange { error, advice: String::new() };
    };
    let account = role.account().map_or("", |account| account.as_str());
    let advice = if refusal.code == INVALID_GRANT {
        format!(
            "; check at OpenAI that provider {provider} is there and enabled, that service account {account} is there, and \
             that its rule is enabled and demands sub {:?}",
            role.subject
        )
    } else {
        let renew = if federation.provider.is_managed() {
            "config/federation/rotate uploads a new key"
        } else {
            "upload jwks of config/federation"
        };
        format!(
            "; check the clock of this server, and at OpenAI that provider {provider} has key {}, issuer {:?} and audience \
             {:?}: a mount that was restored from a backup or copied may sign with a key that the provider no longer \
             has, and then {renew}",
            key.kid(),
            federation.issuer,
            federation.audience
        )
    };
    Error::Exchange { error, advice }
}
