//! The admin keys among what `tidy` looks for: those that a rotation here made and the configuration does not name.
//!
//! *Guarantees:* the key in use stays, by its id and by its value, and so does one that a rotation is about to store or
//! still has to delete: the list is read first, then, under the configuration's lock, what names a key.

use super::run::Run;
use super::status::{Stray, Thing};
use crate::engine::Error;
use crate::engine::config::configuration::{Config, LOCK};
use crate::engine::config::{admin_reconcile, configuration};
use crate::openai::{AdminKeyRecord, Pages};

impl Run {
    /// Finds the admin keys that nothing names, and removes them if that was asked for.
    pub(super) async fn tidy_admin_keys(&self) -> Result<(), Error> {
        for key in self.admin_keys().await.map_err(Error::call("listing admin keys"))? {
            if let Err(error) = self.deal_with_admin_key(key).await {
                self.failed(&error);
            }
        }
        Ok(())
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKeyRecord>, crate::openai::Error> {
        let (mut found, mut pages) = (Vec::new(), Pages::within(super::run::LISTING));
        while let Some(page) = self.client.next_admin_keys(&mut pages).await? {
            self.engine.tidying.looked_at_keys(page.len());
            found.extend(
                page.into_iter().filter(|key| {
                    key.name.as_ref().is_some_and(|name| self.is_candidate(name, key.created_at))
                }),
            );
        }
        Ok(found)
    }

    async fn deal_with_admin_key(&self, key: AdminKeyRecord) -> Result<(), Error> {
        let _alone = self.engine.locks.lock(LOCK).await;
        let config =
            configuration::stored_config(&self.engine, &*self.storage).await?.ok_or(Error::NotConfigured)?;
        if config.names_admin_key(&key) {
            return Ok(());
        }
        let id = key.id.clone();
        self.engine.tidying.found(&Stray { project_id: None, thing: Thing::AdminKey(key) });
        if self.order.dry_run {
            return Ok(());
        }
        let removed = admin_reconcile::end(&self.client, &id).await;
        removed.map_err(Error::call("deleting an admin key that nothing names"))?;
        self.engine.tidying.removed();
        Ok(())
    }
}

impl Config {
    /// Whether the key is in use, is being made, or was in use and is still to be deleted.
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
