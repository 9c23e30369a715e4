//! The signing key of the mount: a P-256 key for ES256 (RFC 7518 section 3.4). The private key stays in the mount's
//! encrypted storage.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::error::{KeyRejected, Unspecified};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Name of the signature algorithm in tokens and key sets.
pub(in crate::engine) const ALGORITHM: &str = "ES256";
/// The same, as the crypto library names it.
static ES256: &EcdsaSigningAlgorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
/// Bytes of each coordinate of a public key.
const COORDINATE: usize = 32;

/// A key pair that signs tokens. Serialization writes the private key, so store it only in encrypted storage.
#[derive(Clone)]
pub(in crate::engine) struct SigningKey {
    pair: Arc<WipedPair>,
    /// The private key in PKCS#8 and base64.
    encoded: Zeroizing<String>,
    kid: String,
}

/// The key as ring holds it. ring does not wipe its keys, so the last owner writes another key over this one.
struct WipedPair(EcdsaKeyPair);

/// Reason why there is no key or no signature. The error says nothing about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::engine) enum SigningError {
    /// The stored text is not a private key of P-256.
    #[error("the stored signing key cannot be read")]
    Unreadable,
    /// The crypto library failed, as without random numbers.
    #[error("the crypto library cannot make a signing key or a signature")]
    Library,
}

impl SigningKey {
    /// A new key.
    pub(in crate::engine) fn generate() -> Result<Self, SigningError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(ES256, &SystemRandom::new())?;
        Self::decode(Zeroizing::new(STANDARD.encode(pkcs8.as_ref())))
    }

    /// The RFC 7638 thumbprint of the public key.
    pub(in crate::engine) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JSON Web Key.
    pub(in crate::engine) fn public_jwk(&self) -> Value {
        let [x, y] = coordinates(&self.pair.0);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": ALGORITHM, "kid": self.kid, "x": x, "y": y})
    }

    /// The signature of the message, as the concatenation of its two numbers.
    pub(in crate::engine) fn sign(&self, message: &[u8]) -> Result<impl AsRef<[u8]>, SigningError> {
        Ok(self.pair.0.sign(&SystemRandom::new(), message)?)
    }

    fn new(pair: EcdsaKeyPair, encoded: Zeroizing<String>) -> Self {
        let kid = thumbprint(&pair);
        Self { pair: Arc::new(WipedPair(pair)), encoded, kid }
    }

    fn decode(encoded: Zeroizing<String>) -> Result<Self, SigningError> {
        let pkcs8 =
            Zeroizing::new(STANDARD.decode(encoded.as_bytes()).map_err(|_| SigningError::Unreadable)?);
        let pair = EcdsaKeyPair::from_pkcs8(ES256, &pkcs8, &SystemRandom::new())?;
        Ok(Self::new(pair, encoded))
    }
}

/// The two coordinates of the public key.
fn coordinates(pair: &EcdsaKeyPair) -> [String; 2] {
    // The library writes an uncompressed point: 4, x, y.
    let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
    let (x, y) = point.split_at(point.len().min(COORDINATE));
    [URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)]
}

/// RFC 7638 section 3: the digest of the required members in the order of their names, without spaces.
fn thumbprint(pair: &EcdsaKeyPair) -> String {
    let [x, y] = coordinates(pair);
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
}

impl Drop for WipedPair {
    fn drop(&mut self) {
        let random = SystemRandom::new();
        let other = EcdsaKeyPair::generate_pkcs8(ES256, &random).ok();
        let other = other.and_then(|pkcs8| EcdsaKeyPair::from_pkcs8(ES256, pkcs8.as_ref(), &random).ok());
        // Nothing overwrites the key if there are no random numbers.
        if let Some(other) = other {
            self.0 = other;
            // The compiler may leave out a write that nobody reads.
            black_box(&self.0);
        }
    }
}

impl From<Unspecified> for SigningError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

