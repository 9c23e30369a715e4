//! Keys of a project: of a service account (made here) or of a user (only seen here).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::deletion::Deletion;
use super::page::{MAX_PAGE_SIZE, Page, Pages, WirePage};
use super::{ApiKey, ApiKeyId, Call, Client, Error, ProjectId, ServiceAccountId};

/// The longest that OpenAI lets a key live: one year.
pub const LONGEST_EXPIRY: Duration = Duration::from_secs(31_536_000);

/// What a new key shall be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewKey {
    /// Its name; OpenAI makes one up if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is narrowed to; empty: all that its account may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// After what time it expires by itself.
    #[serde(
        rename = "expires_in_seconds",
        serialize_with = "seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_in: Option<Duration>,
}

/// A key just made, with its value, which is shown this once.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CreatedKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret.
    pub value: ApiKey,
    /// When it expires by itself.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key as it is listed: without its value.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct KeyRecord {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its value with the middle left out.
    #[serde(default)]
    pub redacted_value: String,
    /// When it was made.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created_at: DateTime<Utc>,
    /// When it expires by itself.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<KeyOwner>,
}

/// Whose a key is.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct KeyOwner {
    /// The service account, if it is not a user's.
    #[serde(default)]
    pub service_account: Option<OwnerAccount>,
}

/// The service account that owns a key.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct OwnerAccount {
    /// Its id.
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
    /// The service account whose key it is; `None` for a user's.
    pub fn service_account(&self) -> Option<&ServiceAccountId> {
        self.owner.as_ref()?.service_account.as_ref().map(|account| &account.id)
    }
}

impl Client {
    /// Makes one more key for an account.
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

    /// Narrows a key to `scopes` (an empty list lifts that) and lets it expire `expires_in` from now; `None` leaves
    /// either as it is.
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

    /// One key, without its value.
    pub async fn key(&self, project: &ProjectId, key: &ApiKeyId) -> Result<KeyRecord, Error> {
        self.send(Request::get(Call::Key, &one(project, key))).await
    }

    /// The next page of a project's keys, users' too; `None` if all were read.
    pub async fn next_keys(
        &self,
        project: &ProjectId,
        pages: &mut Pages,
    ) -> Result<Option<Vec<KeyRecord>>, Error> {
        let call = Call::ListKeys;
        let Some(client) = pages.client(self, call)? else { return Ok(None) };
        let page = client.list_keys(project, pages.after(), MAX_PAGE_SIZE).await?;
        pages.accept(call, page).map(Some)
    }

    /// A page of a project's keys, users' too: those after the id `after`, at most `limit` (OpenAI takes up to 100).
    /// OpenAI leaves out some keys unless it is asked for any: those of accounts without a role, for one.
    pub(super) async fn list_keys(
        &self,
        project: &ProjectId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<KeyRecord>, Error> {
        let call = Call::ListKeys;
        let path = ["organization", "projects", project.as_str(), "api_keys"];
        let request = Request::get(call, &path).with("owner_project_access", "any").page(after, limit);
        let page: WirePage<KeyRecord> = self.send(request).await?;
        page.take(call, after, |key| key.id.as_str())
    }

    /// Ends a key; its account and the account's other keys stay.
    pub async fn delete_key(&self, project: &ProjectId, key: &ApiKeyId) -> Result<(), Error> {
        let call = Call::DeleteKey;
        let answer: Deletion = self.send(Request::delete(call, &one(project, key))).await?;
        answer.confirm(call)?;
        self.note_deleted(key.as_str());
        Ok(())
    }
}

fn one<'a>(project: &'a ProjectId, key: &'a ApiKeyId) -> [&'a str; 5] {
    ["organization", "projects", project.as_str(), "api_keys", key.as_str()]
}

/// Called only for `Some`: `None` is skipped.
#[expect(clippy::ref_option)] // the shape serde asks for
fn seconds<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs()).serialize(serializer)
}
