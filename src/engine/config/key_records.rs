//! Look-ups of admin keys at OpenAI: the record of the current key, and the account that owns it. Read-only.

use std::time::Duration;

use crate::engine::accounts::kind::Mount;
use crate::engine::config::configuration::Config;
use crate::engine::{DEPENDENTS, Engine, Error};
use crate::logical::Storage;
use crate::openai::{
    self, AdminKey, AdminKeyId, AdminKeyRecord, Client, ProjectId, ServiceAccount, ServiceAccountId,
};

/// The present admin key at OpenAI.
pub(in crate::engine) struct OwnKey {
    pub(in crate::engine) id: AdminKeyId,
    /// From its creation to its own end; none for a key that does not expire.
    pub(in crate::engine) lifetime: Option<Duration>,
}

/// The record of this id. Refuses the id of another key, because rotation would delete that key.
pub(in crate::engine) async fn check_id(
    client: &Client,
    field: &str,
    id: &AdminKeyId,
    key: &AdminKey,
) -> Result<AdminKeyRecord, Error> {
    match client.retrying_not_found().admin_key(id).await {
        Ok(record) if key.fits(&record.redacted_value) => Ok(record),
        Ok(_) => Err(Error::field(format!("{field} must be the id of this key: {id} is another key's"))),
        Err(error) if error.is_gone() => {
            Err(Error::field(format!("{field} must be the id of this key: OpenAI has no admin key {id}")))
        }
        Err(error) => Err(Error::Validation(error)),
    }
}

/// OpenAI's id of the current key, verified against the key itself. With a wrong id, rotation would delete another key.
pub(in crate::engine) async fn own_id(
    client: &Client,
    config: &Config,
) -> Result<Option<OwnKey>, openai::Error> {
    match current(config, client).await {
        // The key of the configured id is young.
        Err(error) if error.is_not_found_yet() => Ok(OwnKey::configured(config)),
        record => Ok(record?.map(OwnKey::of)),
    }
}

impl OwnKey {
    fn configured(config: &Config) -> Option<Self> {
        let lifetime = config.admin_key_expires_at.map(|end| end - config.last_rotated);
        let lifetime = lifetime.and_then(|time| time.to_std().ok());
        config.admin_api_key_id.clone().map(|id| Self { id, lifetime })
    }

    fn of(record: AdminKeyRecord) -> Self {
        let lifetime = record.expires_at.map(|end| end - record.created_at);
        Self { id: record.id, lifetime: lifetime.and_then(|time| time.to_std().ok()) }
    }
}

/// Checks an account for new keys: it must exist and must not own the admin key.
pub(in crate::engine) async fn check_account(
    config: &Config,
    client: &Client,
    field: &str,
    project: &ProjectId,
    account: &ServiceAccountId,
) -> Result<ServiceAccount, Error> {
    let found = match client.retrying_not_found().service_account(project, account).await {
        Ok(found) => found,
        Err(error) if error.is_gone() => {
            return Err(Error::field(format!("{field} must name an account of project {project}: {error}")));
        }
        Err(error) => return Err(Error::call("checking the service account at OpenAI")(error)),
    };
    refuse_owner_of_admin_key(config, client, field, &[(account, account.as_str())]).await?;
    Ok(found)
}

/// Refuses the account that owns the admin key. Deleting its keys would lock Vault out, and its keys grant more than a
/// caller may have. Each account comes with its name in the caller's request.
pub(in crate::engine) async fn refuse_owner_of_admin_key(
    config: &Config,
    client: &Client,
    field: &str,
    accounts: &[(&ServiceAccountId, &str)],
) -> Result<(), Error> {
    if accounts.is_empty() {
        return Ok(());
    }
    let owner =
        owner_of_admin_key(config, client).await.map_err(Error::call("looking up the admin key's owner"))?;
    match accounts.iter().find(|(id, _)| owner.as_deref() == Some(id.as_str())) {
        Some((_, name)) => Err(Error::field(format!(
            "{field} must not name {name}: it is the account that owns the admin key of this mount"
        ))),
        None => Ok(()),
    }
}

async fn owner_of_admin_key(config: &Config, client: &Client) -> Result<Option<String>, openai::Error> {
    let record = current(config, client).await?;
    Ok(record.and_then(|record| record.owner).and_then(|owner| owner.id))
}

/// The record of the current key, found by the key's id, or else by its redacted value. The id may be unknown, wrong, or of
/// a key that was just replaced.
pub(in crate::engine) async fn current(
    config: &Config,
    client: &Client,
) -> Result<Option<AdminKeyRecord>, openai::Error> {
    if let Some(id) = &config.admin_api_key_id {
        match client.admin_key(id).await {
            Ok(record) if config.admin_api_key.fits(&record.redacted_value) => return Ok(Some(record)),
            Err(error) if !error.is_gone() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    client.find_admin_key(&config.admin_api_key).await
}

/// A warning if the mount uses the account that owns the admin key. Keys of that account grant too much, and deleting the
/// account deletes the admin key.
pub(in crate::engine) async fn warn_of_managed_owner(
    engine: &Engine,
    storage: &dyn Storage,
    record: Option<&AdminKeyRecord>,
) -> Option<String> {
    let owner = record?.owner.as_ref()?.id.as_deref()?;
    // The owner may be a user. The warning is best effort, because the key works in any case.
    let owner: ServiceAccountId = owner.parse().ok()?;
    let user = DEPENDENTS.user_of(Mount { engine, storage }, &owner).await.ok()??;
    Some(format!(
        "service account {owner} owns this admin key, and {user} uses the account: the account's keys may have the admin \
         key's permissions, and deleting the account deletes the admin key. Use a separate account for the admin key"
    ))
}
