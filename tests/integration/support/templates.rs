//! Programs that render templates: the agent in a server's binary, and consul-template.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::{env, fmt::Write as _};

use tempfile::TempDir;

use super::host::Host;
use super::process::Subprocess;
use super::programs::{on_the_path, say_once};

/// A file name and its template.
pub(crate) type Template = (&'static str, String);

/// A running program of this kind.
pub(crate) struct Renderer {
    pub(crate) name: &'static str,
    folder: TempDir,
    process: Subprocess,
}

impl Renderer {
    /// `vault agent` or `bao agent`. It has the policy `reader`.
    pub(crate) async fn agent(host: &Host, templates: &[Template]) -> Self {
        Self::start_agent("the agent", host, templates, "").await
    }

    /// The agent without retries: after a failed read it restarts all its templates. By default the agent does so
    /// after 12 retries.
    pub(crate) async fn agent_without_retries(host: &Host, templates: &[Template]) -> Self {
        let retry = "retry { num_retries = -1 }";
        Self::start_agent("the agent without retries", host, templates, retry).await
    }

    /// The agent logs in with AppRole. It could read a token from a file only since Vault 1.13.
    async fn start_agent(name: &'static str, host: &Host, templates: &[Template], retry: &str) -> Self {
        let folder = folder();
        let (role_id, secret_id) = (folder.path().join("role-id"), folder.path().join("secret-id"));
        let (role, secret) = host.app_role("reader").await;
        fs::write(&role_id, role).expect("the folder is writable");
        fs::write(&secret_id, secret).expect("the folder is writable");
        let configuration = format!(
            r#"vault {{
                   address = "http://{}"
                   {retry}
               }}
               auto_auth {{
                   method "approle" {{
                       config = {{
                           role_id_file_path = "{}"
                           secret_id_file_path = "{}"
                       }}
                   }}
               }}
               {}"#,
            host.address(),
            role_id.display(),
            secret_id.display(),
            blocks(&folder, templates),
        );
        let command = host.command("", &["agent", "-log-level=debug"]);
        Self::start(name, folder, command, &configuration)
    }

    /// consul-template, if available; else the function prints a notice.
    pub(crate) fn consul_template(host: &Host, token: &str, templates: &[Template]) -> Option<Self> {
        static SAID: Once = Once::new();
        let Some(program) = consul_template() else {
            say_once(
                &SAID,
                "NOT RUN WITH CONSUL-TEMPLATE: consul-template is not on the PATH, and CONSUL_TEMPLATE_BIN is not set.",
            );
            return None;
        };
        let folder = folder();
        let configuration = format!(
            r#"vault {{
                   address = "http://{}"
                   token = "{token}"
                   renew_token = false
               }}
               {}"#,
            host.address(),
            blocks(&folder, templates),
        );
        let mut command = Command::new(program);
        command.arg("-log-level=debug").env_clear().env("HOME", folder.path());
        Some(Self::start("consul-template", folder, command, &configuration))
    }

    fn start(name: &'static str, folder: TempDir, mut command: Command, configuration: &str) -> Self {
        let file = folder.path().join("configuration.hcl");
        fs::write(&file, configuration).expect("the folder is writable");
        let log = File::create(folder.path().join("log")).expect("the folder is writable");
        command.arg(format!("-config={}", file.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file")).stderr(log);
        Self { name, folder, process: Subprocess::spawn(&mut command) }
    }

    /// The rendered file, if it exists.
    pub(crate) fn rendered(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(file)).ok().filter(|text| !text.is_empty())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// True while the program runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!(
                "{}'s log ends with:\n{}",
                self.name,
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

fn consul_template() -> Option<PathBuf> {
    let named = env::var_os("CONSUL_TEMPLATE_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| on_the_path("consul-template"))
}

fn folder() -> TempDir {
    TempDir::with_prefix("openai-templates-").expect("a temporary folder can be created")
}

fn blocks(folder: &TempDir, templates: &[Template]) -> String {
    templates.iter().fold(String::new(), |mut text, (file, contents)| {
        let (contents, file) = (contents.replace('"', "\\\""), folder.path().join(file));
        let block =
            format!("template {{\n contents = \"{contents}\"\n destination = \"{}\"\n}}\n", file.display());
        text.write_str(&block).expect("writing to a String succeeds");
        text
    })
}
