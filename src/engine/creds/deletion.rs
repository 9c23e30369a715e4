//! How what was made at OpenAI ends: keys, or accounts with all their keys. Gone already is as good as ended, also with
//! the project it was in. It knows nothing of who owned it.

use std::time::Duration;

use crate::engine::accounts::lookup;
use crate::engine::accounts::lookup::{Found, Sought};
use crate::engine::creds::ledger::Handed;
use crate::openai::{self, ApiKeyId, Client, ProjectId, ServiceAccountId};

/// What looking for something by its unique name came to.
pub(in crate::engine) enum Undone {
    /// It was there, and is no more; or all it was in is gone.
    Ended,
    /// It was not there, or not yet.
    NothingFound,
}

/// Ends what was handed out; that it is gone already is success.
pub(in crate::engine) async fn retire(client: &Client, handed: &Handed) -> Result<(), openai::Error> {
    let Handed { project_id, service_account_id, api_key_id, with_account, .. } = handed;
    end(client, project_id, service_account_id, api_key_id, *with_account).await
}

/// Ends a key, or its account with all its keys; that it is gone already is success.
pub(in crate::engine) async fn end(
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    key: &ApiKeyId,
    with_account: bool,
) -> Result<(), openai::Error> {
    if with_account {
        end_account(client, project, account).await
    } else {
        end_key(client, project, key).await
    }
}

/// Ends an account and all its keys; that it is gone already is success.
pub(in crate::engine) async fn end_account(
    client: &Client,
    project_id: &ProjectId,
    account: &ServiceAccountId,
) -> Result<(), openai::Error> {
    ended(client, project_id, client.delete_service_account(project_id, account).await).await
}

/// Ends a key; that it is gone already is success.
pub(in crate::engine) async fn end_key(
    client: &Client,
    project_id: &ProjectId,
    key: &ApiKeyId,
) -> Result<(), openai::Error> {
    ended(client, project_id, client.delete_key(project_id, key).await).await
}

/// A deletion's outcome, where what went with its archived project is ended, too.
async fn ended(
    client: &Client,
    project: &ProjectId,
    outcome: Result<(), openai::Error>,
) -> Result<(), openai::Error> {
    match done_or_gone(outcome) {
        Err(error) if went_with_project(client, project, &error).await => Ok(()),
        other => other,
    }
}

/// Ends an account that nobody has; that it is gone already is success.
pub(in crate::engine) async fn remove_account(
    client: &Client,
    project_id: &ProjectId,
    account: &ServiceAccountId,
) -> Result<(), openai::Error> {
    done_or_gone(client.delete_service_account(project_id, account).await)
}

/// Ends the key of this unique name on an account.
pub(in crate::engine) async fn end_key_named(
    client: &Client,
    project: &ProjectId,
    account: &ServiceAccountId,
    name: &str,
) -> Result<Undone, openai::Error> {
    end_sought(client, &Sought { project, account: Some(account), name }).await
}

/// Looks for something by its unique name, and ends it. It may have been made a moment ago.
pub(in crate::engine) async fn end_sought(
    client: &Client,
    sought: &Sought<'_>,
) -> Result<Undone, openai::Error> {
    let found = lookup::find_now(client, sought).await;
    if let Ok(Some(found)) = &found {
        found.ids().for_each(|id| client.recent_ids().insert(id, Duration::ZERO));
    }
    end_found(client, sought.project, found).await
}

/// Ends what a look found. If the project itself is gone, so is all that was in it.
pub(in crate::engine) async fn end_found(
    client: &Client,
    project: &ProjectId,
    found: Result<Option<Found>, openai::Error>,
) -> Result<Undone, openai::Error> {
    match end_if_found(client, project, found).await {
        Err(error) if went_with_project(client, project, &error).await => Ok(Undone::Ended),
        other => other,
    }
}

async fn end_if_found(
    client: &Client,
    project: &ProjectId,
    found: Result<Option<Found>, openai::Error>,
) -> Result<Undone, openai::Error> {
    match found? {
        Some(Found { key: Some(key), .. }) => end_key(client, project, &key).await?,
        Some(Found { account, key: None }) => remove_account(client, project, &account).await?,
        None => return Ok(Undone::NothingFound),
    }
    Ok(Undone::Ended)
}

/// Whether a refusal stands for a project that is gone or archived: OpenAI has ended all that was in it, and says no to
/// any call. A 404 alone may mean something else, such as a list's cursor that was deleted meanwhile.
pub(in crate::engine) async fn went_with_project(
    client: &Client,
    project: &ProjectId,
    error: &openai::Error,
) -> bool {
    if !matches!(error.status(), Some(400 | 404)) {
        return false;
    }
    match client.project(project).await {
        Ok(project) => project.is_archived(),
        // A project is older than what was made in it, but perhaps not by much.
        Err(gone) => gone.is_gone() && !error.is_not_found_yet(),
    }
}

pub(in crate::engine) fn done_or_gone(outcome: Result<(), openai::Error>) -> Result<(), openai::Error> {
    match outcome {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
