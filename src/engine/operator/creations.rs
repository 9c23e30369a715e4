//! Creations at OpenAI that were cut off, and that no sweep could undo though it was time: their organization is not, or no
//! longer, configured, or OpenAI fails.

use std::time::Duration;

use crate::engine::accounts::first_seen;
use crate::engine::accounts::making::Making;
use crate::engine::config::admin_reconcile;
use crate::engine::config::configuration::ONLY;
use crate::engine::creds::issuer;
use crate::engine::creds::issuer::{Creation, Owner};
use crate::engine::creds::windows::{ANNOUNCEMENT, WINDOW};
use crate::engine::library::{reconcile, sets};
use crate::engine::{Engine, Error, static_roles};
use crate::framework::WalLog;
use crate::logical::Storage;
use crate::openai::OrganizationId;

/// A window's entry goes before that: it is opened again for 10 minutes at most, and looked up twice, 3 and 8 minutes
/// later.
const WINDOW_IS_LATE: Duration = Duration::from_secs(1_320);
/// More entries are not read.
const MOST: usize = 1_000;

/// One of them, or several that share a write-ahead entry.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Unfinished {
    /// The unique name of what may have been made.
    pub(in crate::engine) name: String,
    /// Whose it would be.
    pub(in crate::engine) owner: String,
    pub(in crate::engine) organization: OrganizationId,
    pub(in crate::engine) age: Duration,
}

/// All of them. Those that share a write-ahead entry count as one.
pub(in crate::engine) async fn unfinished(
    engine: &Engine,
    storage: &dyn Storage,
) -> Result<Vec<Unfinished>, Error> {
    let log = WalLog::read(storage, MOST).await?;
    let mut found: Vec<Unfinished> =
        issuer::CREATION.overdue(&log).into_iter().map(|(creation, age)| of(creation, age)).collect();
    let credentials = |name, organization, age| Unfinished { name, owner: String::new(), organization, age };
    for (announcement, age) in ANNOUNCEMENT.swept_from(WINDOW_IS_LATE).overdue(&log) {
        let name = announcement.names.into_iter().next().unwrap_or_default();
        found.push(credentials(name, announcement.organization_id, age));
    }
    for (window, age) in WINDOW.swept_from(WINDOW_IS_LATE).overdue(&log) {
        found.push(credentials(window.id.to_string(), window.triple.organization_id, age));
    }
    found.extend(of_static_roles(engine, storage).await?);
    let now = engine.now();
    let left = |owner: &str, making: &Making| Unfinished {
        name: making.name.clone(),
        owner: owner.to_owned(),
        organization: making.organization_id.clone(),
        age: (now - making.since).to_std().unwrap_or_default(),
    };
    if let Some(config) = engine.config.get_readable(storage, ONLY).await? {
        let overdue = config.keys.making.iter().filter(|making| !admin_reconcile::is_young(making, now));
        found.extend(overdue.map(|making| left("config", making)));
    }
    for (set, record) in reconcile::waiting(engine, storage).await? {
        let overdue = record.making.iter().filter(|making| !sets::is_young(making, now));
        found.extend(overdue.map(|making| left(&set, making)));
    }
    Ok(found)
}

async fn of_static_roles(engine: &Engine, storage: &dyn Storage) -> Result<Vec<Unfinished>, Error> {
    let (mut found, now) = (Vec::new(), engine.now());
    for (owner, role) in static_roles::due_soon(storage, now, MOST).await? {
        found.extend(role.making.iter().filter_map(|making| {
            let age = (now - making.since).to_std().ok().filter(|age| *age >= first_seen::settles_after())?;
            let (name, organization) = (making.name.clone(), making.organization_id.clone());
            Some(Unfinished { name, owner: owner.clone(), organization, age })
        }));
    }
    Ok(found)
}

fn of(creation: Creation, age: Duration) -> Unfinished {
    let owner = match creation.owner {
        Owner::Ledger(_) => String::new(),
        Owner::StaticRole(name) | Owner::LibrarySet(name) => name,
    };
    Unfinished { name: creation.name, owner, organization: creation.organization_id, age }
}
