//! The answer to every deletion.

use serde::Deserialize;

use super::{Call, Error};

/// Whether it was deleted; what OpenAI does not say is not believed.
#[derive(Deserialize)]
pub(super) struct Deletion {
    deleted: bool,
}

impl Deletion {
    pub(super) fn confirm(&self, call: Call) -> Result<(), Error> {
        if self.deleted { Ok(()) } else { Err(Error::malformed(call, "it says that nothing was deleted")) }
    }
}
