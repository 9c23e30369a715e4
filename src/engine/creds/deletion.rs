//! Ends credentials at OpenAI. `accounts/deletion.rs` ends keys and accounts.

pub(in crate::engine) use crate::engine::accounts::deletion::*;
use crate::engine::creds::ledger::Credential;
use crate::openai::{self, Client};

/// Ends a credential. A credential that is gone counts as ended.
pub(in crate::engine) async fn retire(client: &Client, credential: &Credential) -> Result<(), openai::Error> {
    let Credential { project_id, service_account_id, api_key_id, with_account, .. } = credential;
    end(client, project_id, service_account_id, api_key_id, *with_account).await
}
