//! `config/federation` and `config/federation/rotate`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::kind;
use super::provider::{self, MAX_WAIT, Work};
use super::record::{Federation, Key, LOCK, ONLY, Provider};
use super::role::FEDERATED_ROLES;
use super::role_registration::{MOST_RULES, is_refusal};
use super::rotation;
use super::settings::{FORCE, Sent, all, default_audience, default_issuer};
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::clients;
use crate::engine::config::clients::Configured;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::telemetry::events::EventKind;
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error};
use crate::framework::{Call, Help, Path, ResponseField};
use crate::logical::{Data, Operation, Response, Storage, StorageError, data};
use crate::openai::{IdentityProviderId, TokenExchange, Urgency};

const HELP: Help = Help {
    synopsis: "Configure the mount as an issuer of tokens that OpenAI takes instead of keys.",
    description: "\
Without identity_provider_id, Vault makes a signing key, registers a workload identity provider with its public key at \
OpenAI, and a federation rule for each role with credential_type=access_token. That needs an admin key that may manage \
workload identity providers.

With identity_provider_id, an operator registers the provider with the jwks that a read shows, and a mapping for each role. \
Then the mount needs no admin key. A role's mapping demands the sub that a read of the role shows.

The signing key never leaves Vault. A change of token_endpoint, issuer or audience decides who takes the tokens: it needs \
admin_api_key in the same write. By hand it makes a new signing key, which has to be registered anew.

Deletion is refused while roles use the issuer. It deletes the provider that Vault registered.

    $ vault write -f openai/config/federation
    $ vault write openai/config/federation identity_provider_id=idp_123
    $ vault read openai/config/federation",
};

const ROTATE_HELP: Help = Help {
    synopsis: "Rotate the signing key of config/federation now.",
    description: "\
Adds a new public key to those that OpenAI has, and signs with the new key once OpenAI takes a token of it. The replaced \
public key stays at OpenAI until no token that it signed lives. If OpenAI does not take the new key at once, Vault repeats \
the attempt. By hand, an operator uploads the new jwks. OpenAI may end live access tokens when the keys change; its \
documents do not say.

    $ vault write -f openai/config/federation/rotate",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("mode", "managed: Vault registers the provider. by_hand: an operator does."),
    ResponseField::new::<String>("issuer", "iss of the tokens."),
    ResponseField::new::<String>("audience", "aud of the tokens."),
    ResponseField::new::<String>(
        "identity_provider_id",
        "OpenAI's id of the workload identity provider; empty before OpenAI has registered it.",
    ),
    ResponseField::new::<String>("token_endpoint", "URL of OpenAI's token exchange."),
    ResponseField::new::<i64>(
        "key_rotation_period",
        "Time between two rotations of the signing key, in seconds; 0 for by hand only.",
    ),
    ResponseField::new::<Data>("jwks", "The public keys that the provider at OpenAI must have."),
    ResponseField::new::<String>("current_kid", "Id of the key that signs."),
    ResponseField::new::<i64>("rules", "Number of roles, each of which has a federation rule at OpenAI."),
    ResponseField::new::<i64>("rules_limit", "Highest number of rules that OpenAI allows for the provider."),
    ResponseField::new::<String>("last_rotated", "Time since which the key signs."),
    ResponseField::new::<String>("next_rotation", "Time of the next rotation; empty for by hand only."),
    ResponseField::new::<String>(
        "rotation_waits_for",
        "What a rotation under way waits for; empty without one.",
    ),
    ResponseField::new::<Vec<String>>(
        "foreign_kids",
        "Keys of the provider that this mount did not upload, as of the last change of its keys.",
    ),
    ResponseField::new::<String>("last_error", "Reason of the last failure at OpenAI; empty without one."),
];

const ROTATE_ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("message", "A sentence that says what was done."),
    ResponseField::new::<String>("current_kid", "Id of the key that signs."),
    ResponseField::new::<String>("rotation_waits_for", "What the rotation waits for; empty if it is done."),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        all(Path::new("config/federation", HELP))
            .noun("the issuer of tokens")
            .on(Operation::Read, read)
            .on_write(write)
            .on(Operation::Delete, delete)
            .exists(exists)
            .responds(Operation::Read, ANSWER),
        Path::new("config/federation/rotate", ROTATE_HELP)
            .on(Operation::Update, rotate)
            .responds(Operation::Update, ROTATE_ANSWER),
    ]
}

