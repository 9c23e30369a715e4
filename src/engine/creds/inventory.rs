//! The inventory: accounts and keys at OpenAI that something in this mount's storage owns. This file makes no calls.
//!
//! *Guarantees:* the inventory contains every owned account and key that existed before the read began. A creation has
//! its write-ahead entry until the owner's record is stored, so the entries are read before the records.
//!
//! *Assumptions:* the mount's accounts and keys have unique names (`names.rs`), which the ledger, write-ahead entries
//! and windows contain. An account of a static role or a library set is claimed (`claims.rs`) before its owner's record
//! is stored. A static role owns its current and former accounts while its record is stored, with or without a claim.

use std::collections::HashSet;

use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, holdings};
use crate::engine::creds::former::CREATION;
use crate::engine::creds::ledger;
use crate::engine::creds::windows::{LEGACY_ENTRY, Stamp, WINDOW, WindowId};
use crate::engine::naming::names::MountTag;
use crate::engine::{Engine, Error};
use crate::framework::{WAL_PREFIX, WalLog};
use crate::logical::{Storage, StorageError};
use crate::openai::{ApiKeyId, KeyRecord, ServiceAccount, ServiceAccountId};

/// Everything that owns accounts and keys at the time of the read, except claims, which are read one by one.
#[derive(Debug, Default)]
pub(in crate::engine) struct Owned {
    /// Unique names of accounts and keys.
    names: HashSet<String>,
    windows: HashSet<WindowId>,
    accounts: HashSet<ServiceAccountId>,
    /// Ids of keys.
    keys: HashSet<ApiKeyId>,
}

impl Owned {
    /// Reads everything that owns accounts and keys. Lists many folders, which is too slow for a request.
    pub(in crate::engine) async fn collect(
        engine: &Engine,
        storage: &dyn Storage,
    ) -> Result<Self, StorageError> {
        let mut owned = Self::of_credentials(storage).await?;
        let roles = engine.creds.roles.all(storage).await?.into_iter();
        owned.accounts.extend(roles.filter_map(|(_, role)| role.service_account_id.clone()));
        // A static role also owns accounts without a claim: a former account may still have a key of the role.
        for holding in holdings::all(engine, storage).await? {
            owned.accounts.extend(holding.service_account_id);
            owned.keys.extend(holding.api_key_id);
            owned.names.extend(holding.name);
        }
        Ok(owned)
    }

    /// Reads the credentials of the ledger and the creations in progress.
    async fn of_credentials(storage: &dyn Storage) -> Result<Self, StorageError> {
        let (mut owned, log) = (Self::default(), WalLog::read(storage, usize::MAX).await?);
        for creation in CREATION.entries(&log)? {
            owned.names.insert(creation.name);
            owned.accounts.extend(creation.service_account_id);
        }
        for entry in LEGACY_ENTRY.entries(&log)? {
            owned.names.extend(entry.names);
            owned.accounts.extend(entry.service_account_id);
        }
        for window in WINDOW.entries(&log)? {
            owned.windows.insert(window.window_id());
            owned.accounts.extend(window.target.service_account_id);
        }
        owned.names.extend(ledger::names(storage).await?);
        Ok(owned)
    }

    /// True if a record or a stored window owns this name.
    fn has_name(&self, name: &str, tag: &MountTag) -> bool {
        self.names.contains(name)
            || Stamp::of(name, tag).is_some_and(|stamp| self.windows.contains(&stamp.window))
    }

    /// True if the key is owned, by its unique name or, after a renaming, by its id.
    pub(in crate::engine) fn names_key(&self, key: &KeyRecord, tag: &MountTag) -> bool {
        self.keys.contains(&key.id) || key.name.as_ref().is_some_and(|name| self.has_name(name, tag))
    }
}

/// True if the account is owned.
pub(in crate::engine) async fn is_owned(
    engine: &Engine,
    storage: &dyn Storage,
    owned: &Owned,
    account: &ServiceAccount,
) -> Result<bool, Error> {
    if owned.has_name(&account.name, &engine.tag) || owned.accounts.contains(&account.id) {
        return Ok(true);
    }
    Ok(claims::is_claimed(storage, &account.id).await?)
}

/// Refuses the account of a library set or a federated role, and an account that a static role created. A role's keys
/// would break the exclusive loan or outlive the stop of a federated role, or end with the static role's account.
pub(in crate::engine) async fn check_for_role(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<(), Error> {
    for owner in claims::claimants(storage, account).await? {
        let is_exclusive = matches!(owner, Owner::LibrarySet(_) | Owner::FederatedRole(_));
        let holdings = holdings::of(engine, storage, &owner).await?;
        let mut its = holdings.iter().filter(|it| it.service_account_id.as_ref() == Some(account));
        if its.any(|it| if is_exclusive { it.is_claimed } else { it.is_made_account }) {
            return Err(Error::AccountInUse { account: account.clone(), owner: owner.described() });
        }
    }
    Ok(())
}

/// Refuses accounts of dynamic credentials, which are deleted with their credential. `field` is the caller's field.
pub(in crate::engine) async fn check_not_of_credentials(
    engine: &Engine,
    storage: &dyn Storage,
    field: &str,
    names: &[&str],
) -> Result<(), Error> {
    let refused = |name: &str| {
        Err(Error::field(format!(
            "{field} must not name service account {name}: this mount made it for a credential, and deletes it when \
             that ends"
        )))
    };
    let mut unstamped = Vec::new();
    for name in names.iter().filter(|name| engine.tag.owns(name)) {
        match Stamp::of(name, &engine.tag) {
            Some(stamp) if is_of_credential(storage, name, stamp).await? => return refused(name),
            Some(_) => {}
            None => unstamped.push(name),
        }
    }
    if unstamped.is_empty() {
        return Ok(());
    }
    // Early releases stamped no name. Such names are rare, and only the whole ledger tells about them.
    let owned = Owned::of_credentials(storage).await?;
    unstamped.into_iter().find(|name| owned.has_name(name, &engine.tag)).map_or(Ok(()), |name| refused(name))
}

/// True if a stored window or the ledger has the credential. The entries are read first, as in [`Owned::collect`].
async fn is_of_credential(storage: &dyn Storage, name: &str, stamp: Stamp) -> Result<bool, StorageError> {
    let entries = storage.list(WAL_PREFIX).await?;
    if entries.iter().any(|entry| WindowId::of_entry(entry) == Some(stamp.window)) {
        return Ok(true);
    }
    ledger::is_recorded(storage, stamp.end(), name).await
}

/// Refuses accounts on which a role creates keys, because a loan must be exclusive. Each account comes with its name;
/// `field` is the caller's field.
pub(in crate::engine) async fn check_not_of_roles(
    engine: &Engine,
    storage: &dyn Storage,
    field: &str,
    accounts: &[(&ServiceAccountId, &str)],
) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    for (role_name, role) in engine.creds.roles.all(storage).await? {
        let taken = accounts.iter().find(|(id, _)| role.service_account_id.as_ref() == Some(*id));
        if let Some((id, name)) = taken {
            return Err(Error::field(format!(
                "{field} must not name {name}: role {role_name} makes keys on this account ({id})"
            )));
        }
    }
    Ok(())
}
