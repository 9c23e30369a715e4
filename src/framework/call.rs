//! A request to a path, with typed fields.

use std::sync::Arc;

use serde_json::Value;

use crate::logical::{Error, Operation, Request, Storage};

use super::{Field, Kind};

/// One request to one path. The framework validated the fields before the handler began.
#[derive(Debug)]
pub struct Call {
    /// The request. Values from the path replace values of the same name from the body.
    pub request: Request,
}

impl Call {
    /// The value sent, else the default, else an error (HTTP 400).
    pub fn get<T: Kind>(&self, field: &Field<T>) -> Result<T, Error> {
        let missing = || Error::bad_request(format!("missing required field \"{}\"", field.name()));
        self.sent(field)?.or_else(|| field.default_typed()).ok_or_else(missing)
    }

    /// The value sent under the field's name or its older name, if any.
    pub fn sent<T: Kind>(&self, field: &Field<T>) -> Result<Option<T>, Error> {
        let info = field.info_typed();
        let lookup = |name: &'static str| self.request.data.get(name).map(|value| (name, value));
        let Some((name, value)) = lookup(info.name).or_else(|| info.alias.and_then(lookup)) else {
            return Ok(None);
        };
        if value.is_null() && info.nullable {
            return Ok(None);
        }
        field.parse(value).map_err(|refusal| refused(&info.refuses(name, &refusal)))
    }

    /// True if the call sends `null` for a nullable field, which takes its value away.
    pub fn takes_away<T: Kind>(&self, field: &Field<T>) -> bool {
        self.request.data.get(field.name()).is_some_and(Value::is_null)
    }

    /// The name under which the field was sent; the field's own name if it was not sent.
    pub fn name_of<T: Kind>(&self, field: &Field<T>) -> &'static str {
        let info = field.info_typed();
        let sent = |name: &&str| self.request.data.contains_key(*name);
        info.alias.filter(|alias| !sent(&info.name) && sent(alias)).unwrap_or(info.name)
    }

    /// The value sent, else the present value, else the default, else an error (HTTP 400).
    pub fn updated<T: Kind + Clone>(&self, field: &Field<T>, present: Option<&T>) -> Result<T, Error> {
        match (self.sent(field)?, present) {
            (Some(sent), _) => Ok(sent),
            (None, Some(present)) => Ok(present.clone()),
            (None, None) => self.get(field),
        }
    }

    /// Refuses to patch a missing object with HTTP 404, as Vault's engines do. `what` is the kind and name of the
    /// object.
    pub fn patches(&self, exists: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
        if self.request.operation == Operation::Patch && !exists {
            return Err(Error::status(404, format!("{} not found: write it whole first", what())));
        }
        Ok(())
    }

    /// Storage of the mount.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.request.storage
    }
}

/// The error for an invalid field value.
pub(super) fn refused(reason: &str) -> Error {
    Error::bad_request(format!("Field validation failed: {reason}"))
}
