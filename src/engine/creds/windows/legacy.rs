//! Write-ahead entries of credentials as the version before windows wrote them: each names its credentials.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::look::{Batch, Names};
use super::window::Triple;
use crate::engine::creds::issuer::FORGOTTEN_AFTER;
use crate::framework::WalKind;
use crate::openai::{OrganizationId, ProjectId, ServiceAccountId};

/// The entry's kind. It has no least age, as that of windows.
pub(in crate::engine) static ANNOUNCEMENT: WalKind<Announcement> =
    WalKind::new("credentials", Duration::ZERO).forgotten_after(FORGOTTEN_AFTER);

/// Credentials that were to be made, alike but for their names. Some were perhaps not made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Announcement {
    /// The organization they were made in.
    pub organization_id: OrganizationId,
    /// The project they were made in.
    pub project_id: ProjectId,
    /// The account that keys are made on; none if each credential is an account.
    pub service_account_id: Option<ServiceAccountId>,
    /// Their unique names: the accounts', or the keys' if the account stays.
    pub names: Vec<String>,
    /// When the last of them ends at the latest. With their names it gives their places in the ledger.
    pub ends: DateTime<Utc>,
    /// When this was written.
    pub announced: DateTime<Utc>,
}

impl Announcement {
    /// Its credentials. Its names are unique, so each name has one entry.
    pub(super) fn batch(self, entry: String) -> Batch {
        let triple = Triple {
            organization_id: self.organization_id,
            project_id: self.project_id,
            service_account_id: self.service_account_id,
        };
        let names = Names::Listed { names: self.names, ends: self.ends };
        Batch { triple, entry, opened: self.announced, names }
    }
}
