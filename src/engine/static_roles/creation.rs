//! Makes a static role: its first key, on the account it is given. Nothing of that account is ended.
//!
//! *Guarantees:* the caller holds the role's lock. The account is claimed before a key is made, and the key is made
//! under a write-ahead entry: a crash before the role is stored leaves a void claim, and a key that the sweep removes.

use chrono::{DateTime, Utc};

use super::record::{Current, StaticRole};
use super::rotate::{Place, Work};
use super::settings::{ACCOUNT, Settings};
use super::stored;
use crate::engine::accounts::retry::RetryState;
use crate::engine::failpoint::failpoint;
use crate::engine::{Error, issuer, key_records, named_projects};
use crate::openai::{OrganizationId, ProjectId, ServiceAccount, ServiceAccountId, Urgency};

/// Where a new role's account is.
pub(super) struct Given {
    pub(super) organization: OrganizationId,
    pub(super) project: ProjectId,
    pub(super) account: ServiceAccountId,
}

/// Makes the role and stores it.
pub(super) async fn create(work: &Work<'_>, settings: Settings, given: Given) -> Result<(), Error> {
    let account = check(work, &given).await?;
    work.engine.claim(&**work.storage, &account.id, &work.owner()).await?;
    failpoint!("static.claimed");
    let place = Place {
        organization_id: &given.organization,
        project_id: &given.project,
        key_name: &settings.api_key_name,
        key_ttl: settings.key_ttl,
    };
    let (made, pending) = match work.make_key(&place, Some(&account.id)).await {
        Ok(made) => made,
        Err(error) => {
            work.release(&account.id).await;
            return Err(error);
        }
    };
    let now = work.engine.now();
    let role = StaticRole {
        settings,
        organization_id: given.organization,
        account_project_id: given.project,
        given_account_id: given.account,
        current: Current::new(made, account.name, false, now),
        retiring: Vec::new(),
        retry: RetryState::default(),
        asked: None,
        deleting: false,
    };
    let stored = store(work, &role, now).await;
    // A write that failed may still have happened: the claim stays, and is void if it did not.
    stored.map_err(|error| Error::LeftBehind(Box::new(error)))?;
    failpoint!("static.stored");
    issuer::forget(pending).await;
    Ok(())
}

/// The project's name must still be there, and stays as long as the role is.
async fn store(work: &Work<'_>, role: &StaticRole, now: DateTime<Utc>) -> Result<(), Error> {
    let (storage, settings) = (&**work.storage, &role.settings);
    let _no_deletion = work.engine.locks.lock(&named_projects::users_lock(&settings.project)).await;
    work.engine.agreed_project(storage, &settings.named_project()).await?;
    stored::store_marked(storage, work.name, role, now).await
}

/// The account must be there, must not be the one that owns the admin key, and must not be a credential's.
async fn check(work: &Work<'_>, given: &Given) -> Result<ServiceAccount, Error> {
    let client = work.client.for_work(Urgency::Check, work.patience);
    let config = work.engine.configured(&**work.storage).await?.config;
    let field = ACCOUNT.name();
    let found = key_records::check_account(&config, &client, field, &given.project, &given.account).await?;
    work.engine.refuse_of_credentials(&**work.storage, field, &[&found.name]).await?;
    Ok(found)
}
