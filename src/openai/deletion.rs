//! The response to a deletion.

use serde::Deserialize;

use super::{Call, Error};

/// OpenAI's confirmation of a deletion. A response without `deleted: true` is an error.
#[derive(Deserialize)]
pub(super) struct Deletion {
    deleted: bool,
}

impl Deletion {
    pub(super) fn confirm(&self, call: Call) -> Result<(), Error> {
        if self.deleted { Ok(()) } else { Err(Error::malformed(call, "it does not confirm the deletion")) }
    }
}
