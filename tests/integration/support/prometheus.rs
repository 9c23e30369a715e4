//! A real Prometheus and promtool with the files of `docs/monitoring/`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::{env, fs};

use serde_json::Value;
use tempfile::TempDir;

use super::api::exchange;
use super::process::Subprocess;
use super::programs::{on_the_path, say_once};
use super::server::free_port;
use super::wait::eventually;

/// Prometheus and promtool.
pub(crate) struct Tools {
    prometheus: PathBuf,
    promtool: PathBuf,
}

/// A running Prometheus.
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Subprocess,
    _folder: TempDir,
}

/// Finds the programs; prints a notice if one is missing.
pub(crate) fn tools() -> Option<Tools> {
    static SAID: Once = Once::new();
    let found = on_the_path("prometheus").zip(on_the_path("promtool"));
    if found.is_none() {
        say_once(
            &SAID,
            "NOT RUN WITH PROMETHEUS: there is no prometheus and promtool on the PATH (apt-get install prometheus); \
             metrics, alert rules and the dashboard are not checked.",
        );
    }
    found.map(|(prometheus, promtool)| Tools { prometheus, promtool })
}

/// Content of a file of `docs/monitoring/`.
pub(crate) fn shipped(name: &str) -> String {
    let path = folder().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring")
}

impl Tools {
    /// Runs promtool in the folder of the files.
    pub(crate) fn promtool(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.promtool);
        command.args(arguments).current_dir(folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("promtool starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).expect("promtool reads its input");
        drop(stdin);
        child.wait_with_output().expect("promtool ends")
    }

    /// Starts Prometheus with the provided configuration. Only the server address, the token and the intervals
    /// differ.
    pub(crate) async fn scrape(&self, server: SocketAddr, token: &str) -> Prometheus {
        let folder = TempDir::with_prefix("openai-prometheus-").expect("a temporary folder can be created");
        let configuration = shipped("prometheus.yml")
            .replace("127.0.0.1:8200", &server.to_string())
            .replace("_interval: 30s", "_interval: 1s");
        let file = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("prometheus.yml", configuration.as_str()),
            ("alerts.yml", &shipped("alerts.yml")),
            ("token", token),
        ] {
            fs::write(file(name), text).expect("the folder is writable");
        }
        let address = free_port();
        let log = fs::File::create(file("log")).expect("the folder is writable");
        let mut command = Command::new(&self.prometheus);
        command.arg(format!("--config.file={}", file("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", file("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file")).stderr(log);
        let process = Subprocess::spawn(&mut command);
        let prometheus = Prometheus { address, _process: process, _folder: folder };
        eventually("Prometheus answers", async || {
            let answer = exchange(address, "GET", "/-/ready", &[], None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        prometheus
    }
}

impl Prometheus {
    /// Evaluates an expression. The error is Prometheus' own.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer =
            exchange(self.address, "GET", &path, &[], None).await.map_err(|error| error.to_string())?;
        match answer.body["data"]["result"].as_array() {
            Some(samples) => Ok(samples.clone()),
            None => Err(format!("{expression}: {answer:?}")),
        }
    }
}

/// Percent-encodes a query value.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String succeeds");
        }
        encoded
    })
}
