//! The record of a role: the settings of its credentials, and the names of their accounts.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::config::metadata::Metadata;
use crate::engine::config::predecessor;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::creds::caller::Caller;
use crate::engine::naming::names::{MountTag, ServiceAccountName};
use crate::engine::naming::template::{Template, Values};
use crate::engine::{Engine, Error};
use crate::logical::{Collection, Record, Storage};
use crate::openai::{LONGEST_EXPIRY, ProjectId, ServiceAccountId};

/// The settings of one role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    /// Name of the project in Vault; empty if the role has the project's id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the role has no name of a project.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// Template of the account's name.
    pub service_account_name_template: String,
    /// Description for people, which OpenAI does not get.
    #[serde(default)]
    pub service_account_description: String,
    /// Lifetime of a credential without a requested ttl; zero means the mount's default.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// Maximum ttl; zero means the mount's maximum.
    #[serde(with = "crate::engine::time::seconds")]
    pub max_ttl: Duration,
    /// Permissions of the key; empty means OpenAI's default.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Labels of the operator.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// The account that keys are created on; `None` creates an account for each key.
    #[serde(default)]
    pub service_account_id: Option<ServiceAccountId>,
    /// Name of that account when the role was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// The parsed template, set at first use.
    #[serde(skip)]
    pub(super) template: OnceLock<Arc<Template>>,
}

impl Record for Role {
    const VERSION: u32 = 1;
    fn import_legacy(entry: Value) -> Result<Value, serde_json::Error> {
        predecessor::role(entry)
    }
}

pub(in crate::engine) static ROLES: Collection<Role> =
    Collection::new("role/").with_legacy_prefix(predecessor::ROLES);

impl Role {
    /// The project, by name or by id.
    pub(super) fn named_project(&self) -> NamedProject {
        NamedProject { project: self.project.clone(), project_id: self.project_id.clone() }
    }

    /// Maximum ttl of a credential, without the mount's maximum.
    pub(in crate::engine) fn longest_ttl(&self) -> Duration {
        if self.max_ttl.is_zero() { LONGEST_EXPIRY } else { self.max_ttl }
    }

    /// The parsed template of names.
    pub(in crate::engine) fn template(&self) -> Result<&Template, Error> {
        if let Some(template) = self.template.get() {
            return Ok(template);
        }
        let parsed = Template::parse(&self.service_account_name_template);
        let parsed = parsed.map_err(|error| of_template(&error))?;
        Ok(self.template.get_or_init(|| Arc::new(parsed)))
    }

    /// A new unique name for an account or key of the role. The name ends in this stamp and the mount's tag.
    pub(in crate::engine) fn new_name(
        &self,
        tag: &MountTag,
        role_name: &str,
        caller: &Caller,
        stamp: &str,
    ) -> Result<String, Error> {
        let values = Values {
            role_name,
            project_name: &self.project,
            display_name: &caller.display_name,
            entity_name: &caller.entity_name,
        };
        let (template, now) = (self.template()?, Utc::now());
        let name = ServiceAccountName::stamped(template, &values, stamp, tag, now, &mut rand::rng());
        Ok(name.map_err(|error| of_template(&error))?.into())
    }
}

fn of_template(error: &dyn Display) -> Error {
    Error::field(format!("service_account_name_template: {error}"))
}

/// The roles with this name of a project.
pub(in crate::engine) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let named =
        engine.creds.roles.all(storage).await?.into_iter().filter(|(_, role)| role.project == project);
    Ok(named.map(|(name, _)| format!("role {name}")).collect())
}
