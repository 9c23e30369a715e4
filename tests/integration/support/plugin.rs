//! The plugin on a [`Host`]: registration, mounting, reload and kill, and the setup of the Quick Start. This file
//! sends requests and does not check the mount's responses.

use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::api::Answer;
use super::host::Host;
use super::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};
use super::process::{listens_on, running, signal};
use super::programs::{self, PLUGIN};
use super::wait::eventually;

/// The plugin and its process.
impl Host {
    /// Installs the plugin and registers its digest in the catalog.
    pub(crate) async fn register(&self) {
        self.register_with::<&str>(&[]).await;
    }

    /// Like `register`, with environment variables for the plugin's process.
    pub(crate) async fn register_with<T: AsRef<str>>(&self, environment: &[T]) {
        self.install_plugin();
        let environment: Vec<&str> = environment.iter().map(AsRef::as_ref).collect();
        let digest = programs::sha256(&self.plugin());
        let entry = json!({"sha256": digest, "command": PLUGIN, "env": environment});
        self.api().write(&format!("sys/plugins/catalog/secret/{PLUGIN}"), entry).await.ok();
    }

    /// Installs a release of the plugin and registers it with this version.
    pub(crate) async fn register_release(&self, version: &str, program: &Path) {
        let command = format!("{PLUGIN}-{version}");
        install(program, &self.plugins().join(&command));
        let entry = json!({"sha256": programs::sha256(program), "command": command, "version": version});
        self.api().write(&format!("sys/plugins/catalog/secret/{PLUGIN}"), entry).await.ok();
    }

    /// Installs another engine and registers it under its name.
    pub(crate) async fn register_engine(&self, name: &str, program: &Path) {
        install(program, &self.plugins().join(name));
        let entry = json!({"sha256": programs::sha256(program), "command": name});
        self.api().write(&format!("sys/plugins/catalog/secret/{name}"), entry).await.ok();
    }

    /// `secrets tune -plugin-version=<version> openai`, then a reload.
    pub(crate) async fn change_release(&self, version: &str) {
        self.api().write("sys/mounts/openai/tune", json!({"plugin_version": version})).await.ok();
        self.reload_plugin().await;
    }

    /// Copies the plugin to the server's plugin folder.
    pub(crate) fn install_plugin(&self) {
        install(&programs::plugin(), &self.plugin());
    }

    /// `secrets enable -path=<mount> vault-plugin-secrets-openai`.
    pub(crate) async fn enable(&self, mount: &str) {
        self.api().write(&format!("sys/mounts/{mount}"), json!({"type": PLUGIN})).await.ok();
    }

    pub(crate) async fn disable(&self, mount: &str) -> Answer {
        self.api().delete(&format!("sys/mounts/{mount}")).await
    }

    /// `plugin reload -plugin=vault-plugin-secrets-openai`.
    pub(crate) async fn reload_plugin(&self) {
        self.api().write("sys/plugins/reload/backend", json!({"plugin": PLUGIN})).await.ok();
    }

    /// Process ids of this server's copy of the plugin.
    pub(crate) fn plugin_processes(&self) -> Vec<u32> {
        running(&self.plugin())
    }

    /// The process that serves all mounts.
    pub(crate) fn plugin_process(&self) -> u32 {
        let processes = self.plugin_processes();
        assert_eq!(processes.len(), 1, "one process serves every mount: {processes:?}");
        processes[0]
    }

    /// Kills the plugin with `-9` and waits until the server notices. Earlier requests would meet the broken
    /// connection.
    pub(crate) async fn kill_plugin(&self) {
        let id = self.plugin_process();
        signal(id, Signal::KILL);
        let tells = |line: &str| line.contains("plugin process exited") && line.contains(&format!("id={id}"));
        eventually("the server sees the plugin's end", async || self.log().lines().any(tells).then_some(()))
            .await;
    }

    /// Kills every plugin process with `-9`, without waiting.
    pub(crate) fn kill_plugin_processes(&self) {
        for id in self.plugin_processes() {
            signal(id, Signal::KILL);
        }
    }

    /// The socket of the plugin's process.
    pub(crate) fn plugin_socket(&self) -> PathBuf {
        listens_on(self.plugin_process()).expect("the plugin listens on a unix socket")
    }

    /// The server's copy of the plugin.
    fn plugin(&self) -> PathBuf {
        self.plugins().join(PLUGIN)
    }
}

/// Mounts and their credentials.
impl Host {
    /// Registers the plugin and mounts it at `openai/`, with the project `my-project` and the role `my-role`.
    pub(crate) async fn quick_start(&self, openai: &OpenAi) {
        self.register().await;
        self.set_up("openai", openai).await;
    }

    /// Mounts and configures the plugin, with the project `my-project` and the role `my-role`.
    pub(crate) async fn set_up(&self, mount: &str, openai: &OpenAi) {
        self.enable(mount).await;
        self.configure(mount, openai).await;
    }

    /// Configures a mount as [`Host::set_up`] does.
    pub(crate) async fn configure(&self, mount: &str, openai: &OpenAi) {
        self.api().write(&format!("{mount}/config"), self.config(openai)).await.ok();
        self.api().write(&format!("{mount}/project/my-project"), json!({"project_id": PROJECT})).await.ok();
        self.api().write(&format!("{mount}/roles/my-role"), json!({"project": "my-project"})).await.ok();
    }

    /// The data for `config`.
    pub(crate) fn config(&self, openai: &OpenAi) -> Value {
        self.keep_secret(ADMIN_KEY);
        json!({"admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION, "api_endpoint": openai.endpoint()})
    }

    /// A static role at `openai/` for the account of others.
    pub(crate) async fn static_role(&self, name: &str, openai: &OpenAi) {
        let role = json!({
            "project": "my-project", "service_account_id": openai.bystander(), "rotation_period": "24h"
        });
        self.api().write(&format!("openai/static-roles/{name}"), role).await.ok();
    }

    /// Reads a new credential of `my-role` at `openai/`.
    pub(crate) async fn credential(&self) -> Answer {
        self.credential_at("openai").await
    }

    pub(crate) async fn credential_at(&self, mount: &str) -> Answer {
        let answer = self.api().read(&format!("{mount}/creds/my-role")).await.ok();
        self.keep_secret(&answer.text("api_key"));
        answer
    }

    pub(crate) async fn revoke(&self, credential: &Answer) {
        self.api().write("sys/leases/revoke", json!({"lease_id": credential.lease_id()})).await.ok();
    }
}

/// Hard-links the file if possible, because a debug build of the plugin is large.
fn install(from: &Path, to: &Path) {
    let placed = fs::hard_link(from, to).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => fs::copy(from, to).map(drop),
    });
    placed.unwrap_or_else(|error| panic!("{} cannot be copied to {}: {error}", from.display(), to.display()));
}
