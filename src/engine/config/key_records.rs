//! What OpenAI has on record of admin keys: which record is the present key's, and whose account it is. It changes
//! nothing.

use crate::engine::config::configuration::Config;
use crate::engine::{Engine, Error};
use crate::logical::Storage;
use crate::openai::{
    self, AdminKey, AdminKeyId, AdminKeyRecord, Client, ProjectId, ServiceAccount, ServiceAccountId,
};

/// The record of this id; refuses an id that is another key's, as rotation would delete that one.
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

/// OpenAI's id of the present key, held against the key itself: a wrong one would delete somebody else's.
pub(in crate::engine) async fn own_id(
    client: &Client,
    config: &Config,
) -> Result<Option<AdminKeyId>, openai::Error> {
    if let Some(id) = &config.admin_api_key_id {
        match client.admin_key(id).await {
            Ok(record) if config.admin_api_key.fits(&record.redacted_value) => return Ok(Some(id.clone())),
            // It was made a moment ago, under this id.
            Err(error) if error.is_not_found_yet() => return Ok(Some(id.clone())),
            Err(error) if !error.is_gone() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(client.find_admin_key(&config.admin_api_key).await?.map(|record| record.id))
}

/// An account that keys shall be made on: it must be there, and must not own the admin key.
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

/// Refuses the account that owns the admin key: ending its keys would lock us out, and a key of it is more than a
/// reader or borrower may have. The field is the caller's; each account comes with what the caller calls it.
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
        owner_of_admin_key(config, client).await.map_err(Error::call("checking whose the admin key is"))?;
    match accounts.iter().find(|(id, _)| owner.as_deref() == Some(id.as_str())) {
        Some((_, called)) => Err(Error::field(format!(
            "{field} must not name {called}: it is the account that owns the admin key of this mount"
        ))),
        None => Ok(()),
    }
}

/// By the key's id, or by its redacted value where the id is not known, was given wrongly, or is of a key that was
/// rotated in this very moment.
async fn owner_of_admin_key(config: &Config, client: &Client) -> Result<Option<String>, openai::Error> {
    let known = match &config.admin_api_key_id {
        Some(id) => client.admin_key(id).await.map(Some).or_else(|error| match error {
            error if error.is_gone() => Ok(None),
            error => Err(error),
        })?,
        None => None,
    };
    let record = match known {
        Some(record) => Some(record),
        None => client.find_admin_key(&config.admin_api_key).await?,
    };
    Ok(record.and_then(|record| record.owner).and_then(|owner| owner.id))
}

/// A warning where the owner of an admin key is an account that something here makes keys on or may delete: whoever gets
/// such a key has more than was meant, and where the account goes, the admin key goes with it.
pub(in crate::engine) async fn warn_of_managed_owner(
    engine: &Engine,
    storage: &dyn Storage,
    record: Option<&AdminKeyRecord>,
) -> Option<String> {
    let owner = record?.owner.as_ref()?.id.as_deref()?;
    // It is a user's, or no id of an account; and where nobody can tell, the key is good all the same.
    let owner: ServiceAccountId = owner.parse().ok()?;
    let user = engine.user_of(storage, &owner).await.ok()??;
    Some(format!(
        "service account {owner} owns this admin key, and {user} uses the account: its keys are worth as much as the admin \
         key, which ends with the account. Give the admin key an account of its own"
    ))
}
