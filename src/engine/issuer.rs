//! Makes and ends what is handed out: a service account with its key, or a key on an account that stays. The only
//! place where either is created, whoever it is for.
//!
//! *Guarantees:* before OpenAI is asked, a write-ahead entry names what will be made and who will own it. Once the
//! owner's record names it, it is owned; until then the sweep finds it by its unique name and ends it. So a crash at
//! any point leaves it owned or removed, and a creation whose answer was lost is undone: at once where it can be
//! found, by the sweep where not.
//!
//! *Assumptions:* names are unique (`names.rs`); a request does not outlive [`SWEEP_AGE`].

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::failpoint::{failpoint, shortened};
use super::listing::{self, Found};
use super::{Engine, Error};
use crate::framework::{Pending, WalKind};
use crate::logical::Storage;
use crate::openai::{
    self, ApiKeyId, Client, CreatedKey, NewKey, OrganizationId, ProjectId, ServiceAccountId, Urgency,
};

/// A write-ahead entry younger than this may belong to a request still running: Vault ends those after 90 s.
const SWEEP_AGE: Duration = Duration::from_secs(300);
/// The longest that OpenAI lets a key live: one year.
pub(super) const LONGEST_EXPIRY: Duration = Duration::from_secs(31_536_000);
/// As long as a request waits for its turn at OpenAI once something was made that has to be changed or undone, so that
/// with what went before it ends before the 90 s after which Vault ends it. What is not undone by then is the sweep's.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// As long as a sweep waits for its turn at OpenAI; what is left waits for the next tick.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);

/// The write-ahead entry of everything that is made at OpenAI for somebody.
pub(super) static CREATION: WalKind<Creation> = WalKind::new("creation", SWEEP_AGE);

/// What is about to be made, and who will own it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Creation {
    /// The organization it is made in.
    pub organization_id: OrganizationId,
    /// The project it is made in.
    pub project_id: ProjectId,
    /// Its unique name: the account's, or the key's if the account stays.
    pub name: String,
    /// The account that a key is made on; none if an account is made.
    pub service_account_id: Option<ServiceAccountId>,
    /// The record that owns it once it names it.
    pub owner: Owner,
    /// When that was.
    #[serde(default = "Utc::now")]
    pub announced: DateTime<Utc>,
}

/// Which record owns what was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// A record of the ledger, by its place: a dynamic credential.
    Ledger(String),
}

/// What somebody got, and what ends it: kept with the lease and in the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handed {
    /// The organization it lives in: another one's 404 proves nothing.
    pub organization_id: OrganizationId,
    /// The project it lives in.
    pub project_id: ProjectId,
    /// The account.
    pub service_account_id: ServiceAccountId,
    /// The key.
    pub api_key_id: ApiKeyId,
    /// Its unique name.
    pub name: String,
    /// Whether the account was made with it and goes with it.
    pub with_account: bool,
    /// The role or set it was handed out by.
    pub role: String,
    /// When the lease ends; it gives the place in the ledger.
    pub ends: DateTime<Utc>,
    /// When OpenAI ends the key by itself.
    pub expires: Option<DateTime<Utc>>,
}

impl Handed {
    /// Whether OpenAI has ended the key by itself at `now`.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What is to be made.
pub(super) struct Order<'a> {
    pub(super) project_id: &'a ProjectId,
    /// Make only a key, on this account.
    pub(super) account: Option<&'a ServiceAccountId>,
    pub(super) name: String,
    pub(super) expires_in: Option<Duration>,
    pub(super) scopes: &'a [String],
    pub(super) owner: Owner,
}

/// What OpenAI made.
pub(super) struct Made {
    pub(super) service_account_id: ServiceAccountId,
    pub(super) key: CreatedKey,
}

/// Makes what `order` says. The caller stores the owner's record, then commits the [`Pending`].
pub(super) async fn issue(
    client: &Client,
    organization_id: &OrganizationId,
    storage: &Arc<dyn Storage>,
    order: Order<'_>,
) -> Result<(Made, Pending), Error> {
    let creation = Creation {
        organization_id: organization_id.clone(),
        project_id: order.project_id.clone(),
        name: order.name,
        service_account_id: order.account.cloned(),
        owner: order.owner,
        announced: Utc::now(),
    };
    let pending = CREATION.begin(storage, &creation).await?;
    failpoint!("issue.announced");
    match make(client, &creation, order.expires_in, order.scopes).await {
        Ok(made) => {
            failpoint!("issue.made");
            Ok((made, pending))
        }
        Err(Failure { error, nothing_left: true }) => {
            failpoint!("issue.refused");
            forget(pending).await;
            Err(error)
        }
        Err(Failure { error, nothing_left: false }) => {
            match timeout(AFTERWARDS, undo(client, &creation)).await {
                Ok(Ok(true)) => {
                    failpoint!("issue.undone");
                    forget(pending).await;
                    Err(error)
                }
                // Not found is no proof yet: the creation may still be under way at OpenAI. The sweep looks again.
                Ok(Ok(false) | Err(_)) | Err(_) => Err(Error::LeftBehind(Box::new(error))),
            }
        }
    }
}

