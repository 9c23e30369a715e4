//! One run of `tidy`: lists accounts and keys with the mount's tag, skips those with an owner, and reports or removes the
//! rest.
//!
//! *Guarantees:* an account or key is removed only under three conditions: its name has this mount's tag, OpenAI created
//! it at least `min_age` ago, and no record names it. An account with a live key of somebody else, or of a credential here,
//! stays as well. Accounts and keys are listed before their owners, so a creation in progress always finds its owner. A
//! claim of an account, and a role on it, wait for the account's removal; an earlier claim or role prevents the removal.
//! One failure does not stop the run. After a crash, the next run finds the rest.
//!
//! *Assumptions:* no other server has a mount with this tag. A copy of the storage must not tidy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::status::{Candidate, Object, Options, State};
use crate::engine::accounts::claims;
use crate::engine::accounts::deletion;
use crate::engine::config::clients;
use crate::engine::creds::inventory::Owned;
use crate::engine::creds::{account_user, inventory};
use crate::engine::operator::dependents;
use crate::engine::{Engine, Error, caught};
use crate::logical::Storage;
use crate::openai::{
    self, Client, KeyRecord, OrganizationId, Pages, ProjectId, ServiceAccount, ServiceAccountId, Urgency,
};

/// Maximum wait of a call for its turn at OpenAI. All other calls go first.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Maximum time of one project's listing: 1000 pages at 5 a minute.
pub(super) const MAX_LISTING_TIME: Duration = Duration::from_secs(12_000);
/// OpenAI creates an account's first key with the account. Such a key is at most this much younger than its account.
const FIRST_KEY_DELAY: TimeDelta = TimeDelta::seconds(60);

pub(super) struct Run {
    pub(super) engine: Arc<Engine>,
    pub(super) storage: Arc<dyn Storage>,
    /// The organization at the start. Under another one every object would look deleted.
    organization: OrganizationId,
    pub(super) options: Options,
}

/// Runs until the end of the run or of the mount, and stores the outcome. A panic is a failure, so that another run may
/// follow.
pub(super) async fn in_background(engine: Arc<Engine>, storage: Arc<dyn Storage>, options: Options) {
    let outcome = tokio::select! {
        outcome = caught(run(&engine, storage, options)) => Some(outcome),
        () = engine.gone.cancelled() => None,
    };
    let (state, error) = match outcome {
        Some(Ok(())) => (State::Finished, None),
        Some(Err(error)) => (State::Failed, Some(error)),
        None => (State::Stopped, None),
    };
    engine.tidying.end(state, error.as_ref(), engine.now());
}

async fn run(engine: &Arc<Engine>, storage: Arc<dyn Storage>, options: Options) -> Result<(), Error> {
    let organization = clients::configured(engine, &*storage).await?.config.organization_id.clone();
    let run = Run { engine: Arc::clone(engine), storage, organization, options };
    let candidates = run.candidates().await?;
    run.tidy(candidates).await?;
    if let Err(error) = run.tidy_admin_keys().await {
        run.failed(&error);
    }
    Ok(())
}

impl Run {
    /// The client for the next step. During a run, rotations and changes of the configuration may replace the client.
    pub(super) async fn client(&self) -> Result<Client, Error> {
        let client = clients::client_of(&self.engine, &*self.storage, &self.organization).await?;
        Ok(client.for_work(Urgency::Check, MAX_WAIT))
    }

