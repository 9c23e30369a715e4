//! What a project holds at OpenAI, listed once for all windows that are looked up in it: after a crash there may be
//! dozens, in a project of thousands of accounts, at an OpenAI that takes few calls a minute.
//!
//! *Guarantees:* a listing that is asked for from some moment on began no earlier. One that is cut off goes on where it
//! was. A project whose listing failed is not asked again for a while, and holds up no other project.
//!
//! *Assumption:* OpenAI lists what was there when the listing began, whatever is made and deleted meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Mutex;

use crate::engine::time::clock::Clock;
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// As long as a failure stands for all who ask.
const REST: Duration = Duration::from_secs(30);
/// As long as a page is waited for.
const LOOK: Duration = Duration::from_secs(20);
/// A whole listing is kept for so long.
const LIFE: Duration = Duration::from_secs(600);

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Accounts,
    Keys,
}

/// An account or a key.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: String,
    /// The account, or the one that the key is of.
    pub(super) account: ServiceAccountId,
    pub(super) key: Option<ApiKeyId>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// Whether somebody called OpenAI with the key.
    pub(super) was_used: bool,
}

/// A whole listing.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    /// By the monotonic clock.
    pub(super) began: Duration,
    /// None if the project is archived or gone, and with it all that it held.
    pub(super) found: Option<Arc<Vec<Found>>>,
}

/// The latest listings of a mount.
#[derive(Default)]
pub(super) struct Surveys(SyncMutex<HashMap<(ProjectId, Kind), Shared>>);

/// Held while the project is listed.
type Shared = Arc<Mutex<Listing>>;

#[derive(Default)]
struct Listing {
    /// When the one began that is not whole yet, and how far it is.
    running: Option<(Duration, Pages)>,
    found: Vec<Found>,
    whole: Option<Survey>,
    failed: Option<(Duration, openai::Error)>,
}

impl Surveys {
    /// All accounts or keys of the project, by a listing that began at `since` or later by the monotonic clock.
    pub(super) async fn list(
        &self,
        clock: &dyn Clock,
        client: &Client,
        project: &ProjectId,
        kind: Kind,
        since: Duration,
    ) -> Result<Survey, openai::Error> {
        let listing = self.of(project, kind);
        let mut listing = listing.lock().await;
        if let Some((at, error)) = &listing.failed
            && clock.monotonic().saturating_sub(*at) < REST
        {
            return Err(error.clone());
        }
        let listed = listing.list(clock, client, project, kind, since).await;
        listing.failed = listed.as_ref().err().map(|error| (clock.monotonic(), error.clone()));
        if listed.as_ref().is_err_and(|error| !error.is_transient()) {
            // Perhaps what the next page goes on from is gone: the next look begins anew.
            listing.running = None;
        }
        listed
    }

    /// Drops everything.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
    }

    /// Drops what is of no use to anyone any more.
    pub(super) fn forget_old(&self, now: Duration) {
        let mut listings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listings.retain(|_, listing| listing.try_lock().map_or(true, |listing| listing.is_of_use(now)));
    }

    fn of(&self, project: &ProjectId, kind: Kind) -> Shared {
        let mut listings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(listings.entry((project.clone(), kind)).or_default())
    }
}

impl Listing {
    fn is_of_use(&self, now: Duration) -> bool {
        let age = |began: Duration| now.saturating_sub(began);
        self.running.is_some() || self.whole.as_ref().is_some_and(|whole| age(whole.began) < LIFE)
    }

    async fn list(
        &mut self,
        clock: &dyn Clock,
        client: &Client,
        project: &ProjectId,
        kind: Kind,
        since: Duration,
    ) -> Result<Survey, openai::Error> {
        loop {
            if let Some(whole) = self.whole.as_ref().filter(|whole| whole.began >= since) {
                return Ok(whole.clone());
            }
            let Some((began, pages)) = &mut self.running else {
                self.begin(clock, client, project).await?;
                continue;
            };
            pages.go_on_for(LOOK);
            self.found.extend(page(client, project, kind, pages).await?);
            if pages.is_whole() {
                let found = Some(Arc::new(std::mem::take(&mut self.found)));
                self.whole = Some(Survey { began: *began, found });
                self.running = None;
            }
        }
    }

    /// Absence proves something only in a project that is there.
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
            self.whole = Some(Survey { began, found: None });
        } else {
            self.running = Some((began, Pages::within(LOOK)));
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
