//! Memory of the configuration: the cached records, and the OpenAI clients made from them. A restart clears it.

use std::sync::Arc;

use super::clients::Clients;
use super::clock_watch::{SEEN, Seen};
use super::configuration::{CONFIG, Config};
use super::named_projects::{PROJECTS, Project};
use crate::engine::cache::Cache;
use crate::engine::telemetry::metrics::Metrics;
use crate::engine::telemetry::openai_status::OpenAiStatus;
use crate::engine::time::clock::{Clock, Times};

/// The memory of this room.
pub(in crate::engine) struct Memory {
    pub(in crate::engine) clients: Clients,
    pub(in crate::engine) stored: Cache<Config>,
    pub(in crate::engine) projects: Cache<Project>,
    pub(super) seen: Cache<Seen>,
}

impl Memory {
    /// Nothing yet.
    pub(in crate::engine) fn new(metrics: &Arc<Metrics>, times: &Arc<Times>, clock: &Arc<dyn Clock>) -> Self {
        let status = OpenAiStatus::new(Arc::clone(times));
        Self {
            clients: Clients::new(Arc::clone(metrics), status, Arc::clone(clock)),
            stored: Cache::new(&CONFIG),
            projects: Cache::new(&PROJECTS),
            seen: Cache::new(&SEEN),
        }
    }

    /// Forgets what another node changed in storage.
    pub(in crate::engine) fn invalidate(&self, key: &str) {
        if key == CONFIG.prefix() {
            self.stored.invalidate(key);
            self.clients.forget();
        }
        self.projects.invalidate(key);
        self.seen.invalidate(key);
    }
}
