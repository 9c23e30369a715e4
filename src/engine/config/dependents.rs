//! The interface to the rooms above this one: they know who depends on the configuration, a project or an account.

use async_trait::async_trait;

use crate::engine::Error;
use crate::engine::accounts::kind::Mount;
use crate::engine::config::configuration::Config;
use crate::openai::{OrganizationId, ServiceAccountId};

/// Everything that depends on the configuration.
#[async_trait]
pub trait Dependents: Send + Sync {
    /// Roles, static roles and library sets that name the project, in words.
    async fn of_project(&self, mount: Mount<'_>, project: &str) -> Result<Vec<String>, Error>;

    /// The role, static role or library set that uses the account, in words.
    async fn user_of(&self, mount: Mount<'_>, account: &ServiceAccountId) -> Result<Option<String>, Error>;

    /// Refuses the deletion of the configuration while something of its organization has still to be ended at OpenAI.
    async fn refuse_deletion(&self, mount: Mount<'_>, config: &Config) -> Result<(), Error>;

    /// A warning that the configuration no longer names this organization, if something there has still to be ended.
    async fn warn_of_leaving(
        &self,
        mount: Mount<'_>,
        organization: &OrganizationId,
    ) -> Result<Option<String>, Error>;
}
