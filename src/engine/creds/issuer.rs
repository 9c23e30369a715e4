//! Creates credentials at OpenAI: a service account with a key, or a key on an existing account. All creations of
//! accounts and keys are in this file. `deletion.rs` ends what this file creates.
//!
//! *Guarantees:* before a creation, storage has the unique name and its owner: a window's entry or the owner's record.
//! So after a crash at any point, a look-up finds the name. After a lost response, the request itself looks the name up
//! and deletes what it finds; a later look-up handles the rest.
//!
//! *Assumptions:* names are unique (`names.rs`). A request ends before
//! [`SWEEP_AGE`](crate::engine::accounts::making::SWEEP_AGE).

use std::time::Duration;

use tokio::time::timeout;

use crate::engine::Error;
use crate::engine::accounts::deletion::{Undone, end_sought};
use crate::engine::accounts::listing::Found;
use crate::engine::accounts::lookup::Sought;
use crate::engine::accounts::{deletion, lookup};
use crate::engine::creds::ledger::Credential;
use crate::engine::failpoint::failpoint;
use crate::openai::{self, Client, CreatedKey, NewKey, ProjectId, ServiceAccountId, Urgency};

/// Maximum time of an undo within a request, so that the request ends before Vault cancels it at 90 s. A later look-up
/// does the rest.
const MAX_UNDO_TIME: Duration = Duration::from_secs(10);

/// Maximum time until OpenAI finds a new key for the call that restricts its permissions.
const MAX_PROPAGATION_TIME: Duration = Duration::from_secs(20);

/// A created account or key.
pub(in crate::engine) struct Created {
    pub(in crate::engine) service_account_id: ServiceAccountId,
    pub(in crate::engine) key: CreatedKey,
}

/// A failed creation.
pub(in crate::engine) struct Failure {
    pub(in crate::engine) error: Error,
    /// State at OpenAI after the failure.
    pub(in crate::engine) remains: Remains,
}

/// State at OpenAI after a failed creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Remains {
    /// Nothing exists: OpenAI was not asked, refused access, or confirmed the deletion.
    Nothing,
    /// OpenAI refused the creation. Now and then OpenAI creates what it refuses.
    Refused,
    /// The account or key may exist.
    Unknown,
}

/// Creates an account with a key, or a key on an account. The caller has stored the unique name, and looks the name up
/// after a failure with an unknown outcome.
pub(in crate::engine) async fn issue(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
) -> Result<Created, Failure> {
    failpoint!("issue.announced");
    let outcome = create(client, sought, expires_in, &[]).await;
    undo_failed(client, sought, outcome).await
}

/// Creates an account without a key and without a role. The caller has stored the unique name, and looks the name up
/// after a failure with an unknown outcome.
pub(in crate::engine) async fn make_bare_account(
    client: &Client,
    sought: &Sought<'_>,
) -> Result<ServiceAccountId, Failure> {
    let outcome = client.create_account_only(sought.project, sought.name).await;
    let outcome = outcome
        .map(|account| account.id)
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::AccountCreation(error) });
    undo_failed(client, sought, outcome).await
}

/// Creates a key whose unique name the caller has stored. After [`Error::LeftBehind`] the key may exist, and the caller
/// ends the key by [`end_key_named`](crate::engine::accounts::deletion::end_key_named) later. After any other error no key exists.
pub(in crate::engine) async fn issue_recorded_key(
    client: &Client,
    project_id: &ProjectId,
    account: &ServiceAccountId,
    name: &str,
    expires_in: Duration,
) -> Result<CreatedKey, Error> {
    let new = NewKey { name: Some(name.to_owned()), scopes: Vec::new(), expires_in: Some(expires_in) };
    let error = match client.create_key(project_id, account, &new).await {
        Ok(key) => {
            failpoint!("loan.made");
            return Ok(key);
        }
        Err(error) => error,
    };
    let remains = Remains::after(&error);
    let error = Error::KeyCreation(error);
    let sought = Sought { project: project_id, account: Some(account), name };
    match undone(client, &sought, remains).await {
        Remains::Nothing => Err(error),
        Remains::Refused | Remains::Unknown => Err(Error::LeftBehind(Box::new(error))),
    }
}

/// Deletes a new credential. Returns true if OpenAI has ended the credential. The client does not take a 404 of a new
/// object as its end.
pub(in crate::engine) async fn delete_new(client: &Client, credential: &Credential) -> bool {
    let Credential { project_id, service_account_id, api_key_id, with_account, .. } = credential;
    let client = undo_client(client);
    let ended = deletion::end(&client, project_id, service_account_id, api_key_id, *with_account);
    matches!(timeout(MAX_UNDO_TIME, ended).await, Ok(Ok(())))
}

