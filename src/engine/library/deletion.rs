//! The end of a library set. Its accounts have to be checked in; those that Vault made are deleted, unless somebody else
//! has keys on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fields::{FORCE, NAME};
use super::in_use::{refuse_lent, refuse_used};
use super::members::Member;
use super::{changes, missing, status};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::Call;
use crate::logical::{Response, Storage};
use crate::openai::OrganizationId;

/// Deletes a set. With `force=true` accounts in an organization that is not the configured one are left there, lent or
/// not, and keys of others hold no deletion: their accounts wait until these keys have ended.
pub(super) async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name, force) = (&**call.storage(), call.get(&NAME)?, call.get(&FORCE)?);
    let _alone = engine.lock_set(&name).await;
    let mut warnings = Vec::new();
    if let Some(set) = engine.library_sets.get(storage, &name).await? {
        let organization = configured_organization(&engine, storage).await?;
        let is_near = |member: &&Member| Some(&member.organization_id) == organization.as_ref();
        let ours: Vec<Member> =
            if force { set.members.iter().filter(is_near).cloned().collect() } else { set.members.clone() };
        refuse_lent(storage, &name, &ours).await?;
        if !force {
            refuse_used(&engine, storage, &ours).await?;
        }
        let _no_loan = engine.lock_loans(&name).await;
        refuse_lent(storage, &name, &ours).await?;
        changes::touch(&engine, storage, &name, &set.members).await?;
        engine.library_sets.delete(storage, &name).await?;
        failpoint!("set.deleted");
    } else if !force {
        return Ok(None);
    }
    if force {
        warnings.extend(leave_far(&engine, storage, &name).await?);
    }
    warnings.extend(changes::finish(&engine, storage, &name).await);
    let _ = missing::settle(storage, &name, &[], true).await;
    let _ = status::count(&engine, storage, &name).await;
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// The organization whose accounts can be reached now; none while the engine is not configured.
async fn configured_organization(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Option<OrganizationId>, Error> {
    match engine.configured(storage).await {
        Ok(configured) => Ok(Some(configured.config.organization_id.clone())),
        Err(Error::NotConfigured) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives up the accounts that cannot be reached. The set is deleted by now, so nothing names them.
async fn leave_far(engine: &Engine, storage: &dyn Storage, set: &str) -> Result<Option<String>, Error> {
    let organization = configured_organization(engine, storage).await?;
    let far = |member: &Member| Some(&member.organization_id) != organization.as_ref();
    let left = changes::give_up(engine, storage, set, far).await?;
    let left: Vec<&Member> = left.iter().filter(|member| member.is_made()).collect();
    let organizations: BTreeSet<&str> = left.iter().map(|member| member.organization_id.as_str()).collect();
    let names: Vec<&str> = left.iter().map(|member| member.name.as_str()).collect();
    Ok((!left.is_empty()).then(|| {
        format!(
            "accounts that Vault made are left at OpenAI in organization {}, which the configuration does not name: {}",
            organizations.into_iter().collect::<Vec<_>>().join(", "),
            names.join(", ")
        )
    }))
}
