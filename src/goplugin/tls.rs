//! AutoMTLS: this process creates a certificate for its lifetime and accepts the host's certificate only, in both
//! directions. `pinned.rs` compares the certificates.

use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::Error;
use super::pinned::Pinned;
use crate::tls;

/// The only protocol offered by ALPN. gRPC ends a connection without an agreement on HTTP/2 (PROTOCOL 2.2).
const ALPN: &[u8] = b"h2";
/// The host name in both certificates.
const NAME: &str = "localhost";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The certificate of this process and its private key.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// TLS configurations towards the host.
pub(super) struct Tls {
    /// For connections from the host.
    pub(super) server: Arc<ServerConfig>,
    /// For connections to the host.
    pub(super) client: Arc<ClientConfig>,
}

impl Identity {
    /// Creates a P-256 certificate. The certificate names both usages, because the process is server and client. Go
    /// needs no CA flag (PROTOCOL 2.3).
    pub(super) fn generate() -> Result<Self, Error> {
        Self::sign(&parameters()?, &KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
    }

    fn sign(parameters: &CertificateParams, pair: &KeyPair) -> Result<Self, Error> {
        let certificate = parameters.self_signed(pair)?.der().clone();
        Ok(Self { certificate, key: PrivatePkcs8KeyDer::from(pair.serialize_der()).into() })
    }
}

impl Tls {
    /// Creates both configurations. `identity` is this process, and `host` is the only accepted peer.
    pub(super) fn new(identity: &Identity, host: CertificateDer<'static>) -> Result<Self, Error> {
        let provider = Arc::new(tls::provider());
        let pinned = Arc::new(Pinned::new(host, &provider));
        Ok(Self {
            server: Arc::new(server(identity, Arc::clone(&pinned), Arc::clone(&provider))?),
            client: Arc::new(client(identity, pinned, provider)?),
        })
    }
}

/// Parses the host's certificate from the PEM text of `PLUGIN_CLIENT_CERT`.
pub(super) fn host_certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    match (certificates.next(), certificates.next()) {
        (Some(Ok(certificate)), None) => Ok(certificate),
        _ => Err(Error::HostCertificate),
    }
}

/// The certificate's parameters. rcgen's default validity, years 1975 to 4096, stays: a process may run for years, and
/// wrong clocks must not break a pinned certificate.
fn parameters() -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new([NAME.to_owned()])?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, NAME);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}

/// Session resumption is off: the host connects once, and each connection must authenticate.
fn server(
    identity: &Identity,
    pinned: Arc<Pinned>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)?
        .with_client_cert_verifier(pinned)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    identity: &Identity,
    pinned: Arc<Pinned>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

#[cfg(test)]
impl Identity {
    /// A certificate like the hosts' certificates, made by OpenSSL: P-521, a CA, valid beyond 2050 (PROTOCOL 2.1).
    pub(super) fn of_a_host() -> Self {
        Self::from_pem(include_str!("tests/host.pem"))
    }

    /// A certificate with the same names and another key.
    pub(super) fn of_another_host() -> Self {
        Self::from_pem(include_str!("tests/other_host.pem"))
    }

    fn from_pem(pem: &str) -> Self {
        let certificate = host_certificate(pem).unwrap();
        Self { certificate, key: PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap() }
    }

