//! The process of the plugin. This file only connects the modules.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use openai_secrets::engine::Engines;
use openai_secrets::engine::telemetry::listener::Listener;
use openai_secrets::goplugin::{self, Cookie, Plugin};
use openai_secrets::wire;
use tokio::runtime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The version for registration. Vault compares the text byte by byte (PROTOCOL 8.12).
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The cookie and protocol version that Vault uses for secrets engines (PROTOCOL 1.1). OpenBao uses the same cookie.
const PLUGIN: Plugin = Plugin {
    cookie: Cookie { key: "VAULT_BACKEND_PLUGIN", value: "6669da05-b1c8-4f49-97d9-c8e5bed98e20" },
    protocol_version: 5,
    about: "This is the OpenAI secrets engine, a plugin for Vault and OpenBao. The server starts this binary. Copy it to \
            the server's plugin_directory, then run \
            `vault plugin register -sha256=<SHA-256 of the binary> secret vault-plugin-secrets-openai` and \
            `vault secrets enable -path=openai vault-plugin-secrets-openai`.",
};

fn main() -> ExitCode {
    run(VERSION)
}

const USAGE: &str = "\
Usage: vault-plugin-secrets-openai [--version | --help]

This is the OpenAI secrets engine, a plugin for Vault and OpenBao. The server starts this binary. To enable the plugin:

    cp vault-plugin-secrets-openai <the server's plugin_directory>/
    vault plugin register -sha256=<SHA-256 of the binary> secret vault-plugin-secrets-openai
    vault secrets enable -path=openai vault-plugin-secrets-openai
    vault path-help openai/

  --version  print the version for registration and exit
  --help     print this help and exit

Environment variables, set with `vault plugin register -env=NAME=VALUE`:
  OPENAI_METRICS_LISTEN=ADDRESS:PORT  serve metrics at this address, without a token";

/// The output for a user who runs the binary. Other arguments are ignored, because a server may register the plugin
/// with any arguments.
fn answer_to_person(argument: Option<&str>, version: &str) -> Option<String> {
    match argument? {
        "--version" | "-version" => Some(format!("vault-plugin-secrets-openai {version}")),
        "--help" | "-help" | "-h" => Some(USAGE.to_owned()),
        _ => None,
    }
}

/// Runs the plugin's process as release `version`.
pub fn run(version: &'static str) -> ExitCode {
    if let Some(text) = answer_to_person(std::env::args().nth(1).as_deref(), version) {
        // An error means that stdout is closed.
        let _ = writeln!(io::stdout(), "{text}");
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::registry().with(goplugin::log::layer()).init();
    goplugin::panics::log_location_only();
    // One thread: the work is short steps between waits for the server and OpenAI. Passing steps between threads
    // would cost a quarter of the CPU time, and memory. One thread serves more requests than a server sends (`make bench`).
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return goplugin::exit_code(Err(goplugin::Error::Runtime(error))),
    };
    goplugin::exit_code(runtime.block_on(goplugin::serve(PLUGIN, |broker| {
        let metadata_mode = broker.metadata_mode();
        let listener = Listener::parse(std::env::var("OPENAI_METRICS_LISTEN").ok().as_deref());
        let engines = Engines::default().of_release(version).heard_at(listener);
        wire::services(Arc::new(engines), move |id| broker.channel(id), version, metadata_mode)
    })))
}
