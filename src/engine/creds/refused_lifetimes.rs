//! Lifetimes of keys that an organization's policy refused a moment ago. OpenAI limits creations tightly, so a read under
//! a policy does not ask for the same lifetime again.
//!
//! *Limitation:* after the policy is gone, keys get their margin again after [`MAX_AGE`]. A restart clears this memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::time::clock::Clock;
use crate::openai::ProjectId;

/// Time after which OpenAI is asked for a refused lifetime again.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// The shortest refused lifetime of each project.
pub(in crate::engine) struct RefusedLifetimes {
    clock: Arc<dyn Clock>,
    shortest: Mutex<HashMap<ProjectId, Refused>>,
}

struct Refused {
    lifetime: Duration,
    /// Time of the refusal, by the monotonic clock.
    at: Duration,
}

impl RefusedLifetimes {
    /// No refusals yet.
    pub(in crate::engine) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), shortest: Mutex::default() }
    }

    /// A policy refused keys of this lifetime in the project.
    pub(super) fn insert(&self, project: &ProjectId, lifetime: Duration) {
        let (now, mut shortest) = (self.clock.monotonic(), self.shortest.lock());
        shortest.retain(|_, refused| now.saturating_sub(refused.at) < MAX_AGE);
        let is_shorter = shortest.get(project).is_none_or(|refused| lifetime < refused.lifetime);
        if is_shorter {
            shortest.insert(project.clone(), Refused { lifetime, at: now });
        }
    }

    /// True if a policy refused keys of this lifetime, or of a shorter one, in the project.
    pub(super) fn contains(&self, project: &ProjectId, lifetime: Duration) -> bool {
        let now = self.clock.monotonic();
        self.shortest
            .lock()
            .get(project)
            .is_some_and(|refused| refused.lifetime <= lifetime && now.saturating_sub(refused.at) < MAX_AGE)
    }
}
