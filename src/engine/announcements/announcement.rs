//! What stands in the write-ahead log before credentials are made: one entry for one, or for some that are alike.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::answers::Told;
use crate::engine::issuer::{self, Creation, Owner};
use crate::engine::ledger;
use crate::framework::WalKind;
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// The write-ahead entry of credentials.
pub(in crate::engine) static ANNOUNCEMENT: WalKind<Announcement> = issuer::creation("credentials");

/// Credentials about to be made, alike but for their names. Not each of them has to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// The organization they are made in.
    pub organization_id: OrganizationId,
    /// The project they are made in.
    pub project_id: ProjectId,
    /// The account that keys are made on; none if each is an account.
    pub service_account_id: Option<ServiceAccountId>,
    /// Their unique names: the accounts', or the keys' if the account stays.
    pub names: Vec<String>,
    /// When the last of them ends at the latest; with their names it gives their places in the ledger.
    pub ends: DateTime<Utc>,
    /// What tells whether the answers with them were given.
    pub told: Told,
    /// When this was written.
    pub announced: DateTime<Utc>,
}

impl Announcement {
    /// What is to be known of each of them.
    pub(in crate::engine) fn creations(&self) -> impl Iterator<Item = Creation> {
        self.names.iter().map(|name| self.creation(name))
    }

    pub(super) fn creation(&self, name: &str) -> Creation {
        Creation {
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            name: name.to_owned(),
            service_account_id: self.service_account_id.clone(),
            owner: Owner::Ledger(ledger::place(self.ends, name)),
            told: self.told,
            announced: self.announced,
        }
    }
}
