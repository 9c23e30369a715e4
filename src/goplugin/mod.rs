//! HashiCorp's go-plugin protocol, serving side. It could serve any plugin: it knows nothing of secrets engines.
//!
//! A host starts the process with a cookie and its own one-time certificate in the environment. The plugin listens
//! on a unix socket and says where on stdout ([`serve`]); the host connects, proves itself by that certificate, and
//! calls. What the host serves in turn is dialled by number through the [`Broker`]. Nothing is kept in statics, so
//! several plugins can run in one process, as the tests do.

mod acceptor;
mod addresses;
mod broker;
pub(crate) mod codec;
mod connection;
mod control;
mod departures;
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
mod socket;
mod stream_dialer;
#[cfg(test)]
mod tests;
mod tls;
mod write_coalescing;

use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use broker::Broker;
pub use departures::Departures;
pub use error::Error;

use environment::Environment;
use server::Process;

/// The messages of go-plugin and of gRPC's health checking, generated from `proto/`.
mod pb {
    #![expect(unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated")]

    tonic::include_proto!("plugin");

    pub(super) mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// What a plugin is to its host.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// How it knows that a host started it.
    pub cookie: Cookie,
    /// The version of the plugin's own protocol; it speaks one.
    pub protocol_version: u32,
    /// What a person who started it by hand is told: what it is, and how to register it.
    pub about: &'static str,
}

/// An environment variable and the value that a host gives it.
#[derive(Clone, Copy, Debug)]
pub struct Cookie {
    /// The variable.
    pub key: &'static str,
    /// Its value.
    pub value: &'static str,
}

/// Serves `services` to the host that started this process, beside the broker, controller, stdio and health services
/// of every plugin. Ends well when the host says Shutdown or is gone, or on SIGTERM; SIGINT is the host's business
/// (PROTOCOL 6.4).
///
/// Nothing may be written to stdout before or after: the host reads the handshake from it.
pub async fn serve(plugin: Plugin, services: impl FnOnce(Broker) -> Routes) -> Result<(), Error> {
    let environment = Environment::read(plugin.cookie.key, std::env::vars_os());
    handshake::check_cookie(&plugin, &environment)?;
    // Tests look into the processes that they start, and need not be root's.
    if !cfg!(feature = "failpoints") {
        memory::forbid_dumps();
    }
    if environment.lock_memory {
        memory::lock();
    }
    let stop = stop_on_signals()?;
    Process { plugin, environment, stdout: io::stdout(), stop }.run(services).await
}

/// What the process exits with after [`serve`]. An error is told on stderr: plainly to a person, as a log line to a
/// host.
pub fn exit_code(served: Result<(), Error>) -> ExitCode {
    match served {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Error::StartedByHand(about)) => drop(writeln!(io::stderr(), "{about}")),
        Err(error) => log::error(&error.to_string()),
    }
    ExitCode::FAILURE
}

/// SIGTERM stops; SIGINT, which Ctrl-C sends to the host's whole process group, is caught and forgotten. Handlers of
/// our own also make both work as process 1 of a container.
fn stop_on_signals() -> Result<CancellationToken, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    // Nobody listens, but tokio's handler stays in place of the default for the life of the process.
    drop(signal(SignalKind::interrupt()).map_err(Error::Signals)?);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        stopper.cancel();
    });
    Ok(stop)
}
