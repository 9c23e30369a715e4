//! An HTTP proxy that opens tunnels (`CONNECT`, RFC 9110 section 9.3.6). Every tunnel leads to one server, whatever name
//! the client asks for, so a name that no resolver knows proves that the client used the proxy.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running proxy. It stops on drop.
pub(crate) struct ConnectProxy {
    address: SocketAddr,
    /// Targets of the tunnels, as `name:port`.
    targets: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl ConnectProxy {
    /// A proxy whose tunnels lead to this server.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let (seen, stopped) = (Arc::clone(&targets), stop.clone());
        let accept = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, server, Arc::clone(&seen)));
            }
        };
        tokio::spawn(async move { stopped.run_until_cancelled(accept).await });
        Self { address, targets, _stop: stop.drop_guard() }
    }

    /// Value of `HTTPS_PROXY`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Targets of the tunnels so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn tunnel(client: TcpStream, server: SocketAddr, targets: Arc<Mutex<Vec<String>>>) {
    let mut client = BufReader::new(client);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if client.read_until(b'\n', &mut head).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else { return };
    targets.lock().unwrap().push(target.to_owned());
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
