//! One plugin from the handshake to its end. The caller passes in everything that exists once per process.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::acceptor::Acceptor;
use super::broker::{Broker, Dialer};
use super::connection::Accepted;
use super::control::{Controller, Stdio};
use super::environment::{Environment, Multiplexing};
use super::health::Health;
use super::host_liveness::HostLiveness;
use super::services::Services;
use super::socket::Socket;
use super::tls::{self, Identity, Tls};
use super::{Error, Plugin, handshake, pb};

/// The time for running calls to finish after the end was requested. The host kills the process after two seconds
/// (PROTOCOL 6.1).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for a host without a common version to read the line and end the plugin.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// A plugin and its resources from the process.
pub(super) struct Process<W> {
    pub(super) plugin: Plugin,
    pub(super) environment: Environment,
    /// The output for the handshake line.
    pub(super) stdout: W,
    /// Ends the plugin when cancelled.
    pub(super) stop: CancellationToken,
}

impl<W: Write> Process<W> {
    /// Serves until `stop`, until Shutdown, or until the host is gone. The caller has checked the cookie.
    pub(super) async fn run(mut self, services: impl FnOnce(Broker) -> Services) -> Result<(), Error> {
        if !handshake::speaks_our_version(&self.plugin, &self.environment) {
            return self.refuse().await;
        }
        let identity = Identity::generate()?;
        let tls = Tls::new(&identity, self.host_certificate()?)?;
        let socket = Socket::bind(&self.environment)?;
        self.write_handshake_line(socket.file.path(), Some(&identity.certificate))?;

        let multiplexed = self.environment.multiplexing == Multiplexing::Enabled;
        let sessions = multiplexed.then(|| Arc::new(watch::Sender::default()));
        let dialer = Dialer::new(sessions.as_ref().map(|sessions| sessions.subscribe()));
        let metadata_mode = self.environment.metadata_mode;
        let broker = Broker::new(TlsConnector::from(tls.client), dialer, self.stop.clone(), metadata_mode);
        let services = with_standard_services(services(broker.clone()), broker, &self.stop);

        let (server, connections) = mpsc::channel(1);
        let liveness = HostLiveness::default();
        let tls = TlsAcceptor::from(tls.server);
        let acceptor =
            Acceptor { tls, liveness: liveness.clone(), rejections: Arc::default(), server, sessions };
        tokio::select! {
            () = serve(services, connections, &self.stop) => Ok(()),
            () = acceptor.run(socket.listener) => Ok(()),
            () = stop_when_host_gone(&liveness, &self.stop) => Ok(()),
            () = drain_timeout(&self.stop) => Ok(()),
        }
    }

    /// Writes the line with this plugin's version and lets the host report the mismatch, as Go plugins do
    /// (PROTOCOL 1.6). The host compares versions first and then kills the plugin, which could not remove a socket
    /// file. So no socket is created.
    async fn refuse(mut self) -> Result<(), Error> {
        let unused_path = self.environment.socket_directory.join("plugin");
        self.write_handshake_line(&unused_path, None)?;
        let _ = timeout(REFUSAL_WAIT, self.stop.cancelled()).await;
        Err(Error::Version { offered: self.environment.offered_versions, ours: self.plugin.protocol_version })
    }

    fn host_certificate(&self) -> Result<CertificateDer<'static>, Error> {
        let pem = self.environment.host_certificate.as_deref().ok_or(Error::NoHostCertificate)?;
        tls::host_certificate(pem)
    }

    fn write_handshake_line(
        &mut self,
        socket: &Path,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Result<(), Error> {
        let Self { plugin, environment, stdout, .. } = self;
        let line = handshake::line(plugin.protocol_version, socket, certificate, environment.multiplexing);
        handshake::write_line(stdout, &line)
    }
}

/// Adds the services of every plugin.
fn with_standard_services(services: Services, broker: Broker, stop: &CancellationToken) -> Services {
    services
        .with(pb::grpc_broker_server::GrpcBrokerServer::new(broker))
        .with(pb::grpc_controller_server::GrpcControllerServer::new(Controller(stop.clone())))
        .with(pb::grpc_stdio_server::GrpcStdioServer::new(Stdio(stop.clone())))
        .with(pb::health::health_server::HealthServer::new(Health(stop.clone())))
}

/// Serves until `stop`, and then until the running calls are answered.
pub(super) async fn serve(
    services: Services,
    mut connections: mpsc::Receiver<Accepted>,
    stop: &CancellationToken,
) {
    let (services, tasks) = (Arc::new(services), TaskTracker::new());
    while let Some(Some(connection)) = stop.run_until_cancelled(connections.recv()).await {
        let (services, stop) = (Arc::clone(&services), stop.clone());
        tasks.spawn(async move { services.serve(connection, &stop).await });
    }
    // A connection that comes now is closed at once.
    drop(connections);
    tasks.close();
    tasks.wait().await;
}

/// Treats a host that is gone as a Shutdown. `serve` or `drain_timeout` then ends the process.
async fn stop_when_host_gone(liveness: &HostLiveness, stop: &CancellationToken) {
    liveness.host_gone().await;
    tracing::info!("the host is gone; the plugin ends");
    stop.cancel();
    std::future::pending::<()>().await;
}

/// Returns when the time for running calls is over.
async fn drain_timeout(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(DRAIN_TIMEOUT).await;
}
