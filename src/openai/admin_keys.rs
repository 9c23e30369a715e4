//! Admin keys of the organization, among them the one this client works with.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::deletion::Deletion;
use super::page::{MAX_PAGE_SIZE, Page, Pages, WirePage};
use super::{AdminKey, AdminKeyId, Call, Client, Error};

/// An admin key as it is listed: without its value.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct AdminKeyRecord {
    /// Its id.
    pub id: AdminKeyId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Its value with the middle left out, which [`AdminKey::fits`] compares.
    pub redacted_value: String,
    /// When it was made.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created_at: DateTime<Utc>,
    /// When it expires by itself.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Whose it is.
    #[serde(default)]
    pub owner: Option<AdminKeyOwner>,
}

/// Whose an admin key is: a user or a service account.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct AdminKeyOwner {
    /// The owner's id.
    #[serde(default)]
    pub id: Option<String>,
    /// The owner's kind, such as `user`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

/// An admin key just made, with its value, which is shown this once.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CreatedAdminKey {
    /// Its id.
    pub id: AdminKeyId,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret.
    pub value: AdminKey,
    /// When it expires by itself.
    #[serde(default, with = "chrono::serde::ts_seconds_option")]
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Creation<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
}

impl Client {
    /// The next page of the organization's admin keys; `None` if all were read.
    pub async fn next_admin_keys(&self, pages: &mut Pages) -> Result<Option<Vec<AdminKeyRecord>>, Error> {
        let call = Call::ListAdminKeys;
        let Some(client) = pages.client(self, call)? else { return Ok(None) };
        let page = client.list_admin_keys(pages.after(), MAX_PAGE_SIZE).await?;
        pages.accept(call, page).map(Some)
    }

    /// A page of the organization's admin keys: those after the id `after`, at most `limit`.
    pub(super) async fn list_admin_keys(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<AdminKeyRecord>, Error> {
        let call = Call::ListAdminKeys;
        let page: WirePage<AdminKeyRecord> =
            self.send(Request::get(call, &keys()).page(after, limit)).await?;
        page.take(call, after, |key| key.id.as_str())
    }

    /// The record of `key`, found by its redacted value; `None` if no record fits, or more than one. It takes no longer
    /// than this client's patience.
    pub async fn find_admin_key(&self, key: &AdminKey) -> Result<Option<AdminKeyRecord>, Error> {
        let (mut found, mut pages) = (None, Pages::within(self.max_wait));
        while let Some(page) = self.next_admin_keys(&mut pages).await? {
            for record in page.into_iter().filter(|record| key.fits(&record.redacted_value)) {
                if found.replace(record).is_some() {
                    return Ok(None);
                }
            }
        }
        Ok(found)
    }

    /// One admin key, without its value.
    pub async fn admin_key(&self, key: &AdminKeyId) -> Result<AdminKeyRecord, Error> {
        self.send(Request::get(Call::AdminKey, &one(key))).await
    }

    /// Makes an admin key, which expires by itself after `expires_in`.
    pub async fn create_admin_key(
        &self,
        name: &str,
        expires_in: Option<Duration>,
    ) -> Result<CreatedAdminKey, Error> {
        let body = Creation { name, expires_in_seconds: expires_in.map(|time| time.as_secs()) };
        let made: CreatedAdminKey = self.send(Request::post(Call::CreateAdminKey, &keys(), &body)).await?;
        self.note_created(made.id.as_str());
        Ok(made)
    }

    /// Ends an admin key.
    pub async fn delete_admin_key(&self, key: &AdminKeyId) -> Result<(), Error> {
        let call = Call::DeleteAdminKey;
        let answer: Deletion = self.send(Request::delete(call, &one(key))).await?;
        answer.confirm(call)?;
        self.note_deleted(key.as_str());
        Ok(())
    }
}

fn keys() -> [&'static str; 2] {
    ["organization", "admin_api_keys"]
}

fn one(key: &AdminKeyId) -> [&str; 3] {
    ["organization", "admin_api_keys", key.as_str()]
}