impl From<KeyRejected> for SigningError {
    fn from(_: KeyRejected) -> Self {
        Self::Unreadable
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Serialize for SigningKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encoded)
    }
}

impl<'de> Deserialize<'de> for SigningKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Zeroizing::new(String::deserialize(deserializer)?);
        Self::decode(encoded).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A private key in PKCS#8, made by another program, and the public key and thumbprint that it tells.
    const FOREIGN: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgOGOX2dHNTiirNV4QL9iz6BpyFD06BF3wYDM6lm6w4umhRANC\
                           AARGsvrbXA+oZEClkb7Ee+sN7s0yLVNM36Q1dLYUucR1YgPVvw7oAfDdpwQnBxQNW9ksoRviihpboTkcXjHuw84Z";

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = SigningKey::generate().unwrap();
        let stored = serde_json::to_string(&key).unwrap();
        let read: SigningKey = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.kid(), read.public_jwk()), (key.kid(), key.public_jwk()));
        assert_eq!(serde_json::to_string(&read).unwrap(), stored);
        assert_ne!(SigningKey::generate().unwrap().kid(), key.kid());
    }

    #[test]
    fn the_kid_is_the_thumbprint_that_another_library_computes() {
        let key: SigningKey = serde_json::from_value(json!(FOREIGN)).unwrap();
        assert_eq!(key.kid(), "zdKCir1mStN2fS4JDDtE1Gl0dsnblQuZCik8tkAEpEw");
        let jwk = key.public_jwk();
        assert_eq!(
            (jwk["x"].as_str(), jwk["y"].as_str()),
            (
                Some("RrL621wPqGRApZG-xHvrDe7NMi1TTN-kNXS2FLnEdWI"),
                Some("A9W_DugB8N2nBCcHFA1b2SyhG-KKGluhORxeMe7Dzhk")
            )
        );
        assert_eq!((jwk["kid"].as_str(), jwk["alg"].as_str()), (Some(key.kid()), Some("ES256")));
        assert_eq!(jwk.as_object().unwrap().len(), 7, "nothing of the private key");
    }

    #[test]
    fn no_text_shows_the_private_key() {
        let key: SigningKey = serde_json::from_value(json!(FOREIGN)).unwrap();
        assert_eq!(
            format!("{key:?}"),
            r#"SigningKey { kid: "zdKCir1mStN2fS4JDDtE1Gl0dsnblQuZCik8tkAEpEw", .. }"#
        );
        let cut = &FOREIGN[..60];
        for bad in [cut, "", "not base64", "AAAA"] {
            let error = serde_json::from_value::<SigningKey>(json!(bad)).unwrap_err();
            assert_eq!(error.to_string(), "the stored signing key cannot be read");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dropped_key_is_overwritten() {
        use std::collections::BTreeSet;
        use std::os::unix::fs::FileExt as _;

        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let words = |address: u64| {
            let mut bytes = vec![0; size_of::<EcdsaKeyPair>()];
            memory.read_exact_at(&mut bytes, address).unwrap();
            bytes.chunks(8).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let address = |key: &SigningKey| std::ptr::from_ref(&key.pair.0).addr() as u64;
        // A word that is not part of the key may stay by chance, so only a word that stays each time was not overwritten.
        let kept = (0..8).map(|_| {
            let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
            let at = address(&key);
            let (before, common) = (words(at), words(address(&other)));
            drop(key);
            let after = words(at);
            let own: BTreeSet<_> = (0..before.len()).filter(|&word| before[word] != common[word]).collect();
            // The scalar, the secret of the nonces and the public point.
            assert!(own.len() >= 16, "{own:?}");
            own.into_iter().filter(|&word| before[word] == after[word]).collect::<BTreeSet<_>>()
        });
        let kept = kept.reduce(|kept, also| &kept & &also).unwrap_or_default();
        assert!(kept.is_empty(), "{kept:?}");
    }
}
