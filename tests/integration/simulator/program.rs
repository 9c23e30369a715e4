//! The example binary: its one line, its flags, how it ends; and OpenAI's own SDK against it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use reqwest::Version;
use serde_json::Value;

use super::client;
use crate::support::{programs, python};

fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(programs::simulator)
}

/// The running binary; killed and waited for when dropped.
struct Program {
    child: Child,
    url: String,
}

impl Program {
    fn start(flags: &[&str]) -> Self {
        let mut command = Command::new(binary());
        let mut child = command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }

    fn control(&self, path: &str) -> String {
        format!("{}/_sim{path}", self.url.strip_suffix("/v1").unwrap())
    }

    /// Waits for its end; nothing more may have been printed.
    fn ended(mut self) -> ExitStatus {
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_flags_say_what_there_is_at_first() {
    let flags = ["--organization", "org-a", "--admin-key", "sk-admin-a", "--project", "proj_a"];
    let more = ["--project", "proj_b", "--seed-account", "proj_b/lib-1", "--latency-ms", "1"];
    let program = Program::start(&[&flags[..], &more[..]].concat());
    assert!(program.url.starts_with("http://127.0.0.1:") && program.url.ends_with("/v1"), "{}", program.url);
    let state = client(None).get(program.control("/state")).send().await.unwrap().text().await.unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (&state["organization"], &state["admin_keys"][0]["value"]),
        (&"org-a".into(), &"sk-admin-a".into())
    );
    assert_eq!(state["projects"], serde_json::json!({"proj_a": false, "proj_b": false}));
    assert_eq!(
        (&state["accounts"][0]["project"], &state["accounts"][0]["name"]),
        (&"proj_b".into(), &"lib-1".into())
    );
}

#[tokio::test]
async fn it_speaks_tls_and_http_2_by_an_authority_it_writes_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let program =
        Program::start(&["--tls", path.to_str().unwrap(), "--tls-name", "sim.test", "--listen", "0.0.0.0:0"]);
    assert!(program.url.starts_with("https://127.0.0.1:"));
    let http = client(Some(&std::fs::read_to_string(&path).unwrap()));
    let response = http.get(program.control("/state")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    assert!(client(None).get(program.control("/state")).send().await.is_err());
}

#[test]
fn it_ends_well_on_sigterm() {
    let program = Program::start(&[]);
    let told = Command::new("kill").arg(program.child.id().to_string()).status().unwrap();
    assert!(told.success() && program.ended().success());
}

#[test]
fn it_ends_with_its_standard_input_if_told_to() {
    let mut program = Program::start(&["--exit-with-stdin"]);
    program.child.stdin.take().unwrap().write_all(b"ignored").unwrap();
    assert!(program.ended().success());
}

#[test]
fn a_wrong_flag_is_one_sentence_and_status_64() {
    for flags in [&["--nothing"][..], &["--listen"], &["--latency-ms", "soon"], &["--tls-cert", "/dev/null"]]
    {
        let output = Command::new(binary()).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{flags:?}");
        assert!(
            output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("--exit-with-stdin")
        );
    }
}

#[test]
fn openais_own_sdk_works_with_it() {
    let Some(mut drive) = python::script("tests/sdk/drive.py", "the simulator with OpenAI's own SDK") else {
        return;
    };
    let output = drive.arg(binary()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