/// Takes back what was made a moment ago and cannot be recorded.
pub(super) async fn take_back(client: &Client, handed: &Handed) -> Result<(), openai::Error> {
    retire(&afterwards(client, Urgency::Revocation), handed).await
}

/// Ends what was handed out; that it is gone already is success.
pub(super) async fn retire(client: &Client, handed: &Handed) -> Result<(), openai::Error> {
    let outcome = if handed.with_account {
        client.delete_service_account(&handed.project_id, &handed.service_account_id).await
    } else {
        client.delete_key(&handed.project_id, &handed.api_key_id).await
    };
    done_or_gone(outcome)
}

/// The sweep of a write-ahead entry: what its owner's record names stays, anything else goes.
pub(super) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<(), Error> {
    if engine.owns(&*storage, &creation).await? {
        return Ok(());
    }
    let client = engine.client_of(&*storage, &creation.organization_id).await?;
    let client = client.for_work(Urgency::Revocation, SWEEP_PATIENCE);
    if let Some(found) = engine.listings.find(&client, &creation).await.map_err(Error::Revocation)? {
        end_found(&client, &creation.project_id, &found).await.map_err(Error::Revocation)?;
    }
    failpoint!("sweep.undone");
    Ok(())
}

/// What is swept, and when.
pub(super) fn swept() -> WalKind<Creation> {
    WalKind::new(CREATION.name(), shortened!("OPENAI_SWEEP_AGE", CREATION.min_age()))
}

/// An entry that stays costs the sweep one look later, nothing more: its failure is not the caller's.
pub(super) async fn forget(pending: Pending) {
    let _ = pending.commit().await;
}

struct Failure {
    error: Error,
    /// Whether it is certain that nothing stands at OpenAI.
    nothing_left: bool,
}

async fn make(
    client: &Client,
    creation: &Creation,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    match &creation.service_account_id {
        Some(account) => make_key(client, creation, account, expires_in, scopes).await,
        None => make_account(client, creation, expires_in, scopes).await,
    }
}

async fn make_key(
    client: &Client,
    creation: &Creation,
    account: &ServiceAccountId,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    let new = NewKey { name: Some(creation.name.clone()), scopes: scopes.to_vec(), expires_in };
    let key = client.create_key(&creation.project_id, account, &new).await.map_err(|error| Failure {
        nothing_left: !error.is_unknown_outcome(),
        error: Error::KeyCreation(error),
    })?;
    Ok(Made { service_account_id: account.clone(), key })
}

async fn make_account(
    client: &Client,
    creation: &Creation,
    expires_in: Option<Duration>,
    scopes: &[String],
) -> Result<Made, Failure> {
    let made = client
        .create_service_account(&creation.project_id, &creation.name, expires_in)
        .await
        .map_err(|error| Failure {
            nothing_left: !error.is_unknown_outcome(),
            error: Error::AccountCreation(error),
        })?;
    let made = Made { service_account_id: made.id, key: made.key };
    failpoint!("issue.made_wide");
    if !scopes.is_empty() {
        narrow(client, creation, &made, scopes).await?;
    }
    Ok(made)
}

/// Narrows a new account's key, or takes the account back.
async fn narrow(client: &Client, creation: &Creation, made: &Made, scopes: &[String]) -> Result<(), Failure> {
    let (issue, undo) = (afterwards(client, Urgency::Issue), afterwards(client, Urgency::Revocation));
    let Err(error) = issue.update_key(&creation.project_id, &made.key.id, Some(scopes), None).await else {
        return Ok(());
    };
    failpoint!("issue.not_narrowed");
    let taken_back = undo.delete_service_account(&creation.project_id, &made.service_account_id).await;
    Err(Failure { error: Error::KeyCreation(error), nothing_left: done_or_gone(taken_back).is_ok() })
}

/// Finds what the creation made by its unique name and ends it; false if nothing was found.
async fn undo(client: &Client, creation: &Creation) -> Result<bool, openai::Error> {
    let client = afterwards(client, Urgency::Revocation);
    let Some(found) = listing::find_now(&client, creation).await? else { return Ok(false) };
    end_found(&client, &creation.project_id, &found).await?;
    Ok(true)
}

/// The client, for what a request still has to do after its first call.
fn afterwards(client: &Client, urgency: Urgency) -> Client {
    client.for_work(urgency, AFTERWARDS)
}

async fn end_found(client: &Client, project: &ProjectId, found: &Found) -> Result<(), openai::Error> {
    done_or_gone(match &found.key {
        Some(key) => client.delete_key(project, key).await,
        None => client.delete_service_account(project, &found.account).await,
    })
}

fn done_or_gone(outcome: Result<(), openai::Error>) -> Result<(), openai::Error> {
    match outcome {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}