    /// The accounts and keys with the tag and the minimum age, with or without an owner. Accounts come first, as their
    /// deletion deletes their keys.
    async fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        let (mut accounts, mut keys) = (Vec::new(), Vec::new());
        for project_id in dependents::known_projects(&self.engine, &*self.storage).await?.into_keys() {
            let (client, mut in_project) = (self.client().await?, Vec::new());
            let what = "listing service accounts";
            self.note(what, self.accounts_in(&client, &project_id, &mut in_project).await);
            // Without the list of keys, the accounts may have keys of others.
            let listed = self.keys_in(&client, &project_id, &mut in_project, &mut keys).await;
            if self.note("listing API keys", listed) {
                accounts.append(&mut in_project);
            }
        }
        accounts.append(&mut keys);
        Ok(accounts)
    }

    /// Counts a failed listing of a project. Returns false after a failure.
    fn note(&self, what: &'static str, listed: Result<(), openai::Error>) -> bool {
        match listed {
            // The project is deleted, with its accounts and keys.
            Err(error) if !error.is_gone() => {
                self.failed(&Error::call(what)(error));
                false
            }
            _ => true,
        }
    }

    async fn accounts_in(
        &self,
        client: &Client,
        project_id: &ProjectId,
        found: &mut Vec<Candidate>,
    ) -> Result<(), openai::Error> {
        let mut pages = Pages::within(MAX_LISTING_TIME);
        while let Some(page) = client.next_service_accounts(project_id, &mut pages).await? {
            self.engine.tidying.looked_at(page.len());
            let carry_tag =
                page.into_iter().filter(|account| self.is_candidate(&account.name, account.created_at));
            let candidate = |account| Candidate::new(project_id, Object::Account(account, Vec::new()));
            found.extend(carry_tag.map(candidate));
        }
        Ok(())
    }

    /// Lists the project's keys with the tag. Notes for each account its unexpired keys.
    async fn keys_in(
        &self,
        client: &Client,
        project_id: &ProjectId,
        accounts: &mut [Candidate],
        found: &mut Vec<Candidate>,
    ) -> Result<(), openai::Error> {
        let mut accounts: HashMap<ServiceAccountId, &mut Candidate> = accounts
            .iter_mut()
            .filter_map(|candidate| Some((candidate.account_id()?.clone(), candidate)))
            .collect();
        let mut pages = Pages::within(MAX_LISTING_TIME);
        while let Some(page) = client.next_keys(project_id, &mut pages).await? {
            self.engine.tidying.looked_at_keys(page.len());
            for key in &page {
                let is_over = key.expires_at.is_some_and(|end| end <= self.engine.certain_time());
                if let Some(candidate) = key.service_account().and_then(|owner| accounts.get_mut(owner))
                    && let Object::Account(_, keys) = &mut candidate.object
                    && !is_over
                {
                    keys.push(key.clone());
                }
            }
            let carry_tag = page
                .into_iter()
                .filter(|key| key.name.as_ref().is_some_and(|name| self.is_candidate(name, key.created_at)));
            // The key of a user has no service account, and is never a candidate.
            let of_accounts =
                carry_tag.filter_map(|key| key.service_account().cloned().map(|owner| (key, owner)));
            found.extend(of_accounts.map(|(key, owner)| Candidate::new(project_id, Object::Key(key, owner))));
        }
        Ok(())
    }

    /// True if somebody uses the key, so that its account stays: a record names the key, or somebody else created it.
    fn is_used(&self, owned: &Owned, account: &ServiceAccount, key: &KeyRecord) -> bool {
        let is_ours = key.name.as_ref().is_some_and(|name| self.engine.tag.owns(name));
        let is_first = key.created_at <= account.created_at + FIRST_KEY_DELAY;
        owned.names_key(key, &self.engine.tag) || !is_ours && !is_first
    }

    pub(super) fn is_candidate(&self, name: &str, created_at: DateTime<Utc>) -> bool {
        self.engine.tag.owns(name)
            && is_old_enough(created_at, self.engine.certain_time(), self.options.min_age)
    }

    async fn tidy(&self, candidates: Vec<Candidate>) -> Result<(), Error> {
        let owned = Owned::collect(&self.engine, &*self.storage).await?;
        for candidate in candidates {
            if let Err(error) = self.tidy_candidate(&owned, &candidate).await {
                self.failed(&error);
            }
        }
        Ok(())
    }

    async fn tidy_candidate(&self, owned: &Owned, candidate: &Candidate) -> Result<(), Error> {
        match (&candidate.object, &candidate.project_id) {
            (Object::Account(account, keys), Some(project)) => {
                self.tidy_account(owned, candidate, project, account, keys).await
            }
            (Object::Key(key, _), Some(project)) => self.tidy_key(owned, candidate, project, key).await,
            _ => Ok(()),
        }
    }

    async fn tidy_account(
        &self,
        owned: &Owned,
        candidate: &Candidate,
        project: &ProjectId,
        account: &ServiceAccount,
        keys: &[KeyRecord],
    ) -> Result<(), Error> {
        let (engine, storage) = (&self.engine, &*self.storage);
        let _no_claim = claims::lock(&engine.locks, &account.id).await;
        if inventory::is_owned(engine, storage, owned, account).await? {
            return Ok(());
        }
        if let Some(key) = keys.iter().find(|key| self.is_used(owned, account, key)) {
            return Err(Error::AccountHasKeys { account: account.id.clone(), key: key.id.clone() });
        }
        // A role has no claim, and may have taken the account after the owners were read.
        if !self.options.dry_run && account_user::user_of(engine, storage, &account.id).await?.is_some() {
            return Ok(());
        }
        self.engine.tidying.found(candidate);
        if self.options.dry_run {
            return Ok(());
        }
        let removed = deletion::end_account(&self.client().await?, project, &account.id).await;
        removed.map_err(Error::Revocation)?;
        self.engine.tidying.removed();
        Ok(())
    }

    /// Needs no lock: the owner's record has a key's name before the key is created.
    async fn tidy_key(
        &self,
        owned: &Owned,
        candidate: &Candidate,
        project: &ProjectId,
        key: &KeyRecord,
    ) -> Result<(), Error> {
        if owned.names_key(key, &self.engine.tag) {
            return Ok(());
        }
        self.engine.tidying.found(candidate);
        if self.options.dry_run {
            return Ok(());
        }
        let client = self.client().await?;
        deletion::end_key(&client, project, &key.id).await.map_err(Error::Revocation)?;
        self.engine.tidying.removed();
        Ok(())
    }

    pub(super) fn failed(&self, error: &Error) {
        self.engine.tidying.failed(error);
    }
}

impl Candidate {
    fn new(project_id: &ProjectId, object: Object) -> Self {
        Self { project_id: Some(project_id.clone()), object }
    }

    fn account_id(&self) -> Option<&ServiceAccountId> {
        match &self.object {
            Object::Account(account, _) => Some(&account.id),
            Object::Key(..) | Object::AdminKey(_) => None,
        }
    }
}

/// True if `created_at` is at least `min_age` ago. A time in the future is not.
fn is_old_enough(created_at: DateTime<Utc>, now: DateTime<Utc>, min_age: Duration) -> bool {
    (now - created_at).to_std().is_ok_and(|age| age >= min_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_younger_time_or_one_in_the_future_is_not_old_enough() {
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
