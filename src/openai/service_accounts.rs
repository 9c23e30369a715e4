//! Service accounts of a project. A creation makes the account and its first key in one call.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::page::Pages;
use super::{Call, Client, CreatedKey, Error, ProjectId, ServiceAccountId};

/// A service account.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ServiceAccount {
    /// Id.
    pub id: ServiceAccountId,
    /// Name; not necessarily unique.
    pub name: String,
    /// Role in the project.
    #[serde(default)]
    pub role: Role,
    /// Creation time.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created_at: DateTime<Utc>,
}

/// Role of a service account in its project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// All permissions.
    Owner,
    /// The permissions of members.
    Member,
    /// No permissions by default.
    None,
    /// A role that this client does not know.
    #[default]
    #[serde(other, skip_serializing)]
    Unknown,
}

/// A service account created together with its first key.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CreatedServiceAccount {
    /// Id.
    pub id: ServiceAccountId,
    /// Name.
    pub name: String,
    /// First key. OpenAI shows its value only in this response.
    #[serde(rename = "api_key")]
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

impl Client {
    /// Creates an account and its first key. The key expires after `expires_in`.
    pub async fn create_service_account(
        &self,
        project: &ProjectId,
        name: &str,
        expires_in: Option<Duration>,
    ) -> Result<CreatedServiceAccount, Error> {
        let expires_in_seconds = expires_in.map(|time| time.as_secs());
        let body = Creation { name, expires_in_seconds, create_service_account_only: None };
        let request = Request::post(Call::CreateServiceAccount, &accounts(project), &body);
        let made: CreatedServiceAccount = self.send(request).await?;
        self.note_created(made.id.as_str());
        self.note_created(made.key.id.as_str());
        Ok(made)
    }

    /// Creates an account without a key and with [`Role::None`].
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

    /// Reads one account.
    pub async fn service_account(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
    ) -> Result<ServiceAccount, Error> {
        let found = self.send(Request::get(Call::ServiceAccount, &one(project, account))).await?;
        self.note_found(account.as_str());
        Ok(found)
    }

    /// The next page of a project's service accounts; `None` after the last page.
    pub async fn next_service_accounts(
        &self,
        project: &ProjectId,
        pages: &mut Pages,
    ) -> Result<Option<Vec<ServiceAccount>>, Error> {
        let request = Request::get(Call::ListServiceAccounts, &accounts(project));
        self.next_page(pages, request, |account: &ServiceAccount| account.id.as_str()).await
    }

    /// Changes the name and the role of an account in one call.
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

    /// Deletes an account and all its keys.
    pub async fn delete_service_account(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
    ) -> Result<(), Error> {
        self.delete(Call::DeleteServiceAccount, &one(project, account)).await
    }
}

fn accounts(project: &ProjectId) -> [&str; 4] {
    ["organization", "projects", project.as_str(), "service_accounts"]
}

fn one<'a>(project: &'a ProjectId, account: &'a ServiceAccountId) -> [&'a str; 5] {
    ["organization", "projects", project.as_str(), "service_accounts", account.as_str()]
}
