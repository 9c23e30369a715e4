//! Finds the accounts at OpenAI that have the names in `service_account_names`. `writes` adopts the found accounts and
//! creates the others. This file does not use storage.
//!
//! A new account is created without a key, under a unique name. A second call sets the wanted name and the role
//! `member`. So there is no key to undo, and an undo looks for a name that only this mount uses. It cannot delete
//! somebody else's account that has the wanted name.
//!
//! OpenAI's lists lag: they may contain deleted accounts, and lack new ones. So an account is read by its id before it is
//! adopted, and before a member counts as gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::engine::accounts::live_keys;
use crate::engine::config::clients::Configured;
use crate::engine::{Engine, Error};
use crate::openai::{
    Client, OrganizationId, Pages, ProjectId, Role, ServiceAccount, ServiceAccountId, Urgency,
};

/// Maximum wait of a write's call for its turn at OpenAI.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);
/// Number of accounts that are read concurrently.
const CONCURRENCY: usize = 4;
/// Age below which a 404 proves nothing, because OpenAI may not know the new account everywhere.
const YOUNG: TimeDelta = TimeDelta::seconds(60);

/// An account of a library set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The account's name.
    pub name: String,
    /// OpenAI's id of the account.
    pub id: ServiceAccountId,
    /// The account's organization.
    pub organization_id: OrganizationId,
    /// The account's project.
    pub project_id: ProjectId,
    /// The unique name with which Vault created the account; `None` for an adopted account. A created account is deleted
    /// when it leaves the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_as: Option<String>,
    /// The time at which the account joined the set; `None` in records of the first release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<DateTime<Utc>>,
}

/// The project of a set's accounts, with a client.
pub(super) struct Home {
    pub(super) organization_id: OrganizationId,
    pub(super) project_id: ProjectId,
    pub(super) client: Client,
    pub(super) now: DateTime<Utc>,
}

/// The accounts in a project's list that concern a set.
#[derive(Default)]
pub(super) struct Listed {
    /// The accounts by name, for the names that the set wants.
    by_name: HashMap<String, Vec<ServiceAccount>>,
    /// The names of accounts whose id was sent instead of a name.
    named_by_id: HashMap<String, String>,
    /// The ids of the set's members that are listed.
    members: HashSet<ServiceAccountId>,
}

impl Member {
    /// True if this is the account's name or id.
    pub fn answers_to(&self, asked: &str) -> bool {
        self.name == asked || self.id.as_str() == asked
    }

    /// True if Vault created the account for its set.
    pub fn is_made(&self) -> bool {
        self.made_as.is_some()
    }

    /// True if the account joined a moment ago, or if the clock went back. Then a 404 is ignored, which is harmless.
    fn is_young(&self, now: DateTime<Utc>) -> bool {
        self.joined.is_some_and(|joined| now - joined < YOUNG)
    }
}

/// The member of this id, or else the one of this name: a name may look like the id of another account.
pub(super) fn by_id<'a>(members: &'a [Member], asked: &str) -> Option<&'a Member> {
    let is_id = |member: &&Member| member.id.as_str() == asked;
    members.iter().find(is_id).or_else(|| members.iter().find(|member| member.name == asked))
}

/// The member of this name, or else the one of this id.
pub(super) fn by_name<'a>(members: &'a [Member], asked: &str) -> Option<&'a Member> {
    members.iter().find(|member| member.name == asked).or_else(|| by_id(members, asked))
}

impl Listed {
    /// Refuses a name that is the id of an account, or looks like one. It is a typing error, and not the name of a new
    /// account.
    pub(super) fn refuse_ids(&self, names: &[&str]) -> Result<(), Error> {
        for name in names {
            if let Some(account) = self.named_by_id.get(*name) {
                return Err(Error::field(format!(
                    "service_account_names must be names: {name:?} is the id of account {account:?}"
                )));
            }
            if name.starts_with("svc_acct_") {
                return Err(Error::field(format!(
                    "service_account_names must be names: {name:?} is written like the id of an account, and the \
                     project has none of that id or name"
                )));
            }
        }
        Ok(())
    }
}