    /// The text for `PLUGIN_CLIENT_CERT`.
    pub(super) fn pem(&self) -> String {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&self.certificate);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::ConfigBuilder;
    use rustls::client::WantsClientCert;
    use rustls::pki_types::ServerName;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Connects the two and passes one byte to the client. Returns the agreed protocol or the server's error, and the
    /// client's result.
    async fn meet(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> (io::Result<Option<Vec<u8>>>, io::Result<()>) {
        let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(4096);
        let accepting = async {
            let mut stream = TlsAcceptor::from(server).accept(far).await?;
            stream.write_u8(1).await?;
            stream.flush().await?;
            Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
        };
        let connecting = async {
            let name = ServerName::try_from(NAME).unwrap();
            let mut stream = TlsConnector::from(client).connect(name, near).await?;
            stream.read_u8().await.map(drop)
        };
        tokio::join!(accepting, connecting)
    }

    struct Pair {
        host: Identity,
        plugin: Identity,
    }

    impl Pair {
        fn new() -> Self {
            Self { host: Identity::of_a_host(), plugin: Identity::generate().unwrap() }
        }

        fn plugin_tls(&self) -> Tls {
            Tls::new(&self.plugin, self.host.certificate.clone()).unwrap()
        }

        /// A peer with `identity` that expects this plugin.
        fn peer_tls(&self, identity: &Identity) -> Tls {
            Tls::new(identity, self.plugin.certificate.clone()).unwrap()
        }
    }

    /// A client that expects this plugin and has no certificate yet.
    fn peer(
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let provider = Arc::new(tls::provider());
        let pinned = Arc::new(Pinned::new(pair.plugin.certificate.clone(), &provider));
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        builder.dangerous().with_custom_certificate_verifier(pinned)
    }

    #[tokio::test]
    async fn the_pinned_host_is_served_although_its_certificate_is_a_ca() {
        let pair = Pair::new();
        let (server, client) = meet(pair.peer_tls(&pair.host).client, pair.plugin_tls().server).await;
        assert_eq!(server.unwrap().as_deref(), Some(ALPN));
        client.unwrap();
    }

    #[tokio::test]
    async fn the_pinned_host_is_called_back() {
        let pair = Pair::new();
        let (server, client) = meet(pair.plugin_tls().client, pair.peer_tls(&pair.host).server).await;
        assert_eq!(server.unwrap().as_deref(), Some(ALPN));
        client.unwrap();
    }

    #[tokio::test]
    async fn tls_1_2_works_too() {
        let pair = Pair::new();
        let mut config = peer(&pair, &[&TLS12])
            .with_client_auth_cert(vec![pair.host.certificate.clone()], pair.host.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let (server, client) = meet(Arc::new(config), pair.plugin_tls().server).await;
        assert!(server.is_ok() && client.is_ok());
    }

    #[tokio::test]
    async fn another_certificate_with_the_same_names_is_rejected() {
        let pair = Pair::new();
        let other = Identity::of_another_host();
        let (server, _) = meet(pair.peer_tls(&other).client, pair.plugin_tls().server).await;
        assert!(server.is_err());
        let (_, client) = meet(pair.plugin_tls().client, pair.peer_tls(&other).server).await;
        assert!(client.is_err());
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_rejected() {
        let pair = Pair::new();
        let client = peer(&pair, &VERSIONS).with_no_client_auth();
        let (server, _) = meet(Arc::new(client), pair.plugin_tls().server).await;
        assert!(server.unwrap_err().to_string().contains("no certificates"));
    }

    #[tokio::test]
    async fn the_hosts_certificate_without_its_key_is_rejected() {
        let pair = Pair::new();
        let other = Identity::of_another_host();
        let key = tls::provider().key_provider.load_private_key(other.key.clone_key()).unwrap();
        let stolen = CertifiedKey::new(vec![pair.host.certificate.clone()], key);
        let stolen = Arc::new(SingleCertAndKey::from(stolen));

        let mut client = ClientConfig::clone(&pair.peer_tls(&pair.host).client);
        client.client_auth_cert_resolver = Arc::<SingleCertAndKey>::clone(&stolen);
        let (server, _) = meet(Arc::new(client), pair.plugin_tls().server).await;
        assert!(server.is_err());

        let mut server = ServerConfig::clone(&pair.peer_tls(&pair.host).server);
        server.cert_resolver = stolen;
        let (_, client) = meet(pair.plugin_tls().client, Arc::new(server)).await;
        assert!(client.is_err());
    }

    #[test]
    fn the_hosts_pem_is_one_certificate_or_refused() {
        let host = Identity::of_a_host();
        assert_eq!(host_certificate(&host.pem()).unwrap(), host.certificate);
        for odd in [
            "",
            "rubbish",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            &host.pem().repeat(2),
        ] {
            assert!(matches!(host_certificate(odd), Err(Error::HostCertificate)), "{odd}");
        }
    }

    #[test]
    fn each_process_has_a_certificate_of_its_own() {
        assert_ne!(Identity::generate().unwrap().certificate, Identity::generate().unwrap().certificate);
    }
}
