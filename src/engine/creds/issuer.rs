//! Makes what is handed out: a service account with its key, or a key on an account that stays. The only place where
//! either is created, whoever it is for. How it ends is `endings`', what the sweep does `creation_sweep`'s.
//!
//! *Guarantees:* before OpenAI is asked, a write-ahead entry tells by what name it will be known and who will own it.
//! Once the owner's record names it, it is owned; until then the sweep finds it by its unique name and ends it. So a
//! crash at any point leaves it owned or removed, and a creation whose answer was lost is undone: at once where it can
//! be found, by the sweep where not.
//!
//! *Assumptions:* names are unique (`names.rs`); a request does not outlive [`SWEEP_AGE`].

use std::time::Duration;

use tokio::time::timeout;

use crate::engine::Error;
use crate::engine::accounts::lookup;
use crate::engine::accounts::lookup::{Found, Sought};
use crate::engine::creds::deletion::{Undone, end_key_named, end_sought};
use crate::engine::creds::ledger::Handed;
use crate::engine::failpoint::failpoint;
use crate::openai::{self, Client, CreatedKey, NewKey, ProjectId, ServiceAccountId, Urgency};

/// As long as a request goes on, or waits for its turn at OpenAI, once something was made that has to be changed or
/// undone: with what went before it ends before the 90 s after which Vault ends it. What is left then is the sweep's.
const AFTERWARDS: Duration = Duration::from_secs(10);

/// As long as a new key may take to be found by the call that narrows it.
const TO_APPEAR: Duration = Duration::from_secs(20);

/// What OpenAI made.
pub(in crate::engine) struct Made {
    pub(in crate::engine) service_account_id: ServiceAccountId,
    pub(in crate::engine) key: CreatedKey,
}

/// Why nothing was made.
pub(in crate::engine) struct Failure {
    pub(in crate::engine) error: Error,
    /// What may stand at OpenAI.
    pub(in crate::engine) left: Left,
}

/// What a creation that failed may have left at OpenAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Left {
    /// Nothing: OpenAI was not asked, did not let us in, or has undone it.
    Nothing,
    /// Nothing, if a refusal means what it says. OpenAI was seen to refuse what it had done.
    Refused,
    /// Perhaps all of it.
    Unknown,
}

/// Makes something of a unique name that the caller has on record. After a failure that leaves something the caller looks
/// for the name later.
pub(in crate::engine) async fn issue(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
) -> Result<Made, Failure> {
    failpoint!("issue.announced");
    let outcome = make(client, sought, expires_in, &[]).await;
    conclude(client, sought, outcome).await
}

/// Makes an account of a unique name that the caller has on record, without a key and without a role. After a failure
/// that leaves something the caller looks for the name later.
pub(in crate::engine) async fn make_bare_account(
    client: &Client,
    sought: &Sought<'_>,
) -> Result<ServiceAccountId, Failure> {
    let outcome = client.create_account_only(sought.project, sought.name).await;
    let outcome = outcome
        .map(|account| account.id)
        .map_err(|error| Failure { left: Left::after(&error), error: Error::AccountCreation(error) });
    conclude(client, sought, outcome).await
}

/// Makes a key whose unique name the caller has on record already, which serves as its write-ahead entry. After
/// [`Error::LeftBehind`] the key may stand: the caller ends it by [`end_key_named`] later. After any other error it
/// does not.
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
    let left = Left::after(&error);
    let error = Error::KeyCreation(error);
    if left == Left::Nothing {
        return Err(error);
    }
    let afterwards = afterwards(client, Urgency::Revocation);
    match timeout(AFTERWARDS, end_key_named(&afterwards, project_id, account, name)).await {
        Ok(Ok(Undone::Ended)) => Err(error),
        Ok(Ok(Undone::NothingFound)) if left == Left::Refused => Err(error),
        Ok(Ok(Undone::NothingFound) | Err(_)) | Err(_) => Err(Error::LeftBehind(Box::new(error))),
    }
}

/// Takes back what was made a moment ago. Answers whether OpenAI said that it is deleted: that it does not know it is no
/// proof so early.
pub(in crate::engine) async fn take_back(client: &Client, handed: &Handed) -> bool {
    let Handed { project_id, service_account_id, api_key_id, with_account, .. } = handed;
    let client = afterwards(client, Urgency::Revocation);
    let taken_back = async {
        if *with_account {
            client.delete_service_account(project_id, service_account_id).await
        } else {
            client.delete_key(project_id, api_key_id).await
        }
    };
    timeout(AFTERWARDS, taken_back).await.is_ok_and(|taken_back| taken_back.is_ok())
}

