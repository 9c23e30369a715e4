//! Looks up accounts and keys by their unique names. All look-ups in a project share one listing: after a crash there
//! may be hundreds of names, in a project of thousands of accounts, at an OpenAI that allows few calls a minute.
//!
//! *Guarantees:* a listing that began after a creation was surely over contains the created account or key, or nothing
//! was created. A younger creation waits for a later listing. An interrupted listing is resumed.
//!
//! *Assumptions:* a listing contains everything that existed when the listing began, whatever is created and deleted
//! meanwhile. The clocks of two nodes differ by less than half a minute.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::engine::failpoint::shortened;
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// Longer than any request: Vault ends a request after 90 s.
const CREATION_IS_OVER: Duration = Duration::from_secs(120);

/// Maximum wait for another look-up that reads the same listing.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Maximum age of a complete listing. An older one is discarded.
const MAX_AGE: TimeDelta = TimeDelta::minutes(10);

/// Maximum time of one look-up's part of a listing.
const MAX_LISTING_TIME: Duration = Duration::from_secs(60);

/// The account or key to look up, by its unique name.
pub(in crate::engine) struct Sought<'a> {
    pub(in crate::engine) project: &'a ProjectId,
    /// The account of the key; `None` to look up an account.
    pub(in crate::engine) account: Option<&'a ServiceAccountId>,
    pub(in crate::engine) name: &'a str,
}

/// The latest listing of each project.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listings {
    latest: parking_lot::Mutex<HashMap<(ProjectId, Kind), Arc<Slot>>>,
}

/// One listing, shared by look-ups.
#[derive(Debug)]
struct Slot {
    listing: Mutex<Listing>,
    /// True if the listing failed in this tick.
    failed: AtomicBool,
}

/// The result of a look-up.
pub(in crate::engine) enum Look {
    /// The account or key of the name; `None` if neither exists.
    Done(Option<Found>),
    /// Unknown in this tick: the listing failed or takes too long.
    Later,
}

/// The list to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Accounts,
    Keys,
}

#[derive(Debug)]
struct Listing {
    began: DateTime<Utc>,
    pages: Pages,
    found: HashMap<String, Found>,
}

/// The account or key of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Found {
    /// The account, or the key's account.
    pub(in crate::engine) account: ServiceAccountId,
    /// The key, if the look-up was for a key.
    pub(in crate::engine) key: Option<ApiKeyId>,
}

impl Found {
    /// The ids of the account and the key.
    pub(in crate::engine) fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.account.as_str()).chain(self.key.as_ref().map(ApiKeyId::as_str))
    }
}

impl Listings {
    /// Begins a tick: listings that failed in the last tick are retried, and old ones are discarded.
    pub(in crate::engine) fn begin_tick(&self) {
        let mut latest = self.latest.lock();
        for slot in latest.values() {
            slot.failed.store(false, Ordering::Relaxed);
        }
        // A listing in progress is locked, and stays.
        latest.retain(|_, slot| slot.listing.try_lock().map_or(true, |listing| !listing.is_stale()));
    }

    /// Looks up the name of a creation that began at this time. Returns [`Look::Later`] after a short wait, so that a
    /// project with a slow list does not delay other projects.
    pub(in crate::engine) async fn find(
        &self,
        client: &Client,
        sought: &Sought<'_>,
        began: DateTime<Utc>,
    ) -> Result<Look, openai::Error> {
        let slot = self.slot((sought.project.clone(), Kind::of(sought)));
        let Ok(mut listing) = timeout(MAX_WAIT, slot.listing.lock()).await else { return Ok(Look::Later) };
        if slot.failed.load(Ordering::Relaxed) {
            return Ok(Look::Later);
        }
        // Set before the call: a look-up that is cancelled while OpenAI is slow counts as failed.
        slot.failed.store(true, Ordering::Relaxed);
        let found = listing.find(client, sought, began).await?;
        slot.failed.store(false, Ordering::Relaxed);
        Ok(Look::Done(found))
    }

