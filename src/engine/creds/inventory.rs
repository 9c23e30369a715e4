//! Which accounts and keys at OpenAI something here still speaks for. It knows nothing of who asks, and asks nobody
//! outside.
//!
//! *Guarantees:* an account or key that was made before the look began, and that something owns, is found in it: a creation
//! has its write-ahead entry until its owner's record is stored, so the entries are read before the records.
//!
//! *Assumptions:* what the mount makes has a unique name (`names.rs`), by which the ledger, write-ahead entries and
//! windows know it; what belongs to a static role or a library set is claimed (`owners.rs`) before its owner's record is stored.
//! What a static role was given, or left behind, it speaks for as long as it is stored, claim or no claim.

use std::collections::HashSet;

use crate::engine::accounts::claims;
use crate::engine::accounts::claims::AccountOwner;
use crate::engine::creds::issuer::{CREATION, Creation, Owner};
use crate::engine::creds::ledger;
use crate::engine::creds::windows::{ANNOUNCEMENT, Stamp, WINDOW, WindowId};
use crate::engine::library::{lending, sets};
use crate::engine::naming::names::MountTag;
use crate::engine::{Engine, Error, static_roles};
use crate::framework::WalLog;
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, KeyRecord, ServiceAccount, ServiceAccountId};

/// What was owned at the time of the look, but for claims, which are looked up one by one.
#[derive(Debug, Default)]
pub(in crate::engine) struct Owned {
    /// Unique names of accounts and of keys.
    names: HashSet<String>,
    windows: HashSet<WindowId>,
    accounts: HashSet<ServiceAccountId>,
    /// Keys that are known by their ids.
    keys: HashSet<ApiKeyId>,
}

impl Owned {
    /// Reads everything that owns accounts. It lists all there is: once for many questions, and not for a request.
    pub(in crate::engine) async fn collect(
        engine: &Engine,
        storage: &dyn Storage,
    ) -> Result<Self, StorageError> {
        let mut owned = Self::of_credentials(storage).await?;
        let roles = engine.roles.all(storage).await?.into_iter();
        owned.accounts.extend(roles.filter_map(|(_, role)| role.service_account_id.clone()));
        // Besides the accounts that static roles claim: one that was left behind may have a key of theirs, and goes
        // back to whoever gave it.
        for role in static_roles::all_records(storage).await? {
            owned.accounts.extend(role.accounts().cloned());
            for (id, name) in role.keys() {
                owned.keys.insert(id.clone());
                owned.names.insert(name.to_owned());
            }
            owned.names.extend(role.making.iter().map(|making| making.name.clone()));
        }
        owned.names.extend(sets::making(engine, storage).await?);
        for (id, key) in lending::keys(storage).await? {
            owned.names.insert(id);
            owned.keys.extend(key);
        }
        Ok(owned)
    }

    /// Reads what was handed out, and what is being made for anybody.
    async fn of_credentials(storage: &dyn Storage) -> Result<Self, StorageError> {
        let (mut owned, log) = (Self::default(), WalLog::read(storage, usize::MAX).await?);
        for creation in CREATION.entries(&log)? {
            owned.names.insert(creation.name);
            owned.accounts.extend(creation.service_account_id);
        }
        for announcement in ANNOUNCEMENT.entries(&log)? {
            owned.names.extend(announcement.names);
            owned.accounts.extend(announcement.service_account_id);
        }
        for window in WINDOW.entries(&log)? {
            owned.windows.insert(window.window_id());
            owned.accounts.extend(window.triple.service_account_id);
        }
        owned.names.extend(ledger::names(storage).await?);
        Ok(owned)
    }

    /// Whether something here speaks for what has this name: a record, or the window in which it is made.
    fn has_name(&self, name: &str, tag: &MountTag) -> bool {
        self.names.contains(name)
            || Stamp::of(name, tag).is_some_and(|stamp| self.windows.contains(&stamp.window))
    }

    /// Whether something here speaks for the key: by its unique name, or by its id where somebody renamed it.
    pub(in crate::engine) fn names_key(&self, key: &KeyRecord, tag: &MountTag) -> bool {
        self.keys.contains(&key.id) || key.name.as_ref().is_some_and(|name| self.has_name(name, tag))
    }
}

