//! The serving side of HashiCorp's go-plugin protocol. This module knows nothing of secrets engines and could serve any
//! plugin.
//!
//! A host starts the process and passes a cookie and a one-time certificate in the environment. The plugin listens on a
//! unix socket and writes the socket's path to stdout ([`serve`]). The host connects, authenticates with its
//! certificate, and calls the plugin's services. The plugin reaches the host's services by number through the
//! [`Broker`]. No state is static, so several plugins can run in one process, as in the tests.

mod acceptor;
mod addresses;
mod broker;
mod channel;
mod connection;
mod control;
mod environment;
mod error;
mod handshake;
mod health;
mod host_liveness;
pub mod log;
mod memory;
mod multiplexed;
pub mod panics;
mod pinned;
mod rejections;
mod server;
mod services;
mod socket;
mod stream_dialer;
#[cfg(test)]
mod tests;
mod tls;

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use broker::Broker;
pub use channel::Channel;
pub use error::Error;
pub use services::Services;

use environment::Environment;
use server::Process;

/// Messages of go-plugin and of gRPC's health service, generated from `proto/`.
mod pb {
    #![expect(unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated")]

    tonic::include_proto!("plugin");

    pub(super) mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// The plugin's identity towards its host.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// The cookie that proves that a host started the process.
    pub cookie: Cookie,
    /// The version of the plugin's own protocol. A plugin supports exactly one.
    pub protocol_version: u32,
    /// The text for a user who started the binary directly: its purpose, and the commands that register it.
    pub about: &'static str,
}

/// An environment variable and the value that a host sets.
#[derive(Clone, Copy, Debug)]
pub struct Cookie {
    /// The name of the variable.
    pub key: &'static str,
    /// The value of the variable.
    pub value: &'static str,
}

/// Serves `services` and the broker, controller, stdio and health services to the host that started this process.
/// Returns `Ok` after Shutdown, after SIGTERM, or when the host is gone. SIGINT is ignored (PROTOCOL 6.4).
///
/// No other code may write to stdout, because the host reads the handshake from stdout.
pub async fn serve(plugin: Plugin, services: impl FnOnce(Broker) -> Services) -> Result<(), Error> {
    let environment = Environment::read(plugin.cookie.key, std::env::vars_os());
    handshake::check_cookie(&plugin, &environment)?;
    // Tests inspect the memory of the processes that they start, without root's rights.
    if !cfg!(feature = "failpoints") {
        memory::forbid_dumps();
    }
    if environment.lock_memory {
        memory::lock();
    }
    let stop = stop_on_signals()?;
    Process { plugin, environment, stdout: io::stdout(), stop }.run(services).await
}

/// The exit code of the process after [`serve`]. An error goes to stderr: as plain text for a user, as a log line for a
/// host.
pub fn exit_code(served: Result<(), Error>) -> ExitCode {
    match served {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Error::StartedByHand(about)) => drop(writeln!(io::stderr(), "{about}")),
        Err(error) => log::error(&error.to_string()),
    }
    ExitCode::FAILURE
}

/// Stops on SIGTERM and ignores SIGINT, which Ctrl-C sends to the host's whole process group. The handlers make both
/// signals work for process 1 of a container, too.
fn stop_on_signals() -> Result<CancellationToken, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    // The stream is dropped, but tokio's handler replaces the default handler for the life of the process.
    drop(signal(SignalKind::interrupt()).map_err(Error::Signals)?);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopper.cancel();
    });
    Ok(stop)
}
