//! From the names in `service_account_names` to accounts at OpenAI: those that exist are adopted, the others made. It
//! knows no set and no storage of one; what it finds or makes, `changes` has on record.
//!
//! A missing account is made without a key, under a unique name, and then given its own name and the role `member` in
//! one call. So there never is a key to take back, and what undoes a creation goes by a name that only this mount
//! gives: another account that happens to be called as the set wants it is never taken for ours.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Error;
use crate::engine::clients::Configured;
use crate::openai::{
    Client, LONGEST_PAGE, OrganizationId, ProjectId, Role, ServiceAccount, ServiceAccountId, Urgency,
};

/// As long as a write waits for OpenAI each time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// An account of a library set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// OpenAI's id of it.
    pub id: ServiceAccountId,
    /// The organization it lives in.
    pub organization_id: OrganizationId,
    /// The project it lives in.
    pub project_id: ProjectId,
    /// The unique name under which Vault made it; none if it was there before. What Vault made goes with the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<String>,
}

/// Where a set's accounts live, and the client for it.
pub(super) struct Home {
    pub(super) organization_id: OrganizationId,
    pub(super) project_id: ProjectId,
    pub(super) client: Client,
}

impl Member {
    /// Whether this is its name or its id.
    pub fn answers_to(&self, asked: &str) -> bool {
        self.name == asked || self.id.as_str() == asked
    }
}

impl Home {
    pub(super) fn new(configured: &Configured, project_id: ProjectId) -> Self {
        Self {
            organization_id: configured.config.organization_id.clone(),
            project_id,
            client: configured.client.for_work(Urgency::Issue, PATIENCE),
        }
    }

    pub(super) fn member(&self, name: &str, id: ServiceAccountId, made_as: Option<String>) -> Member {
        Member {
            name: name.to_owned(),
            id,
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            made_as,
        }
    }

    /// The accounts of the project that have these names. A name that several have says nothing: refused.
    pub(super) async fn find(&self, names: &[&str]) -> Result<Vec<Member>, Error> {
        let mut found: HashMap<String, Member> = HashMap::new();
        let mut after = None;
        loop {
            let page =
                self.client.list_service_accounts(&self.project_id, after.as_deref(), LONGEST_PAGE).await;
            let page = page.map_err(Error::call("listing the project's service accounts"))?;
            for ServiceAccount { id, name, .. } in page.items {
                if names.contains(&name.as_str())
                    && let Some(first) = found.insert(name.clone(), self.member(&name, id.clone(), None))
                {
                    return Err(Error::field(format!(
                        "service_account_names: project {} has several accounts named {name:?}, such as {} and {id}; \
                         rename all but one of them",
                        self.project_id, first.id
                    )));
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found.into_values().collect()),
            }
        }
    }

    /// Gives an account that was made its own name and a role: from now on its keys are good for something.
    pub(super) async fn dub(&self, member: &Member) -> Result<(), Error> {
        let dubbed =
            self.client.rename_service_account(&self.project_id, &member.id, &member.name, Role::Member);
        dubbed.await.map(drop).map_err(Error::AccountCreation)
    }

    /// A warning for accounts that already have keys, which no check-in will end.
    pub(super) async fn warn_of_keys(&self, adopted: &[Member]) -> Result<Option<String>, Error> {
        if adopted.is_empty() {
            return Ok(None);
        }
        let mut with_keys = Vec::new();
        let mut after = None;
        loop {
            let page = self.client.list_keys(&self.project_id, after.as_deref(), LONGEST_PAGE).await;
            let page = page.map_err(Error::call("listing the project's keys"))?;
            for key in &page.items {
                let owner = adopted.iter().find(|member| key.service_account() == Some(&member.id));
                with_keys.extend(owner.map(|member| member.name.as_str()));
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        with_keys.sort_unstable();
        with_keys.dedup();
        Ok((!with_keys.is_empty()).then(|| {
            format!(
                "these accounts have keys that Vault did not make, which work beside a borrower's: {}",
                with_keys.join(", ")
            )
        }))
    }
}
