//! One look-up at OpenAI of the credentials of one write-ahead entry. The look-up ends credentials that nobody has.
//!
//! *Guarantees:* right before a deletion the entry and the ledger are read again.
//! - Of an entry of another process: a credential in the ledger stays, and a used key stays until its own end, whatever
//!   storage says. An account is deleted if its key is unused, or if two look-ups find no key. One is not enough, because
//!   a key list may lag.
//! - Of a window of this process: the request failed, so nobody has the key. The credential is ended without a look at its
//!   use, and also if the ledger has it: a write may succeed although storage reports a failure.
//!
//! *Outdated storage* (a restored backup, a copied server) lacks credentials that were recorded later. Such credentials
//! are of this mount, younger than the oldest of the entry, of no stored window, not in the ledger and not ended by this
//! process. If two look-ups a minute apart find such credentials, storage counts as outdated. The second may find others,
//! because a copied server's original makes and ends credentials. Then each found credential gets a ledger record and
//! lives until its own end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;

use super::window::{Stamp, Target, Window, WindowId};
use crate::engine::accounts::claims;
use crate::engine::accounts::listing::{Found, Listing, Objects, Scope};
use crate::engine::config::clients;
use crate::engine::creds::ledger::{Credential, Entry, LEDGER};
use crate::engine::creds::ledger_worker::concerns_all;
use crate::engine::creds::{credential_end, ledger, ledger_worker};
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::WAL_PREFIX;
use crate::logical::Storage;
use crate::openai::{Client, ServiceAccountId, Urgency};

/// Maximum wait of a deletion or a page for its turn at OpenAI.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Number of unknown credentials at which the count stops.
const MAX_UNKNOWN: usize = 64;
/// Maximum time between the write of an entry and the creation of its credentials. A window lasts 10 minutes at most
/// and a request 90 seconds; the rest allows for clocks that differ.
const MAX_CREATION_DISTANCE: TimeDelta = TimeDelta::minutes(30);
/// The role in the ledger record of a credential that a look-up found. No role can have this name.
const UNKNOWN_ROLE: &str = "(unknown)";

/// The credentials of one write-ahead entry.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) target: Target,
    /// Storage key of the entry.
    pub(super) entry: String,
    /// Time of the entry's write.
    pub(super) opened: DateTime<Utc>,
    pub(super) names: Names,
}

/// The names of the credentials of one entry.
#[derive(Clone, Debug)]
pub(super) enum Names {
    /// All names with this window id.
    Of(WindowId),
    /// These names, with one end for all ledger records: an entry of a late version-1 release.
    Listed { names: Vec<String>, end: DateTime<Utc> },
}

/// Results of earlier look-ups of the same entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Earlier {
    /// True if the last look-up found credentials that storage does not know.
    pub(super) found_unknown: bool,
    /// Accounts without a listed key.
    pub(super) keyless: HashSet<ServiceAccountId>,
}

/// Result of a look-up of all credentials of an entry.
pub(super) enum Outcome {
    /// Every found credential is in the ledger or deleted.
    Settled,
    /// These accounts have no listed key, or OpenAI answered 404 for a listed object.
    Unsettled { keyless: HashSet<ServiceAccountId> },
    /// Storage does not know some credentials. A second look-up has to confirm that storage is outdated.
    MaybeOutdated,
    /// A second look-up has confirmed that storage is outdated: storage does not know so many credentials.
    Outdated { unknown: usize, keyless: HashSet<ServiceAccountId> },
}

/// One look-up.
pub(super) struct LookUp<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    client: Client,
    batch: &'a Batch,
    /// Earliest start of a listing that proves anything, by the monotonic clock.
    since: Duration,
}

/// Result for one credential.
enum Step {
    Settled,
    /// Another look-up has to confirm the end: OpenAI answered 404 for a listed object, or another node deleted the entry
    /// and may have recorded the credential.
    Unconfirmed,
    /// The account has no listed key.
    Keyless,
}

impl Batch {
    /// The credentials of a window.
    pub(super) fn of(window: &Window) -> Self {
        let names = Names::Of(window.window_id());
        Self { target: window.target.clone(), entry: window.key(), opened: window.opened, names }
    }

    fn contains(&self, found: &Found, engine: &Engine) -> bool {
        match &self.names {
            Names::Of(window) => {
                Stamp::of(&found.name, &engine.tag).is_some_and(|stamp| stamp.window == *window)
            }
            Names::Listed { names, .. } => names.contains(&found.name),
        }
    }

    /// The end that determines the place of this name's ledger record.
    fn end(&self, name: &str, engine: &Engine) -> Option<DateTime<Utc>> {
        match &self.names {
            Names::Of(_) => Stamp::of(name, &engine.tag).map(Stamp::end),
            Names::Listed { end, .. } => Some(*end),
        }
    }

