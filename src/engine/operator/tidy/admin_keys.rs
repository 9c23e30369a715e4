//! The part of `tidy` for admin keys: finds keys that a rotation of this mount created and the configuration does not
//! name.
//!
//! *Guarantees:* the key in use stays; it is recognized by its id and by its value. A key that a rotation is about to
//! store, or has to delete itself, stays as well. OpenAI's list is read first, and the configuration afterwards, under its
//! lock.

use super::run::Run;
use super::status::{Candidate, Object};
use crate::engine::Error;
use crate::engine::config::configuration::{Config, LOCK};
use crate::engine::config::{admin_reconcile, configuration};
use crate::openai::{AdminKeyRecord, Client, Pages};

impl Run {
    /// Finds the admin keys that the configuration does not name, and removes them unless this is a dry run.
    pub(super) async fn tidy_admin_keys(&self) -> Result<(), Error> {
        let client = self.client().await?;
        for key in self.admin_keys(&client).await.map_err(Error::call("listing admin keys"))? {
            if let Err(error) = self.tidy_admin_key(key).await {
                self.failed(&error);
            }
        }
        Ok(())
    }

    async fn admin_keys(&self, client: &Client) -> Result<Vec<AdminKeyRecord>, crate::openai::Error> {
        let (mut found, mut pages) = (Vec::new(), Pages::within(super::run::MAX_LISTING_TIME));
        while let Some(page) = client.next_admin_keys(&mut pages).await? {
            self.engine.tidying.looked_at_keys(page.len());
            found.extend(
                page.into_iter().filter(|key| {
                    key.name.as_ref().is_some_and(|name| self.is_candidate(name, key.created_at))
                }),
            );
        }
        Ok(found)
    }

    async fn tidy_admin_key(&self, key: AdminKeyRecord) -> Result<(), Error> {
        let _alone = self.engine.locks.lock(LOCK).await;
        let config =
            configuration::stored_config(&self.engine, &*self.storage).await?.ok_or(Error::NotConfigured)?;
        if config.names_admin_key(&key) {
            return Ok(());
        }
        let id = key.id.clone();
        self.engine.tidying.found(&Candidate { project_id: None, object: Object::AdminKey(key) });
        if self.options.dry_run {
            return Ok(());
        }
        let removed = admin_reconcile::end(&self.client().await?, &id).await;
        removed.map_err(Error::call("deleting an admin key that nothing names"))?;
        self.engine.tidying.removed();
        Ok(())
    }
}

impl Config {
    /// True if the key is in use, is being created, or is a replaced key whose deletion is pending.
    fn names_admin_key(&self, key: &AdminKeyRecord) -> bool {
        let Self { admin_api_key, admin_api_key_id, keys, .. } = self;
        admin_api_key_id.as_ref() == Some(&key.id)
            || admin_api_key.fits(&key.redacted_value)
            || key
                .name
                .as_ref()
                .is_some_and(|name| keys.name.as_ref() == Some(name) || keys.making.names(name))
            || keys.ending.iter().any(|old| old.id == key.id)
    }
}
