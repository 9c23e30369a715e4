//! The workload identity provider at OpenAI: its registration, its keys, its end.
//!
//! *Guarantees:* the provider's name is in the stored record before OpenAI is asked, and OpenAI allows it once in the
//! organization. So an interruption at any point, repeated, leaves one provider. A change of the keys starts from the keys
//! that OpenAI has: it adds or removes this mount's keys only, and never those of another mount with the same provider.
//!
//! *Assumptions:* the caller holds the lock of the record.

use std::time::Duration;

use serde_json::{Value, json};

use super::record::{Federation, ONLY, Provider};
use crate::engine::accounts::{deletion, lost};
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{
    self, Client, IdentityProvider, IdentityProviderChange, IdentityProviderId, NewIdentityProvider, Urgency,
};

/// Maximum time that a call waits for its turn: in a request, and in the tick. Vault gives a request 90 s.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(20);
/// Maximum number of providers of an organization at OpenAI.
const MOST_PROVIDERS: usize = 50;
/// From so many providers on, the registration warns of the limit.
const MANY_PROVIDERS: usize = 45;

/// One piece of work on the provider.
pub(super) struct Work<'a> {
    pub(super) engine: &'a Engine,
    pub(super) storage: &'a dyn Storage,
    /// The client of the provider's organization; none by hand.
    client: Option<Client>,
}

impl<'a> Work<'a> {
    /// Work on this record, whose calls wait for their turn at most for `max_wait`.
    pub(super) async fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        federation: &Federation,
        max_wait: Duration,
    ) -> Result<Self, Error> {
        let client = match federation.provider.organization() {
            Some(organization) => Some(clients::client_of(engine, storage, organization).await?),
            None => None,
        };
        let client = client.map(|client| client.for_work(Urgency::Rotation, max_wait));
        note_made(engine, federation);
        Ok(Self { engine, storage, client })
    }

    /// Stores the record.
    pub(super) async fn put(&self, federation: &Federation) -> Result<(), Error> {
        self.engine.federation.stored.put(self.storage, ONLY, federation).await?;
        failpoint!("federation.put");
        Ok(())
    }
}

/// Notes that the provider may be young, even if another process registered it.
pub(super) fn note_made(engine: &Engine, federation: &Federation) {
    if let Provider::Managed { id: Some(id), since, .. } = &federation.provider {
        clients::note_made(engine, &[id.as_str()], *since);
    }
}

/// Refuses a provider above OpenAI's limit. Answers a warning when the limit is near.
pub(super) async fn check_room(client: &Client) -> Result<Option<String>, Error> {
    let count = list(client).await?.len();
    if count >= MOST_PROVIDERS {
        return Err(Error::field(format!(
            "the organization has {count} workload identity providers, and OpenAI allows {MOST_PROVIDERS}: delete one \
             that is not used, or name an existing one with identity_provider_id"
        )));
    }
    Ok((count + 1 >= MANY_PROVIDERS).then(|| {
        format!(
            "the organization has {} of {MOST_PROVIDERS} workload identity providers that OpenAI allows",
            count + 1
        )
    }))
}

/// Registers the provider if that is not done, and gives it the issuer and the audience of the record.
pub(super) async fn register(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let Some(client) = &work.client else { return Ok(()) };
    let Provider::Managed { id, is_applied, .. } = &federation.provider else { return Ok(()) };
    match (id.clone(), *is_applied) {
        (Some(_), true) => Ok(()),
        (Some(id), false) => apply(work, client, federation, id).await,
        (None, _) => {
            let provider = find_or_make(client, federation).await?;
            failpoint!("federation.registered");
            let is_same = provider.issuer == federation.issuer && provider.audience == federation.audience;
            note(federation, provider.id.clone(), is_same);
            if let Provider::Managed { since, .. } = &mut federation.provider {
                *since = work.engine.now();
            }
            work.put(federation).await?;
            if is_same { Ok(()) } else { apply(work, client, federation, provider.id).await }
        }
    }
}

async fn find_or_make(client: &Client, federation: &Federation) -> Result<IdentityProvider, Error> {
    let Provider::Managed { name, .. } = &federation.provider else { return Err(Error::NotFederated) };
    if let Some(provider) = find(client, name).await? {
        return Ok(provider);
    }
    let new = NewIdentityProvider {
        name: name.clone(),
        issuer: federation.issuer.clone(),
        audience: federation.audience.clone(),
        description: Some(format!("Tokens of a Vault mount; its tag is {}.", federation.tag)),
        jwks: federation.jwks(),
    };
    failpoint!("federation.announced");
    let error = match client.create_identity_provider(&new).await {
        Ok(provider) => return Ok(provider),
        Err(error) => error,
    };
    let (may_exist, error) =
        (error.may_have_created(), Error::call("registering the workload identity provider")(error));
    if !may_exist {
        return Err(error);
    }
    // An earlier attempt may have made it, too.
    match find(client, name).await {
        Ok(found) => found.ok_or(error),
        // Without the list nothing proves that OpenAI has no provider.
        Err(_) => Err(Error::LeftBehind(Box::new(error))),
    }
}