    fn slot(&self, place: (ProjectId, Kind)) -> Arc<Slot> {
        let new = || Slot { listing: Mutex::new(Listing::begin()), failed: AtomicBool::new(false) };
        Arc::clone(self.latest.lock().entry(place).or_insert_with(|| Arc::new(new())))
    }
}

/// Looks up the name in a new listing. The creation may still be in progress, so absence proves nothing.
pub(in crate::engine) async fn find_now(
    client: &Client,
    sought: &Sought<'_>,
) -> Result<Option<Found>, openai::Error> {
    let mut listing = Listing::begin();
    listing.seek(client, sought).await?;
    Ok(listing.of(sought))
}

/// The age from which on a creation is over and listed. It is lower than the age at which names are looked up:
/// otherwise each name without an account or key would need a listing of its own.
fn creation_is_over() -> TimeDelta {
    let age = shortened!("OPENAI_CREATION_IS_OVER", CREATION_IS_OVER);
    TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX)
}

impl Kind {
    fn of(sought: &Sought<'_>) -> Self {
        if sought.account.is_some() { Self::Keys } else { Self::Accounts }
    }
}

impl Listing {
    fn begin() -> Self {
        Self { began: Utc::now(), pages: Pages::within(MAX_LISTING_TIME), found: HashMap::new() }
    }

    /// True if the listing is complete and too old.
    fn is_stale(&self) -> bool {
        self.pages.is_whole() && (Utc::now() - self.began).abs() >= MAX_AGE
    }

    async fn find(
        &mut self,
        client: &Client,
        sought: &Sought<'_>,
        began: DateTime<Utc>,
    ) -> Result<Option<Found>, openai::Error> {
        if self.is_stale() {
            *self = Self::begin();
        }
        self.seek(client, sought).await?;
        if self.of(sought).is_none() && !self.covers(began) {
            *self = Self::begin();
            self.seek(client, sought).await?;
        }
        Ok(self.of(sought))
    }

    /// True if the listing began after a creation of this time was over.
    fn covers(&self, creation_began: DateTime<Utc>) -> bool {
        self.began - creation_began > creation_is_over()
    }

    fn of(&self, sought: &Sought<'_>) -> Option<Found> {
        let found = self.found.get(sought.name)?;
        sought.account.is_none_or(|account| *account == found.account).then(|| found.clone())
    }

    /// Reads pages until the name is found or the listing is complete.
    async fn seek(&mut self, client: &Client, sought: &Sought<'_>) -> Result<(), openai::Error> {
        let project = sought.project;
        self.pages.go_on_for(MAX_LISTING_TIME);
        while !self.pages.is_whole() && !self.found.contains_key(sought.name) {
            let next = match Kind::of(sought) {
                Kind::Accounts => self.list_accounts(client, project).await,
                Kind::Keys => self.list_keys(client, project).await,
            };
            if let Err(error) = next {
                // The item before this page may be deleted by now. So the next look-up begins a new listing.
                if !error.is_transient() {
                    *self = Self::begin();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn list_accounts(&mut self, client: &Client, project: &ProjectId) -> Result<(), openai::Error> {
        let page = client.next_service_accounts(project, &mut self.pages).await?;
        let accounts = page.into_iter().flatten();
        self.found.extend(accounts.map(|account| (account.name, Found { account: account.id, key: None })));
        Ok(())
    }

    async fn list_keys(&mut self, client: &Client, project: &ProjectId) -> Result<(), openai::Error> {
        for key in client.next_keys(project, &mut self.pages).await?.into_iter().flatten() {
            let account = key.service_account().cloned();
            if let (Some(account), Some(name)) = (account, key.name) {
                self.found.insert(name, Found { account, key: Some(key.id) });
            }
        }
        Ok(())
    }
}