impl Federation {
    fn view(&self, rules: usize, now: DateTime<Utc>) -> Data {
        let mode = if self.provider.is_managed() { "managed" } else { "by_hand" };
        data([
            ("mode", Value::from(mode)),
            ("issuer", self.issuer.as_str().into()),
            ("audience", self.audience.as_str().into()),
            ("identity_provider_id", self.provider.id().map_or("", IdentityProviderId::as_str).into()),
            ("token_endpoint", self.token_endpoint.as_str().into()),
            ("key_rotation_period", self.key_rotation_period.as_secs().into()),
            ("jwks", self.jwks()),
            ("current_kid", self.current.key.kid().into()),
            ("rules", rules.into()),
            ("rules_limit", MOST_RULES.into()),
            ("last_rotated", rfc3339::text(self.current.made).into()),
            ("next_rotation", self.next_rotation(now).map(rfc3339::text).unwrap_or_default().into()),
            ("rotation_waits_for", rotation::waits_for(self).unwrap_or_default().into()),
            ("foreign_kids", self.foreign_kids.clone().into()),
            ("last_error", self.retry.last_error.as_deref().unwrap_or_default().into()),
        ])
    }

    /// True if both send tokens of the same kind to the same place.
    fn is_addressed_like(&self, other: &Self) -> bool {
        (&self.issuer, &self.audience, &self.token_endpoint)
            == (&other.issuer, &other.audience, &other.token_endpoint)
    }
}

async fn exists(engine: Arc<Engine>, call: Call) -> Result<bool, Error> {
    Ok(engine.federation.stored.get(&**call.storage(), ONLY).await?.is_some())
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let Some(federation) = engine.federation.stored.get(storage, ONLY).await? else {
        return Ok(None);
    };
    let rules = FEDERATED_ROLES.names(storage).await?.len();
    Ok(Some(Response::new(federation.view(rules, engine.now()))))
}