async fn apply(
    work: &Work<'_>,
    client: &Client,
    federation: &mut Federation,
    id: IdentityProviderId,
) -> Result<(), Error> {
    let change =
        IdentityProviderChange { issuer: federation.issuer.clone(), audience: federation.audience.clone() };
    let changed = client.update_identity_provider(&id, &change).await;
    changed.map_err(|error| failed(&id, "changing the workload identity provider", error))?;
    note(federation, id, true);
    work.put(federation).await
}

fn note(federation: &mut Federation, found: IdentityProviderId, applied: bool) {
    if let Provider::Managed { id, is_applied, .. } = &mut federation.provider {
        (*id, *is_applied) = (Some(found), applied);
    }
}

/// The error of a call about the provider, which somebody may have deleted at OpenAI.
pub(super) fn failed(id: &IdentityProviderId, what: &'static str, error: openai::Error) -> Error {
    if !error.is_gone() {
        return Error::call(what)(error);
    }
    Error::field(format!(
        "provider {id} is gone at OpenAI ({error}): delete its roles and config/federation, and write them anew"
    ))
}

/// Adds the key of a rotation to the provider's keys at OpenAI. By hand this function does nothing.
pub(super) async fn upload_next(work: &Work<'_>, federation: &mut Federation) -> Result<(), Error> {
    let Some(jwk) = federation.next.as_ref().map(|next| next.key.key.public_jwk()) else { return Ok(()) };
    change_keys(work, federation, |keys| add(keys, jwk)).await
}

/// Adds a key to a set without it.
fn add(keys: &mut Vec<Value>, jwk: Value) {
    if !keys.iter().any(|key| key["kid"] == jwk["kid"]) {
        keys.push(jwk);
    }
}

/// Removes these keys from those that OpenAI has.
pub(super) async fn remove_keys(
    work: &Work<'_>,
    federation: &mut Federation,
    kids: &[String],
) -> Result<(), Error> {
    let is_removed = |key: &Value| kids.iter().any(|kid| key["kid"] == kid.as_str());
    change_keys(work, federation, |keys| keys.retain(|key| !is_removed(key))).await
}

/// Changes the keys of the provider, and notes those that this mount did not upload. The caller stores the record.
async fn change_keys(
    work: &Work<'_>,
    federation: &mut Federation,
    change: impl FnOnce(&mut Vec<Value>) + Send,
) -> Result<(), Error> {
    let (Some(client), Some(id)) = (&work.client, federation.provider.id().cloned()) else { return Ok(()) };
    let provider = client.identity_provider(&id).await;
    let provider = provider.map_err(|error| failed(&id, "reading the provider's keys", error))?;
    let before = provider.keys().to_vec();
    let mut keys = before.clone();
    // OpenAI may show the keys as of some seconds ago.
    federation.young_keys(work.engine.now()).into_iter().for_each(|jwk| add(&mut keys, jwk));
    change(&mut keys);
    if keys != before {
        // OpenAI takes no empty set; then the set stays as it is.
        if !keys.is_empty() {
            let changed = client.update_identity_provider_keys(&id, &json!({ "keys": keys })).await;
            changed.map_err(Error::call("changing the provider's keys"))?;
        }
        failpoint!("federation.keys_changed");
    }
    let kids = keys.iter().filter_map(|key| key["kid"].as_str());
    federation.foreign_kids = kids.filter(|kid| !federation.has_kid(kid)).map(str::to_owned).collect();
    Ok(())
}

/// Refuses the deletion of a provider with rules of others.
pub(super) async fn refuse_rules(work: &Work<'_>, federation: &Federation) -> Result<(), Error> {
    let (Some(client), Some(id)) = (&work.client, federation.provider.id()) else { return Ok(()) };
    let rules = match client.federation_rules(id).await {
        Ok(rules) => rules,
        Err(error) if error.is_gone() => return Ok(()),
        Err(error) => return Err(Error::call("listing the provider's federation rules")(error)),
    };
    if rules.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> =
        rules.iter().map(|rule| rule.name.as_deref().unwrap_or(rule.id.as_str())).collect();
    Err(Error::field(format!(
        "provider {id} has federation rules that no role of this mount has: {}; another mount may use them: delete them at \
         OpenAI first",
        names.join(", ")
    )))
}

/// Deletes the provider, found by its name if its id is not known. Answers false while its creation may be under way.
pub(super) async fn delete(work: &Work<'_>, federation: &Federation) -> Result<bool, Error> {
    let (Some(client), Provider::Managed { name, id, .. }) = (&work.client, &federation.provider) else {
        return Ok(true);
    };
    let client = client.for_work(Urgency::Revocation, MAX_WAIT);
    let id = if let Some(id) = id {
        Some(id.clone())
    } else {
        lost::wait_in_last_tick(work.engine, name).await?;
        find(&client, name).await?.map(|provider| provider.id)
    };
    let Some(id) = id else {
        return Ok(work.engine.accounts.first_seen.has_settled(name, false));
    };
    deletion::done_or_gone(client.delete_identity_provider(&id).await).map_err(Error::Revocation)?;
    failpoint!("federation.provider_ended");
    Ok(true)
}

async fn find(client: &Client, name: &str) -> Result<Option<IdentityProvider>, Error> {
    Ok(list(client).await?.into_iter().find(|provider| provider.name == name))
}

async fn list(client: &Client) -> Result<Vec<IdentityProvider>, Error> {
    client.identity_providers().await.map_err(Error::call("listing the workload identity providers"))
}
