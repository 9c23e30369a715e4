//! The programs of `examples/`, as they stand there, on each server.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::cli::text;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};
use crate::support::process::Subprocess;
use crate::support::wait::eventually;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A shell script of an example in this folder, by the server's own command line.
fn script(host: &Host, path: &str, folder: &TempDir) -> Command {
    let mut command = host.client("sh", host.api().token());
    command.arg(shipped(path)).env("CLI", &host.program().path).current_dir(folder.path());
    command
}

async fn succeeds(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("sh starts");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn folder() -> TempDir {
    TempDir::with_prefix("openai-examples-").expect("a temporary folder can be created")
}

#[tokio::test]
async fn the_agent_of_the_example_logs_in_and_writes_the_key_for_its_user_alone() {
    on_each_server(async |host| {
        let (openai, folder) = (OpenAi::start().await, folder());
        host.quick_start(&openai).await;
        host.static_role("app", &openai).await;
        succeeds(script(host, "examples/agent/setup.sh", &folder)).await;

        let log = File::create(folder.path().join("log")).expect("the folder is writable");
        let mut agent = host.command("", &["agent"]);
        agent.env_remove("VAULT_TOKEN").current_dir(folder.path());
        agent.arg(format!("-config={}", shipped("examples/agent/agent.hcl").display()));
        agent.stdout(log.try_clone().expect("an open file")).stderr(log);
        let _agent = Subprocess::spawn(&mut agent);

        let file = folder.path().join("openai.env");
        let written = eventually("the agent writes the file", async || fs::read_to_string(&file).ok()).await;
        let key = written.strip_prefix("OPENAI_API_KEY=").expect("an assignment").trim_end();
        host.keep_secret(key);
        assert!(openai.accepts(key).await);
        assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    })
    .await;
}

#[tokio::test]
async fn the_setup_of_the_composition_leaves_a_mount_and_the_files_of_prometheus() {
    on_each_server(async |host| {
        let (openai, folder) = (OpenAi::start().await, folder());
        host.register().await;
        host.keep_secret(ADMIN_KEY);
        let mut setup = script(host, "examples/compose/setup.sh", &folder);
        setup.env("OPENAI_ADMIN_API_KEY", ADMIN_KEY).env("OPENAI_ORG_ID", ORGANIZATION);
        setup.env("OPENAI_PROJECT_ID", PROJECT).env("OPENAI_BASE_URL", openai.endpoint());
        setup.env("MONITORING", shipped("docs/monitoring")).env("PROMETHEUS", folder.path());
        succeeds(setup).await;

        host.credential().await;
        let token = fs::read_to_string(folder.path().join("token")).expect("a token");
        let scraper = host.api_with(token.trim_end());
        let metrics = scraper.read("openai/metrics").await.ok().body;
        let issued = r#"openai_creds_issued{role="my-role"} 2"#;
        assert!(metrics.as_str().is_some_and(|text| text.contains(issued)), "{metrics}");
        assert_eq!(scraper.read("openai/creds/my-role").await.status, 403);
        assert!(folder.path().join("prometheus.yml").exists() && folder.path().join("alerts.yml").exists());
    })
    .await;
}