impl Home {
    pub(super) fn new(configured: &Configured, project_id: ProjectId, now: DateTime<Utc>) -> Self {
        Self {
            organization_id: configured.config.organization_id.clone(),
            project_id,
            client: configured.client.for_work(Urgency::Issue, MAX_WAIT),
            now,
        }
    }

    pub(super) fn member(&self, name: &str, id: ServiceAccountId, made_as: Option<String>) -> Member {
        Member {
            name: name.to_owned(),
            id,
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            made_as,
            joined: Some(self.now),
        }
    }

    /// Lists the project's accounts. Keeps members, and accounts whose name or id is one of `names`.
    pub(super) async fn list(&self, names: &HashSet<&str>, members: &[Member]) -> Result<Listed, Error> {
        let ids: HashSet<&ServiceAccountId> = members.iter().map(|member| &member.id).collect();
        let (mut listed, mut pages) = (Listed::default(), Pages::within(MAX_WAIT));
        loop {
            let page = self.client.next_service_accounts(&self.project_id, &mut pages).await;
            let page = page.map_err(Error::call("listing the project's service accounts"))?;
            let Some(page) = page else { return Ok(listed) };
            for account in page {
                if ids.contains(&account.id) {
                    listed.members.insert(account.id.clone());
                }
                if names.contains(account.id.as_str()) {
                    listed.named_by_id.insert(account.id.to_string(), account.name.clone());
                }
                if names.contains(account.name.as_str()) {
                    listed.by_name.entry(account.name.clone()).or_default().push(account);
                }
            }
        }
    }

    /// The existing accounts with these names. A name of several accounts is refused.
    pub(super) async fn find(&self, listed: &Listed, names: &[&str]) -> Result<Vec<Member>, Error> {
        let candidates = names.iter().filter_map(|name| listed.by_name.get(*name));
        let found = candidates.map(|accounts| self.only_one(accounts).boxed());
        let found = stream::iter(found.collect::<Vec<_>>()).buffered(CONCURRENCY);
        let found: Vec<Option<Member>> = found.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn only_one(&self, accounts: &[ServiceAccount]) -> Result<Option<Member>, Error> {
        let mut found: Option<Member> = None;
        for account in accounts {
            if !self.has(account).await? {
                continue;
            }
            if let Some(first) = found {
                return Err(Error::field(format!(
                    "service_account_names: project {} has several accounts named {:?}, such as {} and {}; rename \
                     all but one of them",
                    self.project_id, account.name, first.id, account.id
                )));
            }
            found = Some(self.member(&account.name, account.id.clone(), None));
        }
        Ok(found)
    }

    /// True if OpenAI finds a listed account by its id, with its listed name. OpenAI may not find a new account yet, so
    /// the call is repeated for a while.
    async fn has(&self, account: &ServiceAccount) -> Result<bool, Error> {
        let is_young = self.now - account.created_at < YOUNG;
        let client = if is_young { self.client.retrying_not_found() } else { self.client.clone() };
        match Self::find_by_id(&client, &self.project_id, &account.id).await? {
            Some(found) if found.name == account.name => return Ok(true),
            Some(found) => {
                return Err(Error::field(format!(
                    "service_account_names: OpenAI lists account {} as {:?}, but it is called {:?} when it is asked for: \
                     it was renamed, try again in a minute",
                    account.id, account.name, found.name
                )));
            }
            None if !is_young => return Ok(false),
            None => {}
        }
        Err(Error::field(format!(
            "service_account_names: OpenAI lists account {:?} ({}), which is new, but does not know it yet: try again in \
             a minute",
            account.name, account.id
        )))
    }

    async fn find_by_id(
        client: &Client,
        project: &ProjectId,
        account: &ServiceAccountId,
    ) -> Result<Option<ServiceAccount>, Error> {
        match client.service_account(project, account).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(Error::call("looking up a service account")(error)),
        }
    }

