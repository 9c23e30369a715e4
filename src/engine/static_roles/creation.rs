//! Creates a static role: claims the given account, and creates the role's first key on it. Other keys of the account
//! stay.
//!
//! *Guarantees:* the caller holds the role's lock. The account is claimed first, then the record is stored without a key,
//! then OpenAI creates the key. After a crash the worker looks the key up by its name, deletes the key, and deletes the
//! record.

use std::time::Duration;

use super::record::{Current, StaticRole};
use super::rotate::{self, Work};
use super::settings::{ACCOUNT, Settings};
use super::stored;
use crate::engine::Error;
use crate::engine::accounts::claims;
use crate::engine::accounts::making::{Making, MakingList};
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::{clients, key_records, named_projects, project_fields};
use crate::engine::creds::inventory;
use crate::engine::failpoint::failpoint;
use crate::openai::{OrganizationId, ProjectId, ServiceAccount, ServiceAccountId, Urgency};

/// The account of a new role, with its organization and project.
pub(super) struct Given {
    pub(super) organization: OrganizationId,
    pub(super) project: ProjectId,
    pub(super) account: ServiceAccountId,
}

/// Creates the role and stores it. The role inherits the unknown creations and pending deletions of an earlier role of its
/// name.
pub(super) async fn create(
    work: &Work<'_>,
    settings: Settings,
    given: Given,
    earlier: Option<StaticRole>,
) -> Result<(), Error> {
    refuse_earlier(work.name, &given, earlier.as_ref())?;
    let account = check(work, &given).await?;
    let (making, ending) = earlier
        .map_or_else(|| (MakingList::default(), Vec::new()), |earlier| (earlier.making, earlier.ending));
    let mut role = StaticRole {
        settings,
        organization_id: given.organization,
        account_project_id: given.project,
        given_account_id: given.account,
        id: String::new(),
        current: None,
        making,
        ending,
        retry: RetryState::default(),
        asked: None,
        deleted: false,
    };
    let making = begin(work, &mut role).await?;
    let key = match rotate::make_key(work, &mut role, &making).await {
        Ok(key) => key,
        Err(error) if role.making.names(&making.name) => return Err(error),
        Err(error) => {
            // Best effort: if storage fails, the worker looks the name up.
            let _ = stored::store(work.engine, work.storage, work.name, &role, &[account.id]).await;
            return Err(error);
        }
    };
    let now = work.engine.now();
    role.replace_current(Current::new(key, account.name, false, now), Duration::ZERO, now);
    let stored = stored::store_marked(work.storage, work.name, &role, now).await;
    stored.map_err(|error| Error::LeftBehind(Box::new(error)))?;
    failpoint!("static.stored");
    work.engine.accounts.first_seen.forget(&making.name);
    Ok(())
}

/// Claims the account and stores the role without a key. No check comes between the two, so that a refused write leaves
/// no claim. The lock of the project's users keeps the project's name until the role is stored.
async fn begin(work: &Work<'_>, role: &mut StaticRole) -> Result<Making, Error> {
    let (storage, now) = (work.storage, work.engine.now());
    let _no_deletion = work.engine.locks.lock(&named_projects::users_lock(&role.settings.project)).await;
    project_fields::agreed_project(work.engine, storage, &role.settings.named_project()).await?;
    let account = role.given_account_id.clone();
    let making = role.begin_making(work.new_name(&role.settings), Some(&account), now)?;
    claims::claim(work.engine, storage, &account, &work.owner()).await?;
    failpoint!("static.claimed");
    work.engine.accounts.first_seen.begin(&making.name);
    stored::store_marked(storage, work.name, role, now).await?;
    failpoint!("static.begun");
    Ok(making)
}

/// Refuses another organization or project than that of an earlier role, as the record has one place for all its keys.
/// Refuses an account that the earlier role still has to delete, as its deletion would delete the new key.
fn refuse_earlier(name: &str, given: &Given, earlier: Option<&StaticRole>) -> Result<(), Error> {
    let is_refused = earlier.is_some_and(|earlier| {
        earlier.organization_id != given.organization
            || earlier.account_project_id != given.project
            || earlier.ends_account(&given.account)
    });
    if is_refused { Err(Error::BeingDeleted(name.to_owned())) } else { Ok(()) }
}

/// The account must exist, and must own neither the admin key nor a credential.
async fn check(work: &Work<'_>, given: &Given) -> Result<ServiceAccount, Error> {
    let client = work.client.for_work(Urgency::Check, work.max_wait);
    let config = clients::configured_in_storage(work.engine, work.storage).await?.config;
    let field = ACCOUNT.name();
    let found = key_records::check_account(&config, &client, field, &given.project, &given.account).await?;
    inventory::check_not_of_credentials(work.engine, work.storage, field, &[&found.name]).await?;
    Ok(found)
}
