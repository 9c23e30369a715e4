//! Ends what a deleted federated role has at OpenAI: its rule, then the account that was made for it. Also looks for
//! accounts and rules of a creation with an unknown outcome.
//!
//! *Guarantees:* the tombstone is stored before anything is ended. The record keeps what OpenAI has not confirmed to be
//! gone. An account is deleted only if Vault made it for the role, nobody else claims it, and it has no live key.
//!
//! *Assumptions:* the caller holds the role's lock.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::role::{FederatedRole, MadeAccount, Managed, owner};
use super::role_work::{self, Work};
use crate::engine::accounts::kind::Mount;
use crate::engine::accounts::lookup::Look;
use crate::engine::accounts::making::Making;
use crate::engine::accounts::{claims, deletion, live_keys, lost};
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::{DEPENDENTS, Error};
use crate::openai::{Client, FederationRuleId, IdentityProviderId, ProjectId};

/// Ends everything, and removes the record if nothing is left. Else the record counts the failure and keeps its reason.
pub(super) async fn end(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    let outcome = end_all(work, role).await;
    if role.is_over() {
        return role_work::remove(work.engine, work.storage, work.name, role).await;
    }
    match &outcome {
        Ok(()) => role.retry.succeeded(),
        Err(error) => role.retry.failed_by(work.name, error, work.engine.now(), Duration::ZERO),
    }
    work.put(role).await?;
    outcome
}

async fn end_all(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    end_rule(work, role).await?;
    if role.managed.as_ref().is_some_and(|it| it.rule_name.is_some()) {
        // Perhaps OpenAI is making the rule at this moment.
        return Ok(());
    }
    let Some(made) = role.made_account.clone() else { return Ok(()) };
    end_account(work, role, &made).await?;
    failpoint!("federated.account_ended");
    role.made_account = None;
    Ok(())
}

/// Deletes the rule, found by its name if its id is not known.
async fn end_rule(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    let Some(managed) = role.managed.as_mut() else { return Ok(()) };
    let Managed { provider_id, rule_name: Some(name), .. } = &*managed else { return Ok(()) };
    let is_ended = match &managed.rule_id {
        Some(id) => delete_rule(work, provider_id, id, managed.changed).await.map(|()| true)?,
        None => end_lost_rule(work, provider_id, name, managed.changed).await?,
    };
    if !is_ended {
        return Ok(());
    }
    failpoint!("federated.rule_ended");
    work.engine.accounts.first_seen.forget(name);
    (managed.rule_name, managed.rule_id) = (None, None);
    Ok(())
}

async fn delete_rule(
    work: &Work<'_>,
    provider: &IdentityProviderId,
    id: &FederationRuleId,
    made: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    clients::note_made(work.engine, &[id.as_str()], made);
    let deleted = work.ending().delete_federation_rule(provider, id).await;
    deletion::done_or_gone(deleted).map_err(Error::Revocation)
}

/// Deletes the rule of this name. Answers false while its creation may be under way, as absence proves nothing then.
async fn end_lost_rule(
    work: &Work<'_>,
    provider: &IdentityProviderId,
    name: &str,
    made: Option<DateTime<Utc>>,
) -> Result<bool, Error> {
    let Some(id) = lost_rule(work, &work.ending(), provider, name).await? else {
        return Ok(work.engine.accounts.first_seen.has_settled(name, false));
    };
    delete_rule(work, provider, &id, made).await?;
    Ok(true)
}

/// The rule of this name, whose id is not known.
async fn lost_rule(
    work: &Work<'_>,
    client: &Client,
    provider: &IdentityProviderId,
    name: &str,
) -> Result<Option<FederationRuleId>, Error> {
    lost::wait_in_last_tick(work.engine, name).await?;
    match client.federation_rules(provider).await {
        Ok(rules) => Ok(rules.into_iter().find(|it| it.name.as_deref() == Some(name)).map(|rule| rule.id)),
        // Its rules went with the provider.
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(Error::Revocation(error)),
    }
}

/// Deletes the account that Vault made, and releases its claim. An account that another owner claims is not deleted.
async fn end_account(work: &Work<'_>, role: &FederatedRole, made: &MadeAccount) -> Result<(), Error> {
    let _no_claim = claims::lock(&work.engine.locks, &made.id).await;
    let ours = owner(work.name);
    if claims::claimants(work.storage, &made.id).await?.iter().any(|owner| *owner != ours) {
        return Ok(claims::release_locked(work.storage, &made.id, &ours).await?);
    }
    let (client, project) = (work.ending(), &role.account_project_id);
    clients::note_made(work.engine, &[made.id.as_str()], made.made);
    // Vault makes no key on this account, so a live key is somebody else's.
    live_keys::refuse_used(work.engine, &client, project, &made.id, &[], work.max_wait).await?;
    deletion::end_account(&client, project, &made.id).await.map_err(Error::Revocation)?;
    Ok(claims::release_locked(work.storage, &made.id, &ours).await?)
}

/// Looks for the accounts and rules of these creations, and deletes them. The record keeps failures, and the caller
/// stores the record.
pub(super) async fn look_up(
    work: &Work<'_>,
    role: &mut FederatedRole,
    sought: &[Making],
) -> Result<(), Error> {
    for making in sought {
        let looked_up = match (&making.project_id, &role.managed) {
            (Some(project), _) => undo(work, making, project).await,
            (None, Some(managed)) => {
                end_lost_rule(work, &managed.provider_id, &making.name, Some(making.since)).await
            }
            (None, None) => Ok(true),
        };
        role.making.note(work.engine, &making.name, &looked_up);
        if let Err(error @ Error::Storage(_)) = looked_up {
            return Err(error);
        }
    }
    Ok(())
}

/// True if the outcome is known now: nothing has the name, or the account of the name is deleted. Refuses an account with a
/// live key, which is somebody else's.
async fn undo(work: &Work<'_>, making: &Making, project: &ProjectId) -> Result<bool, Error> {
    let client = work.ending();
    let account = match lost::find(work.engine, &client, making).await.map_err(Error::Revocation)? {
        Look::Later => return Ok(false),
        Look::Done(None) => return Ok(true),
        Look::Done(Some(found)) => found.account,
    };
    let _no_claim = claims::lock(&work.engine.locks, &account).await;
    let ours = owner(work.name);
    if claims::claimants(work.storage, &account).await?.iter().any(|owner| *owner != ours) {
        return Ok(true);
    }
    // A role of keys has no claim.
    let mount = Mount { engine: work.engine, storage: work.storage };
    if DEPENDENTS.user_of(mount, &account).await?.is_some() {
        return Ok(true);
    }
    clients::note_made(work.engine, &[account.as_str()], making.since);
    live_keys::refuse_used(work.engine, &client, project, &account, &[], work.max_wait).await?;
    deletion::end_account(&client, project, &account).await.map_err(Error::Revocation)?;
    failpoint!("federated.undone");
    claims::release_locked(work.storage, &account, &ours).await?;
    Ok(true)
}
