//! TLS for clients that refuse plain HTTP, with a given certificate or one from a generated CA.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// TLS of the simulator.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Source of the server's certificate.
    pub certificate: Certificate,
    /// PEM of the authority whose certificate every client must show; none demands no certificate.
    pub client_authority: Option<String>,
}

/// Source of the certificate.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// PEM texts of the chain and its private key.
    Given {
        /// Certificate chain.
        certificate: String,
        /// Private key.
        key: String,
    },
    /// A generated CA and a certificate for loopback and these names.
    Made {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
}

/// An acceptor, and the certificate of a generated CA.
pub struct Ready {
    /// Accepts TLS connections.
    pub acceptor: TlsAcceptor,
    /// Certificate of the generated CA in PEM.
    pub authority: Option<String>,
}

impl Tls {
    /// TLS with this certificate, for every client.
    pub fn by(certificate: Certificate) -> Self {
        Self { certificate, client_authority: None }
    }

    /// Reads or generates the certificate.
    pub fn ready(&self) -> io::Result<Ready> {
        let (chain, key, authority) = match &self.certificate {
            Certificate::Given { certificate, key } => {
                let chain =
                    CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
                (chain.map_err(io::Error::other)?, key, None)
            }
            Certificate::Made { names } => made(names).map_err(io::Error::other)?,
        };
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = match &self.client_authority {
            None => config.with_no_client_auth(),
            Some(pem) => config.with_client_cert_verifier(verifier(pem)?),
        }
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Ready { acceptor: TlsAcceptor::from(Arc::new(config)), authority })
    }
}

fn verifier(pem: &str) -> io::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(io::Error::other)
}

type Made = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Option<String>);

fn made(names: &[String]) -> Result<Made, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, "OpenAI simulator authority");
    let authority_key = KeyPair::generate()?;
    let pem = pem(authority.self_signed(&authority_key)?.der());
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.extend_from_slice(names);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(all)?.signed_by(&key, &Issuer::new(authority, authority_key))?;
    let private =
        PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok((vec![leaf.der().clone()], private, Some(pem)))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
