//! An initialized and unsealed server that tests can seal, stop and kill. The plugin's operations are in `plugin.rs`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::api::Api;
use super::process::signal;
use super::programs::{self, Product, Program, say};
use super::server::{Server, Storage};
use super::wait::eventually;

/// Status codes of `sys/health` on an unsealed node: active, and in a cluster also standby.
const ALONE: &[u16] = &[200];
const IN_CLUSTER: &[u16] = &[200, 429, 473];
const SEALED: &[u16] = &[503];

/// A single node or a node of a cluster, with one unseal key.
pub(crate) struct Host {
    server: Server,
    api: Api,
    unseal_key: String,
    unsealed: &'static [u16],
    /// Values that no log may contain.
    secrets: Mutex<Vec<String>>,
}

/// Runs a test on OpenBao and, if available, on Vault, both at the same time. Each run has a new server, whose log must
/// contain no secret.
pub(crate) async fn on_each_server(scenario: impl AsyncFn(&mut Host)) {
    on_each_server_with(Storage::Memory, scenario).await;
}

/// Like [`on_each_server`], with storage that survives a restart.
pub(crate) async fn on_each_durable_server(scenario: impl AsyncFn(&mut Host)) {
    on_each_server_with(Storage::Raft, scenario).await;
}

/// Like [`on_each_server`], on this server only.
pub(crate) async fn on_server(program: &Program, scenario: impl AsyncFn(&mut Host)) {
    run_on(program, Storage::Memory, &scenario).await;
}

async fn on_each_server_with(storage: Storage, scenario: impl AsyncFn(&mut Host)) {
    let programs = programs::servers();
    join_all(programs.iter().map(|program| run_on(program, storage, &scenario))).await;
}

async fn run_on(program: &Program, storage: Storage, scenario: &impl AsyncFn(&mut Host)) {
    // The output of a failed test shows this line.
    println!("on {:?}, {}", program.product, program.path.display());
    let mut host = Host::start(program, storage).await;
    scenario(&mut host).await;
    host.server.stop();
    host.leaves_no_secret_in_its_log();
}

impl Host {
    pub(crate) async fn start(program: &Program, storage: Storage) -> Self {
        let server = Server::start(program, storage).await;
        let request = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = server.api("").write("sys/init", request).await.ok().body;
        let text = |value: &Value| value.as_str().expect("a text in the answer to sys/init").to_owned();
        let api = server.api(&text(&keys["root_token"]));
        let unseal_key = text(&keys["keys"][0]);
        let host = Self { server, api, unseal_key, unsealed: ALONE, secrets: Mutex::default() };
        host.unseal().await;
        host
    }

    /// Starts another node and joins it to a cluster.
    pub(crate) async fn join(program: &Program, other: &mut Self) -> Self {
        other.unsealed = IN_CLUSTER;
        let server = Server::start(program, Storage::Raft).await;
        let request = json!({"leader_api_addr": format!("http://{}", other.api.address())});
        server.api("").write("sys/storage/raft/join", request).await.ok();
        let api = server.api(other.api.token());
        let unseal_key = other.unseal_key.clone();
        let host = Self { server, api, unseal_key, unsealed: IN_CLUSTER, secrets: Mutex::default() };
        host.unseal().await;
        host
    }

    /// The API client of root.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// The API client of another token.
    pub(crate) fn api_with(&self, token: &str) -> Api {
        self.server.api(token)
    }

    /// Address of the API.
    pub(crate) fn address(&self) -> SocketAddr {
        self.api.address()
    }

    pub(crate) async fn seal(&self) {
        self.api.write("sys/seal", json!({})).await.ok();
        self.is_in_state(SEALED).await;
    }

    pub(crate) async fn unseal(&self) {
        self.api.write("sys/unseal", json!({"key": self.unseal_key})).await.ok();
        self.is_in_state(self.unsealed).await;
    }

    async fn is_in_state(&self, states: &[u16]) {
        let what = format!("sys/health answers one of {states:?}");
        eventually(&what, async || states.contains(&self.api.read("sys/health").await.status).then_some(()))
            .await;
    }

    /// True if the node answers that it is the active node.
    pub(crate) async fn is_active(&self) -> bool {
        let health = self.api.try_send("GET", "sys/health", None).await;
        health.is_ok_and(|health| health.status == 200)
    }

    /// Stops the server as a service manager does, then starts and unseals it.
    pub(crate) async fn restart(&mut self) {
        self.server.stop();
        self.server.resume().await;
        self.unseal().await;
    }

    /// Kills the server with `-9`, then starts and unseals it.
    pub(crate) async fn crash(&mut self) {
        self.kill();
        self.resume().await;
    }

    /// Kills the server with `-9`.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts and unseals the killed server.
    pub(crate) async fn resume(&mut self) {
        self.server.resume().await;
        self.unseal().await;
    }

    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// The server's plugin folder.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.server.plugins()
    }

    /// The folder for temporary files of the server and its plugins.
    pub(crate) fn temporary_folder(&self) -> PathBuf {
        self.server.temporary()
    }

    pub(crate) fn program(&self) -> &Program {
        self.server.program()
    }

    /// True on a Vault before 1.`minor`, which has no such `feature`. Prints a notice, because the test leaves it out.
    pub(crate) async fn is_too_old_for(&self, feature: &str, minor: u32) -> bool {
        if self.program().product == Product::OpenBao {
            return false;
        }
        let health = self.api.read("sys/health").await.ok();
        let version = health.body["version"].as_str().expect("sys/health tells the version").to_owned();
        let its_minor =
            version.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        let is_old = its_minor.is_some_and(|its| its < minor);
        if is_old {
            say(&format!("NOT RUN ON VAULT {version}: {feature}, which Vault has from 1.{minor} on."));
        }
        is_old
    }

    /// Enables the audit log.
    pub(crate) async fn audit(&self) {
        let options = json!({"file_path": self.server.audit_log()});
        self.api.write("sys/audit/file", json!({"type": "file", "options": options})).await.ok();
    }

    /// Audit entries of requests to this path and of their responses.
    pub(crate) fn audited(&self, path: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.server.audit_log()).unwrap_or_default();
        let named = format!(r#""path":"{path}""#);
        let lines = log.lines().filter(|line| line.contains(&named));
        lines.map(|line| serde_json::from_str(line).expect("an entry is JSON")).collect()
    }

    /// Bytes in the server's storage folder.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        self.server.stored_bytes()
    }

    pub(crate) fn keep_secret(&self, secret: &str) {
        self.secrets.lock().expect("no test panics while holding the lock").push(secret.to_owned());
    }

    fn leaves_no_secret_in_its_log(&self) {
        let log = self.log() + &fs::read_to_string(self.server.audit_log()).unwrap_or_default();
        for secret in self.secrets.lock().expect("no test panics while holding the lock").iter() {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "a secret is in the server's log: {line:?}");
        }
    }
}

impl Drop for Host {
    /// Kills plugin processes that outlive the server. A failing test prints the end of the log.
    fn drop(&mut self) {
        self.server.stop();
        for id in self.plugin_processes() {
            signal(id, Signal::KILL);
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!("the server's log ends with:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}
