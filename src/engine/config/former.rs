//! The write-ahead entry by which the release before announced an admin key. Its sweep moves the name to the configuration,
//! which looks for the key.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::accounts::kind;
use crate::engine::accounts::making::{FORGOTTEN_AFTER, LONGEST_REQUEST, longest_request};
use crate::engine::config::configuration;
use crate::engine::config::configuration::LOCK;
use crate::engine::{Engine, Error};
use crate::framework::{Swept, WalKind};
use crate::logical::Storage;
use crate::openai::OrganizationId;

static CREATION: WalKind<Creation> =
    WalKind::new("admin_key_creation", LONGEST_REQUEST).forgotten_after(FORGOTTEN_AFTER);

/// An admin key that the release before was about to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Creation {
    organization_id: OrganizationId,
    name: String,
}

/// The kind, as it is swept.
pub(in crate::engine) fn swept() -> WalKind<Creation> {
    CREATION.swept_from(longest_request())
}

/// The sweep of an entry.
pub(in crate::engine) async fn sweep(
    engine: Arc<Engine>,
    storage: Arc<dyn Storage>,
    creation: Creation,
) -> Result<Swept, Error> {
    if kind::leaves_owners_alone(&engine).await? {
        return Ok(Swept::Waits);
    }
    let _alone = engine.locks.lock(LOCK).await;
    let Some(config) = configuration::stored_config(&engine, &*storage).await? else {
        return Ok(Swept::Waits);
    };
    let mut config = Arc::unwrap_or_clone(config);
    let Creation { organization_id, name } = creation;
    if config.keys.name.as_ref() != Some(&name) && !config.keys.making.names(&name) {
        let since = engine.now() - longest_request();
        if config.keys.making.begin(name, &organization_id, None, None, since).is_err() {
            return Ok(Swept::Waits);
        }
        configuration::store_config(&engine, &*storage, &mut config).await?;
    }
    Ok(Swept::Done)
}
