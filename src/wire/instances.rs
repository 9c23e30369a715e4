//! The mounts of this process by their multiplex id (PROTOCOL 5.1). It knows nothing of their lives beyond
//! being there or not.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::logical::Backend;

use super::host::Host;

/// The metadata that names a mount on every call of the backend service.
const MULTIPLEX_ID: &str = "multiplex_id";

/// The key of a mount whose server sends no id. No id on the wire is empty, so none collides with it.
const SINGLE: &str = "";

/// A mounted engine and the server behind it.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) host: Arc<Host>,
}

/// The mounts of this process.
#[derive(Default)]
pub(super) struct Instances {
    by_id: RwLock<HashMap<String, Instance>>,
}

impl Instances {
    /// The mount that a call is for.
    pub(super) fn find(&self, metadata: &MetadataMap) -> Result<Instance, Status> {
        let id = multiplex_id(metadata)?;
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.get(id).cloned().ok_or_else(|| Status::unknown("no backend instance found"))
    }

    /// Keeps a mount; the one it replaces is handed back.
    pub(super) fn insert(&self, id: &str, instance: Instance) -> Option<Instance> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), instance)
    }

    /// Forgets the mount that a call is for, if it is still there.
    pub(super) fn remove(&self, metadata: &MetadataMap) -> Result<Option<Instance>, Status> {
        let id = multiplex_id(metadata)?;
        Ok(self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id))
    }
}

/// The id of the mount that a call is for. Refusals are gRPC `Unknown`, as a plugin in Go gives them.
pub(super) fn multiplex_id(metadata: &MetadataMap) -> Result<&str, Status> {
    let mut ids = metadata.get_all(MULTIPLEX_ID).iter();
    let Some(id) = ids.next() else { return Ok(SINGLE) };
    let more = ids.count();
    if more > 0 {
        return Err(Status::unknown(format!("unexpected number of IDs in metadata: ({})", more + 1)));
    }
    let id = id.to_str().map_err(|_| Status::unknown("multiplex ID in metadata is not text"))?;
    if id.is_empty() {
        return Err(Status::unknown("empty multiplex ID in metadata"));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    fn with_ids(ids: &[&'static str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for id in ids {
            metadata.append(MULTIPLEX_ID, MetadataValue::from_static(id));
        }
        metadata
    }

    #[test]
    fn one_id_names_a_mount_and_none_the_single_one() {
        assert_eq!(multiplex_id(&with_ids(&["Ab3"])).unwrap(), "Ab3");
        assert_eq!(multiplex_id(&with_ids(&[])).unwrap(), SINGLE);
    }

    #[test]
    fn two_ids_and_an_empty_one_are_refused() {
        let two = multiplex_id(&with_ids(&["a", "b"])).unwrap_err();
        assert_eq!(two.message(), "unexpected number of IDs in metadata: (2)");
        let empty = multiplex_id(&with_ids(&[""])).unwrap_err();
        assert_eq!((empty.code(), empty.message()), (tonic::Code::Unknown, "empty multiplex ID in metadata"));
    }
}
