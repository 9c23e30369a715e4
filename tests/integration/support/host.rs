//! A server ready for use: initialised and unsealed, to be sealed, stopped and killed. What a story does with
//! the plugin on it is in the file beside this one.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::api::Api;
use super::process::signal;
use super::programs::{self, Program};
use super::server::{Server, Storage};
use super::wait::eventually;

/// What `sys/health` answers on an unsealed node: active; and in a cluster also standby, with reads or without.
const ALONE: &[u16] = &[200];
const IN_CLUSTER: &[u16] = &[200, 429, 473];
const SEALED: &[u16] = &[503];

/// A node, by itself or of a cluster, with one share of its key.
pub(crate) struct Host {
    server: Server,
    api: Api,
    unseal_key: String,
    unsealed: &'static [u16],
    /// What must appear in no log.
    secrets: Mutex<Vec<String>>,
}

/// Runs one story on OpenBao and, where there is one, on Vault; each time on a new server, and each time no
/// secret may be in its log.
pub(crate) async fn on_each_server(scenario: impl AsyncFn(&mut Host)) {
    on_each_server_with(Storage::Memory, scenario).await;
}

/// As [`on_each_server`], where what the server keeps outlives its process.
pub(crate) async fn on_each_durable_server(scenario: impl AsyncFn(&mut Host)) {
    on_each_server_with(Storage::Raft, scenario).await;
}

/// As [`on_each_server`], for a story that waits for minutes: on all servers at the same time.
pub(crate) async fn on_all_servers_at_once(scenario: impl AsyncFn(&mut Host)) {
    let programs = programs::servers();
    join_all(programs.iter().map(|program| run_on(program, Storage::Memory, &scenario))).await;
}

/// As [`on_each_server`], on this one alone.
pub(crate) async fn on_server(program: &Program, scenario: impl AsyncFn(&mut Host)) {
    run_on(program, Storage::Memory, &scenario).await;
}

async fn on_each_server_with(storage: Storage, scenario: impl AsyncFn(&mut Host)) {
    for program in programs::servers() {
        run_on(&program, storage, &scenario).await;
    }
}

async fn run_on(program: &Program, storage: Storage, scenario: &impl AsyncFn(&mut Host)) {
    // Shown when the story fails.
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

    /// One more node of the cluster that the other is a node of.
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

    /// Its API, as root.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// Its API, with another token.
    pub(crate) fn api_with(&self, token: &str) -> Api {
        self.server.api(token)
    }

    /// Where its API is.
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

    /// Whether it is the active node, and says so itself. A node that does not answer is not.
    pub(crate) async fn is_active(&self) -> bool {
        let health = self.api.try_send("GET", "sys/health", None).await;
        health.is_ok_and(|health| health.status == 200)
    }

    /// The server is stopped as a service manager does, and started and unsealed again.
    pub(crate) async fn restart(&mut self) {
        self.server.stop();
        self.server.resume().await;
        self.unseal().await;
    }

    /// The server is killed with `-9`, and started and unsealed again.
    pub(crate) async fn crash(&mut self) {
        self.kill();
        self.resume().await;
    }

    /// The server is killed with `-9`.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
    }

    /// The killed server is started and unsealed again.
    pub(crate) async fn resume(&mut self) {
        self.server.resume().await;
        self.unseal().await;
    }

    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// Where it takes plugins from.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.server.plugins()
    }

    /// Where it and its plugins keep temporary files.
    pub(crate) fn temporary_folder(&self) -> PathBuf {
        self.server.temporary()
    }

    pub(crate) fn program(&self) -> &Program {
        self.server.program()
    }

    /// From now on every request and answer is in its audit log, as an operator would have it.
    pub(crate) async fn audit(&self) {
        let options = json!({"file_path": self.server.audit_log()});
        self.api.write("sys/audit/file", json!({"type": "file", "options": options})).await.ok();
    }

    /// What was audited so far of requests to this path, and of the answers to them.
    pub(crate) fn audited(&self, path: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.server.audit_log()).unwrap_or_default();
        let named = format!(r#""path":"{path}""#);
        let lines = log.lines().filter(|line| line.contains(&named));
        lines.map(|line| serde_json::from_str(line).expect("an entry is JSON")).collect()
    }

    /// What its storage holds on disk.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        self.server.stored_bytes()
    }

    pub(crate) fn keep_secret(&self, secret: &str) {
        self.secrets.lock().expect("no test panics with it held").push(secret.to_owned());
    }

    fn leaves_no_secret_in_its_log(&self) {
        let log = self.log() + &fs::read_to_string(self.server.audit_log()).unwrap_or_default();
        for secret in self.secrets.lock().expect("no test panics with it held").iter() {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "a secret is in the server's log: {line:?}");
        }
    }
}

impl Drop for Host {
    /// A plugin may not outlive its server; what is left of ours here is ended all the same. A failing test
    /// shows the log's end.
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
