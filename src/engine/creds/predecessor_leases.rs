//! The end of the leases that the Go plugin of the same name left behind when this one takes its mount over.
//!
//! *Guarantees:* they end as ours do: what cannot be ended at once is on record, whether or not Vault asks again.
//!
//! *Its ways:* a key has no end of its own at OpenAI, and belongs to an account made for it.

use std::sync::Arc;

use serde::Deserialize;

use crate::engine::creds::credential_end;
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::{Entry, Handed, LEDGER};
use crate::engine::{Engine, Error};
use crate::framework::{LeaseCall, LeaseType};
use crate::logical::{self, Storage};
use crate::openai::{ApiKeyId, ProjectId, ServiceAccountId};

/// The lease of a credential that it handed out.
pub(in crate::engine) static CREDENTIAL: LeaseType = LeaseType::new("openai_api_key");

/// What it keeps with a lease.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "these are its names")]
struct Held {
    project_id: ProjectId,
    service_account_id: ServiceAccountId,
    api_key_id: ApiKeyId,
}

/// Vault ends a lease that it made.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let storage = &call.request.storage;
    let handed = handed(&engine, &call).await?;
    put_on_record(&**storage, &handed).await?;
    credential_end::revoke_handed(&engine, storage, &handed).await.map_err(credential_end::for_lease)
}

/// What the lease stands for, as if it had been handed out here. Its account's name is not known; its id is as unique.
async fn handed(engine: &Engine, call: &LeaseCall) -> Result<Handed, logical::Error> {
    let held: Held = call.internal()?;
    let configured = engine.configured(&*call.request.storage).await.map_err(credential_end::for_lease)?;
    let path = call.request.path.as_str();
    let ends = call.request.secret.as_ref().and_then(|lease| Some(lease.issue_time? + lease.ttl));
    Ok(Handed {
        organization_id: configured.config.organization_id.clone(),
        project_id: held.project_id,
        name: held.service_account_id.to_string(),
        service_account_id: held.service_account_id,
        api_key_id: held.api_key_id,
        with_account: true,
        role: path.strip_prefix("creds/").unwrap_or(path).to_owned(),
        ends: ends.unwrap_or_else(|| engine.now()),
        expires: None,
        made: call.request.secret.as_ref().and_then(|lease| lease.issue_time),
    })
}

/// What is ours was put on record when it was made.
async fn put_on_record(storage: &dyn Storage, handed: &Handed) -> Result<(), Error> {
    let (place, asked) = (handed.place(), ledger::asked_place(&handed.name));
    if LEDGER.contains(storage, &asked).await? || LEDGER.contains(storage, &place).await? {
        return Ok(());
    }
    Ok(LEDGER.put(storage, &place, &Entry::new(handed.clone())).await?)
}
