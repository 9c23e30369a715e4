//! Write-ahead entries of late version-1 releases: one entry for each batch of credentials, with the credentials' names.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::look_up::{Batch, Names};
use super::window::Target;
use crate::engine::accounts::making::FORGOTTEN_AFTER;
use crate::framework::WalKind;
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// The kind of these entries. Like the kind of windows, it has no minimum age.
pub(in crate::engine) static LEGACY_ENTRY: WalKind<LegacyEntry> =
    WalKind::new("credentials", Duration::ZERO).forgotten_after(FORGOTTEN_AFTER);

/// Credentials that such a release was about to create. Some may not exist.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LegacyEntry {
    /// Id of the organization.
    pub organization_id: OrganizationId,
    /// Id of the project.
    pub project_id: ProjectId,
    /// The account that keys are created on; `None` if each credential is an account of its own.
    pub service_account_id: Option<ServiceAccountId>,
    /// Unique names of the accounts, or of the keys if they are created on an account.
    pub names: Vec<String>,
    /// Latest end of the credentials. This end and a name give the place of the ledger record.
    pub ends: DateTime<Utc>,
    /// Time of the entry's write.
    pub announced: DateTime<Utc>,
}

impl LegacyEntry {
    /// The credentials of the entry with this storage key.
    pub(super) fn batch(self, entry: String) -> Batch {
        let target = Target {
            organization_id: self.organization_id,
            project_id: self.project_id,
            service_account_id: self.service_account_id,
        };
        let names = Names::Listed { names: self.names, end: self.ends };
        Batch { target, entry, opened: self.announced, names }
    }
}
