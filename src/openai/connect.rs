//! Connection settings: trusted certificates, timeouts, proxies and reuse.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::resolver::{self, SystemResolver};
use super::{ClientCertificate, ClientKey, Endpoint};

/// Idle time after which a pooled connection closes. Load balancers drop idle connections after 60 s, so calls rarely
/// meet a dead connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Interval of HTTP/2 pings. Pings detect a dead connection before many calls fail on it.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Connection timeouts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// Time for TCP and TLS to one known address.
    pub(super) connect: Duration,
    /// Time for one attempt, from connecting to the last byte of the response.
    pub(super) total: Duration,
}

/// Reason why the settings make no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// `ca_cert` is not PEM.
    #[error("ca_cert must be certificates in PEM: {reason}")]
    BadPem {
        /// The fault, without the text of `ca_cert`.
        reason: String,
    },
    /// `ca_cert` is PEM without a certificate.
    #[error("ca_cert must hold at least one certificate in PEM")]
    NoCertificate,
    /// A certificate in `ca_cert` is unusable.
    #[error("ca_cert holds a certificate that cannot be used: {reason}")]
    BadCertificate {
        /// The fault of the certificate.
        reason: String,
    },
    /// The client certificate is not PEM, or has no certificate.
    #[error("client_cert must hold at least one certificate in PEM")]
    BadClientCertificate,
    /// The client key is not a private key in PEM. The error never quotes the key.
    #[error("client_key must be one private key in PEM, without a passphrase")]
    BadClientKey,
    /// The client certificate is unusable.
    #[error("client_cert holds a certificate that cannot be used: {reason}")]
    UnusableClientCertificate {
        /// The fault of the certificate.
        reason: String,
    },
    /// The client key is damaged, or of a kind that the TLS library does not know. The error never quotes the key.
    #[error(
        "client_key is not a key of P-256, P-384, P-521, Ed25519, or RSA of 2048 to 4096 bits; an EC key must hold its public \
         key too"
    )]
    UnusableClientKey,
    /// The client certificate is not that of the client key.
    #[error("client_cert and client_key do not belong together")]
    ClientPairMismatch,
    /// The TLS or HTTP library refused the settings.
    #[error("the HTTP client cannot be made: {reason}")]
    Library {
        /// The library's error.
        reason: String,
    },
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), total: Duration::from_secs(30) }
    }
}

/// An HTTP client for `endpoint`. This function connects to nothing.
pub(super) fn client(
    endpoint: &Endpoint,
    ca_cert: Option<&str>,
    client_certificate: Option<&ClientCertificate>,
    timeouts: Timeouts,
) -> Result<reqwest::Client, SettingsError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(ca_cert, client_certificate)?)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // The library would resend a request that the server claims not to have processed (GOAWAY, REFUSED_STREAM).
        // If that claim is wrong, the first request leaves an untracked object. `retry` alone decides about repeats.
        .retry(reqwest::retry::never())
        .dns_resolver(SystemResolver::new())
        .connect_timeout(resolver::TIMEOUT + timeouts.connect)
        .timeout(timeouts.total)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(timeouts.connect);
    // Plain http is allowed to loopback only, so no proxy may see the calls.
    let builder = if endpoint.is_plain() { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| SettingsError::Library { reason: error.to_string() })
}

/// TLS that trusts the public roots and the certificates in `ca_cert`. The roots are built in because an image may
/// have none.
fn tls(
    ca_cert: Option<&str>,
    client_certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca_cert.filter(|pem| !pem.trim().is_empty()) {
        trust(&mut roots, pem)?;
    }
    let provider = Arc::new(crate::tls::provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SettingsError::Library { reason: error.to_string() })?
        .with_root_certificates(roots);
    let mut config = match client_certificate {
        None => config.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => config
            .with_client_auth_cert(client_chain(certificate)?, private_key(key)?)
            .map_err(|error| bad_pair(&error))?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn client_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or(SettingsError::BadClientCertificate)
}

fn private_key(key: &ClientKey) -> Result<PrivateKeyDer<'static>, SettingsError> {
    PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| SettingsError::BadClientKey)
}

