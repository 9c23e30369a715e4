//! Memory of accounts: the names of running creations, and the listings of projects. A restart clears it.

use std::sync::Arc;

use super::first_seen::FirstSeen;
use super::listing::Listings;
use crate::engine::time::clock::Clock;

/// The memory of this room.
pub(in crate::engine) struct Memory {
    pub(in crate::engine) first_seen: FirstSeen,
    pub(in crate::engine) listings: Listings,
}

impl Memory {
    /// Nothing yet.
    pub(in crate::engine) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { first_seen: FirstSeen::new(Arc::clone(clock)), listings: Listings::new(Arc::clone(clock)) }
    }
}
