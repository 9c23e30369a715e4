//! One run of `tidy`: list what carries the tag, take away what is owned, name or remove the rest.
//!
//! *Guarantees:* an account or key is removed only if its name carries this mount's tag, OpenAI made it at least
//! `min_age` ago, and no record names it; an account, only if nobody else has a live key on it. Accounts and keys are listed before their owners are, so what is being made
//! meanwhile is never taken for a stray. A claim waits for a removal under way, and one that came
//! first prevents it. One failure never stops the rest. A crash loses nothing: the next run finds what is left.
//!
//! *Assumptions:* no other server has a mount with this tag: a copy of this one's storage must not tidy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::status::{Order, State, Stray, Thing};
use crate::engine::accounts::claims;
use crate::engine::config::clients;
use crate::engine::creds::inventory::Owned;
use crate::engine::creds::{deletion, inventory};
use crate::engine::operator::dependents;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{self, Client, KeyRecord, Pages, ProjectId, ServiceAccount, ServiceAccountId, Urgency};

/// As long as one call waits for its turn: whatever else asks OpenAI may go first.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// As long as one project may be listed: 1000 pages at 5 a minute.
pub(super) const LISTING: Duration = Duration::from_secs(12_000);
/// A key that is no more than this younger than its account was made with it.
const WITH_ITS_ACCOUNT: TimeDelta = TimeDelta::seconds(60);
/// What is known of owners is read anew after so long, as a run at OpenAI's pace may take hours.
const TRUSTED_FOR: Duration = Duration::from_secs(300);

pub(super) struct Run {
    pub(super) engine: Arc<Engine>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) client: Client,
    pub(super) order: Order,
}

/// Runs until its end or the mount's, and keeps the outcome.
pub(super) async fn in_background(engine: Arc<Engine>, storage: Arc<dyn Storage>, order: Order) {
    let outcome = tokio::select! {
        outcome = run(&engine, storage, order) => Some(outcome),
        () = engine.gone.cancelled() => None,
    };
    let (state, error) = match outcome {
        Some(Ok(())) => (State::Finished, None),
        Some(Err(error)) => (State::Failed, Some(error)),
        None => (State::Stopped, None),
    };
    engine.tidying.end(state, error.as_ref(), engine.now());
}

async fn run(engine: &Arc<Engine>, storage: Arc<dyn Storage>, order: Order) -> Result<(), Error> {
    let client = clients::configured(engine, &*storage).await?.client.for_work(Urgency::Check, MAX_WAIT);
    let run = Run { engine: Arc::clone(engine), storage, client, order };
    let candidates = run.candidates().await?;
    run.tidy(candidates).await?;
    if let Err(error) = run.tidy_admin_keys().await {
        run.failed(&error);
    }
    Ok(())
}

impl Run {
    /// The accounts and keys old enough that carry the tag, owned or not: accounts first, as their keys go with them.
    async fn candidates(&self) -> Result<Vec<Stray>, Error> {
        let (mut accounts, mut keys) = (Vec::new(), Vec::new());
        for project_id in dependents::known_projects(&self.engine, &*self.storage).await?.into_keys() {
            let mut in_project = Vec::new();
            let what = "listing service accounts";
            self.note(what, self.accounts_in(&project_id, &mut in_project).await);
            // Nobody can tell then who uses the accounts.
            if self.note("listing API keys", self.keys_in(&project_id, &mut in_project, &mut keys).await) {
                accounts.append(&mut in_project);
            }
        }
        accounts.append(&mut keys);
        Ok(accounts)
    }

    /// One project's failure does not stop the run. Answers whether all was listed.
    fn note(&self, what: &'static str, listed: Result<(), openai::Error>) -> bool {
        match listed {
            // The project is gone, and all that was in it.
            Err(error) if !error.is_gone() => {
                self.failed(&Error::call(what)(error));
                false
            }
            _ => true,
        }
    }

    async fn accounts_in(&self, project_id: &ProjectId, found: &mut Vec<Stray>) -> Result<(), openai::Error> {
        let mut pages = Pages::within(LISTING);
        while let Some(page) = self.client.next_service_accounts(project_id, &mut pages).await? {
            self.engine.tidying.looked_at(page.len());
            let carry_tag =
                page.into_iter().filter(|account| self.is_candidate(&account.name, account.created_at));
            found.extend(carry_tag.map(|account| Stray::new(project_id, Thing::Account(account, None))));
        }
        Ok(())
    }

    /// Also notes, for each account that was found, a key that somebody else made on it.
    async fn keys_in(
        &self,
        project_id: &ProjectId,
        accounts: &mut [Stray],
        found: &mut Vec<Stray>,
    ) -> Result<(), openai::Error> {
        let mut accounts: HashMap<ServiceAccountId, &mut Stray> =
            accounts.iter_mut().filter_map(|stray| Some((stray.account_id()?.clone(), stray))).collect();
        let mut pages = Pages::within(LISTING);
        while let Some(page) = self.client.next_keys(project_id, &mut pages).await? {
            self.engine.tidying.looked_at_keys(page.len());
            for key in &page {
                if let Some(stray) = key.service_account().and_then(|owner| accounts.get_mut(owner)) {
                    self.note_foreign(key, stray);
                }
            }
            let carry_tag = page
                .into_iter()
                .filter(|key| key.name.as_ref().is_some_and(|name| self.is_candidate(name, key.created_at)));
            // A user's key is none of ours, whatever its name.
            let of_accounts =
                carry_tag.filter_map(|key| key.service_account().cloned().map(|owner| (key, owner)));
            found.extend(of_accounts.map(|(key, owner)| Stray::new(project_id, Thing::Key(key, owner))));
        }
        Ok(())
    }

