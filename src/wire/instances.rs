//! The mounts of this process by multiplex id (PROTOCOL 5.1).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::logical::Backend;

use super::host::Host;

/// The metadata key of the mount's id in every call of the backend service.
const MULTIPLEX_ID: &str = "multiplex_id";

/// The id of a mount whose server sends no id. A real id is never empty, so no other mount has this id.
const SINGLE: &str = "";

/// A mounted engine and its server.
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
    /// The mount of a call.
    pub(super) fn find(&self, metadata: &MetadataMap) -> Result<Instance, Status> {
        let id = multiplex_id(metadata)?;
        let by_id = self.by_id.read();
        by_id.get(id).cloned().ok_or_else(|| Status::unknown("no backend instance found"))
    }

    /// Stores a mount and returns the one that it replaces.
    pub(super) fn insert(&self, id: &str, instance: Instance) -> Option<Instance> {
        self.by_id.write().insert(id.to_owned(), instance)
    }

    /// Removes the mount of a call, if it exists.
    pub(super) fn remove(&self, metadata: &MetadataMap) -> Result<Option<Instance>, Status> {
        let id = multiplex_id(metadata)?;
        Ok(self.by_id.write().remove(id))
    }
}

/// The id of the mount of a call. Refusals have the gRPC code `Unknown`, as from a Go plugin.
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
