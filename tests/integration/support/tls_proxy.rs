//! A TLS proxy that relays requests and then breaks. When the server closes a connection without a response, the
//! client receives bytes that are invalid in TLS. The proxy can also close its idle connections, as load balancers do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ServerConfig, ServerConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wait::eventually;
use crate::simulator::{Certificate, Simulator, Tls};

/// Bytes that the client receives instead of a response.
#[derive(Clone, Copy, Debug)]
pub enum TlsFault {
    /// An encrypted record that fails authentication.
    Record,
    /// A load balancer's response in plain text.
    PlainText,
    /// The fatal alert "access denied", which TLS has for certificates.
    Alert,
}

/// Protocol inside TLS.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    Http1,
    Http2,
}

/// The open connections.
#[derive(Default)]
struct Connections {
    /// Cancelled to close them; then a new one serves the next connections.
    close: Mutex<CancellationToken>,
    open: AtomicUsize,
}

/// A running proxy. It stops on drop.
pub struct TlsProxy {
    address: SocketAddr,
    /// Certificate of the CA in PEM.
    pub authority: String,
    connections: Arc<Connections>,
    _stop: DropGuard,
}

impl TlsFault {
    pub const ALL: [Self; 3] = [Self::Record, Self::PlainText, Self::Alert];

    /// The bytes on this connection.
    fn bytes(self, connection: ServerConnection) -> Vec<u8> {
        match self {
            Self::Record => [&[0x17, 3, 3, 0, 64][..], &[7; 64]].concat(),
            Self::PlainText => b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec(),
            Self::Alert => encrypted_alert(connection),
        }
    }
}

impl Protocol {
    fn name(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"http/1.1".to_vec(),
            Self::Http2 => b"h2".to_vec(),
        }
    }
}

impl TlsProxy {
    /// A proxy for a simulator with plain HTTP.
    pub async fn in_front_of(sim: &Simulator, protocol: Protocol, fault: TlsFault) -> Self {
        let server: SocketAddr = sim.origin().strip_prefix("http://").unwrap().parse().unwrap();
        let ready = Tls::by(Certificate::Made { names: Vec::new() }).ready().unwrap();
        let mut config = ServerConfig::clone(ready.acceptor.config());
        config.alpn_protocols = vec![protocol.name()];
        config.enable_secret_extraction = true;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let connections = Arc::new(Connections::default());
        let of_proxy = Arc::clone(&connections);
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, connections) = (acceptor.clone(), Arc::clone(&of_proxy));
                let close = connections.close.lock().unwrap().clone();
                connections.open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    relay(acceptor, client, server, fault, close).await;
                    connections.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        };
        tokio::spawn(async move { stopped.run_until_cancelled(accept).await });
        Self { address, authority: ready.authority.unwrap(), connections, _stop: stop.drop_guard() }
    }

    /// Closes every open connection with TLS's close-notify, and waits until the client has closed it too. Answers their
    /// number.
    pub async fn close_connections(&self) -> usize {
        let closed = self.connections.open.load(Ordering::Relaxed);
        std::mem::take(&mut *self.connections.close.lock().unwrap()).cancel();
        eventually("the client has closed its connections", async || {
            (self.connections.open.load(Ordering::Relaxed) == 0).then_some(())
        })
        .await;
        closed
    }

    /// OpenAI's base URL through the proxy.
    pub fn url(&self) -> String {
        format!("https://{}/v1", self.address)
    }
}

/// Relays both directions until the server closes.
async fn relay(
    acceptor: TlsAcceptor,
    client: TcpStream,
    server: SocketAddr,
    fault: TlsFault,
    close: CancellationToken,
) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let Ok(mut client) = acceptor.accept(client).await else { return };
    let (mut from_client, mut to_client) = tokio::io::split(&mut client);
    let (mut from_server, mut to_server) = server.split();
    let closed = tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => false,
        _ = tokio::io::copy(&mut from_server, &mut to_client) => true,
        () = close.cancelled() => {
            let _ = to_client.shutdown().await;
            let _ = tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await;
            false
        }
    };
    if closed {
        let (mut below_tls, connection) = client.into_inner();
        let _ = below_tls.write_all(&fault.bytes(connection)).await;
    }
}

/// The alert as the next record of a TLS 1.3 connection (RFC 8446 section 5.2).
fn encrypted_alert(connection: ServerConnection) -> Vec<u8> {
    const FATAL: u8 = 2;
    const ACCESS_DENIED: u8 = 49;
    const ALERT: u8 = 21;
    let (sequence, secrets) = connection.dangerous_extract_secrets().expect("the handshake is over").tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another cipher suite") };
    let mut nonce: [u8; 12] = iv.as_ref().try_into().expect("an IV has 12 bytes");
    nonce[4..].iter_mut().zip(sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
    let mut content = vec![FATAL, ACCESS_DENIED, ALERT];
    let head = [23, 3, 3, 0, (content.len() + AES_256_GCM.tag_len()) as u8];
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key of 32 bytes"));
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(head), &mut content).expect("a short record");
    [&head[..], &content].concat()
}
