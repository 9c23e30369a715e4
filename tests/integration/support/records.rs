//! Leases and mount records in a server's raw storage, for tests of ownership.

use super::api::{Answer, Api};
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

    /// All lease entries as text.
    pub(crate) async fn lease_records(&self) -> String {
        below(self.api(), "sys/expire/id/openai/".to_owned()).await
    }

    /// All records under a prefix of the storage of the mount at `openai/`, as text.
    pub(crate) async fn records(&self, prefix: &str) -> String {
        let mount = self.api().read("sys/mounts/openai").await.ok();
        below(self.api(), format!("logical/{}/{prefix}", mount.text("uuid"))).await
    }
}

/// All entries below this folder of the storage, one per line.
async fn below(api: &Api, folder: String) -> String {
    let (mut folders, mut text) = (vec![folder], String::new());
    while let Some(folder) = folders.pop() {
        let list = api.list(&format!("sys/raw/{folder}")).await;
        if list.status == 404 {
            continue;
        }
        for key in list.ok().keys() {
            let path = format!("{folder}{key}");
            if key.ends_with('/') {
                folders.push(path);
            } else {
                text.push_str(&entry(&api.read(&format!("sys/raw/{path}")).await));
                text.push('\n');
            }
        }
    }
    text
}

/// An entry that no longer exists counts as empty.
fn entry(answer: &Answer) -> String {
    if answer.status == 404 {
        return String::new();
    }
    answer.text("value")
}
