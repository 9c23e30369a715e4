//! Renews and revokes leases with the engine's functions for the lease type.

use std::time::Duration;

use serde_json::Value;

use crate::logical::{Answer, Error, Lease, Operation, Request, Secret};

use super::backend::{Backend, Engine};
use super::lease::{LeaseCall, LeaseHandlers, NO_SECRET, TYPE_KEY};

impl<E: Engine> Backend<E> {
    /// Revokes a lease.
    pub(super) async fn revoke(&self, request: Request) -> Answer {
        let handlers = self.lease_handlers(&request)?;
        (handlers.revoke)(self.engine(), LeaseCall { request }).await.map(|()| None)
    }

    /// Renews a lease.
    pub(super) async fn renew(&self, request: Request) -> Answer {
        let renew = self.lease_handlers(&request)?.renew.as_ref().ok_or_else(Error::unsupported_operation)?;
        renew(self.engine(), LeaseCall { request }).await.map(Some)
    }

    /// Revokes a lease whose caller hung up, as Vault revokes a lease that it cannot store.
    pub(super) async fn revoke_undelivered(&self, lease: Lease, mut request: Request) -> Answer {
        request.operation = Operation::Revoke;
        request.secret = Some(Secret {
            lease_id: String::new(),
            internal: lease.internal,
            ttl: lease.ttl,
            max_ttl: lease.max_ttl,
            increment: Duration::ZERO,
            renewable: lease.renewable,
            issue_time: Some(chrono::Utc::now()),
        });
        self.revoke(request).await?;
        Err(Error::internal("the caller hung up, so what was issued was revoked"))
    }

    fn lease_handlers(&self, request: &Request) -> Result<&LeaseHandlers<E>, Error> {
        let secret = request.secret.as_ref().ok_or_else(|| Error::internal(NO_SECRET))?;
        let kind = secret.internal.get(TYPE_KEY).and_then(Value::as_str);
        kind.and_then(|kind| self.leases.get(kind))
            .ok_or_else(|| Error::internal("secret is unsupported by this backend"))
    }
}
