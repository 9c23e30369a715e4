//! Revocation of leases that the Go plugin of the same name granted, before this plugin took over its mount.
//!
//! *Guarantees:* the same as in `credential_end.rs`, once the organization is known. Then a credential that cannot be
//! ended at once is in the ledger.
//!
//! *Differences:* a key of the Go plugin does not expire at OpenAI. Each key has its own account. A lease does not name its
//! organization. So the revocation fails, without a record, if the mount has no configuration or if the configured
//! organization does not have the lease's project. Otherwise another organization's 404 would count as the key's end.
//! If OpenAI cannot be asked for the project, the configured organization is recorded.

use std::sync::Arc;

use serde::Deserialize;

use crate::engine::config::clients;
use crate::engine::creds::ledger::{Credential, Entry, LEDGER};
use crate::engine::creds::{credential_end, ledger};
use crate::engine::{Engine, Error};
use crate::framework::{LeaseCall, LeaseType};
use crate::logical::{self, Storage};
use crate::openai::{ApiKeyId, ProjectId, ServiceAccountId, Urgency};

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
    ensure_record(&engine, &**storage, &credential).await.map_err(credential_end::for_lease)?;
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
async fn ensure_record(engine: &Engine, storage: &dyn Storage, credential: &Credential) -> Result<(), Error> {
    if ledger::is_recorded(storage, credential.ends, &credential.name).await? {
        return Ok(());
    }
    check_organization(engine, storage, credential).await?;
    Ok(LEDGER.put(storage, &credential.place(), &Entry::new(credential.clone())).await?)
}

/// Refuses a credential whose project is unknown to the configured organization. OpenAI archives projects, and still shows
/// them.
async fn check_organization(
    engine: &Engine,
    storage: &dyn Storage,
    credential: &Credential,
) -> Result<(), Error> {
    let Credential { organization_id: organization, project_id: project, .. } = credential;
    let client = clients::client_of(engine, storage, organization).await?;
    let client = client.for_work(Urgency::Revocation, credential_end::MAX_WAIT);
    match client.project(project).await {
        Err(error) if error.is_gone() => {
            Err(Error::ProjectElsewhere { project: project.clone(), organization: organization.clone() })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
