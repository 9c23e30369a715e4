//! Deletions, which OpenAI confirms.

use serde::Deserialize;

use super::call::Request;
use super::{Call, Client, Error};

/// OpenAI's confirmation of a deletion.
#[derive(Deserialize)]
struct Deletion {
    deleted: bool,
}

impl Client {
    /// Deletes the object at this path, which ends in its id. A response without `deleted: true` is an error.
    pub(super) async fn delete(&self, call: Call, path: &[&str]) -> Result<(), Error> {
        let answer: Deletion = self.send(Request::delete(call, path)).await?;
        if !answer.deleted {
            return Err(Error::malformed(call, "it does not confirm the deletion"));
        }
        path.last().iter().for_each(|id| self.note_deleted(id));
        Ok(())
    }
}
