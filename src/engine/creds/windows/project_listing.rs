//! Listings of the accounts and keys of a project, shared by all entries that are looked up in that project. After a
//! crash there may be dozens of entries, in a project with thousands of accounts, and OpenAI may allow few calls a
//! minute.
//!
//! *Guarantees:* a returned listing began at the requested time or later. An interrupted listing continues where it
//! stopped. After a failure a project is not listed for [`FAILURE_KEPT_FOR`]; other projects are not affected.
//!
//! *Assumption:* a listing contains everything that existed when the listing began and was not deleted meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::engine::time::clock::Clock;
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// Time for which a failure is returned to further callers.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(30);
/// Maximum wait for a page.
const MAX_PAGE_WAIT: Duration = Duration::from_secs(20);
/// Age from which a complete listing is dropped.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The kind of the listed objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Accounts,
    Keys,
}

/// A listed account or key.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// The account, or the account of the key.
    pub(super) account: ServiceAccountId,
    pub(super) key: Option<ApiKeyId>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// True if somebody called OpenAI with the key.
    pub(super) was_used: bool,
}

/// A complete listing.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// Start of the listing, by the monotonic clock.
    began: Duration,
    /// `None` if the project is archived or deleted, together with all its accounts and keys.
    pub(super) found: Option<Arc<Vec<Found>>>,
}

/// The latest listings of a mount.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<(ProjectId, Kind), Shared>>);

/// Locked while the project is listed.
type Shared = Arc<AsyncMutex<Progress>>;

#[derive(Default)]
struct Progress {
    /// Start and position of an incomplete listing.
    running: Option<(Duration, Pages)>,
    /// Objects on the pages of the incomplete listing.
    found: Vec<Found>,
    complete: Option<Listing>,
    failed: Option<(Duration, openai::Error)>,
}

impl Listings {
    /// All accounts or keys of the project, by a listing that began at `since` or later by the monotonic clock.
    pub(super) async fn list(
        &self,
        clock: &dyn Clock,
        client: &Client,
        project: &ProjectId,
        kind: Kind,
        since: Duration,
    ) -> Result<Listing, openai::Error> {
        let progress = Arc::clone(self.0.lock().entry((project.clone(), kind)).or_default());
        let mut progress = progress.lock().await;
        if let Some((at, error)) = &progress.failed
            && clock.monotonic().saturating_sub(*at) < FAILURE_KEPT_FOR
        {
            return Err(error.clone());
        }
        let listed = progress.list(clock, client, project, kind, since).await;
        progress.failed = listed.as_ref().err().map(|error| (clock.monotonic(), error.clone()));
        if listed.as_ref().is_err_and(|error| !error.is_transient()) {
            // The cursor may refer to a deleted object, so the next listing starts anew.
            progress.running = None;
        }
        listed
    }

    /// Drops all listings.
    pub(super) fn clear(&self) {
        *self.0.lock() = HashMap::new();
    }

    /// Drops old complete listings.
    pub(super) fn drop_old(&self, now: Duration) {
        self.0
            .lock()
            .retain(|_, progress| progress.try_lock().map_or(true, |progress| progress.is_useful(now)));
    }
}

impl Progress {
    fn is_useful(&self, now: Duration) -> bool {
        let is_young = |listing: &Listing| now.saturating_sub(listing.began) < MAX_AGE;
        self.running.is_some() || self.complete.as_ref().is_some_and(is_young)
    }

    async fn list(
        &mut self,
        clock: &dyn Clock,
        client: &Client,
        project: &ProjectId,
        kind: Kind,
        since: Duration,
    ) -> Result<Listing, openai::Error> {
        loop {
            if let Some(complete) = self.complete.as_ref().filter(|complete| complete.began >= since) {
                return Ok(complete.clone());
            }
            let Some((began, pages)) = &mut self.running else {
                self.begin(clock, client, project).await?;
                continue;
            };
            pages.go_on_for(MAX_PAGE_WAIT);
            self.found.extend(page(client, project, kind, pages).await?);
            if pages.is_whole() {
                let found = Some(Arc::new(std::mem::take(&mut self.found)));
                self.complete = Some(Listing { began: *began, found });
                self.running = None;
            }
        }
    }

    /// Starts a listing after a check that the project exists. Absence from the listing proves nothing otherwise.
    async fn begin(
        &mut self,
        clock: &dyn Clock,
        client: &Client,
        project: &ProjectId,
    ) -> Result<(), openai::Error> {
        let began = clock.monotonic();
        let is_gone = match client.project(project).await {
            Ok(project) => project.is_archived(),
            Err(error) if error.is_gone() => true,
            Err(error) => return Err(error),
        };
        self.found = Vec::new();
        if is_gone {
            self.complete = Some(Listing { began, found: None });
        } else {
            self.running = Some((began, Pages::within(MAX_PAGE_WAIT)));
        }
        Ok(())
    }
}

async fn page(
    client: &Client,
    project: &ProjectId,
    kind: Kind,
    pages: &mut Pages,
) -> Result<Vec<Found>, openai::Error> {
    match kind {
        Kind::Accounts => {
            let page = client.next_service_accounts(project, pages).await?;
            let found = page.into_iter().flatten().map(|account| Found {
                name: account.name,
                account: account.id,
                key: None,
                created_at: account.created_at,
                expires_at: None,
                was_used: false,
            });
            Ok(found.collect())
        }
        Kind::Keys => {
            let page = client.next_keys(project, pages).await?;
            let found = page.into_iter().flatten().filter_map(|key| {
                Some(Found {
                    account: key.service_account()?.clone(),
                    name: key.name.unwrap_or_default(),
                    key: Some(key.id),
                    created_at: key.created_at,
                    expires_at: key.expires_at,
                    was_used: key.last_used_at.is_some(),
                })
            });
            Ok(found.collect())
        }
    }
}