async fn write(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let _alone = engine.locks.lock(LOCK).await;
    let stored = engine.federation.stored.latest(storage, ONLY).await?;
    let old = stored.as_deref().filter(|stored| stored.deleted.is_none());
    call.patches(old.is_some(), || "config/federation".to_owned())?;
    let sent = Sent::of(&call, &engine.tag)?;
    let warnings = if let Some(old) = old {
        update(&engine, storage, &sent, old).await?
    } else {
        if let Some(tombstone) = stored.as_deref() {
            finish(&engine, storage, tombstone).await?;
        }
        create(&engine, storage, &sent).await?
    };
    engine.events.emit(EventKind::ConfigWrite, "config/federation");
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

async fn create(engine: &Engine, storage: &dyn Storage, sent: &Sent) -> Result<Vec<String>, Error> {
    let (now, mut warnings) = (engine.now(), Vec::new());
    let provider = if let Some(id) = &sent.provider {
        Provider::ByHand { id: id.clone() }
    } else {
        let Configured { config, client } = clients::configured_in_storage(engine, storage).await?;
        warnings.extend(provider::check_room(&client.for_work(Urgency::Check, MAX_WAIT)).await?);
        let name = ServiceAccountName::beginning("vault", &engine.tag, &mut rand::rng()).to_string();
        engine.accounts.first_seen.begin(&name);
        let organization_id = config.organization_id.clone();
        Provider::Managed { organization_id, name, id: None, is_applied: false, since: now }
    };
    let mut federation = Federation {
        issuer: sent.issuer.clone().unwrap_or_else(|| default_issuer(&engine.tag)),
        audience: sent.audience.clone().unwrap_or_else(|| default_audience(&engine.tag)),
        token_endpoint: sent
            .token_endpoint
            .clone()
            .unwrap_or_else(|| TokenExchange::DEFAULT_ENDPOINT.to_owned()),
        key_rotation_period: sent.period.unwrap_or_default(),
        tag: engine.tag.to_string(),
        provider,
        current: Key::new(now)?,
        next: None,
        ending: Vec::new(),
        foreign_kids: Vec::new(),
        changed: None,
        deleted: None,
        retry: RetryState::default(),
    };
    let work = Work::new(engine, storage, &federation, MAX_WAIT).await?;
    work.put(&federation).await?;
    let Err(error) = provider::register(&work, &mut federation).await else {
        warnings.extend(warn_of_keys(&federation));
        return Ok(warnings);
    };
    if is_refusal(&error) && federation.provider.id().is_none() {
        if may_have_created(&error) {
            // OpenAI sometimes makes what it refuses, and lists it late: the worker looks for the provider.
            federation.deleted = Some(engine.now());
            work.put(&federation).await?;
        } else {
            engine.federation.stored.delete(storage, ONLY).await?;
        }
        return Err(error);
    }
    Err(pending(&work, federation, error).await)
}

/// True if the call of this error may have created its object.
fn may_have_created(error: &Error) -> bool {
    matches!(error, Error::OpenAi { error, .. } if error.may_have_created())
}

/// By hand, an operator has to register the key.
fn warn_of_keys(federation: &Federation) -> Option<String> {
    (!federation.provider.is_managed()).then(|| {
        format!(
            "register the public key {} at OpenAI: a read of config/federation shows jwks, issuer and audience of the \
             provider",
            federation.current.key.kid()
        )
    })
}

/// The record is stored, and the worker goes on.
async fn pending(work: &Work<'_>, mut federation: Federation, error: Error) -> Error {
    // A write whose outcome is unknown is not followed by another one.
    if !matches!(error, Error::Storage(_)) {
        federation.retry.failed_by("federation", &error, work.engine.now(), Duration::ZERO);
        // The worker finds the same without it.
        let _ = work.put(&federation).await;
    }
    Error::Pending(Box::new(error))
}

async fn update(
    engine: &Engine,
    storage: &dyn Storage,
    sent: &Sent,
    old: &Federation,
) -> Result<Vec<String>, Error> {
    let mut federation = old.clone();
    let set = |value: &mut String, sent: &Option<String>| {
        if let Some(sent) = sent {
            value.clone_from(sent);
        }
    };
    set(&mut federation.issuer, &sent.issuer);
    set(&mut federation.audience, &sent.audience);
    set(&mut federation.token_endpoint, &sent.token_endpoint);
    federation.key_rotation_period = sent.period.unwrap_or(old.key_rotation_period);
    take_provider(&mut federation.provider, sent.provider.as_ref())?;
    let is_moved = !federation.is_addressed_like(old);
    let mut warnings = Vec::new();
    match &mut federation.provider {
        Provider::Managed { is_applied, .. } if is_moved => {
            require_admin_key(engine, storage, sent).await?;
            if *is_applied {
                federation.changed = Some(engine.now());
            }
            *is_applied = false;
        }
        Provider::ByHand { .. } if is_moved => {
            federation.current = Key::new(engine.now())?;
            (federation.next, federation.ending) = (None, Vec::new());
            warnings.extend(warn_of_keys(&federation));
        }
        _ => {}
    }
    federation.retry.succeeded();
    let work = Work::new(engine, storage, &federation, MAX_WAIT).await?;
    work.put(&federation).await?;
    match provider::register(&work, &mut federation).await {
        Ok(()) => Ok(warnings),
        Err(error) if is_refusal(&error) && old.provider.id().is_some() => {
            work.put(old).await?;
            Err(error)
        }
        Err(error) => Err(pending(&work, federation, error).await),
    }
}

/// By hand, another provider may be named. A provider that Vault registered stays.
fn take_provider(provider: &mut Provider, sent: Option<&IdentityProviderId>) -> Result<(), Error> {
    let Some(sent) = sent else { return Ok(()) };
    match provider {
        Provider::ByHand { id } => {
            id.clone_from(sent);
            Ok(())
        }
        Provider::Managed { id: Some(id), .. } if id == sent => Ok(()),
        Provider::Managed { .. } => Err(Error::field(
            "identity_provider_id cannot be set, because Vault registered the provider: delete config/federation first",
        )),
    }
}

/// A caller that changes the address of the exchange could collect tokens.
async fn require_admin_key(engine: &Engine, storage: &dyn Storage, sent: &Sent) -> Result<(), Error> {
    let config = clients::configured(engine, storage).await?.config;
    if sent.admin_key.as_deref() == Some(config.admin_api_key.expose()) {
        return Ok(());
    }
    Err(Error::field(
        "token_endpoint, issuer and audience can only be changed with admin_api_key in the same write, the admin key of \
         config, because they decide who takes the tokens; if rotation made that key, write a new one to config first",
    ))
}

async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, force) = (&**call.storage(), call.get(&FORCE)?);
    let _alone = engine.locks.lock(LOCK).await;
    refuse_roles(&engine, storage).await?;
    let federation = match engine.federation.stored.latest(storage, ONLY).await {
        Err(error @ StorageError::Malformed { .. }) if force => {
            return remove_unreadable(&engine, storage, &error).await.map(Some);
        }
        federation => federation?,
    };
    let Some(federation) = federation else { return Ok(None) };
    let mut federation = (*federation).clone();
    let was_there = federation.deleted.is_none();
    let ended = end(&engine, storage, &mut federation).await;
    if was_there && (federation.deleted.is_some() || force) {
        engine.events.emit(EventKind::ConfigDelete, "config/federation");
    }
    match ended {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(Response::default().with_warning(kind::STILL_LOOKED_FOR))),
        Err(error) if force => {
            engine.federation.stored.delete(storage, ONLY).await?;
            let (id, name) = match &federation.provider {
                Provider::Managed { id, name, .. } => {
                    (id.as_ref().map_or("", |id| id.as_str()), name.as_str())
                }
                Provider::ByHand { id } => (id.as_str(), ""),
            };
            Ok(Some(Response::default().with_warning(format!(
                "provider {name} {id} may still be at OpenAI: delete it there ({error})"
            ))))
        }
        Err(error) => Err(error),
    }
}