/// The fault of a client certificate or its key.
fn bad_pair(error: &rustls::Error) -> SettingsError {
    match error {
        rustls::Error::InconsistentKeys(_) => SettingsError::ClientPairMismatch,
        rustls::Error::InvalidCertificate(_) => {
            SettingsError::UnusableClientCertificate { reason: bad_certificate(error) }
        }
        _ => SettingsError::UnusableClientKey,
    }
}

/// The fault of a certificate.
fn bad_certificate(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            "it is damaged, or not X.509".to_owned()
        }
        error => error.to_string(),
    }
}

fn trust(roots: &mut RootCertStore, pem: &str) -> Result<(), SettingsError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|error| SettingsError::BadPem { reason: bad_pem(pem, &error) })?;
        roots
            .add(certificate)
            .map_err(|error| SettingsError::BadCertificate { reason: bad_certificate(&error) })?;
    }
    if roots.len() == before { Err(SettingsError::NoCertificate) } else { Ok(()) }
}

/// The fault of a text that is not valid PEM, without the text.
fn bad_pem(text: &str, error: &pem::Error) -> String {
    if text.contains("\\n") {
        return "it has \\n where lines must end".to_owned();
    }
    match error {
        pem::Error::MissingSectionEnd { .. } => "a certificate has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is incomplete".to_owned(),
        pem::Error::Base64Decode(_) => "the text between BEGIN and END is not base64".to_owned(),
        _ => "it cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The refusal of a client certificate and its key.
    fn refuse_pair(certificate: &str, key: &str) -> String {
        let (certificate, key) = (certificate.to_owned(), ClientKey::new(key));
        let pair = ClientCertificate { certificate, key };
        let refused = client(&Endpoint::default(), None, Some(&pair), Timeouts::default());
        refused.unwrap_err().to_string()
    }

    /// A certificate of P-521 and its key.
    const PAIR: &str = include_str!("../goplugin/tests/host.pem");
    /// Another certificate of P-521 and its key.
    const OTHER: &str = include_str!("../goplugin/tests/other_host.pem");

    #[test]
    fn each_refusal_of_a_client_certificate_or_its_key_says_which_of_them_is_wrong() {
        assert_eq!(refuse_pair(PAIR, OTHER), "client_cert and client_key do not belong together");
        let garbage = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let of_no_kind = "client_key is not a key of P-256, P-384, P-521, Ed25519, or RSA of 2048 to 4096 bits; an EC key \
                          must hold its public key too";
        assert_eq!(refuse_pair(PAIR, &garbage("PRIVATE KEY")), of_no_kind);
        let unreadable = "client_cert holds a certificate that cannot be used: it is damaged, or not X.509";
        assert_eq!(refuse_pair(&garbage("CERTIFICATE"), PAIR), unreadable);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let refuse =
            |pem: &str| client(&Endpoint::default(), Some(pem), None, Timeouts::default()).unwrap_err();
        assert!(matches!(refuse("not pem"), SettingsError::NoCertificate));
        let unended = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(refuse(unended), SettingsError::BadPem { .. }));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = refuse(garbage);
        assert!(matches!(error, SettingsError::BadCertificate { .. }));
        let says = "ca_cert holds a certificate that cannot be used: it is damaged, or not X.509";
        assert_eq!(error.to_string(), says);
        assert!(client(&Endpoint::default(), Some(" "), None, Timeouts::default()).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_one_short_sentence() {
        let refuse = |pem: &str| {
            client(&Endpoint::default(), Some(pem), None, Timeouts::default()).unwrap_err().to_string()
        };
        let line = "A".repeat(2_000);
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        for (pem, says) in [
            (format!(r"{begin}\n{line}\n{end}\n"), r"it has \n where lines must end"),
            (format!("{begin}\n{line}\n"), "a certificate has no END line"),
            (format!("-----BEGIN {line}"), "a BEGIN line is incomplete"),
            (format!("{begin}\n{line}*\n{end}\n"), "the text between BEGIN and END is not base64"),
        ] {
            assert_eq!(refuse(&pem), format!("ca_cert must be certificates in PEM: {says}"));
        }
    }
}
