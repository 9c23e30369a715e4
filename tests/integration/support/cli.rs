//! The server's own command line, which is in its binary: `vault lease renew ...`, typed as an operator types it.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::host::Host;

impl Host {
    /// Runs a command as root.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let command = self.command(self.api().token(), arguments);
        tokio::task::spawn_blocking(move || run(command)).await.expect("it does not panic")
    }

    /// The same with `-format=json` after the command's name; it has to succeed.
    pub(crate) async fn cli_json(&self, name: &[&str], arguments: &[&str]) -> Value {
        let output = self.cli(&[name, &["-format=json"], arguments].concat()).await;
        let (says, fails) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{name:?} {arguments:?}: {says}{fails}");
        serde_json::from_str(&says).unwrap_or_else(|error| panic!("{error}: {says}"))
    }

    /// The server's binary as a client of this server.
    pub(crate) fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = self.client(&self.program().path, token);
        command.args(arguments);
        command
    }

    /// A program that is to be a client of this server; nothing else of the environment reaches it.
    pub(crate) fn client(&self, program: impl AsRef<OsStr>, token: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let address = format!("http://{}", self.address());
        // OpenBao takes Vault's names too, but its own first.
        command.env("VAULT_ADDR", &address).env("VAULT_TOKEN", token).env("HOME", self.temporary_folder());
        command.stdin(Stdio::null());
        command
    }
}

fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