    /// True if an object that OpenAI created at this time can belong to the entry. Another cluster's window may have
    /// the same id.
    fn can_have_created(&self, created_at: DateTime<Utc>) -> bool {
        (created_at - self.opened).abs() < MAX_CREATION_DISTANCE
    }
}

impl<'a> LookUp<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        client: &Client,
        batch: &'a Batch,
        since: Duration,
    ) -> Self {
        let client = client.for_work(Urgency::Revocation, MAX_WAIT);
        Self { engine, storage, client, batch, since }
    }

    /// Ends the credentials of these names, which no request of this process uses. Returns true if all are settled.
    pub(super) async fn of_names(&self, names: &[String]) -> Result<bool, Error> {
        let Some(listed) = self.listed().await? else { return Ok(true) };
        let found = listed.iter().filter(|found| self.is_on_account(found) && names.contains(&found.name));
        let (mut is_settled, mut failure) = (true, None);
        for found in found {
            let ended =
                if self.is_recorded(found).await? { self.revoke(found).await } else { self.end(found).await };
            match ended {
                Ok(step) => is_settled &= matches!(step, Step::Settled),
                Err(error) if concerns_all(self.engine, &error) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(is_settled), Err)
    }

    /// Settles all credentials of the entry.
    pub(super) async fn of_all(&self, earlier: &Earlier) -> Result<Outcome, Error> {
        let Some(listed) = self.listed().await? else { return Ok(Outcome::Settled) };
        let created = listed
            .iter()
            .filter(|found| self.is_on_account(found) && self.batch.contains(found, self.engine));
        let created: Vec<_> = created.collect();
        let mut unrecorded = Vec::new();
        for found in &created {
            if !self.is_recorded(found).await? {
                unrecorded.push(*found);
            }
        }
        let unknown = self.unknown(&listed, &created, unrecorded.is_empty()).await?;
        if unknown > 0 && !earlier.found_unknown {
            return Ok(Outcome::MaybeOutdated);
        }
        let is_outdated = unknown > 0;
        let (keyless, is_confirmed) = self.settle_all(unrecorded, earlier, is_outdated).await?;
        Ok(if is_outdated {
            Outcome::Outdated { unknown, keyless }
        } else if is_confirmed && keyless.is_empty() {
            Outcome::Settled
        } else {
            Outcome::Unsettled { keyless }
        })
    }

    /// Returns the accounts without a listed key, and true if every deletion was confirmed.
    async fn settle_all(
        &self,
        unrecorded: Vec<&Found>,
        earlier: &Earlier,
        is_outdated: bool,
    ) -> Result<(HashSet<ServiceAccountId>, bool), Error> {
        let (mut keyless, mut is_confirmed, mut failure) = (HashSet::new(), true, None);
        for found in unrecorded {
            match self.settle(found, earlier, is_outdated).boxed().await {
                Ok(Step::Settled) => {}
                Ok(Step::Unconfirmed) => is_confirmed = false,
                Ok(Step::Keyless) => _ = keyless.insert(found.account.clone()),
                Err(error) if concerns_all(self.engine, &error) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok((keyless, is_confirmed)), Err)
    }

    /// Records a credential that may be in use, and ends any other. An account without a listed key waits for a second
    /// look-up.
    async fn settle(&self, found: &Found, earlier: &Earlier, is_outdated: bool) -> Result<Step, Error> {
        let keys = self.keys_of(found).await?;
        let may_be_in_use = is_outdated
            || keys.iter().any(|key| key.was_used)
            || !self.batch.can_have_created(found.created_at);
        match keys.first() {
            Some(key) if may_be_in_use => self.record(found, key).await,
            None if !earlier.keyless.contains(&found.account) => Ok(Step::Keyless),
            Some(_) | None => self.end(found).await,
        }
    }

    /// True if the object is on the target's account, or the target has no account.
    fn is_on_account(&self, found: &Found) -> bool {
        let account = self.batch.target.service_account_id.as_ref();
        account.is_none_or(|account| *account == found.account)
    }

    async fn is_recorded(&self, found: &Found) -> Result<bool, Error> {
        let Some(end) = self.batch.end(&found.name, self.engine) else { return Ok(false) };
        Ok(ledger::is_recorded(self.storage, end, &found.name).await?)
    }

    /// The number of credentials of this mount that are younger than the oldest `created` one and that storage does not
    /// know. If there is nothing to end, only the oldest and the youngest few are checked. The oldest may be from before a
    /// backup, and the youngest from after its restoration.
    async fn unknown(
        &self,
        listed: &[Found],
        created: &[&Found],
        has_nothing_to_end: bool,
    ) -> Result<usize, Error> {
        let mut unknown = 0;
        let Some(oldest) = created.iter().map(|found| found.created_at).min() else { return Ok(unknown) };
        let entries = self.storage.list(WAL_PREFIX).await?;
        let windows: HashSet<_> = entries.iter().filter_map(|name| WindowId::of_entry(name)).collect();
        let now = self.engine.now();
        let mut younger: Vec<_> = listed
            .iter()
            .filter(|found| found.created_at >= oldest)
            .filter_map(|found| Some((found, Stamp::of(&found.name, &self.engine.tag)?)))
            .filter(|(found, stamp)| {
                !windows.contains(&stamp.window) && stamp.is_plausible(found.created_at, now)
            })
            .collect();
        younger.sort_by_key(|(found, _)| found.created_at);
        if has_nothing_to_end && younger.len() > MAX_UNKNOWN {
            younger.drain(MAX_UNKNOWN / 2..younger.len() - MAX_UNKNOWN / 2);
        }
        for (found, stamp) in younger {
            let is_recorded = ledger::is_recorded(self.storage, stamp.end(), &found.name).await?;
            // In this order: the end of a credential is noted before its record is deleted.
            if !is_recorded && !self.engine.creds.recovery.has_ended(&found.name) {
                unknown += 1;
            }
            if unknown == MAX_UNKNOWN {
                break;
            }
        }
        Ok(unknown)
    }

    async fn keys_of(&self, found: &Found) -> Result<Vec<Found>, Error> {
        if found.key.is_some() {
            return Ok(vec![found.clone()]);
        }
        let listed = self.list(Objects::Keys).await?.found;
        let keys = listed.iter().flat_map(|keys| keys.iter());
        Ok(keys.filter(|key| key.account == found.account).cloned().collect())
    }

    /// Writes a ledger record, so that the credential ends at its own end.
    async fn record(&self, found: &Found, key: &Found) -> Result<Step, Error> {
        let end = self.batch.end(&found.name, self.engine);
        let (Some(ends), Some(api_key_id)) = (end, key.key.clone()) else { return Ok(Step::Settled) };
        let credential = Credential {
            organization_id: self.batch.target.organization_id.clone(),
            project_id: self.batch.target.project_id.clone(),
            service_account_id: found.account.clone(),
            api_key_id,
            name: found.name.clone(),
            with_account: found.key.is_none(),
            role: UNKNOWN_ROLE.to_owned(),
            ends,
            expires: key.expires_at,
            made: Some(found.created_at),
        };
        LEDGER.put(self.storage, &credential.place(), &Entry::new(credential)).await?;
        failpoint!("sweep.window_recorded");
        Ok(Step::Settled)
    }

    /// Ends a credential that the ledger has. The ledger's worker ends one of the early revocations.
    async fn revoke(&self, found: &Found) -> Result<Step, Error> {
        let Some(end) = self.batch.end(&found.name, self.engine) else { return Ok(Step::Settled) };
        let entry = LEDGER.get(self.storage, &ledger::place(end, &found.name)).await?;
        if let Some(Entry { credential, .. }) = entry {
            ledger_worker::end(self.engine, self.storage, &credential, MAX_WAIT).await?;
            credential_end::forget(self.storage, &credential).await?;
        }
        Ok(Step::Settled)
    }

    /// Deletes the account or key, unless a claim or the ledger has it, or another node has deleted the entry.
    async fn end(&self, found: &Found) -> Result<Step, Error> {
        let _no_claim = claims::lock(&self.engine.locks, &found.account).await;
        if found.key.is_none() && claims::is_claimed(self.storage, &found.account).await? {
            return Ok(Step::Settled);
        }
        // The entry is read before the ledger, because another node writes ledger records before it deletes the entry.
        if self.storage.get(&self.batch.entry).await?.is_none() {
            return Ok(Step::Unconfirmed);
        }
        if self.is_recorded(found).await? {
            return Ok(Step::Settled);
        }
        // The client needs the age, because a 404 for a young object proves nothing.
        let engine = self.engine;
        clients::note_made(engine, &found.ids().collect::<Vec<_>>(), found.created_at);
        let project = &self.batch.target.project_id;
        let deleted = match &found.key {
            Some(key) => self.client.delete_key(project, key).await,
            None => self.client.delete_service_account(project, &found.account).await,
        };
        failpoint!("sweep.window_ended");
        match deleted {
            Err(error) if error.is_gone() => Ok(Step::Unconfirmed),
            Err(error) => Err(Error::Revocation(error)),
            Ok(()) => {
                engine.creds.recovery.note_ended(&found.name, engine.clock.monotonic());
                Ok(Step::Settled)
            }
        }
    }

    /// The objects that a credential consists of: accounts, or keys if the target has an account. `None` if the project
    /// is gone.
    async fn listed(&self) -> Result<Option<Arc<Vec<Found>>>, Error> {
        let is_key = self.batch.target.service_account_id.is_some();
        Ok(self.list(if is_key { Objects::Keys } else { Objects::Accounts }).await?.found)
    }

    async fn list(&self, objects: Objects) -> Result<Listing, Error> {
        let Self { engine, client, batch, since, .. } = self;
        let scope = Scope { client, project: &batch.target.project_id, objects };
        engine.accounts.listings.list(scope, *since).await.map_err(Error::Revocation)
    }
}
