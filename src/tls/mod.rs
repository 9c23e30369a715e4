//! The cryptography of all TLS connections: ring, and ECDSA on P-521, which ring lacks. The servers' certificates are
//! P-521 (PROTOCOL 2.1).

mod p521;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, KeyProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};

/// Algorithms that may verify a signature.
type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// Algorithms that verify signatures. The lists live as long as the process, as rustls wants them.
///
/// In TLS 1.2 a scheme names the digest alone, so a key of P-521 may sign under the schemes of the smaller curves. TLS 1.3
/// uses the first algorithm of a scheme only.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
    let of_ring = ring::default_provider().signature_verification_algorithms;
    let with_p521 = |&(scheme, algorithms): &(SignatureScheme, Algorithms)| {
        let algorithms: Algorithms = match scheme {
            SignatureScheme::ECDSA_NISTP256_SHA256 => Vec::leak([algorithms, p521::WITH_SHA256].concat()),
            SignatureScheme::ECDSA_NISTP384_SHA384 => Vec::leak([algorithms, p521::WITH_SHA384].concat()),
            _ => algorithms,
        };
        (scheme, algorithms)
    };
    let own = (SignatureScheme::ECDSA_NISTP521_SHA512, p521::WITH_SHA512);
    WebPkiSupportedAlgorithms {
        all: Vec::leak([of_ring.all, p521::ALL].concat()),
        mapping: Vec::leak(of_ring.mapping.iter().map(with_p521).chain([own]).collect()),
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
