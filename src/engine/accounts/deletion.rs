//! Ends keys at OpenAI, and accounts with all their keys. An object that is already gone counts as ended, and so does
//! an object whose project is gone. This file knows nothing of owners.

use std::time::Duration;

use crate::engine::accounts::listing::Found;
use crate::engine::accounts::lookup::{self, UniqueName, went_with_project};
use crate::openai::{self, ApiKeyId, Client, ProjectId, ServiceAccountId};

/// Result of a deletion by name.
pub(in crate::engine) enum Undone {
    /// OpenAI deleted the object, or its project is gone.
    Ended,
    /// OpenAI has no object of this name, or does not list the object yet.
    NothingFound,
}

/// Ends a key, or its account with all its keys. An object that is gone counts as ended.
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

/// Ends an account and all its keys. An account that is gone counts as ended.
pub(in crate::engine) async fn end_account(
    client: &Client,
    project_id: &ProjectId,
    account: &ServiceAccountId,
) -> Result<(), openai::Error> {
    ended(client, project_id, client.delete_service_account(project_id, account).await).await
}

/// Ends a key. A key that is gone counts as ended.
pub(in crate::engine) async fn end_key(
    client: &Client,
    project_id: &ProjectId,
    key: &ApiKeyId,
) -> Result<(), openai::Error> {
    ended(client, project_id, client.delete_key(project_id, key).await).await
}

/// Result of a deletion. An object whose project is archived or gone counts as ended.
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

/// Looks up an account or key by its unique name, and ends it. The object may be new.
pub(in crate::engine) async fn end_named(
    client: &Client,
    unique_name: &UniqueName<'_>,
) -> Result<Undone, openai::Error> {
    let project = unique_name.project;
    match lookup::find_now(client, unique_name).await {
        Ok(found) => end_new(client, project, found.as_ref()).await,
        Err(error) if went_with_project(client, project, &error).await => Ok(Undone::Ended),
        Err(error) => Err(error),
    }
}

/// Ends the result of a look-up. The object may be new.
pub(in crate::engine) async fn end_new(
    client: &Client,
    project: &ProjectId,
    found: Option<&Found>,
) -> Result<Undone, openai::Error> {
    let Some(found) = found else { return Ok(Undone::NothingFound) };
    found.ids().for_each(|id| client.recent_ids().insert(id, Duration::ZERO));
    end_found(client, project, found).await?;
    Ok(Undone::Ended)
}

/// Ends the key or account that a look-up found.
pub(in crate::engine) async fn end_found(
    client: &Client,
    project: &ProjectId,
    found: &Found,
) -> Result<(), openai::Error> {
    match &found.key {
        Some(key) => end_key(client, project, key).await,
        None => end_account(client, project, &found.account).await,
    }
}

/// Success if the deleted object is gone.
pub(in crate::engine) fn done_or_gone(outcome: Result<(), openai::Error>) -> Result<(), openai::Error> {
    match outcome {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
