//! The binary started by a person, or by a server that takes it for another kind of plugin. No server is
//! needed for that.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::programs;

const COOKIE: (&str, &str) = ("VAULT_BACKEND_PLUGIN", "6669da05-b1c8-4f49-97d9-c8e5bed98e20");

#[test]
fn started_by_hand_it_says_what_it_is_and_how_to_register_it() {
    let output = start(&[]);
    let says = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(says.contains("plugin register"), "{says}");
}

#[test]
fn a_wrong_cookie_is_as_none() {
    for (name, value) in [(COOKIE.0, "wrong"), (COOKIE.0, ""), ("VAULT_DATABASE_PLUGIN", COOKIE.1)] {
        let output = start(&[(name, value), ("PLUGIN_PROTOCOL_VERSIONS", "5")]);
        assert_eq!(output.status.code(), Some(1), "{name}={value}");
        assert!(output.stdout.is_empty(), "{name}={value}");
    }
}

#[test]
fn an_odd_environment_is_an_error_not_a_panic() {
    for odd in [
        ("PLUGIN_CLIENT_CERT", "not a certificate"),
        ("PLUGIN_UNIX_SOCKET_DIR", "/no/such/folder"),
        ("PLUGIN_UNIX_SOCKET_GROUP", "no-such-group"),
    ] {
        let output = start(&[COOKIE, ("PLUGIN_PROTOCOL_VERSIONS", "5"), odd]);
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{odd:?}");
        assert!(!says.contains("panicked"), "{odd:?}: {says}");
        assert!(output.stdout.is_empty(), "{odd:?} got a handshake");
    }
}

#[test]
fn it_tells_its_version() {
    let output = Command::new(programs::plugin()).arg("--version").output().expect("it runs");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn it_tells_its_usage() {
    for argument in ["--help", "-h", "-help"] {
        let output = Command::new(programs::plugin()).env_clear().arg(argument).output().expect("it runs");
        let says = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{argument}");
        assert!(says.starts_with("Usage: ") && says.contains("plugin register"), "{says}");
        assert!(says.contains("OPENAI_METRICS_LISTEN") && says.contains("--version"), "{says}");
    }
}

#[test]
fn arguments_of_a_registration_change_nothing() {
    for argument in ["-ca-cert=x", "help", "--unheard-of"] {
        let output = Command::new(programs::plugin()).env_clear().arg(argument).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{argument}");
        assert!(output.stdout.is_empty(), "{argument}");
    }
}

/// What the system says of the memory that a started plugin has locked, in kB, and what the plugin says of it.
fn locked_memory(environment: &[(&str, &str)]) -> (u64, String) {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let der = STANDARD.encode(certificate.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    let mut command = Command::new(programs::plugin());
    command.env_clear().envs(environment.iter().copied()).env(COOKIE.0, COOKIE.1);
    command.env("PLUGIN_PROTOCOL_VERSIONS", "5").env("PLUGIN_CLIENT_CERT", pem);
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut plugin = piped.spawn().expect("it starts");
    let mut line = String::new();
    let stdout = plugin.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a handshake");
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.id())).expect("it runs");
    plugin.kill().expect("it is ours");
    let says = plugin.wait_with_output().expect("it ends").stderr;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("Linux says");
    let locked = locked.trim().trim_end_matches(" kB").parse().expect("a number");
    (locked, String::from_utf8_lossy(&says).into_owned())
}

#[test]
fn it_locks_its_memory_where_the_server_does_or_says_why_not() {
    let (locked, says) = locked_memory(&[]);
    assert!(locked == 0 && says.is_empty(), "{locked} {says}");
    let (locked, says) = locked_memory(&[("VAULT_PLUGIN_MLOCK_ENABLED", "true")]);
    assert!(locked > 0 || says.contains("cannot lock its own"), "{locked} {says}");
    assert!(locked == 0 || says.is_empty(), "{locked} {says}");
}

/// Runs it to its end with these variables alone.
fn start(environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(programs::plugin());
    command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().expect("it runs")
}
