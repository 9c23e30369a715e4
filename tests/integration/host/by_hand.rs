//! The binary started by a person, or by a server that takes it for another kind of plugin. No server is
//! needed for that.

use std::process::{Command, Output, Stdio};

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

/// Runs it to its end with these variables alone.
fn start(environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(programs::plugin());
    command.env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    command.output().expect("it runs")
}