/// Deletes an unreadable record. Its provider is unknown.
async fn remove_unreadable(
    engine: &Engine,
    storage: &dyn Storage,
    error: &StorageError,
) -> Result<Response, Error> {
    engine.federation.stored.delete(storage, ONLY).await?;
    engine.events.emit(EventKind::ConfigDelete, "config/federation");
    Ok(Response::default().with_warning(format!(
        "{error}; the record is removed: look at OpenAI for the provider that it named"
    )))
}

/// Ends the provider, and removes the record. After the tombstone is stored, the worker repeats what fails. Answers false
/// while the provider's creation may be under way.
async fn end(engine: &Engine, storage: &dyn Storage, federation: &mut Federation) -> Result<bool, Error> {
    let work = Work::new(engine, storage, federation, MAX_WAIT).await?;
    provider::refuse_rules(&work, federation).await?;
    federation.deleted = federation.deleted.or_else(|| Some(engine.now()));
    federation.retry.retry_now();
    work.put(federation).await?;
    kind::end(&work, federation).await.map_err(|error| Error::Pending(Box::new(error)))
}

/// Completes an earlier deletion.
async fn finish(engine: &Engine, storage: &dyn Storage, federation: &Federation) -> Result<(), Error> {
    let work = Work::new(engine, storage, federation, MAX_WAIT).await?;
    if kind::end(&work, federation).await? {
        return Ok(());
    }
    Err(Error::field(
        "an earlier config/federation is being deleted, and its provider is still looked for: try again in some minutes",
    ))
}

/// A role that is being deleted may still have its rule.
async fn refuse_roles(engine: &Engine, storage: &dyn Storage) -> Result<(), Error> {
    let mut users = Vec::new();
    for name in FEDERATED_ROLES.names(storage).await? {
        let role = StorageError::readable(engine.federation.roles.record(storage, &name).await)?;
        let is_deleted = role.is_some_and(|role| role.deleted.is_some());
        users.push(if is_deleted {
            format!(
                "{name} (deleted here, but not yet at OpenAI, which Vault repeats; a deletion of the role with force=true \
                 gives that up)"
            )
        } else {
            name
        });
    }
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::field(format!(
        "config/federation has roles that use it, cannot delete: it is used by {}",
        users.join(", ")
    )))
}

async fn rotate(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = &**call.storage();
    let _alone = engine.locks.lock(LOCK).await;
    let federation = engine.federation.stored.latest(storage, ONLY).await?;
    let federation =
        federation.filter(|federation| federation.deleted.is_none()).ok_or(Error::NotFederated)?;
    let mut federation = (*federation).clone();
    let work = Work::new(&engine, storage, &federation, MAX_WAIT).await?;
    provider::register(&work, &mut federation).await?;
    rotation::begin(&mut federation, engine.now())?;
    work.put(&federation).await?;
    let mut warnings = vec![
        "OpenAI may end live access tokens when the keys of a provider change; its documents do not say"
            .to_owned(),
    ];
    match rotation::advance_now(&work, &mut federation).await {
        Err(error @ Error::Storage(_)) => return Err(error),
        Err(error) => {
            if federation.next.is_some() {
                rotation::failed(&engine);
            } else {
                warnings.push(format!(
                    "an earlier public key is not removed from the provider yet, which Vault repeats: {error}"
                ));
            }
            federation.retry.failed_by("federation", &error, engine.now(), Duration::ZERO);
            work.put(&federation).await?;
        }
        Ok(()) => {}
    }
    let waits_for = rotation::waits_for(&federation);
    let message = match waits_for {
        None => "Signing key has been rotated.",
        Some(_) => "The rotation has begun, and Vault goes on.",
    };
    let answer = Response::of([
        ("message", Value::from(message)),
        ("current_kid", federation.current.key.kid().into()),
        ("rotation_waits_for", waits_for.unwrap_or_default().into()),
    ]);
    Ok(Some(Response { warnings, ..answer }))
}
