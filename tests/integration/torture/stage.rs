//! A server with a mount, and OpenAI behind it: what every run stands on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Size;
use crate::support::host::Host;
use crate::support::openai::OpenAi;
use crate::support::programs;
use crate::support::server::Storage;
use crate::support::windows;

/// One server with one mount.
pub(super) struct Stage {
    pub(super) host: Host,
    pub(super) openai: OpenAi,
}

impl Stage {
    pub(super) async fn set(size: &Size, storage: Storage) -> Self {
        let openai = OpenAi::start().await;
        let host = Host::start(&programs::openbao_server(), storage).await;
        host.register_with(size.environment).await;
        host.set_up("openai", &openai).await;
        Self { host, openai }
    }

    /// From now on leases of the role live for so long.
    pub(super) async fn set_ttl(&self, ttl: Duration) {
        self.host.api().write("openai/roles/my-role", json!({"ttl": ttl.as_secs()})).await.ok();
    }

    /// Keys at OpenAI that still open something.
    pub(super) fn live_keys(&self) -> u64 {
        self.openai.state().live_keys().count() as u64
    }

    /// Neither account nor lease is left. A lease whose account the tick was faster to remove ends at Vault's next try.
    pub(super) async fn is_empty(&self) -> bool {
        self.accounts() == 0 && self.host.leases().await == 0
    }

    /// Names of accounts that were handed out to nobody, and that the ledger does not have.
    pub(super) async fn unrecorded(&self, handed_out: &BTreeSet<String>) -> Vec<String> {
        let accounts = self.openai.state().accounts.into_iter();
        let mut unrecorded = Vec::new();
        for account in accounts.filter(|account| account.id != self.openai.bystander()) {
            let is_known = handed_out.contains(&account.id)
                || futures_util::future::join_all(
                    windows::places(&account.name).iter().map(|place| self.host.has_record(place)),
                )
                .await
                .contains(&true);
            if !is_known {
                unrecorded.push(account.name);
            }
        }
        unrecorded
    }

    pub(super) fn accounts(&self) -> u64 {
        self.openai.accounts().len() as u64
    }
}

/// Looks each second until it is so; how many seconds that took, or as many as there were.
pub(super) async fn seconds_until(limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> u64 {
    let start = Instant::now();
    while start.elapsed() < limit && !is_so().await {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    start.elapsed().as_secs()
}
