//! Checks the signatures of tokens with graviola. The plugin signs with another library, ring.

use graviola::hashing::{Sha256, Sha384};
use graviola::signing::{ecdsa, rsa};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// For `jsonwebtoken`, which reads the tokens.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Key::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Prepares the process for checks. Fails on a processor without the instructions that graviola needs, as those from
/// before 2014 are.
pub(crate) fn prepare() -> Result<(), &'static str> {
    // An error means that this process is prepared.
    let _ = PROVIDER.install_default();
    if graviola::util::is_cpu_supported() {
        Ok(())
    } else {
        Err("graviola cannot check signatures on this processor")
    }
}

/// A public key and its algorithm.
enum Key {
    Es256(Box<ecdsa::VerifyingKey<ecdsa::P256>>),
    Es384(Box<ecdsa::VerifyingKey<ecdsa::P384>>),
    Rs256(Box<rsa::VerifyingKey>),
}

impl Key {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let invalid = |_| Error::from(ErrorKind::InvalidKeyFormat);
        match (algorithm, key.kind()) {
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                ecdsa::VerifyingKey::from_x962_uncompressed(point)
                    .map(|key| Self::Es256(Box::new(key)))
                    .map_err(invalid)
            }
            (Algorithm::ES384, DecodingKeyKind::SecretOrDer(point)) => {
                ecdsa::VerifyingKey::from_x962_uncompressed(point)
                    .map(|key| Self::Es384(Box::new(key)))
                    .map_err(invalid)
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                rsa::VerifyingKey::from_pkcs1_der(&pkcs1(n, e))
                    .map(|key| Self::Rs256(Box::new(key)))
                    .map_err(invalid)
            }
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Verifier<Vec<u8>> for Key {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match self {
            Self::Es256(key) => key.verify::<Sha256>(&[message], signature),
            Self::Es384(key) => key.verify::<Sha384>(&[message], signature),
            Self::Rs256(key) => key.verify_pkcs1_sha256(signature, message),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::ES256,
            Self::Es384(_) => Algorithm::ES384,
            Self::Rs256(_) => Algorithm::RS256,
        }
    }
}

/// `RSAPublicKey` of RFC 8017, A.1.1: a sequence of two integers, in DER.
fn pkcs1(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        // A first bit would be the sign.
        let sign: &[u8] = if number.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
        tagged(0x02, &[sign, number].concat())
    };
    tagged(0x30, &[integer(modulus), integer(exponent)].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let head = if content.len() < 0x80 { vec![tag] } else { vec![tag, 0x80 | length.len() as u8] };
    [&head, length, content].concat()
}
