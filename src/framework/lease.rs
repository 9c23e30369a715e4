//! Lease types. Each lease stores the name of its type, so renewal and revocation find the engine's functions.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::logical::{Data, Error, Lease, Request, Response, Secret};

use super::handler::Handler;

/// Key under which Vault's framework stores the type name (PROTOCOL 8.8).
pub(super) const TYPE_KEY: &str = "secret_type";
pub(super) const NO_SECRET: &str = "request has no secret";

/// A type of lease.
#[derive(Debug)]
pub struct LeaseType {
    name: &'static str,
}

/// A lease to renew or revoke.
#[derive(Debug)]
pub struct LeaseCall {
    /// The request. Its `secret` is the lease as Vault stored it.
    pub request: Request,
}

/// The engine's functions for one lease type.
pub(super) struct LeaseHandlers<E> {
    pub(super) revoke: Handler<E, LeaseCall, ()>,
    pub(super) renew: Option<Handler<E, LeaseCall, Response>>,
}

impl LeaseType {
    /// A lease type with this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Name of the type.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A lease of this type. `internal` is a struct or another JSON object with everything that the revocation needs.
    pub fn grant(
        &self,
        internal: &impl Serialize,
        ttl: Duration,
        max_ttl: Duration,
        renewable: bool,
    ) -> Result<Lease, Error> {
        let Ok(Value::Object(mut internal)) = serde_json::to_value(internal) else {
            return Err(Error::internal(format!("the internal data of a {} lease is no object", self.name)));
        };
        internal.insert(TYPE_KEY.to_owned(), Value::from(self.name));
        Ok(Lease { internal, ttl, max_ttl, renewable })
    }
}

impl LeaseCall {
    /// The internal data from [`LeaseType::grant`].
    pub fn internal<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut internal = self.secret()?.internal.clone();
        internal.remove(TYPE_KEY);
        serde_json::from_value(Value::Object(internal))
            .map_err(|_| Error::internal("the lease's internal data is not what this version expects"))
    }

    /// Response to a renewal. The lease lives for another `ttl`, in total at most `max_ttl`; zero means Vault's
    /// default. The secret data is not sent again.
    pub fn extend(&self, ttl: Duration, max_ttl: Duration) -> Response {
        let (internal, renewable) = match &self.request.secret {
            Some(secret) => (secret.internal.clone(), secret.renewable),
            None => (Data::new(), false),
        };
        Response::default().with_lease(Lease { internal, ttl, max_ttl, renewable })
    }

    fn secret(&self) -> Result<&Secret, Error> {
        self.request.secret.as_ref().ok_or_else(|| Error::internal(NO_SECRET))
    }
}
