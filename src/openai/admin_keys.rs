//! Admin keys of the organization. One of these keys authenticates this client.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::call::Request;
use super::page::Pages;
use super::{AdminKey, AdminKeyId, Call, Client, Error};

/// An admin key without its value, as OpenAI lists it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct AdminKeyRecord {
    /// Id.
    pub id: AdminKeyId,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// The key with its middle masked; [`AdminKey::fits`] compares it.
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
    pub owner: Option<AdminKeyOwner>,
}

/// Owner of an admin key: a user or a service account.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct AdminKeyOwner {
    /// Id of the owner.
    #[serde(default)]
    pub id: Option<String>,
    /// Kind of the owner, such as `user`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

/// A new admin key. OpenAI shows the value only in this response.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CreatedAdminKey {
    /// Id.
    pub id: AdminKeyId,
    /// Name.
    #[serde(default)]
    pub name: Option<String>,
    /// The secret value.
    pub value: AdminKey,
    /// Expiry time at OpenAI, if the key has one.
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
    /// The next page of the organization's admin keys; `None` after the last page.
    pub async fn next_admin_keys(&self, pages: &mut Pages) -> Result<Option<Vec<AdminKeyRecord>>, Error> {
        let request = Request::get(Call::ListAdminKeys, &keys());
        self.next_page(pages, request, |key: &AdminKeyRecord| key.id.as_str()).await
    }

    /// Finds the record of `key` by its redacted value. Answers `None` if no record or more than one record matches.
    /// The search ends after this client's maximum wait.
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

    /// Reads one admin key. The response has no key value.
    pub async fn admin_key(&self, key: &AdminKeyId) -> Result<AdminKeyRecord, Error> {
        self.send(Request::get(Call::AdminKey, &one(key))).await
    }

    /// Creates an admin key that expires after `expires_in`.
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

    /// Deletes an admin key.
    pub async fn delete_admin_key(&self, key: &AdminKeyId) -> Result<(), Error> {
        self.delete(Call::DeleteAdminKey, &one(key)).await
    }
}

fn keys() -> [&'static str; 2] {
    ["organization", "admin_api_keys"]
}

fn one(key: &AdminKeyId) -> [&str; 3] {
    ["organization", "admin_api_keys", key.as_str()]
}
