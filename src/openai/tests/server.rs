//! Loopback servers with scripted responses, and clients for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::connect::Timeouts;
use super::super::{AdminKey, Attempt, Client, Endpoint, Observer, Settings};

pub(super) const ADMIN_KEY: &str = "sk-admin-0123456789abcdefghij";

/// Reads each request completely, answers with the next scripted response and records the request.
#[derive(Clone, Default)]
pub(super) struct Server {
    answers: Arc<Mutex<VecDeque<Response>>>,
    asked: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    connections: Arc<AtomicUsize>,
    delay: Duration,
}

/// Records every attempt.
#[derive(Default)]
pub(super) struct Log(pub(super) Mutex<Vec<Attempt>>);

impl Server {
    /// Answers with these responses in order, and then with 500.
    pub(super) fn answering(answers: impl IntoIterator<Item = impl IntoResponse>) -> Self {
        let answers = answers.into_iter().map(IntoResponse::into_response).collect();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    pub(super) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(super) async fn start(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        client(&url)
    }

    /// Starts with TLS and a self-signed certificate for `localhost`. Answers the URL and the certificate in PEM.
    pub(super) async fn start_tls(&self) -> (String, String) {
        let (acceptor, pem) = acceptor(CertificateParams::new(vec!["localhost".to_owned()]).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
        let server = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        server.serve(stream).await;
                    }
                });
            }
        });
        (url, pem)
    }

    /// The requests so far.
    pub(super) fn asked(&self) -> Vec<(Parts, Bytes)> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let app = Router::new().fallback(async move |request: Request| self.answer(request).await);
        // A client that disconnects is no error of the server.
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
            .await;
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        self.asked.lock().unwrap().push((parts, body));
        tokio::time::sleep(self.delay).await;
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or_else(|| axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

impl Observer for Log {
    fn attempt(&self, attempt: &Attempt) {
        self.0.lock().unwrap().push(attempt.clone());
    }
}

/// Reads a request, writes the next of these byte strings and closes. Each connection gets one.
pub(super) async fn raw(answers: Vec<Vec<u8>>) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    client
}

async fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"}") {
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
    }
}

pub(super) fn settings(url: &str) -> Settings {
    Settings {
        endpoint: Endpoint::parse(url).unwrap(),
        admin_key: AdminKey::parse(ADMIN_KEY).unwrap(),
        organization: "org-1".parse().unwrap(),
        ca_cert: None,
        client_certificate: None,
        max_requests_per_minute: 0,
        observer: Arc::new(Log::default()),
    }
}

pub(in crate::openai) fn client(url: &str) -> Client {
    let timeouts = Timeouts { connect: Duration::from_secs(3), total: Duration::from_secs(3) };
    let client = Client::with_timeouts(settings(url), timeouts).unwrap();
    client.for_work(super::super::Urgency::Check, Duration::from_secs(5))
}

impl Client {
    pub(super) fn base_url(&self) -> String {
        self.inner.endpoint().to_string()
    }
}

/// A TLS acceptor with a self-signed certificate of these parameters, and the certificate in PEM.
fn acceptor(parameters: CertificateParams) -> (TlsAcceptor, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    acceptor_with(certificate.der().clone(), private)
}

/// A TLS acceptor with this certificate and key, and the certificate in PEM.
fn acceptor_with(
    certificate: CertificateDer<'static>,
    private: PrivateKeyDer<'static>,
) -> (TlsAcceptor, String) {
    let provider = Arc::new(crate::tls::provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let base64 = base64::engine::general_purpose::STANDARD.encode(&certificate);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    (TlsAcceptor::from(Arc::new(config)), pem)
}

/// A server that presents a certificate of these parameters and serves nothing. Answers the URL and the certificate
/// in PEM.
pub(super) async fn showing(parameters: CertificateParams) -> (String, String) {
    let (acceptor, pem) = acceptor(parameters);
    (handshakes_of(acceptor).await, pem)
}

/// The same with the certificate and key of a PEM text.
pub(super) async fn showing_pem(pem: &str) -> (String, String) {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (acceptor, pem) = acceptor_with(certificate, PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap());
    (handshakes_of(acceptor).await, pem)
}

/// The URL of a server that serves nothing but handshakes.
async fn handshakes_of(acceptor: TlsAcceptor) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    url
}

/// A server of TLS 1.2 that trusts no certificate of a client but its own. Answers the URL and the certificate in PEM.
pub(super) async fn demanding_a_certificate_in_tls_1_2() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "the server");
    let certificate = parameters.self_signed(&key).unwrap();
    let provider = Arc::new(crate::tls::provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    (handshakes_of(TlsAcceptor::from(Arc::new(config))).await, pem)
}

/// An HTTP/2 server that reads each request and then claims with GOAWAY that it processed none. The counter counts
/// requests.
pub(super) async fn going_away() -> (String, String, Arc<AtomicUsize>) {
    let (acceptor, pem) = acceptor(CertificateParams::new(vec!["localhost".to_owned()]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/v1", listener.local_addr().unwrap().port());
    let taken = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            go_away(stream, &count).await;
        }
    });
    (url, pem, taken)
}

/// RFC 9113 sections 4.1, 6.5 and 6.8.
async fn go_away(mut stream: impl AsyncRead + AsyncWrite + Unpin, taken: &AtomicUsize) {
    const HEADERS: u8 = 1;
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.read_exact(&mut [0; 24]).await.unwrap();
    stream.write_all(&EMPTY_SETTINGS).await.unwrap();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            taken.fetch_add(1, Ordering::SeqCst);
            stream.write_all(&GOAWAY).await.unwrap();
        }
    }
}
