//! The plugin's process: wiring only.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use openai_secrets::engine::Engines;
use openai_secrets::engine::answers::Answers;
use openai_secrets::engine::listener::Listener;
use openai_secrets::goplugin::{self, Cookie, Plugin};
use openai_secrets::wire;
use tokio::runtime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What Vault registers and compares to the letter (PROTOCOL 8.12).
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// As Vault starts its secrets engines (PROTOCOL 1.1); OpenBao uses the same cookie.
const PLUGIN: Plugin = Plugin {
    cookie: Cookie { key: "VAULT_BACKEND_PLUGIN", value: "6669da05-b1c8-4f49-97d9-c8e5bed98e20" },
    protocol_version: 5,
    about: "This is the OpenAI secrets engine, a plugin that Vault or OpenBao starts: put it into the server's \
            plugin_directory, then `vault plugin register -sha256=<its SHA-256> secret vault-plugin-secrets-openai` \
            and `vault secrets enable -path=openai vault-plugin-secrets-openai`.",
};

fn main() -> ExitCode {
    run(VERSION)
}

const USAGE: &str = "\
Usage: vault-plugin-secrets-openai [--version | --help]

This is the OpenAI secrets engine, a plugin that Vault or OpenBao starts; it does nothing by itself. To have it started:

    cp vault-plugin-secrets-openai <the server's plugin_directory>/
    vault plugin register -sha256=<its SHA-256> secret vault-plugin-secrets-openai
    vault secrets enable -path=openai vault-plugin-secrets-openai
    vault path-help openai/

  --version  print the version to register it with, and exit
  --help     print this, and exit

Environment, given by `vault plugin register -env=NAME=VALUE`:
  OPENAI_METRICS_LISTEN=ADDRESS:PORT  serve the metrics there, without a token";

/// The answer to a person who asks the program itself. A server may register it with any other arguments; these are not
/// looked at.
fn answer_to_person(argument: Option<&str>, version: &str) -> Option<String> {
    match argument? {
        "--version" | "-version" => Some(format!("vault-plugin-secrets-openai {version}")),
        "--help" | "-help" | "-h" => Some(USAGE.to_owned()),
        _ => None,
    }
}

/// The process of the release `version`.
pub fn run(version: &'static str) -> ExitCode {
    if let Some(text) = answer_to_person(std::env::args().nth(1).as_deref(), version) {
        // Nobody to tell if stdout is closed.
        let _ = writeln!(io::stdout(), "{text}");
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::registry().with(goplugin::log::layer()).init();
    goplugin::panics::log_location_only();
    // One thread: the work is short steps between waits for server and OpenAI, and handing them from thread to thread
    // costs a quarter of the CPU time, and memory. It serves more than any server asks (`make bench`).
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return goplugin::exit_code(Err(goplugin::Error::Runtime(error))),
    };
    goplugin::exit_code(runtime.block_on(goplugin::serve(PLUGIN, |broker| {
        let metadata_mode = broker.metadata_mode();
        let listener = Listener::parse(std::env::var("OPENAI_METRICS_LISTEN").ok().as_deref());
        let answers = Answers::logged_in(std::env::temp_dir());
        let engines = Engines::default().of_release(version).heard_at(listener).logging(answers);
        wire::services(Arc::new(engines), broker, version, metadata_mode)
    })))
}
