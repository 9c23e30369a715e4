//! The stored record of a role with `credential_type=access_token`: its settings, its account and its rule at OpenAI.
//!
//! The record says how OpenAI has to be, and what OpenAI confirmed. A deleted role stays as a tombstone, which readers do
//! not see, until its rule and the account that was made for it are gone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::accounts::kind::Holding;
use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::metadata::Metadata;
use crate::engine::config::project_fields::NamedProject;
use crate::logical::{Collection, Record};
use crate::openai::{FederationRuleId, IdentityProviderId, OrganizationId, ProjectId, ServiceAccountId};

/// A role whose readers get access tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FederatedRole {
    /// Settings from the operator.
    #[serde(flatten)]
    pub settings: Settings,
    /// The exact `sub` of its tokens.
    pub subject: String,
    /// The project of its account, whatever the project's name in Vault is pointed at later.
    pub account_project_id: ProjectId,
    /// The existing account that the role was written with; none if Vault makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_account_id: Option<ServiceAccountId>,
    /// The account that Vault made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_account: Option<MadeAccount>,
    /// Creations of accounts and rules with an unknown outcome. An entry without a project is a rule.
    #[serde(default, skip_serializing_if = "MakingList::is_empty")]
    pub making: MakingList,
    /// The role's rule at OpenAI; none by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<Managed>,
    /// When OpenAI was last to be changed: the first write, or the first change since OpenAI had all settings.
    pub since: DateTime<Utc>,
    /// When the role was deleted; none if it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DateTime<Utc>>,
    /// Retry state of the work at OpenAI.
    #[serde(flatten)]
    pub retry: RetryState,
}

/// Settings of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the project in Vault; empty if the role has the project's id.
    #[serde(default)]
    pub project: String,
    /// OpenAI's id of the project, if the role gives it.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// Permissions of the access tokens; empty means those of the account.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Lifetime of a token.
    #[serde(with = "crate::engine::time::seconds")]
    pub ttl: Duration,
    /// False stops the role.
    pub enabled: bool,
    /// Labels of the operator.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// An account that Vault made for the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeAccount {
    /// OpenAI's id of it.
    pub id: ServiceAccountId,
    /// Its unique name.
    pub name: String,
    /// It has the role of a member.
    pub is_member: bool,
    /// When OpenAI made it; none in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<DateTime<Utc>>,
}

/// The rule at OpenAI.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Managed {
    /// The organization of provider and account.
    pub organization_id: OrganizationId,
    /// The provider.
    pub provider_id: IdentityProviderId,
    /// The rule's name, unique in the provider; none before OpenAI is asked for a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<String>,
    /// OpenAI's id of the rule; none before OpenAI has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<FederationRuleId>,
    /// OpenAI has the settings of this record.
    pub is_applied: bool,
    /// When OpenAI last changed the rule: the token exchange may not know of it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<DateTime<Utc>>,
}

impl Record for FederatedRole {
    const VERSION: u32 = 1;
    fn is_visible(&self) -> bool {
        self.deleted.is_none()
    }
}

pub(in crate::engine) static FEDERATED_ROLES: Collection<FederatedRole> = Collection::new("federated-role/");

/// Held by whoever changes the role, whatever its type.
pub(in crate::engine) fn lock(name: &str) -> String {
    format!("role/{name}")
}

/// The role of this name, as an owner.
pub(super) fn owner(name: &str) -> Owner {
    Owner::FederatedRole(name.to_owned())
}

impl Settings {
    /// The project, by name or by id.
    pub(in crate::engine) fn named_project(&self) -> NamedProject {
        NamedProject { project: self.project.clone(), project_id: self.project_id.clone() }
    }
}

impl FederatedRole {
    /// The account that tokens act as, once there is one.
    pub fn account(&self) -> Option<&ServiceAccountId> {
        self.given_account_id.as_ref().or_else(|| self.made_account.as_ref().map(|made| &made.id))
    }

    /// True if OpenAI has what the record says.
    pub fn is_settled(&self) -> bool {
        self.deleted.is_none() && self.making.is_empty() && self.has_only_look_ups_left()
    }

    /// True if account and rule are there.
    pub fn is_registered(&self) -> bool {
        self.account().is_some() && self.managed.as_ref().is_none_or(|it| it.rule_id.is_some())
    }

    /// True if OpenAI has the settings of this record.
    pub fn is_applied(&self) -> bool {
        let is_member = self.made_account.as_ref().is_none_or(|made| made.is_member);
        is_member && self.managed.as_ref().is_none_or(|it| it.is_applied)
    }

    /// True if nothing of a deleted role is left at OpenAI.
    pub fn is_over(&self) -> bool {
        self.has_only_creations_left() && self.making.is_empty()
    }

    /// True if nothing of a deleted role is left at OpenAI, apart from creations whose outcome is not known.
    pub fn has_only_creations_left(&self) -> bool {
        let has_rule = self.managed.as_ref().is_some_and(|it| it.rule_name.is_some());
        self.deleted.is_some() && !has_rule && self.made_account.is_none()
    }

    /// True if nothing is left to do but to look for creations whose outcome is not known.
    pub fn has_only_look_ups_left(&self) -> bool {
        self.has_only_creations_left() || self.deleted.is_none() && self.is_registered() && self.is_applied()
    }

    /// All accounts and rules at OpenAI that the record names.
    pub fn holdings(&self) -> Vec<Holding> {
        let given = self.given_account_id.iter().map(Holding::of_account);
        let Some(managed) = &self.managed else { return given.collect() };
        let place = Holding::in_project(&managed.organization_id, Some(&self.account_project_id));
        let made = self.made_account.iter().map(|made| Holding {
            service_account_id: Some(made.id.clone()),
            name: Some(made.name.clone()),
            is_claimed: true,
            is_made_account: true,
            ..place.clone()
        });
        let rule = managed.rule_name.iter().map(|name| Holding { name: Some(name.clone()), ..place.clone() });
        given.chain(made).chain(rule).chain(self.making.iter().map(Holding::making)).collect()
    }
}
