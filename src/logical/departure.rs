//! The moment in which an answer leaves for the server.

use std::fmt;

/// What is to be done when an answer leaves: right before the server can have it.
///
/// *Guarantees:* it is done once or never, and cannot fail. Dropped undone, the answer did not leave: the caller hung
/// up, or the connection broke. That it is done is no proof that the server has read the answer.
///
/// *Assumption:* it is quick, as the connection waits for it.
#[must_use = "dropped, it says that the answer did not leave"]
pub struct Departure(Box<dyn FnOnce() + Send + Sync>);

impl Departure {
    /// Does this when the answer leaves. What it holds is dropped with it if the answer does not.
    pub fn new(leave: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Box::new(leave))
    }

    /// The answer leaves now.
    pub fn leave(self) {
        (self.0)();
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Departure")
    }
}
