//! One look at OpenAI for credentials that one write-ahead entry speaks for and that nobody has.
//!
//! *Guarantees:* what the ledger has stays. So does a key that was ever used, until its own end, whatever storage says.
//! An account is ended on the word of a key list only if that list shows its key, unused: a list may lag behind, so an
//! account without a listed key waits for a second look. Right before a deletion the entry and the ledger are read
//! again.
//!
//! *When storage is not the newest* (a backup was restored, a server was copied), it lacks what was recorded since.
//! Credentials at OpenAI show that: younger than the entry's, of no stored window, and not in the ledger, in two looks a
//! minute apart. Then an absent record proves nothing: what was found gets a record, and ends at its own end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;

use super::survey::{Found, Kind, Survey};
use super::window::{Stamp, Triple, Window, WindowId};
use crate::engine::accounts::claims;
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::{Entry, Handed, LEDGER};
use crate::engine::creds::removal::concerns_all;
use crate::engine::failpoint::failpoint;
use crate::engine::{Engine, Error};
use crate::framework::WAL_PREFIX;
use crate::logical::Storage;
use crate::openai::{ApiKeyId, Client, ServiceAccountId, Urgency};

/// As long as a deletion or a page of a list waits for its turn at OpenAI.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many credentials that storage does not know are enough for a doubt.
const ENOUGH: usize = 64;
/// A credential is made at most 10 minutes and a request after its entry was first written. The rest is for clocks that
/// differ.
const MADE_WITHIN: TimeDelta = TimeDelta::minutes(30);
/// The role in the record of a credential that was only found.
const UNKNOWN_ROLE: &str = "unknown";

/// The credentials that one write-ahead entry speaks for.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) triple: Triple,
    /// The key of the entry.
    pub(super) entry: String,
    /// When the entry was written.
    pub(super) opened: DateTime<Utc>,
    pub(super) names: Names,
}

/// How the credentials of an entry are known.
#[derive(Clone, Debug)]
pub(super) enum Names {
    /// By the id that their names end in.
    Of(WindowId),
    /// By their names. All are recorded by this end: so it was before windows.
    Listed { names: Vec<String>, ends: DateTime<Utc> },
}

/// What earlier looks at the same entry saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// Credentials that storage does not know.
    pub(super) suspects: Option<HashSet<String>>,
    /// Accounts whose key the list did not show.
    pub(super) keyless: HashSet<ServiceAccountId>,
}

/// What a look came to.
pub(super) enum Looked {
    /// Everything that was found is on record or gone.
    Settled,
    /// OpenAI does not know everything that it has listed, or its list shows no key of these accounts.
    Open { keyless: HashSet<ServiceAccountId> },
    /// Storage does not know these credentials. Another look has to say so, too.
    Suspected(HashSet<String>),
    /// Another look said so, too.
    Doubted { strangers: HashSet<String>, keyless: HashSet<ServiceAccountId> },
}

/// One look.
pub(super) struct Look<'a> {
    engine: &'a Engine,
    storage: &'a dyn Storage,
    client: Client,
    batch: &'a Batch,
    /// A listing that began earlier, by the monotonic clock, proves nothing.
    since: Duration,
}

/// What became of one credential.
enum Step {
    Settled,
    /// OpenAI does not know it, though it has listed it: that is no proof.
    Unsure,
    Keyless,
}

impl Batch {
    /// The credentials of a window.
    pub(super) fn of(window: &Window) -> Self {
        let names = Names::Of(window.window_id());
        Self { triple: window.triple.clone(), entry: window.key(), opened: window.opened, names }
    }

    fn has(&self, found: &Found, engine: &Engine) -> bool {
        match &self.names {
            Names::Of(window) => {
                Stamp::of(&found.name, &engine.tag).is_some_and(|stamp| stamp.window == *window)
            }
            Names::Listed { names, .. } => names.contains(&found.name),
        }
    }

    /// By which end the ledger has a record of this name, if it has one.
    fn ends(&self, name: &str, engine: &Engine) -> Option<DateTime<Utc>> {
        match &self.names {
            Names::Of(_) => Stamp::of(name, &engine.tag).map(Stamp::ends),
            Names::Listed { ends, .. } => Some(*ends),
        }
    }