/// Looks at once for what may have been made, and takes it back. Answers as [`take_back`].
pub(in crate::engine) async fn take_back_sought(client: &Client, sought: &Sought<'_>) -> bool {
    let client = afterwards(client, Urgency::Revocation);
    let taken_back = async {
        match lookup::find_now(&client, sought).await? {
            Some(Found { key: Some(key), .. }) => {
                client.delete_key(sought.project, &key).await.map(|()| true)
            }
            Some(Found { account, key: None }) => {
                client.delete_service_account(sought.project, &account).await.map(|()| true)
            }
            None => Ok::<_, openai::Error>(false),
        }
    };
    matches!(timeout(AFTERWARDS, taken_back).await, Ok(Ok(true)))
}

/// What a creation came to: what it may have left is undone.
async fn conclude<T>(
    client: &Client,
    sought: &Sought<'_>,
    outcome: Result<T, Failure>,
) -> Result<T, Failure> {
    match outcome {
        Ok(made) => {
            failpoint!("issue.made");
            Ok(made)
        }
        Err(failure @ Failure { left: Left::Nothing, .. }) => {
            failpoint!("issue.refused");
            Err(failure)
        }
        // OpenAI was seen to refuse what it had done: a refusal is believed once nothing is found by the name.
        Err(Failure { error, left: Left::Refused }) => {
            failpoint!("issue.refused");
            let afterwards = afterwards(client, Urgency::Revocation);
            let looked = timeout(AFTERWARDS, end_sought(&afterwards, sought)).await;
            let left = if matches!(looked, Ok(Ok(_))) { Left::Nothing } else { Left::Unknown };
            Err(Failure { error, left })
        }
        Err(Failure { error, left: Left::Unknown }) => {
            let afterwards = afterwards(client, Urgency::Revocation);
            match timeout(AFTERWARDS, end_sought(&afterwards, sought)).await {
                Ok(Ok(Undone::Ended)) => {
                    failpoint!("issue.undone");
                    Err(Failure { error, left: Left::Nothing })
                }
                // Not found is no proof yet: the creation may still be under way at OpenAI. The sweep looks again.
                Ok(Ok(Undone::NothingFound) | Err(_)) | Err(_) => {
                    Err(Failure { error: Error::LeftBehind(Box::new(error)), left: Left::Unknown })
                }
            }
        }
    }
}

/// The client, for what a request still has to do after it made something.
fn afterwards(client: &Client, urgency: Urgency) -> Client {
    client.for_work(urgency, AFTERWARDS)
}

impl Left {
    /// After this answer to a creation.
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

/// Makes what will be sought by this name, if need be: a key on its account, or else an account with a key.
pub(in crate::engine) async fn make(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    match sought.account {
        Some(account) => make_key(client, sought, account, expires_in, scopes).await,
        None => make_account(client, sought, expires_in, scopes).await,
    }
}

async fn make_key(
    client: &Client,
    sought: &Sought<'_>,
    account: &ServiceAccountId,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    let new = NewKey { name: Some(sought.name.to_owned()), scopes: scopes.to_vec(), expires_in };
    let key = client
        .create_key(sought.project, account, &new)
        .await
        .map_err(|error| Failure { left: Left::after(&error), error: Error::KeyCreation(error) })?;
    Ok(Made { service_account_id: account.clone(), key })
}

async fn make_account(
    client: &Client,
    sought: &Sought<'_>,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    let made = client
        .create_service_account(sought.project, sought.name, expires_in)
        .await
        .map_err(|error| Failure { left: Left::after(&error), error: Error::AccountCreation(error) })?;
    let made = Made { service_account_id: made.id, key: made.key };
    failpoint!("issue.made_wide");
    if !scopes.is_empty() {
        narrow(client, sought.project, &made, scopes).await?;
    }
    Ok(made)
}

/// Narrows a new account's key, or takes the account back.
async fn narrow(client: &Client, project: &ProjectId, made: &Made, scopes: &[String]) -> Result<(), Failure> {
    let (issue, undo) = (client.for_work(Urgency::Issue, TO_APPEAR), afterwards(client, Urgency::Revocation));
    let Err(error) = issue.update_key(project, &made.key.id, Some(scopes), None).await else {
        return Ok(());
    };
    failpoint!("issue.not_narrowed");
    let taken_back = undo.delete_service_account(project, &made.service_account_id).await;
    // That OpenAI does not know it is no proof so early.
    let left = if taken_back.is_ok() { Left::Nothing } else { Left::Unknown };
    Err(Failure { error: Error::KeyCreation(error), left })
}
