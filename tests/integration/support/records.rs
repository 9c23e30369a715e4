//! Leases and mount records in a server's raw storage, for tests of ownership.

use super::host::Host;

impl Host {
    /// Number of leases of `my-role`.
    pub(crate) async fn leases(&self) -> usize {
        let answer = self.api().list("sys/leases/lookup/openai/creds/my-role").await;
        if answer.status == 404 { 0 } else { answer.ok().keys().len() }
    }

    /// Number of irrevocable leases.
    pub(crate) async fn irrevocable_leases(&self) -> u64 {
        let answer = self.api().read("sys/leases/count?type=irrevocable").await.ok();
        answer.data("lease_count").as_u64().unwrap_or_else(|| panic!("no count in {answer:?}"))
    }

    /// Whether the storage of the mount at `openai/` has this record.
    pub(crate) async fn has_record(&self, key: &str) -> bool {
        let mount = self.api().read("sys/mounts/openai").await.ok();
        self.api().read(&format!("sys/raw/logical/{}/{key}", mount.text("uuid"))).await.status == 200
    }
}