    /// Whether something that OpenAI made then can be of this entry, and not of another cluster's window that has the
    /// same id.
    fn can_have_made(&self, created_at: DateTime<Utc>) -> bool {
        (created_at - self.opened).abs() < MADE_WITHIN
    }
}

impl<'a> Look<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        client: &Client,
        batch: &'a Batch,
        since: Duration,
    ) -> Self {
        let client = client.for_work(Urgency::Revocation, PATIENCE);
        Self { engine, storage, client, batch, since }
    }

    /// Ends what has these names, of which this process knows that nobody has it. Answers whether all of it is settled.
    pub(super) async fn at_unsettled(&self, names: &[String]) -> Result<bool, Error> {
        let Some(listed) = self.listed().await? else { return Ok(true) };
        let found = listed.iter().filter(|found| self.is_here(found) && names.contains(&found.name));
        let (mut is_settled, mut failure) = (true, None);
        for found in found {
            let ended =
                if self.is_recorded(found).await? { Ok(Step::Settled) } else { self.end(found).await };
            match ended {
                Ok(step) => is_settled &= matches!(step, Step::Settled),
                Err(error) if concerns_all(&error) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(is_settled), Err)
    }

    /// Settles everything that the entry speaks for.
    pub(super) async fn at_all(&self, before: &Before) -> Result<Looked, Error> {
        let Some(listed) = self.listed().await? else { return Ok(Looked::Settled) };
        let made = listed.iter().filter(|found| self.is_here(found) && self.batch.has(found, self.engine));
        let made: Vec<_> = made.collect();
        let mut unrecorded = Vec::new();
        for found in &made {
            if !self.is_recorded(found).await? {
                unrecorded.push(*found);
            }
        }
        let strangers = self.strangers(&listed, &made, unrecorded.is_empty()).await?;
        let is_doubted = match &before.suspects {
            _ if strangers.is_empty() => false,
            Some(suspects) => !strangers.is_disjoint(suspects),
            None => return Ok(Looked::Suspected(strangers)),
        };
        let (keyless, is_sure) = self.settle_all(unrecorded, before, is_doubted).await?;
        Ok(if is_doubted {
            Looked::Doubted { strangers, keyless }
        } else if is_sure && keyless.is_empty() {
            Looked::Settled
        } else {
            Looked::Open { keyless }
        })
    }

    /// The accounts whose key is not listed, and whether OpenAI knows everything that it has listed.
    async fn settle_all(
        &self,
        unrecorded: Vec<&Found>,
        before: &Before,
        is_doubted: bool,
    ) -> Result<(HashSet<ServiceAccountId>, bool), Error> {
        let (mut keyless, mut is_sure, mut failure) = (HashSet::new(), true, None);
        for found in unrecorded {
            match self.settle(found, before, is_doubted).boxed().await {
                Ok(Step::Settled) => {}
                Ok(Step::Unsure) => is_sure = false,
                Ok(Step::Keyless) => _ = keyless.insert(found.account.clone()),
                Err(error) if concerns_all(&error) => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok((keyless, is_sure)), Err)
    }

    /// Puts it on record, if it may be somebody's, or ends it, or leaves it to another look.
    async fn settle(&self, found: &Found, before: &Before, is_doubted: bool) -> Result<Step, Error> {
        let keys = self.keys_of(found).await?;
        let may_be_somebodys =
            is_doubted || keys.iter().any(|key| key.was_used) || !self.batch.can_have_made(found.created_at);
        match keys.first() {
            Some(key) if may_be_somebodys => self.record(found, key).await,
            None if !before.keyless.contains(&found.account) => Ok(Step::Keyless),
            Some(_) | None => self.end(found).await,
        }
    }

    fn is_here(&self, found: &Found) -> bool {
        let account = self.batch.triple.service_account_id.as_ref();
        account.is_none_or(|account| *account == found.account)
    }

    async fn is_recorded(&self, found: &Found) -> Result<bool, Error> {
        let Some(ends) = self.batch.ends(&found.name, self.engine) else { return Ok(false) };
        Ok(ledger::is_recorded(self.storage, ends, &found.name).await?)
    }

    /// Credentials that storage should know and does not. If nothing is to be ended, only the first few are looked at.
    async fn strangers(
        &self,
        listed: &[Found],
        made: &[&Found],
        is_harmless: bool,
    ) -> Result<HashSet<String>, Error> {
        let mut strangers = HashSet::new();
        let Some(oldest) = made.iter().map(|found| found.created_at).min() else { return Ok(strangers) };
        let entries = self.storage.list(WAL_PREFIX).await?;
        let windows: HashSet<_> = entries.iter().filter_map(|name| WindowId::of_entry(name)).collect();
        let now = self.engine.now();
        let mut younger: Vec<_> = listed
            .iter()
            .filter(|found| found.created_at >= oldest)
            .filter_map(|found| Some((found, Stamp::of(&found.name, &self.engine.tag)?)))
            .filter(|(found, stamp)| !windows.contains(&stamp.window) && stamp.fits(found.created_at, now))
            .collect();
        younger.sort_by_key(|(found, _)| found.created_at);
        if is_harmless {
            younger.truncate(ENOUGH);
        }
        for (found, stamp) in younger {
            if !ledger::is_recorded(self.storage, stamp.ends(), &found.name).await? {
                strangers.insert(found.name.clone());
            }
            if strangers.len() == ENOUGH {
                break;
            }
        }
        Ok(strangers)
    }

    async fn keys_of(&self, found: &Found) -> Result<Vec<Found>, Error> {
        if found.key.is_some() {
            return Ok(vec![found.clone()]);
        }
        let listed = self.list(Kind::Keys).await?.found;
        let keys = listed.iter().flat_map(|keys| keys.iter());
        Ok(keys.filter(|key| key.account == found.account).cloned().collect())
    }

    /// It ends at its own end, as every credential does.
    async fn record(&self, found: &Found, key: &Found) -> Result<Step, Error> {
        let ends = self.batch.ends(&found.name, self.engine);
        let (Some(ends), Some(api_key_id)) = (ends, key.key.clone()) else { return Ok(Step::Settled) };
        let handed = Handed {
            organization_id: self.batch.triple.organization_id.clone(),
            project_id: self.batch.triple.project_id.clone(),
            service_account_id: found.account.clone(),
            api_key_id,
            name: found.name.clone(),
            with_account: found.key.is_none(),
            role: UNKNOWN_ROLE.to_owned(),
            ends,
            expires: key.expires_at,
            made: Some(found.created_at),
        };
        LEDGER.put(self.storage, &handed.place(), &Entry::new(handed)).await?;
        failpoint!("sweep.window_recorded");
        Ok(Step::Settled)
    }

    /// Ends it, unless a claim or the ledger has it, or somebody else worked the entry off.
    async fn end(&self, found: &Found) -> Result<Step, Error> {
        let _no_claim = self.engine.locks.lock(&claims::lock(&found.account)).await;
        if found.key.is_none() && claims::is_claimed(self.storage, &found.account).await? {
            return Ok(Step::Settled);
        }
        // The entry first: another node that works it off writes records before it deletes the entry.
        if self.storage.get(&self.batch.entry).await?.is_none() {
            return Ok(Step::Unsure);
        }
        if self.is_recorded(found).await? {
            return Ok(Step::Settled);
        }
        let mut ids = vec![found.account.as_str()];
        ids.extend(found.key.as_ref().map(ApiKeyId::as_str));
        self.engine.note_made(&ids, found.created_at);
        let project = &self.batch.triple.project_id;
        let deleted = match &found.key {
            Some(key) => self.client.delete_key(project, key).await,
            None => self.client.delete_service_account(project, &found.account).await,
        };
        failpoint!("sweep.window_ended");
        match deleted {
            Err(error) if error.is_gone() => Ok(Step::Unsure),
            deleted => deleted.map(|()| Step::Settled).map_err(Error::Revocation),
        }
    }

    /// The accounts of the project, or the keys if each credential is one; none if the project is gone.
    async fn listed(&self) -> Result<Option<Arc<Vec<Found>>>, Error> {
        let is_key = self.batch.triple.service_account_id.is_some();
        Ok(self.list(if is_key { Kind::Keys } else { Kind::Accounts }).await?.found)
    }

    async fn list(&self, kind: Kind) -> Result<Survey, Error> {
        let Self { engine, client, batch, since, .. } = self;
        let surveys = &engine.recovery.surveys;
        let listed = surveys.list(&*engine.clock, client, &batch.triple.project_id, kind, *since).await;
        listed.map_err(Error::Revocation)
    }
}
