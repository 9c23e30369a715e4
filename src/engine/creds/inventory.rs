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

use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::{claims, holdings};
use crate::engine::creds::former::CREATION;
use crate::engine::creds::ledger;
use crate::engine::creds::windows::{ANNOUNCEMENT, Stamp, WINDOW, WindowId};
use crate::engine::naming::names::MountTag;
use crate::engine::{Engine, Error};
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
        for holding in holdings::all(engine, storage).await? {
            owned.accounts.extend(holding.service_account_id);
            owned.keys.extend(holding.api_key_id);
            owned.names.extend(holding.name);
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

/// Whether something here speaks for the account.
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

/// Refuses an account that is lent to one borrower at a time, or that goes with its owner's key: a role's keys would be
/// a second borrower's, or end with it.
pub(in crate::engine) async fn refuse_for_role(
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<(), Error> {
    for owner in claims::claimants(storage, account).await? {
        let is_lent = matches!(owner, Owner::LibrarySet(_));
        let holdings = holdings::of(engine, storage, &owner).await?;
        let mut its = holdings.iter().filter(|it| it.service_account_id.as_ref() == Some(account));
        if its.any(|it| if is_lent { it.is_claimed } else { it.is_made_account }) {
            return Err(Error::AccountInUse { account: account.clone(), owner: owner.described() });
        }
    }
    Ok(())
}

/// Refuses accounts that this mount made for a credential: they are deleted with it, and with them all their keys. The
/// field is the caller's.
pub(in crate::engine) async fn refuse_of_credentials(
    engine: &Engine,
    storage: &dyn Storage,
    field: &str,
    names: &[&str],
) -> Result<(), Error> {
    let ours: Vec<&&str> = names.iter().filter(|name| engine.tag.owns(name)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    let owned = Owned::of_credentials(storage).await?;
    match ours.into_iter().find(|name| owned.has_name(name, &engine.tag)) {
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
    engine: &Engine,
    storage: &dyn Storage,
    field: &str,
    accounts: &[(&ServiceAccountId, &str)],
) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    for (role_name, role) in engine.roles.all(storage).await? {
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
    engine: &Engine,
    storage: &dyn Storage,
    account: &ServiceAccountId,
) -> Result<Option<String>, Error> {
    for owner in claims::claimants(storage, account).await? {
        if claims::names_account(engine, storage, &owner, account).await? {
            return Ok(Some(owner.described()));
        }
    }
    let mut roles = engine.roles.all(storage).await?.into_iter();
    let role = roles.find(|(_, role)| role.service_account_id.as_ref() == Some(account));
    Ok(role.map(|(name, _)| format!("role {name}")))
}
