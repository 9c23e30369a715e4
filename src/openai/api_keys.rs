//! API keys of a project. The client creates keys of service accounts; it only reads keys of users.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::page::Pages;
use super::{ApiKey, ApiKeyId, Call, Client, Error, ProjectId, ServiceAccountId};

/// Longest key lifetime that OpenAI accepts: one year.
pub const LONGEST_EXPIRY: Duration = Duration::from_secs(31_536_000);

/// Settings of a new key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewKey {
    /// Name; OpenAI generates one if the field is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Scopes of the key; an empty list grants everything that the service account may do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Lifetime of the key at OpenAI.
    #[serde(
        rename = "expires_in_seconds",
        serialize_with = "seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_in: Option<Duration>,
}

/// A new key. OpenAI shows the value only in this response.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CreatedKey {
    /// Id.
    pub id: ApiKeyId,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret value.
    pub value: ApiKey,
    /// Expiry time at OpenAI, if the key has one.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key without its value, as OpenAI lists it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Id.
    pub id: ApiKeyId,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// The key with its middle masked.
    #[serde(default)]
    pub redacted_value: String,
    /// Creation time.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created_at: DateTime<Utc>,
    /// Expiry time at OpenAI, if the key has one.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Time of the last call to OpenAI with the key, if there was one.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub last_used_at: Option<DateTime<Utc>>,
    /// Owner of the key.
    #[serde(default)]
    pub owner: Option<KeyOwner>,
}

/// Owner of a key.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct KeyOwner {
    /// The service account; `None` if a user owns the key.
    #[serde(default)]
    pub service_account: Option<OwnerAccount>,
}

/// The service account that owns a key.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct OwnerAccount {
    /// Id.
    pub id: ServiceAccountId,
}

#[derive(Serialize)]
struct Update<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
}

impl KeyRecord {
    /// The service account that owns the key; `None` if a user owns the key.
    pub fn service_account(&self) -> Option<&ServiceAccountId> {
        self.owner.as_ref()?.service_account.as_ref().map(|account| &account.id)
    }
}

impl Client {
    /// Creates another key of a service account.
    pub async fn create_key(
        &self,
        project: &ProjectId,
        account: &ServiceAccountId,
        key: &NewKey,
    ) -> Result<CreatedKey, Error> {
        let path =
            ["organization", "projects", project.as_str(), "service_accounts", account.as_str(), "api_keys"];
        let made: CreatedKey = self.send(Request::post(Call::CreateKey, &path, key)).await?;
        self.note_created(made.id.as_str());
        Ok(made)
    }

    /// Changes a key's scopes and lifetime. An empty scope list removes every restriction. `expires_in` counts from
    /// now. `None` leaves the setting unchanged.
    pub async fn update_key(
        &self,
        project: &ProjectId,
        key: &ApiKeyId,
        scopes: Option<&[String]>,
        expires_in: Option<Duration>,
    ) -> Result<KeyRecord, Error> {
        let body = Update { scopes, expires_in_seconds: expires_in.map(|time| time.as_secs()) };
        self.send(Request::post(Call::UpdateKey, &one(project, key), &body)).await
    }

    /// Reads one key. The response has no key value.
    pub async fn key(&self, project: &ProjectId, key: &ApiKeyId) -> Result<KeyRecord, Error> {
        self.send(Request::get(Call::Key, &one(project, key))).await
    }

    /// The next page of a project's keys, of service accounts and of users; `None` after the last page.
    pub async fn next_keys(
        &self,
        project: &ProjectId,
        pages: &mut Pages,
    ) -> Result<Option<Vec<KeyRecord>>, Error> {
        let path = ["organization", "projects", project.as_str(), "api_keys"];
        // Without `any`, OpenAI omits some keys, such as those of service accounts without a role.
        let request = Request::get(Call::ListKeys, &path).with("owner_project_access", "any");
        let page = self.next_page(pages, request, |key: &KeyRecord| key.id.as_str()).await?;
        self.key_uses().note(page.as_deref().unwrap_or_default());
        Ok(page)
    }

    /// Deletes a key. The service account and its other keys stay.
    pub async fn delete_key(&self, project: &ProjectId, key: &ApiKeyId) -> Result<(), Error> {
        self.delete(Call::DeleteKey, &one(project, key)).await?;
        self.forget_use(key);
        Ok(())
    }
}

fn one<'a>(project: &'a ProjectId, key: &'a ApiKeyId) -> [&'a str; 5] {
    ["organization", "projects", project.as_str(), "api_keys", key.as_str()]
}

/// Serde calls this function only for `Some`: `skip_serializing_if` skips `None`.
#[expect(clippy::ref_option)] // the shape serde asks for
fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs()).serialize(serializer)
}