impl Engine {
    /// Whether something here speaks for the account.
    pub(in crate::engine) async fn is_owned(
        &self,
        storage: &dyn Storage,
        owned: &Owned,
        account: &ServiceAccount,
    ) -> Result<bool, Error> {
        if owned.has_name(&account.name, &self.tag) || owned.accounts.contains(&account.id) {
            return Ok(true);
        }
        Ok(claims::is_claimed(storage, &account.id).await?)
    }

    /// Whether the owner's record names what was made.
    pub(in crate::engine) async fn owns(
        &self,
        storage: &dyn Storage,
        creation: &Creation,
    ) -> Result<bool, Error> {
        match &creation.owner {
            Owner::Ledger(place) => Ok(ledger::LEDGER.contains(storage, place).await?),
            Owner::StaticRole(name) => static_roles::names_creation(storage, name, &creation.name).await,
            Owner::LibrarySet(set) => sets::made(self, storage, set, &creation.name).await,
        }
    }

    /// Refuses an account that is lent to one borrower at a time, or that goes with its owner's key: a role's keys would be
    /// a second borrower's, or end with it.
    pub(in crate::engine) async fn refuse_for_role(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
    ) -> Result<(), Error> {
        let Some(owner) = claims::claimant(storage, account).await? else { return Ok(()) };
        let is_taken = match &owner {
            AccountOwner::LibrarySet(_) => self.names_account(storage, &owner, account).await?,
            AccountOwner::StaticRole(name) => static_roles::made_account(storage, name, account).await?,
        };
        if is_taken { Err(Error::AccountInUse { account: account.clone(), owner }) } else { Ok(()) }
    }

    /// Refuses accounts that this mount made for a credential: they are deleted with it, and with them all their keys. The
    /// field is the caller's.
    pub(in crate::engine) async fn refuse_of_credentials(
        &self,
        storage: &dyn Storage,
        field: &str,
        names: &[&str],
    ) -> Result<(), Error> {
        let ours: Vec<&&str> = names.iter().filter(|name| self.tag.owns(name)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let owned = Owned::of_credentials(storage).await?;
        match ours.into_iter().find(|name| owned.has_name(name, &self.tag)) {
            Some(name) => Err(Error::field(format!(
                "{field} must not name service account {name}: this mount made it for a credential, and deletes it when \
                 that ends"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses accounts that a role makes keys on: a borrower would not be alone with one. Each comes with its name, and
    /// the field is the caller's.
    pub(in crate::engine) async fn refuse_of_roles(
        &self,
        storage: &dyn Storage,
        field: &str,
        accounts: &[(&ServiceAccountId, &str)],
    ) -> Result<(), Error> {
        if accounts.is_empty() {
            return Ok(());
        }
        for (role_name, role) in self.roles.all(storage).await? {
            let taken = accounts.iter().find(|(id, _)| role.service_account_id.as_ref() == Some(*id));
            if let Some((id, name)) = taken {
                return Err(Error::field(format!(
                    "{field} must not name {name}: role {role_name} makes keys on this account ({id})"
                )));
            }
        }
        Ok(())
    }

    /// What uses the account: the static role or library set that it belongs to, or a role that makes keys on it.
    pub(in crate::engine) async fn user_of(
        &self,
        storage: &dyn Storage,
        account: &ServiceAccountId,
    ) -> Result<Option<String>, Error> {
        if let Some(owner) = claims::claimant(storage, account).await?
            && self.names_account(storage, &owner, account).await?
        {
            return Ok(Some(owner.to_string()));
        }
        let mut roles = self.roles.all(storage).await?.into_iter();
        let role = roles.find(|(_, role)| role.service_account_id.as_ref() == Some(account));
        Ok(role.map(|(name, _)| format!("role {name}")))
    }

    /// Whether the owner's record is stored and names the account.
    pub(in crate::engine) async fn names_account(
        &self,
        storage: &dyn Storage,
        owner: &AccountOwner,
        account: &ServiceAccountId,
    ) -> Result<bool, Error> {
        match owner {
            AccountOwner::StaticRole(name) => static_roles::names_account(storage, name, account).await,
            AccountOwner::LibrarySet(name) => sets::names_account(self, storage, name, account).await,
        }
    }
}
