//! How connections are made: trust, time limits, proxies, reuse. It knows nothing of what is sent over them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::Endpoint;

/// Shorter than the 60 s after which load balancers drop what is idle, so that a call seldom meets a dead connection.
const IDLE_LIMIT: Duration = Duration::from_secs(50);
/// How often an HTTP/2 connection in use is probed, so that one dead connection does not fail call after call.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until a connection stands, TLS included.
    pub(super) connect: Duration,
    /// One attempt, from connecting to the last byte of the answer.
    pub(super) total: Duration,
}

/// Why no client can be made of the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// `ca_cert` is not PEM.
    #[error("ca_cert must be certificates in PEM: {reason}")]
    BadPem {
        /// What is wrong with it.
        reason: String,
    },
    /// `ca_cert` is PEM, but not of certificates.
    #[error("ca_cert must hold at least one certificate in PEM")]
    NoCertificate,
    /// A certificate in `ca_cert` cannot be trusted.
    #[error("ca_cert holds a certificate that cannot be used: {reason}")]
    BadCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS or HTTP library refused.
    #[error("the HTTP client cannot be made: {reason}")]
    Library {
        /// What it said.
        reason: String,
    },
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30) }
    }
}

/// An HTTP client for `endpoint`; nothing is connected yet.
pub(super) fn client(
    endpoint: &Endpoint,
    ca_cert: Option<&str>,
    limits: Limits,
) -> Result<reqwest::Client, SettingsError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_cert)?)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(limits.connect)
        .timeout(limits.total)
        .pool_idle_timeout(IDLE_LIMIT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(limits.connect);
    // Plain http goes to this machine only, so no proxy may see it either.
    let builder = if endpoint.is_plain() { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| SettingsError::Library { reason: error.to_string() })
}

/// The public roots (the image may have none of its own) and what `ca_cert` adds.
fn tls(ca_cert: Option<&str>) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca_cert.filter(|pem| !pem.trim().is_empty()) {
        trust(&mut roots, pem)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Library { reason: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn trust(roots: &mut RootCertStore, pem: &str) -> Result<(), SettingsError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| SettingsError::BadPem { reason: error.to_string() })?;
        roots
            .add(certificate)
            .map_err(|error| SettingsError::BadCertificate { reason: error.to_string() })?;
    }
    if roots.len() == before { Err(SettingsError::NoCertificate) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let refuse = |pem: &str| client(&Endpoint::default(), Some(pem), Limits::default()).unwrap_err();
        assert!(matches!(refuse("not pem"), SettingsError::NoCertificate));
        let unended = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(refuse(unended), SettingsError::BadPem { .. }));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(refuse(garbage), SettingsError::BadCertificate { .. }));
        assert!(client(&Endpoint::default(), Some(" "), Limits::default()).is_ok());
    }
}
