//! Revocation of leases that the Go plugin of the same name granted, before this plugin took over its mount.
//!
//! *Guarantees:* the same as in `credential_end.rs`. A credential that cannot be ended at once is in the ledger.
//!
//! *Difference:* a key of the Go plugin does not expire at OpenAI. Each key has its own account.

use std::sync::Arc;

use serde::Deserialize;

use crate::engine::config::clients;
use crate::engine::creds::ledger::{Credential, Entry, LEDGER};
use crate::engine::creds::{credential_end, ledger};
use crate::engine::{Engine, Error};
use crate::framework::{LeaseCall, LeaseType};
use crate::logical::{self, Storage};
use crate::openai::{ApiKeyId, ProjectId, ServiceAccountId};

/// The Go plugin's lease of a credential.
pub(in crate::engine) static CREDENTIAL: LeaseType = LeaseType::new("openai_api_key");

/// Internal data of such a lease.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "the Go plugin's names")]
struct LeaseData {
    project_id: ProjectId,
    service_account_id: ServiceAccountId,
    api_key_id: ApiKeyId,
}

/// Revokes a lease of the Go plugin.
pub(in crate::engine) async fn revoke(engine: Arc<Engine>, call: LeaseCall) -> Result<(), logical::Error> {
    let storage = &call.request.storage;
    let credential = credential(&engine, &call).await?;
    ensure_record(&**storage, &credential).await?;
    credential_end::revoke_credential(&engine, storage, &credential).await.map_err(credential_end::for_lease)
}

/// The credential of the lease. The account's id takes the place of its name, which is unknown.
async fn credential(engine: &Engine, call: &LeaseCall) -> Result<Credential, logical::Error> {
    let data: LeaseData = call.internal()?;
    let configured =
        clients::configured(engine, &*call.request.storage).await.map_err(credential_end::for_lease)?;
    let path = call.request.path.as_str();
    let ends = call.request.secret.as_ref().and_then(|lease| Some(lease.issue_time? + lease.ttl));
    Ok(Credential {
        organization_id: configured.config.organization_id.clone(),
        project_id: data.project_id,
        name: data.service_account_id.to_string(),
        service_account_id: data.service_account_id,
        api_key_id: data.api_key_id,
        with_account: true,
        role: path.strip_prefix("creds/").unwrap_or(path).to_owned(),
        ends: ends.unwrap_or_else(|| engine.now()),
        expires: None,
        made: call.request.secret.as_ref().and_then(|lease| lease.issue_time),
    })
}

/// Writes the ledger record, unless an earlier try has written it.
async fn ensure_record(storage: &dyn Storage, credential: &Credential) -> Result<(), Error> {
    let (place, early) = (credential.place(), ledger::early_place(&credential.name));
    if LEDGER.contains(storage, &early).await? || LEDGER.contains(storage, &place).await? {
        return Ok(());
    }
    Ok(LEDGER.put(storage, &place, &Entry::new(credential.clone())).await?)
}
