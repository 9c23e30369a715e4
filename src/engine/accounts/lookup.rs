//! What a project holds at OpenAI, listed once for all write-ahead entries that are looked up in it: after a crash
//! there may be hundreds, in a project of thousands of accounts, at an OpenAI that takes few calls a minute.
//!
//! *Guarantees:* a listing that began when the creation was surely over has what it made, or nothing was made; a
//! younger creation waits for a listing of its own. A listing that is cut off goes on where it was.
//!
//! *Assumptions:* OpenAI lists what was there when the listing began, whatever is made and deleted meanwhile. The clocks
//! of two nodes are not half a minute apart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::engine::failpoint::shortened;
use crate::openai::{self, ApiKeyId, Client, Pages, ProjectId, ServiceAccountId};

/// Longer than any request goes on: Vault ends them after 90 s.
const CREATION_IS_OVER: Duration = Duration::from_secs(120);

/// As long as one waits for another who lists the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A whole listing older than this is of no use to anyone.
const LIFE: TimeDelta = TimeDelta::minutes(10);

/// As long as one look may list.
const LOOK: Duration = Duration::from_secs(60);

/// What is looked for: something of a unique name.
pub(in crate::engine) struct Sought<'a> {
    pub(in crate::engine) project: &'a ProjectId,
    /// The account that it is a key of; none if it is an account.
    pub(in crate::engine) account: Option<&'a ServiceAccountId>,
    pub(in crate::engine) name: &'a str,
}

/// The latest listing of each project.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listings {
    latest: parking_lot::Mutex<HashMap<(ProjectId, Kind), Arc<Slot>>>,
}

/// The place of one listing.
#[derive(Debug)]
struct Slot {
    listing: Mutex<Listing>,
    /// Whether OpenAI failed to list in this tick.
    failed: AtomicBool,
}

/// What a look came to.
pub(in crate::engine) enum Look {
    /// It is known what has the name, if anything has.
    Done(Option<Found>),
    /// Nothing is known in this tick: OpenAI fails to list the project, or takes too long.
    Later,
}

/// What is listed.
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

/// What has the name that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Found {
    /// The account, or the one that the key is of.
    pub(in crate::engine) account: ServiceAccountId,
    /// The key, if that was looked for.
    pub(in crate::engine) key: Option<ApiKeyId>,
}

impl Found {
    /// What OpenAI is asked about to end it.
    pub(in crate::engine) fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.account.as_str()).chain(self.key.as_ref().map(ApiKeyId::as_str))
    }
}

impl Listings {
    /// A tick begins: what failed in the last one is tried again.
    pub(in crate::engine) fn begin_tick(&self) {
        let mut latest = self.latest.lock();
        for slot in latest.values() {
            slot.failed.store(false, Ordering::Relaxed);
        }
        // One that is being listed on is locked, and stays.
        latest.retain(|_, slot| slot.listing.try_lock().map_or(true, |listing| !listing.is_stale()));
    }

    /// What has the name, if anything has: made by a creation that was announced at this time. Whoever cannot be told soon
    /// is told to come later, so that one project whose list hangs keeps no other from its turn.
    pub(in crate::engine) async fn find(
        &self,
        client: &Client,
        sought: &Sought<'_>,
        announced: DateTime<Utc>,
    ) -> Result<Look, openai::Error> {
        let slot = self.slot((sought.project.clone(), Kind::of(sought)));
        let Ok(mut listing) = timeout(PATIENCE, slot.listing.lock()).await else { return Ok(Look::Later) };
        if slot.failed.load(Ordering::Relaxed) {
            return Ok(Look::Later);
        }
        // Who gives up waiting for OpenAI is as good as told no.
        slot.failed.store(true, Ordering::Relaxed);
        let found = listing.find(client, sought, announced).await?;
        slot.failed.store(false, Ordering::Relaxed);
        Ok(Look::Done(found))
    }

    fn slot(&self, place: (ProjectId, Kind)) -> Arc<Slot> {
        let new = || Slot { listing: Mutex::new(Listing::begin()), failed: AtomicBool::new(false) };
        Arc::clone(self.latest.lock().entry(place).or_insert_with(|| Arc::new(new())))
    }
}

/// What a creation made that is perhaps not over: that nothing is found is no proof.
pub(in crate::engine) async fn find_now(
    client: &Client,
    sought: &Sought<'_>,
) -> Result<Option<Found>, openai::Error> {
    let mut listing = Listing::begin();
    listing.seek(client, sought).await?;
    Ok(listing.of(sought))
}

/// From this age on nothing is made any more, and OpenAI lists what was. It is less than the age at which a sweep comes:
/// else each name that nothing was made by would take a listing of its own.
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
        Self { began: Utc::now(), pages: Pages::within(LOOK), found: HashMap::new() }
    }

    /// Whether it is whole and too old to be of use.
    fn is_stale(&self) -> bool {
        self.pages.is_whole() && (Utc::now() - self.began).abs() >= LIFE
    }

    async fn find(
        &mut self,
        client: &Client,
        sought: &Sought<'_>,
        announced: DateTime<Utc>,
    ) -> Result<Option<Found>, openai::Error> {
        if self.is_stale() {
            *self = Self::begin();
        }
        self.seek(client, sought).await?;
        if self.of(sought).is_none() && !self.covers(announced) {
            *self = Self::begin();
            self.seek(client, sought).await?;
        }
        Ok(self.of(sought))
    }

    fn covers(&self, announced: DateTime<Utc>) -> bool {
        self.began - announced > creation_is_over()
    }

    fn of(&self, sought: &Sought<'_>) -> Option<Found> {
        let found = self.found.get(sought.name)?;
        sought.account.is_none_or(|account| *account == found.account).then(|| found.clone())
    }

    /// Lists on until it is found or all is listed.
    async fn seek(&mut self, client: &Client, sought: &Sought<'_>) -> Result<(), openai::Error> {
        let project = sought.project;
        self.pages.go_on_for(LOOK);
        while !self.pages.is_whole() && !self.found.contains_key(sought.name) {
            let next = match Kind::of(sought) {
                Kind::Accounts => self.list_accounts(client, project).await,
                Kind::Keys => self.list_keys(client, project).await,
            };
            if let Err(error) = next {
                // Perhaps what the page goes on from is gone: the next look begins anew.
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
