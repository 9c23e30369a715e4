//! The roles, sets, keys and accounts of all rooms that depend on the configuration, a project or an account.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::remaining;
use crate::engine::accounts::holdings;
use crate::engine::accounts::kind::{Holding, Mount};
use crate::engine::accounts::owner::Owner;
use crate::engine::config::configuration::Config;
use crate::engine::config::dependents::Dependents;
use crate::engine::config::named_projects::Project;
use crate::engine::creds::role::Role;
use crate::engine::creds::{account_user, role};
use crate::engine::federation::role_writes;
use crate::engine::library::sets;
use crate::engine::{Engine, Error, static_roles};
use crate::logical::Storage;
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// All rooms together.
pub(in crate::engine) struct AllRooms;

#[async_trait]
impl Dependents for AllRooms {
    async fn of_project(&self, mount: Mount<'_>, project: &str) -> Result<Vec<String>, Error> {
        let Mount { engine, storage } = mount;
        let mut users = role::of_project(engine, storage, project).await?;
        users.extend(role_writes::of_project(engine, storage, project).await?);
        users.extend(static_roles::of_project(storage, project).await?);
        users.extend(sets::of_project(engine, storage, project).await?);
        Ok(users)
    }

    async fn user_of(&self, mount: Mount<'_>, account: &ServiceAccountId) -> Result<Option<String>, Error> {
        account_user::user_of(mount.engine, mount.storage, account).await
    }

    async fn refuse_deletion(&self, mount: Mount<'_>, config: &Config) -> Result<(), Error> {
        remaining::refuse(mount.engine, mount.storage, config).await
    }

    async fn warn_of_leaving(
        &self,
        mount: Mount<'_>,
        organization: &OrganizationId,
    ) -> Result<Option<String>, Error> {
        remaining::warn_of_leaving(mount.engine, mount.storage, organization).await
    }
}

/// The names of projects in Vault, or else their ids, by OpenAI's id.
type Projects = BTreeMap<ProjectId, String>;

/// All projects that the mount uses. An unreadable record is an error, because its project is unknown. This function reads
/// all roles and sets, so no request may call it.
pub(super) async fn known_projects(engine: &Engine, storage: &dyn Storage) -> Result<Projects, Error> {
    let roles = engine.creds.roles.all(storage).await?;
    let holdings = holdings::all(engine, storage).await?;
    let named = engine.config.projects.all(storage).await?;
    Ok(projects_of(roles, holdings, named))
}

/// The projects of all readable records. This function reads all roles and sets, so no request may call it.
pub(super) async fn readable_projects(engine: &Engine, storage: &dyn Storage) -> Result<Projects, Error> {
    let roles = engine.creds.roles.readable(storage).await?;
    let holdings = holdings::readable(engine, storage).await?.into_iter().flat_map(|(_, holdings)| holdings);
    let named = engine.config.projects.readable(storage).await?;
    Ok(projects_of(roles, holdings, named))
}

fn projects_of(
    roles: Vec<(String, Arc<Role>)>,
    holdings: impl IntoIterator<Item = Holding>,
    named: Vec<(String, Arc<Project>)>,
) -> Projects {
    let of_roles = roles.into_iter().filter_map(|(_, role)| role.project_id.clone());
    // A project's name may point to another project by now, while the accounts stay in the old project.
    let of_holdings = holdings.into_iter().filter_map(|holding| holding.project_id);
    let mut known: Projects = of_roles.chain(of_holdings).map(|id| (id.clone(), id.to_string())).collect();
    known.extend(named.into_iter().map(|(name, project)| (project.project_id.clone(), name)));
    known
}

/// Accounts in readable records that outlive a credential, each with its owner in words. Roles that share an account
/// count as the first of them. This function reads all records, so no request may call it.
pub(super) async fn lasting_accounts(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<BTreeMap<ServiceAccountId, String>, Error> {
    let mut known = BTreeMap::new();
    for (name, role) in engine.creds.roles.readable(storage).await? {
        if let Some(account) = &role.service_account_id {
            known.entry(account.clone()).or_insert_with(|| format!("role {name}"));
        }
    }
    for (owner, holdings) in holdings::readable(engine, storage).await? {
        // A loan's account is its set's.
        if matches!(owner, Owner::Config | Owner::Loan { .. }) {
            continue;
        }
        for account in holdings.into_iter().filter_map(|holding| holding.service_account_id) {
            known.insert(account, owner.described());
        }
    }
    Ok(known)
}
