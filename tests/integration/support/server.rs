//! One node of a real server: process, folder, addresses and log. It knows neither unsealing nor the plugin.

use std::fs::{self, File};
use std::io::{self, PipeWriter};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::api::Api;
use super::process::Subprocess;
use super::programs::Program;
use super::wait::eventually;

/// Storage type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Storage that ends with the process.
    Memory,
    /// Integrated storage in the node's folder. A restarted node and a cluster use it.
    Raft,
}

/// A running or stopped node.
pub(crate) struct Server {
    program: Program,
    storage: Storage,
    folder: TempDir,
    addresses: Addresses,
    process: Option<Running>,
}

struct Running {
    process: Subprocess,
    /// Copies the server's output to the log file until the server ends.
    log: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Addresses {
    api: SocketAddr,
    cluster: SocketAddr,
}

impl Server {
    /// A node with its own folder on free ports. Its API answers.
    pub(crate) async fn start(program: &Program, storage: Storage) -> Self {
        let folder = TempDir::with_prefix("openai-host-").expect("a temporary folder can be created");
        for part in ["plugins", "tmp", "data"] {
            fs::create_dir(folder.path().join(part)).expect("the folder is new");
        }
        let addresses = Addresses::free();
        let mut server = Self { program: program.clone(), storage, folder, addresses, process: None };
        server.resume().await;
        server
    }

    /// Starts the stopped node again, in the same folder and on the same ports.
    pub(crate) async fn resume(&mut self) {
        fs::write(self.file("server.hcl"), self.configuration()).expect("the folder is writable");
        self.process = Some(self.spawn());
        let api = self.api("");
        eventually("the server's API answers", async || {
            let ended = self.process.as_mut().and_then(|running| running.process.ended());
            assert!(ended.is_none(), "the server ended, {ended:?}:\n{}", self.log());
            api.try_send("GET", "sys/health", None).await.ok()
        })
        .await;
    }

    /// Reads the output through a pipe. Writing to a file directly would slow the server down and delay its log
    /// lines.
    fn spawn(&self) -> Running {
        let (mut output, input) = io::pipe().expect("a pipe can be created");
        let file = File::options().create(true).append(true).open(self.file("server.log"));
        let mut file = file.expect("the folder is writable");
        let process = Subprocess::spawn(&mut self.command(input));
        let log = thread::spawn(move || drop(io::copy(&mut output, &mut file)));
        Running { process, log }
    }

    /// The server and its plugins get no other environment: no proxy and no key of the user.
    fn command(&self, log: PipeWriter) -> Command {
        let mut command = Command::new(&self.program.path);
        command.arg("server").arg("-config").arg(self.file("server.hcl")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("TMPDIR", self.file("tmp"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open pipe")).stderr(log);
        command
    }

    fn configuration(&self) -> String {
        let Addresses { api, cluster } = self.addresses;
        let (plugins, data) = (self.plugins(), self.file("data"));
        let storage = match self.storage {
            Storage::Memory => r#"storage "inmem" {}"#.to_owned(),
            Storage::Raft => format!(
                r#"storage "raft" {{
                       path = "{}"
                       node_id = "{api}"
                       performance_multiplier = 1
                   }}"#,
                data.display()
            ),
        };
        // `disable_mlock` is for Vault and `unsafe_allow_api_audit_creation` for OpenBao. Each server warns of the
        // other's option.
        format!(
            r#"{storage}
               listener "tcp" {{
                   address = "{api}"
                   cluster_address = "{cluster}"
                   tls_disable = true
               }}
               api_addr = "http://{api}"
               cluster_addr = "https://{cluster}"
               plugin_directory = "{}"
               log_level = "trace"
               disable_mlock = true
               raw_storage_endpoint = true
               unsafe_allow_api_audit_creation = true
            "#,
            plugins.display()
        )
    }

    pub(crate) fn api(&self, token: &str) -> Api {
        Api::new(self.addresses.api, token)
    }

    /// The plugin folder.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.file("plugins")
    }

    /// Folder for temporary files of the server and its plugins.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.file("tmp")
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// File of the audit device.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    /// The log so far, at trace level.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.file("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// File names and contents in the storage folder. Integrated storage keeps keys in plain text and values
    /// encrypted.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut folders) = (Vec::new(), vec![self.file("data")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the folder is writable").flatten() {
                bytes.extend_from_slice(entry.file_name().as_encoded_bytes());
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => bytes.extend(fs::read(path).expect("the file is readable")),
                }
            }
        }
        bytes
    }

    /// Stops the process as a service manager does. The log is complete afterwards.
    pub(crate) fn stop(&mut self) {
        self.end(Subprocess::stop);
    }

    /// Kills the server with `-9`.
    pub(crate) fn kill(&mut self) {
        self.end(Subprocess::kill);
    }

    fn end(&mut self, how: fn(&mut Subprocess)) {
        if let Some(Running { mut process, log }) = self.process.take() {
            how(&mut process);
            log.join().expect("copying does not panic");
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Addresses {
    fn free() -> Self {
        Self { api: free_port(), cluster: free_port() }
    }
}

/// A free port below the ephemeral range, never the same twice in one run. So nobody takes the port before the server
/// binds it.
pub(crate) fn free_port() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent runs start at different ports.
    let start = std::process::id() as u16;
    loop {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
