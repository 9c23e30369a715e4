//! One piece of work on a federated role, and the writes of its record.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::role::{FederatedRole, owner};
use crate::engine::accounts::kind::Pending;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, due};
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::naming::names::ServiceAccountName;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{Client, Urgency};

/// One piece of work on a role. The caller holds the role's lock.
pub(super) struct Work<'a> {
    pub(super) engine: &'a Engine,
    pub(super) storage: &'a dyn Storage,
    pub(super) name: &'a str,
    /// The client of the rule's organization.
    client: Client,
    /// Longest wait of each call.
    pub(super) max_wait: Duration,
}

impl<'a> Work<'a> {
    /// Work whose calls each wait at most for `max_wait`.
    pub(super) async fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        name: &'a str,
        role: &FederatedRole,
        max_wait: Duration,
    ) -> Result<Self, Error> {
        let client = client_of(engine, storage, role).await?;
        Ok(Self { engine, storage, name, client, max_wait })
    }

    /// The client for calls that make or change something.
    pub(super) fn making(&self) -> Client {
        self.client.for_work(Urgency::Rotation, self.max_wait).retrying_not_found()
    }

    /// The client for calls that end something.
    pub(super) fn ending(&self) -> Client {
        self.client.for_work(Urgency::Revocation, self.max_wait)
    }

    /// A new unique name, of an account or a rule.
    pub(super) fn new_name(&self) -> String {
        let front = format!("vault-{}", self.name);
        ServiceAccountName::beginning(&front, &self.engine.tag, &mut rand::rng()).to_string()
    }

    /// Stores the record. The caller has marked the role if something is left to do.
    pub(super) async fn put(&self, role: &FederatedRole) -> Result<(), Error> {
        put(self.engine, self.storage, self.name, role).await
    }
}

/// By hand there is no client, and nothing to call.
async fn client_of(engine: &Engine, storage: &dyn Storage, role: &FederatedRole) -> Result<Client, Error> {
    match &role.managed {
        Some(managed) => clients::client_of(engine, storage, &managed.organization_id).await,
        None => Err(Error::NotConfigured),
    }
}

/// Has the worker look at the role with the next tick.
pub(super) async fn mark(engine: &Engine, storage: &dyn Storage, name: &str) -> Result<(), Error> {
    // The earlier of both clocks: under a clock that is ahead, the marker would lie far in the future.
    due::mark(storage, &owner(name), engine.certain_time()).await?;
    failpoint!("federated.marked");
    Ok(())
}

/// Stores the record.
pub(super) async fn put(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &FederatedRole,
) -> Result<(), Error> {
    engine.federation.roles.put(storage, name, role).await?;
    failpoint!("federated.put");
    Ok(())
}

/// Removes the record of a deleted role, and gives its account up.
pub(super) async fn remove(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &FederatedRole,
) -> Result<(), Error> {
    engine.federation.roles.delete(storage, name).await?;
    failpoint!("federated.removed");
    if let Some(account) = role.account() {
        // A claim that stays is void.
        let _ = claims::release(&engine.locks, storage, account, &owner(name)).await;
    }
    Ok(())
}

/// When the worker has to look at the role again; none if OpenAI is as the record says.
pub(super) fn next_look(role: &FederatedRole, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if role.is_settled() {
        return None;
    }
    let retry = (!role.has_only_look_ups_left()).then(|| role.retry.waits_until(now).unwrap_or(now));
    Some(role.making.next_look(now).into_iter().chain(retry).min().unwrap_or(now))
}

/// The pending work of the role at OpenAI.
pub(super) fn waiting(role: &FederatedRole, name: &str, now: DateTime<Utc>) -> Vec<Pending> {
    let owner = owner(name);
    let mut waiting: Vec<Pending> = Pending::look_ups(&owner, &role.making, now).collect();
    if role.deleted.is_some() {
        waiting.extend(end_of(role, &owner, now));
    } else if !role.is_settled() && role.making.is_empty() {
        waiting.push(Pending::change(&owner, role.since.min(now), &role.retry));
    }
    waiting
}

/// The end of a deleted role, under the name of its account or rule. None if only creations are left to look for.
fn end_of(role: &FederatedRole, owner: &Owner, now: DateTime<Utc>) -> Option<Pending> {
    let made = role.made_account.as_ref();
    let rule = role.managed.as_ref().and_then(|managed| managed.rule_name.as_ref());
    let name = made.map(|made| &made.name).or(rule)?;
    Some(Pending {
        service_account_id: made.map(|made| made.id.to_string()).unwrap_or_default(),
        // The account has no key.
        key_dead: true,
        ..Pending::deletion(name, Some(owner), role.deleted.unwrap_or(now).min(now), &role.retry)
    })
}
