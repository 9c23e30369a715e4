//! Terraform with Vault's provider, on a server: a configuration that is applied and planned again.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use tempfile::TempDir;

use super::cli::text;
use super::host::Host;
use super::programs::{on_the_path, say_once};

/// A folder with a configuration, initialised.
pub(crate) struct Terraform {
    folder: TempDir,
    address: String,
    token: String,
}

impl Terraform {
    /// `terraform init` with these resources, where Terraform and its provider can be had; else that is said.
    pub(crate) async fn with(host: &Host, resources: &str) -> Option<Self> {
        static SAID: Once = Once::new();
        let Some(program) = terraform() else {
            say_once(&SAID, "NOT RUN WITH TERRAFORM: there is no terraform on the PATH.");
            return None;
        };
        let folder = TempDir::with_prefix("openai-terraform-").expect("there is a place for temporary files");
        let provider = r#"terraform {
                required_providers {
                    vault = { source = "hashicorp/vault" }
                }
            }"#;
        fs::write(folder.path().join("provider.tf"), provider).expect("the folder is ours");
        let (address, token) = (format!("http://{}", host.address()), host.api().token().to_owned());
        let made = Self { folder, address, token };
        made.describe(resources);
        let output = made.run(&program, &["init"]).await;
        if !output.status.success() {
            let why = text(&output.stderr);
            let why = why.lines().map(|line| line.trim_matches(['│', ' '])).filter(|line| !line.is_empty());
            let why = why.collect::<Vec<_>>().join(" ");
            say_once(&SAID, &format!("NOT RUN WITH TERRAFORM: its Vault provider cannot be had: {why}"));
            return None;
        }
        Some(made)
    }

    /// The resources are these from now on.
    pub(crate) fn describe(&self, resources: &str) {
        fs::write(self.folder.path().join("main.tf"), resources).expect("the folder is ours");
    }

    /// `terraform apply`, which goes well.
    pub(crate) async fn applies(&self) {
        self.apply().await.unwrap_or_else(|says| panic!("terraform apply: {says}"));
    }

    /// `terraform apply`; what it printed if it went wrong.
    pub(crate) async fn apply(&self) -> Result<(), String> {
        let output = self.run(&terraform().expect("it was there"), &["apply", "-auto-approve"]).await;
        output.status.success().then_some(()).ok_or_else(|| text(&output.stdout) + &text(&output.stderr))
    }

    /// `terraform plan`, which reads everything back from the server, finds no difference.
    pub(crate) async fn has_nothing_to_do(&self) {
        let output = self.run(&terraform().expect("it was there"), &["plan", "-detailed-exitcode"]).await;
        let says = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "terraform plan: {says}");
    }

    async fn run(&self, program: &PathBuf, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).args(["-no-color", "-input=false"]).current_dir(self.folder.path());
        // Where providers come from is the machine's affair: its environment stays.
        command.env("VAULT_ADDR", &self.address).env("VAULT_TOKEN", &self.token);
        command.env("NO_PROXY", "127.0.0.1").env("CHECKPOINT_DISABLE", "1").env_remove("VAULT_NAMESPACE");
        command.env_remove("TF_WORKSPACE").stdin(Stdio::null());
        let run = move || command.output().expect("terraform starts");
        tokio::task::spawn_blocking(run).await.expect("it does not panic")
    }
}

fn terraform() -> Option<PathBuf> {
    on_the_path("terraform")
}
