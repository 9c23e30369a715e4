//! The commands of README and of the pages of `docs/`, typed on real servers, and their answers compared with the pages.
//!
//! A code block marked `shell` is run here, in its page's order. A block marked `sh` is run elsewhere, or needs what a
//! test has not. The ids and keys of the pages stand for those of the simulated OpenAI. A table that follows a block is
//! the answer to its last command: it has the same fields, and its ids are those of the answer from then on.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Output;

use crate::readme::{Page, pages};
use crate::support::cli::text;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};

/// Pages that begin with a mount without a configuration.
const FROM_NOTHING: [&str; 2] = ["README.md", "docs/getting-started.md"];
/// Fields by which later commands of a page name what an answer told.
const NAMES: [&str; 2] = ["lease_id", "service_account_id"];

/// An option of the command line.
const RAW: &str = "-format=raw";

/// Fields of an answer that no log may show.
const SECRETS: [&str; 3] = ["api_key", "access_token", "identity_token"];

/// Commands of a page, and the answer that it shows.
struct Example {
    commands: String,
    answer: Option<String>,
}

impl Page {
    fn examples(&self) -> Vec<Example> {
        let mut parts = self.text.split("\n```").map(str::to_owned).peekable();
        let mut examples = Vec::new();
        while let Some(part) = parts.next() {
            let Some(commands) = part.strip_prefix("shell\n") else { continue };
            // The rest of the line that ends the block, and blank lines.
            let follows = parts.next().is_some_and(|between| between.trim().is_empty());
            let answer =
                parts.peek().and_then(|next| next.strip_prefix('\n')).filter(|next| next.starts_with("Key "));
            let answer = answer.filter(|_| follows).map(str::to_owned);
            examples.push(Example { commands: commands.to_owned(), answer });
        }
        examples
    }
}

/// The last table of an output: its fields and values.
fn table(output: &str) -> BTreeMap<String, String> {
    let lines: Vec<_> = output.lines().collect();
    let begins = lines.iter().rposition(|line| line.starts_with("Key ")).map_or(lines.len(), |at| at + 2);
    let rows = lines[begins..].iter().take_while(|line| !line.is_empty());
    let row = |line: &&str| {
        let (field, value) = line.split_once(' ').unwrap_or((line, ""));
        (field.to_owned(), value.trim().to_owned())
    };
    rows.map(row).collect()
}

/// The names in the pages of what OpenAI has before a page begins.
async fn known(host: &Host, openai: &OpenAi) -> Vec<(String, String)> {
    let (another_key, _) = openai.new_admin_key().await;
    host.keep_secret(ADMIN_KEY);
    host.keep_secret(&another_key);
    let organization = format!("organization_id=\"{ORGANIZATION}\" api_endpoint=\"{}\"", openai.endpoint());
    let token_endpoint = format!("token_endpoint=\"{}\"", openai.simulator().token_url());
    let federation = format!("write openai/config/federation {token_endpoint}");
    let names = [
        ("write -f openai/config/federation", federation.as_str()),
        // Replaced first, because the name above begins it.
        ("write -f openai/config/federation/rotate", "write -force openai/config/federation/rotate"),
        ("organization_id=\"org-123456\"", organization.as_str()),
        ("sk-admin-new-key", &another_key),
        ("sk-admin-...", ADMIN_KEY),
        ("proj_abc123", PROJECT),
        ("svc_acct_abc123", &openai.existing_account("reports")),
    ];
    names.map(|(written, real)| (written.to_owned(), real.to_owned())).to_vec()
}

async fn typed(host: &Host, commands: &str) -> Output {
    let folder = host.temporary_folder();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = host.client("bash", host.api().token());
    command.args(["-euc", commands]).current_dir(&folder).env("PATH", path);
    tokio::task::spawn_blocking(move || command.output().expect("bash starts"))
        .await
        .expect("it does not panic")
}

async fn type_all(host: &Host, page: &Page, openai: &OpenAi) {
    let mut names = known(host, openai).await;
    for example in page.examples() {
        let replaced = |text: String, (written, real): &(String, String)| text.replace(written, real);
        let commands = names.iter().rev().fold(example.commands.clone(), replaced);
        if commands.contains(RAW) && host.is_too_old_for(&format!("{RAW} in {}", page.path), 13).await {
            continue;
        }
        let output = typed(host, &commands).await;
        let (says, fails) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {}\n{says}{fails}", page.path, example.commands);
        let real = table(&says);
        for secret in SECRETS.iter().filter_map(|field| real.get(*field)) {
            host.keep_secret(secret);
        }
        let Some(answer) = example.answer else { continue };
        let shown = table(&answer);
        let fields = |table: &BTreeMap<String, String>| table.keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&shown), fields(&real), "{}: {}\n{says}", page.path, example.commands);
        for name in NAMES {
            if let (Some(written), Some(real)) = (shown.get(name), real.get(name)) {
                names.push((written.clone(), real.clone()));
            }
        }
    }
}

#[tokio::test]
async fn what_the_pages_type_works_and_answers_as_they_show() {
    let pages: Vec<_> = pages().into_iter().filter(|page| !page.examples().is_empty()).collect();
    assert!(pages.len() > 10, "{}", pages.len());
    on_each_server(async |host| {
        symlink(&host.program().path, host.temporary_folder().join("vault"))
            .expect("the folder is the host's");
        host.register().await;
        for page in &pages {
            println!("{}", page.path);
            let openai = OpenAi::start().await;
            host.enable("openai").await;
            if !FROM_NOTHING.contains(&page.path.as_str()) {
                host.configure("openai", &openai).await;
            }
            type_all(host, page, &openai).await;
            host.disable("openai").await.ok();
        }
    })
    .await;
}
