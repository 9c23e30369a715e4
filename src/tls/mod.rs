//! The cryptography of all TLS connections: ring, and ECDSA on P-521, which ring lacks. The servers' certificates are
//! P-521 (PROTOCOL 2.1).

mod p521;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};

/// Algorithms that verify signatures. The lists live as long as the process, as rustls wants them.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let of_ring = ring::default_provider().signature_verification_algorithms;
    let scheme = (SignatureScheme::ECDSA_NISTP521_SHA512, p521::WITH_SHA512);
    WebPkiSupportedAlgorithms {
        all: Vec::leak([of_ring.all, p521::ALL].concat()),
        mapping: Vec::leak([of_ring.mapping, &[scheme]].concat()),
    }
});

/// The provider for both directions.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        signature_verification_algorithms: *ALGORITHMS,
        key_provider: &Keys,
        ..ring::default_provider()
    }
}

/// Loads private keys.
#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match p521::SigningKey::read(&key) {
            Some(key) => Ok(Arc::new(key)),
            None => ring::sign::any_supported_type(&key),
        }
    }
}