    /// The ids of the members that OpenAI no longer has. Members that the list lacks or that `in_doubt` names are read by
    /// id, in their own project: the set's project may have another id by now. A member that joined a moment ago never
    /// counts as gone.
    pub(super) async fn gone(
        &self,
        listed: &Listed,
        members: &[Member],
        in_doubt: &BTreeSet<String>,
    ) -> Result<HashSet<ServiceAccountId>, Error> {
        let asked = members.iter().filter(|member| {
            let is_doubtful = !listed.members.contains(&member.id) || in_doubt.contains(member.id.as_str());
            is_doubtful && !member.is_young(self.now)
        });
        let asked = asked.map(|member| {
            async move {
                let found = Self::find_by_id(&self.client, &member.project_id, &member.id).await;
                found.map(|found| found.is_none().then(|| member.id.clone()))
            }
            .boxed()
        });
        let asked = stream::iter(asked.collect::<Vec<_>>()).buffered(CONCURRENCY);
        let gone: Vec<Option<ServiceAccountId>> = asked.try_collect().await?;
        Ok(gone.into_iter().flatten().collect())
    }

    /// Gives a new account its name and the role `member`. Without a role, its keys have no permissions.
    pub(super) async fn rename(&self, member: &Member) -> Result<(), Error> {
        let renamed =
            self.client.rename_service_account(&self.project_id, &member.id, &member.name, Role::Member);
        renamed.await.map(drop).map_err(Error::AccountCreation)
    }

    /// Warnings about adopted accounts that somebody else may use, because they have keys or a name that a mount gave.
    pub(super) async fn warn_of_users(
        &self,
        engine: &Engine,
        adopted: &[Member],
    ) -> Result<Vec<String>, Error> {
        // Asked for at the same time, the keys of all accounts come from one list.
        for member in adopted {
            engine.accounts.listings.ask(&member.id);
        }
        let (mut with_keys, deadline) = (Vec::new(), Instant::now() + MAX_WAIT);
        for Member { name, id, .. } in adopted {
            let within = deadline.saturating_duration_since(Instant::now());
            let keys = live_keys::others(engine, &self.client, &self.project_id, id, &[], within, 1).await;
            let keys = keys.map_err(Error::call("listing the project's keys"))?.ok_or(Error::KeysUnlisted)?;
            with_keys.extend((!keys.is_empty()).then_some(name.as_str()));
        }
        with_keys.sort_unstable();
        let named: Vec<&str> =
            adopted.iter().map(|member| member.name.as_str()).filter(|name| is_of_a_mount(name)).collect();
        let mut warnings = Vec::new();
        if !with_keys.is_empty() {
            warnings.push(format!(
                "these accounts have keys that Vault did not create, which work beside a borrower's: {}",
                with_keys.join(", ")
            ));
        }
        if !named.is_empty() {
            warnings.push(format!(
                "these accounts have names that Vault gives to accounts it creates, so a role or another mount may delete \
                 them: {}",
                named.join(", ")
            ));
        }
        Ok(warnings)
    }
}

/// True if a name looks like one that a mount gives: `vault-<front>-<8 random characters>-<6 of a mount's tag>`, or with
/// the 10 characters of a credential's stamp before the tag.
fn is_of_a_mount(name: &str) -> bool {
    let ends_in = |lengths: &[usize]| {
        let mut parts = name.rsplitn(lengths.len() + 1, '-');
        let is = |part: &str, length: usize| {
            part.len() == length
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        lengths.iter().all(|length| parts.next().is_some_and(|part| is(part, *length)))
            && parts.next().is_some_and(|front| front.starts_with("vault-"))
    };
    ends_in(&[6, 8]) || ends_in(&[6, 10, 8])
}
