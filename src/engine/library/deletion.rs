//! The deletion of a library set. All its accounts have to be checked in. The accounts that Vault created are deleted,
//! unless somebody else has keys on them.
//!
//! If the plugin or the server dies, the last completed step decides:
//! 1. *The set is stored as a tombstone with all its accounts in `ending`*, and some may be gone at OpenAI. Readers see
//!    no set. The next tick deletes the created accounts, releases the adopted ones, and then deletes the record.
//! 2. *The record is deleted.* The tick deletes remaining records of missing accounts.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fields::{FORCE, NAME};
use super::in_use::{refuse_lent, refuse_used};
use super::members::Member;
use super::sets::{self, Ending, LibrarySet};
use super::{legacy, missing, reconcile, status};
use crate::engine::config::clients;
use crate::engine::failpoint::failpoint;
use crate::engine::library::lending;
use crate::engine::{Engine, Error};
use crate::framework::Call;
use crate::logical::{Response, Storage};
use crate::openai::OrganizationId;

/// Deletes a set. `force=true` skips two refusals. Accounts in another organization than the configured one stay there,
/// even if they are checked out. An account with keys of others is deleted later, when these keys have ended.
pub(super) async fn delete(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name, force) = (&**call.storage(), call.get(&NAME)?, call.get(&FORCE)?);
    let _alone = sets::lock_set(&engine, &name).await;
    legacy::take_over_change(&engine, storage, &name).await?;
    let Some(mut set) = sets::stored(&engine, storage, &name).await? else { return Ok(None) };
    if set.is_tombstone && !force {
        return Ok(None);
    }
    let organization = configured_organization(&engine, storage).await?;
    let is_near = |member: &Member| Some(&member.organization_id) == organization.as_ref();
    let members = std::mem::take(&mut set.members);
    let ours: Vec<Member> = members.iter().filter(|member| !force || is_near(member)).cloned().collect();
    refuse_lent(storage, &name, &ours).await?;
    if !force {
        refuse_used(&engine, storage, &ours).await?;
    }
    let now = engine.now();
    set.add_to_ending(&members, now, now);
    set.is_tombstone = true;
    let warning = if force { release_far(&mut set, |member| !is_near(member)) } else { None };
    {
        let _no_loan = lending::lock_loans(&engine, &name).await;
        refuse_lent(storage, &name, &ours).await?;
        sets::put(&engine, storage, &name, &set).await?;
    }
    failpoint!("set.deleted");
    let mut warnings: Vec<String> = warning.into_iter().collect();
    warnings.extend(reconcile::finish(&engine, storage, &name).await);
    let _ = missing::settle(storage, &name, &[], true).await;
    let _ = status::count(&engine, storage, &name).await;
    Ok((!warnings.is_empty()).then(|| Response { warnings, ..Response::default() }))
}

/// The configured organization; `None` without a configuration.
async fn configured_organization(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Option<OrganizationId>, Error> {
    match clients::configured(engine, storage).await {
        Ok(configured) => Ok(Some(configured.config.organization_id.clone())),
        Err(Error::NotConfigured) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Treats accounts that cannot be reached like adopted ones: they are released and not deleted. Returns a warning with
/// their names.
fn release_far(set: &mut LibrarySet, is_far: impl Fn(&Member) -> bool) -> Option<String> {
    let mut made = Vec::new();
    for Ending { member, .. } in set.ending.iter_mut().filter(|ending| is_far(&ending.member)) {
        made.extend(member.is_made().then(|| member.clone()));
        member.made_as = None;
    }
    let organizations: BTreeSet<&str> = made.iter().map(|member| member.organization_id.as_str()).collect();
    let names: Vec<&str> = made.iter().map(|member| member.name.as_str()).collect();
    (!made.is_empty()).then(|| {
        format!(
            "accounts that Vault made are left at OpenAI in organization {}, which the configuration does not name: {}",
            organizations.into_iter().collect::<Vec<_>>().join(", "),
            names.join(", ")
        )
    })
}
