//! Service accounts of a project. A plain creation makes the account and its first key in one call.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::deletion::Deletion;
use super::page::{MAX_PAGE_SIZE, Page, Pages, WirePage};
use super::{Call, Client, CreatedKey, Error, ProjectId, ServiceAccountId};

/// A service account.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// Its name, not unique by itself.
    pub name: String,
    /// What it may do in the project.
    #[serde(default)]
    pub role: Role,
    /// When it was made.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created_at: DateTime<Utc>,
}

/// What a service account may do in its project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Everything.
    Owner,
    /// What members may.
    Member,
    /// Nothing by default.
    None,
    /// A role that this client does not know.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A service account made together with its first key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreatedServiceAccount {
    /// Its id.
    pub id: ServiceAccountId,
    /// Its name.
    pub name: String,
    /// Its first key, shown this once.
    pub key: CreatedKey,
}

#[derive(Serialize)]
struct Creation<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_service_account_only: Option<bool>,
}

#[derive(Serialize)]
struct Change<'a> {
    name: &'a str,
    role: Role,
}

#[derive(Deserialize)]
struct WireCreated {
    id: ServiceAccountId,
    name: String,
    api_key: CreatedKey,
}

impl Client {
    /// Makes an account and its first key, which expires by itself after `expires_in`.
    pub async fn create_service_account(
        &self,
        project: &ProjectId,
        name: &str,
        expires_in: Option<Duration>,
    ) -> Result<CreatedServiceAccount, Error> {
        let expires_in_seconds = expires_in.map(|time| time.as_secs());
        let body = Creation { name, expires_in_seconds, create_service_account_only: None };
        let request = Request::post(Call::CreateServiceAccount, &accounts(project), &body);
        let WireCreated { id, name, api_key } = self.send(request).await?;
        self.note_created(id.as_str());
        self.note_created(api_key.id.as_str());
        Ok(CreatedServiceAccount { id, name, key: api_key })
    }

    /// Makes an account that has no key and [`Role::None`].
    pub async fn create_account_only(
        &self,
        project: &ProjectId,
        name: &str,
    ) -> Result<ServiceAccount, Error> {
        let body = Creation { name, expires_in_seconds: None, create_service_account_only: Some(true) };
        let request = Request::post(Call::CreateServiceAccount, &accounts(project), &body);
        let made: ServiceAccount = self.send(request).await?;
        self.note_created(made.id.as_str());
        Ok(made)
    }

    /// One account.
    pub async fn service_account(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
    ) -> Result<ServiceAccount, Error> {
        let found = self.send(Request::get(Call::ServiceAccount, &one(project, account))).await?;
        self.note_found(account.as_str());
        Ok(found)
    }

    /// The next page of a project's accounts; `None` if all were read.
    pub async fn next_service_accounts(
        &self,
        project: &ProjectId,
        pages: &mut Pages,
    ) -> Result<Option<Vec<ServiceAccount>>, Error> {
        let call = Call::ListServiceAccounts;
        let Some(client) = pages.client(self, call)? else { return Ok(None) };
        let page = client.list_service_accounts(project, pages.after(), MAX_PAGE_SIZE).await?;
        pages.accept(call, page).map(Some)
    }

    /// A page of a project's accounts: those after the id `after`, at most `limit` (OpenAI takes up to 100).
    pub(super) async fn list_service_accounts(
        &self,
        project: &ProjectId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ServiceAccount>, Error> {
        let call = Call::ListServiceAccounts;
        let page: WirePage<ServiceAccount> =
            self.send(Request::get(call, &accounts(project)).page(after, limit)).await?;
        page.take(call, after, |account| account.id.as_str())
    }

    /// Gives an account another name and another role in one call.
    pub async fn rename_service_account(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
        name: &str,
        role: Role,
    ) -> Result<ServiceAccount, Error> {
        let body = Change { name, role };
        self.send(Request::post(Call::UpdateServiceAccount, &one(project, account), &body)).await
    }

    /// Ends an account and all its keys.
    pub async fn delete_service_account(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
    ) -> Result<(), Error> {
        let call = Call::DeleteServiceAccount;
        let answer: Deletion = self.send(Request::delete(call, &one(project, account))).await?;
        answer.confirm(call)?;
        self.note_deleted(account.as_str());
        Ok(())
    }
}

fn accounts(project: &ProjectId) -> [&str; 4] {
    ["organization", "projects", project.as_str(), "service_accounts"]
}

fn one<'a>(project: &'a ProjectId, account: &'a ServiceAccountId) -> [&'a str; 5] {
    ["organization", "projects", project.as_str(), "service_accounts", account.as_str()]
}
