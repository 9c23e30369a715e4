//! The command line in a server's binary, such as `vault lease renew ...`.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::host::Host;

impl Host {
    /// Runs a command as root.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let command = self.command(self.api().token(), arguments);
        tokio::task::spawn_blocking(move || run(command)).await.expect("the command does not panic")
    }

    /// Runs a command with `-format=json`, which must succeed.
    pub(crate) async fn cli_json(&self, name: &[&str], arguments: &[&str]) -> Value {
        let output = self.cli(&[name, &["-format=json"], arguments].concat()).await;
        let (says, fails) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{name:?} {arguments:?}: {says}{fails}");
        serde_json::from_str(&says).unwrap_or_else(|error| panic!("{error}: {says}"))
    }

    /// A command of the server's binary as a client of this server.
    pub(crate) fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = self.client(&self.program().path, token);
        command.args(arguments);
        command
    }

    /// A client of this server. The program gets no other environment variables.
    pub(crate) fn client(&self, program: impl AsRef<OsStr>, token: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let address = format!("http://{}", self.address());
        // OpenBao accepts Vault's variable names; its own names take precedence.
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