    fn note_foreign(&self, key: &KeyRecord, stray: &mut Stray) {
        let is_ours = key.name.as_ref().is_some_and(|name| self.engine.tag.owns(name));
        let is_over = key.expires_at.is_some_and(|end| end <= self.engine.certain_time());
        if let Thing::Account(account, foreign) = &mut stray.thing
            // OpenAI makes an account's first key together with the account.
            && key.created_at > account.created_at + WITH_ITS_ACCOUNT
            && !is_ours
            && !is_over
        {
            *foreign = Some(key.id.clone());
        }
    }

    pub(super) fn is_candidate(&self, name: &str, created_at: DateTime<Utc>) -> bool {
        self.engine.tag.owns(name)
            && is_old_enough(created_at, self.engine.certain_time(), self.order.min_age)
    }

    async fn tidy(&self, candidates: Vec<Stray>) -> Result<(), Error> {
        let mut owned = Owned::collect(&self.engine, &*self.storage).await?;
        let mut read_at = Instant::now();
        for stray in candidates {
            if read_at.elapsed() > TRUSTED_FOR {
                owned = Owned::collect(&self.engine, &*self.storage).await?;
                read_at = Instant::now();
            }
            if let Err(error) = self.deal_with(&owned, &stray).await {
                self.failed(&error);
            }
        }
        Ok(())
    }

    async fn deal_with(&self, owned: &Owned, stray: &Stray) -> Result<(), Error> {
        match (&stray.thing, &stray.project_id) {
            (Thing::Account(account, None), Some(project)) => {
                self.deal_with_account(owned, stray, project, account).await
            }
            (Thing::Account(account, Some(key)), _) => {
                if inventory::is_owned(&self.engine, &*self.storage, owned, account).await? {
                    return Ok(());
                }
                Err(Error::AccountHasKeys { account: account.id.clone(), key: key.clone() })
            }
            (Thing::Key(key, _), Some(project)) => self.deal_with_key(owned, stray, project, key).await,
            _ => Ok(()),
        }
    }

    async fn deal_with_account(
        &self,
        owned: &Owned,
        stray: &Stray,
        project: &ProjectId,
        account: &ServiceAccount,
    ) -> Result<(), Error> {
        let _no_claim = self.engine.locks.lock(&claims::lock(&account.id)).await;
        if inventory::is_owned(&self.engine, &*self.storage, owned, account).await? {
            return Ok(());
        }
        self.engine.tidying.found(stray);
        if self.order.dry_run {
            return Ok(());
        }
        let removed = deletion::remove_account(&self.client, project, &account.id).await;
        removed.map_err(Error::Revocation)?;
        self.engine.tidying.removed();
        Ok(())
    }

    /// No claim can come for a key: whoever owns one had its name on record before it was made.
    async fn deal_with_key(
        &self,
        owned: &Owned,
        stray: &Stray,
        project: &ProjectId,
        key: &KeyRecord,
    ) -> Result<(), Error> {
        if owned.names_key(key, &self.engine.tag) {
            return Ok(());
        }
        self.engine.tidying.found(stray);
        if self.order.dry_run {
            return Ok(());
        }
        deletion::end_key(&self.client, project, &key.id).await.map_err(Error::Revocation)?;
        self.engine.tidying.removed();
        Ok(())
    }

    pub(super) fn failed(&self, error: &Error) {
        self.engine.tidying.failed(error);
    }
}

impl Stray {
    fn new(project_id: &ProjectId, thing: Thing) -> Self {
        Self { project_id: Some(project_id.clone()), thing }
    }

    fn account_id(&self) -> Option<&ServiceAccountId> {
        match &self.thing {
            Thing::Account(account, _) => Some(&account.id),
            Thing::Key(..) | Thing::AdminKey(_) => None,
        }
    }
}

/// Whether OpenAI made it at least `min_age` ago. What it says to have made in the future is not old.
fn is_old_enough(created_at: DateTime<Utc>, now: DateTime<Utc>, min_age: Duration) -> bool {
    (now - created_at).to_std().is_ok_and(|age| age >= min_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_younger_or_from_the_future_is_not_old_enough() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(10);
        let hour = Duration::from_secs(3_600);
        for (seconds, min_age, old_enough) in [
            (3_600, hour, true),
            (3_599, hour, false),
            (0, Duration::ZERO, true),
            (-1, Duration::ZERO, false),
            (3_600, Duration::MAX, false),
        ] {
            let made = now - TimeDelta::seconds(seconds);
            assert_eq!(is_old_enough(made, now, min_age), old_enough, "{seconds} {min_age:?}");
        }
    }
}
