//! Socket addresses by broker id, for hosts that listen on one socket per id (PROTOCOL 4.2). This file opens no
//! connection.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Error;

/// The longest wait for the host's address of an id, as in Go.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The addresses received from the host. An entry stays for the life of the process, because a channel may reconnect.
/// Each mount adds about 100 bytes.
#[derive(Default)]
pub(super) struct Addresses(watch::Sender<HashMap<u32, Address>>);

#[derive(Clone)]
struct Address {
    network: String,
    address: String,
}

impl Addresses {
    /// Stores the address at which the host listens for `id`.
    pub(super) fn insert(&self, id: u32, network: String, address: String) {
        self.0.send_modify(|known| {
            known.insert(id, Address { network, address });
        });
    }

    /// Returns the socket path for `id`. The address may arrive before or after this call, so the call waits up to five
    /// seconds.
    pub(super) async fn wait_for(&self, id: u32) -> Result<PathBuf, Error> {
        let mut known = self.0.subscribe();
        let received = timeout(MAX_WAIT, known.wait_for(|known| known.contains_key(&id))).await;
        let address = received.ok().and_then(|known| known.ok()?.get(&id).cloned());
        match address {
            Some(Address { network, address }) if network == "unix" => Ok(address.into()),
            Some(Address { network, .. }) => Err(Error::Network { id, network }),
            None => Err(Error::NoConnectionInfo(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::Instant;

    use super::*;

    fn unix(addresses: &Addresses, id: u32, path: &str) {
        addresses.insert(id, "unix".to_owned(), path.to_owned());
    }

    #[tokio::test]
    async fn an_address_told_before_it_is_asked_for_is_kept() {
        let addresses = Addresses::default();
        unix(&addresses, 2, "/two");
        unix(&addresses, 1, "/one");
        assert_eq!(addresses.wait_for(1).await.unwrap(), Path::new("/one"));
        assert_eq!(
            addresses.wait_for(1).await.unwrap(),
            Path::new("/one"),
            "a second time, to connect again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_asked_for_before_it_is_told_is_awaited() {
        let addresses = Addresses::default();
        let told = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            unix(&addresses, 8, "/other");
            unix(&addresses, 7, "/seven");
        };
        let (path, ()) = tokio::join!(addresses.wait_for(7), told);
        assert_eq!(path.unwrap(), Path::new("/seven"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_after_five_seconds() {
        let start = Instant::now();
        let error = Addresses::default().wait_for(3).await.unwrap_err();
        assert!(matches!(error, Error::NoConnectionInfo(3)));
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn a_tcp_address_is_refused_by_name() {
        let addresses = Addresses::default();
        addresses.insert(1, "tcp".to_owned(), "127.0.0.1:1".to_owned());
        let error = addresses.wait_for(1).await.unwrap_err();
        assert!(matches!(error, Error::Network { id: 1, network } if network == "tcp"));
    }
}