/// Looks up a name at once, and deletes its account or key. Returns true if OpenAI confirmed a deletion.
pub(in crate::engine) async fn delete_named(client: &Client, sought: &Sought<'_>) -> bool {
    let client = undo_client(client);
    let deleted = async {
        match lookup::find_now(&client, sought).await? {
            Some(Found { key: Some(key), .. }) => {
                client.delete_key(sought.project, &key).await.map(|()| true)
            }
            Some(Found { account, key: None, .. }) => {
                client.delete_service_account(sought.project, &account).await.map(|()| true)
            }
            None => Ok::<_, openai::Error>(false),
        }
    };
    matches!(timeout(MAX_UNDO_TIME, deleted).await, Ok(Ok(true)))
}

/// Undoes a creation with an unknown outcome.
async fn undo_failed<T>(
    client: &Client,
    sought: &Sought<'_>,
    outcome: Result<T, Failure>,
) -> Result<T, Failure> {
    match outcome {
        Ok(made) => {
            failpoint!("issue.made");
            Ok(made)
        }
        Err(Failure { error, remains }) => {
            if remains == Remains::Refused {
                failpoint!("issue.refused");
            }
            match (remains, undone(client, sought, remains).await) {
                (Remains::Unknown, Remains::Nothing) => {
                    failpoint!("issue.undone");
                    Err(Failure { error, remains: Remains::Nothing })
                }
                (Remains::Unknown, remains) => {
                    Err(Failure { error: Error::LeftBehind(Box::new(error)), remains })
                }
                (_, remains) => Err(Failure { error, remains }),
            }
        }
    }
}

/// Looks up the name of a failed creation, ends the object, and answers what may be left then.
async fn undone(client: &Client, sought: &Sought<'_>, remains: Remains) -> Remains {
    if remains == Remains::Nothing {
        return remains;
    }
    let client = undo_client(client);
    match timeout(MAX_UNDO_TIME, end_sought(&client, sought)).await {
        Ok(Ok(Undone::Ended)) => Remains::Nothing,
        // OpenAI sometimes creates what it refuses. So a refusal counts only after a look-up of the name.
        Ok(Ok(Undone::NothingFound)) if remains == Remains::Refused => Remains::Nothing,
        // After a lost answer, absence proves nothing yet: OpenAI may not have finished. The caller looks again.
        Ok(Ok(Undone::NothingFound) | Err(_)) | Err(_) => Remains::Unknown,
    }
}

/// The client for the calls of an undo.
fn undo_client(client: &Client) -> Client {
    client.for_work(Urgency::Revocation, MAX_UNDO_TIME)
}

impl Remains {
    /// State after this error of a creation.
    fn after(error: &openai::Error) -> Self {
        match error {
            openai::Error::Throttled { .. }
            | openai::Error::Unavailable { .. }
            | openai::Error::Unreachable { .. }
            | openai::Error::Untrusted { .. } => Self::Nothing,
            error if error.is_unknown_outcome() => Self::Unknown,
            error if error.is_unauthorized() || error.is_limited() => Self::Nothing,
            _ => Self::Refused,
        }
    }
}

/// Creates a key on the given account, or else an account with a key, without an undo.
pub(in crate::engine) async fn create(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    match sought.account {
        Some(account) => create_key(client, sought, account, expires_in, scopes).await,
        None => create_account(client, sought, expires_in, scopes).await,
    }
}

async fn create_key(
    client: &Client,
    sought: &Sought<'_>,
    account: &ServiceAccountId,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    let new = NewKey { name: Some(sought.name.to_owned()), scopes: scopes.to_vec(), expires_in };
    let key = client
        .create_key(sought.project, account, &new)
        .await
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::KeyCreation(error) })?;
    Ok(Created { service_account_id: account.clone(), key })
}

async fn create_account(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    let made = client
        .create_service_account(sought.project, sought.name, expires_in)
        .await
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::AccountCreation(error) })?;
    let made = Created { service_account_id: made.id, key: made.key };
    failpoint!("issue.made_wide");
    if !scopes.is_empty() {
        restrict(client, sought.project, &made, scopes).await?;
    }
    Ok(made)
}

/// Restricts the permissions of a new account's key, or deletes the account.
async fn restrict(
    client: &Client,
    project: &ProjectId,
    made: &Created,
    scopes: &[String],
) -> Result<(), Failure> {
    let issue = client.for_work(Urgency::Issue, MAX_PROPAGATION_TIME);
    let Err(error) = issue.update_key(project, &made.key.id, Some(scopes), None).await else {
        return Ok(());
    };
    failpoint!("issue.not_narrowed");
    let undo = undo_client(client);
    let deleted =
        timeout(MAX_UNDO_TIME, undo.delete_service_account(project, &made.service_account_id)).await;
    // A 404 proves nothing so early.
    let remains = if matches!(deleted, Ok(Ok(()))) { Remains::Nothing } else { Remains::Unknown };
    Err(Failure { error: Error::KeyCreation(error), remains })
}
