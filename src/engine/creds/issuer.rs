//! Creates service accounts and keys at OpenAI, for credentials, static roles, library sets and loans.
//! `accounts/deletion.rs` ends what this file creates.
//!
//! *Guarantee:* a failure says what may be left at OpenAI ([`Remains`]).
//!
//! *Assumptions:* before a creation the caller has stored the unique name (`names.rs`) and its owner: a window's entry or
//! the owner's record. So after a crash at any point a look-up finds the name. The caller's request ends within
//! [`LONGEST_REQUEST`](crate::engine::accounts::making::LONGEST_REQUEST), and a later look-up handles the remains of an
//! undo.

use std::time::Duration;

use tokio::time::timeout;

use crate::engine::Error;
use crate::engine::accounts::deletion;
use crate::engine::accounts::deletion::{Undone, end_named};
use crate::engine::accounts::lookup::UniqueName;
use crate::engine::creds::ledger::Credential;
use crate::engine::failpoint::failpoint;
use crate::engine::time::key_lifetime;
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

/// Objects at OpenAI after a failed creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Remains {
    /// Nothing exists: OpenAI was not asked, refused access, or confirmed the deletion.
    Nothing,
    /// OpenAI refused the creation. Now and then OpenAI creates what it refuses.
    Refused,
    /// The account or key may exist.
    Unknown,
}

/// Creates an account with a key, or a key on an account, and undoes a failed creation. The caller has stored the unique
/// name, and looks the name up unless the failure says that nothing is left.
pub(in crate::engine) async fn create_or_undo(
    client: &Client,
    unique_name: &UniqueName<'_>,
    expires_in: Option<Duration>,
) -> Result<Created, Failure> {
    failpoint!("issue.announced");
    let outcome = create(client, unique_name, expires_in, &[]).await;
    made_or_undone(client, unique_name, outcome).await
}

/// Creates an account without a key and without a role, and undoes a failed creation. The caller has stored the unique
/// name, and looks the name up unless the failure says that nothing is left.
pub(in crate::engine) async fn make_bare_account(
    client: &Client,
    unique_name: &UniqueName<'_>,
) -> Result<ServiceAccountId, Failure> {
    let outcome = client.create_account_only(unique_name.project, unique_name.name).await;
    let outcome = outcome
        .map(|account| account.id)
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::AccountCreation(error) });
    made_or_undone(client, unique_name, outcome).await
}

/// Creates a key whose unique name the caller has stored. After [`Error::LeftBehind`] the key may exist, and the caller
/// looks it up by its name and ends it later. After any other error nobody has a key. If OpenAI made what it refused and
/// does not list it yet, the key ends by itself.
pub(in crate::engine) async fn issue_recorded_key(
    client: &Client,
    project_id: &ProjectId,
    account: &ServiceAccountId,
    name: &str,
    expires_in: Duration,
) -> Result<CreatedKey, Error> {
    let new = NewKey { name: Some(name.to_owned()), scopes: Vec::new(), expires_in: Some(expires_in) };
    match client.create_key(project_id, account, &new).await {
        Ok(key) => {
            failpoint!("loan.made");
            Ok(key)
        }
        Err(error) => {
            let (remains, error) = (Remains::after(&error), Error::KeyCreation(error));
            let unique_name = UniqueName { project: project_id, account: Some(account), name };
            let is_unknown = after_undo(client, &unique_name, remains).await == Remains::Unknown;
            Err(if is_unknown { Error::LeftBehind(Box::new(error)) } else { error })
        }
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

/// Looks the name of a creation up at once, and ends its account or key. `None` if OpenAI could not be asked in time.
pub(in crate::engine) async fn end_at_once(client: &Client, unique_name: &UniqueName<'_>) -> Option<Undone> {
    timeout(MAX_UNDO_TIME, end_named(&undo_client(client), unique_name)).await.ok()?.ok()
}

/// Undoes a creation if it failed.
async fn made_or_undone<T>(
    client: &Client,
    unique_name: &UniqueName<'_>,
    outcome: Result<T, Failure>,
) -> Result<T, Failure> {
    match outcome {
        Ok(made) => {
            failpoint!("issue.made");
            Ok(made)
        }
        Err(failure) => Err(undo(client, unique_name, failure).await),
    }
}

/// Undoes a failed creation. The failure then says what may be left.
async fn undo(client: &Client, unique_name: &UniqueName<'_>, failure: Failure) -> Failure {
    let Failure { error, remains } = failure;
    if remains == Remains::Refused {
        failpoint!("issue.refused");
    }
    let left = after_undo(client, unique_name, remains).await;
    // A policy on the lifetime of keys refuses before the work. So after its refusal one look-up is enough.
    let is_refused_early = left == Remains::Refused && key_lifetime::is_about(&error);
    let left = if is_refused_early { Remains::Nothing } else { left };
    if remains == Remains::Unknown && left == Remains::Nothing {
        failpoint!("issue.undone");
    }
    let error = if remains == Remains::Unknown && left != Remains::Nothing {
        Error::LeftBehind(Box::new(error))
    } else {
        error
    };
    Failure { error, remains: left }
}

/// Ends the object of a failed creation. Returns the state after that.
async fn after_undo(client: &Client, unique_name: &UniqueName<'_>, remains: Remains) -> Remains {
    if remains == Remains::Nothing {
        return remains;
    }
    match end_at_once(client, unique_name).await {
        Some(Undone::Ended) => Remains::Nothing,
        // Absence proves nothing yet: OpenAI may not have finished, or may not list the object yet.
        Some(Undone::NothingFound) => remains,
        None => Remains::Unknown,
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
    unique_name: &UniqueName<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    match unique_name.account {
        Some(account) => create_key(client, unique_name, account, expires_in, scopes).await,
        None => create_account(client, unique_name, expires_in, scopes).await,
    }
}

async fn create_key(
    client: &Client,
    unique_name: &UniqueName<'_>,
    account: &ServiceAccountId,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    let new = NewKey { name: Some(unique_name.name.to_owned()), scopes: scopes.to_vec(), expires_in };
    let key = client
        .create_key(unique_name.project, account, &new)
        .await
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::KeyCreation(error) })?;
    Ok(Created { service_account_id: account.clone(), key })
}

async fn create_account(
    client: &Client,
    unique_name: &UniqueName<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Created, Failure> {
    let made = client
        .create_service_account(unique_name.project, unique_name.name, expires_in)
        .await
        .map_err(|error| Failure { remains: Remains::after(&error), error: Error::AccountCreation(error) })?;
    let made = Created { service_account_id: made.id, key: made.key };
    failpoint!("issue.made_wide");
    if !scopes.is_empty() {
        restrict(client, unique_name.project, &made, scopes).await?;
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
