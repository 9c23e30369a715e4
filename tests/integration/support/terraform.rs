//! Terraform with Vault's provider: applies a configuration and plans again.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use tempfile::TempDir;

use super::cli::text;
use super::host::Host;
use super::programs::{on_the_path, say_once};

/// An initialized folder with a configuration.
pub(crate) struct Terraform {
    folder: TempDir,
    address: String,
    token: String,
}

impl Terraform {
    /// `terraform init` with these resources. Prints a notice if Terraform or its provider is not available.
    pub(crate) async fn with(host: &Host, resources: &str) -> Option<Self> {
        static SAID: Once = Once::new();
        let Some(program) = terraform() else {
            say_once(&SAID, "NOT RUN WITH TERRAFORM: there is no terraform on the PATH.");
            return None;
        };
        let folder = TempDir::with_prefix("openai-terraform-").expect("a temporary folder can be created");
        let provider = r#"terraform {
                required_providers {
                    vault = { source = "hashicorp/vault" }
                }
            }"#;
        fs::write(folder.path().join("provider.tf"), provider).expect("the folder is writable");
        let (address, token) = (format!("http://{}", host.address()), host.api().token().to_owned());
        let made = Self { folder, address, token };
        made.describe(resources);
        let output = made.run(&program, &["init"]).await;
        if !output.status.success() {
            let why = text(&output.stderr);
            let why = why.lines().map(|line| line.trim_matches(['│', ' '])).filter(|line| !line.is_empty());
            let why = why.collect::<Vec<_>>().join(" ");
            say_once(&SAID, &format!("NOT RUN WITH TERRAFORM: its Vault provider is not available: {why}"));
            return None;
        }
        Some(made)
    }

    /// Replaces the resources.
    pub(crate) fn describe(&self, resources: &str) {
        fs::write(self.folder.path().join("main.tf"), resources).expect("the folder is writable");
    }

    /// Asserts that `terraform apply` succeeds.
    pub(crate) async fn applies(&self) {
        self.apply().await.unwrap_or_else(|says| panic!("terraform apply: {says}"));
    }

    /// Runs `terraform apply`; the error is its output.
    pub(crate) async fn apply(&self) -> Result<(), String> {
        let output =
            self.run(&terraform().expect("terraform was found before"), &["apply", "-auto-approve"]).await;
        output.status.success().then_some(()).ok_or_else(|| text(&output.stdout) + &text(&output.stderr))
    }

    /// Asserts that `terraform plan` finds no difference to the server.
    pub(crate) async fn has_nothing_to_do(&self) {
        let output = self
            .run(&terraform().expect("terraform was found before"), &["plan", "-detailed-exitcode"])
            .await;
        let says = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "terraform plan: {says}");
    }

    async fn run(&self, program: &PathBuf, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).args(["-no-color", "-input=false"]).current_dir(self.folder.path());
        // The environment stays, because it may configure the source of the providers.
        command.env("VAULT_ADDR", &self.address).env("VAULT_TOKEN", &self.token);
        command.env("NO_PROXY", "127.0.0.1").env("CHECKPOINT_DISABLE", "1").env_remove("VAULT_NAMESPACE");
        command.env_remove("TF_WORKSPACE").stdin(Stdio::null());
        let run = move || command.output().expect("terraform starts");
        tokio::task::spawn_blocking(run).await.expect("the command does not panic")
    }
}

fn terraform() -> Option<PathBuf> {
    on_the_path("terraform")
}
