//! ECDSA on P-521, from the crate `p521`. Its speed is of no account: a connection verifies one or two signatures.

use p521::SecretKey;
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::{DerSignature, VerifyingKey};
use p521::pkcs8::DecodePrivateKey as _;
use ring::digest;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm,
    SubjectPublicKeyInfoDer, alg_id,
};
use rustls::sign::{self, Signer};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

/// Bytes of a number of the curve.
const NUMBER: usize = 66;
/// The signature scheme of TLS for P-521.
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP521_SHA512;

/// All algorithms that certificates may use.
pub(super) const ALL: &[&dyn SignatureVerificationAlgorithm] =
    &[&Verification::SHA256, &Verification::SHA384, &Verification::SHA512];
/// The algorithm with SHA-256, as a list for rustls.
pub(super) const WITH_SHA256: &[&dyn SignatureVerificationAlgorithm] = &[&Verification::SHA256];
/// The same with SHA-384.
pub(super) const WITH_SHA384: &[&dyn SignatureVerificationAlgorithm] = &[&Verification::SHA384];
/// The same with SHA-512: the algorithm of [`SCHEME`].
pub(super) const WITH_SHA512: &[&dyn SignatureVerificationAlgorithm] = &[&Verification::SHA512];

/// Verifies signatures of one digest.
#[derive(Debug)]
struct Verification {
    digest: &'static digest::Algorithm,
    id: AlgorithmIdentifier,
}

/// A private key that signs handshakes.
#[derive(Clone, Debug)]
pub(super) struct SigningKey(p521::ecdsa::SigningKey);

impl Verification {
    const SHA256: Self = Self { digest: &digest::SHA256, id: alg_id::ECDSA_SHA256 };
    const SHA384: Self = Self { digest: &digest::SHA384, id: alg_id::ECDSA_SHA384 };
    const SHA512: Self = Self { digest: &digest::SHA512, id: alg_id::ECDSA_SHA512 };
}

impl SignatureVerificationAlgorithm for Verification {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
        let digest = digest::digest(self.digest, message);
        // The crate refuses a digest that is shorter than half a number. A digest is a number, so zeros may precede it.
        let mut number = [0; NUMBER];
        let start = NUMBER - digest.as_ref().len();
        number[start..].copy_from_slice(digest.as_ref());
        key.verify_prehash(&number, &signature).map_err(|_| InvalidSignature)
    }
}

impl SigningKey {
    /// The key, if it is a key of P-521.
    pub(super) fn read(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let key = match key {
            PrivateKeyDer::Pkcs8(key) => SecretKey::from_pkcs8_der(key.secret_pkcs8_der()).ok()?,
            PrivateKeyDer::Sec1(key) => SecretKey::from_sec1_der(key.secret_sec1_der()).ok()?,
            _ => return None,
        };
        Some(Self(key.into()))
    }
}

impl sign::SigningKey for SigningKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SCHEME).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        let point = self.0.verifying_key().to_sec1_point(false);
        Some(sign::public_key_to_spki(&alg_id::ECDSA_P521, point))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature: Result<DerSignature, _> = self.0.try_sign(message);
        signature
            .map(|signature| signature.as_bytes().to_vec())
            .map_err(|error| Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{self, EcdsaKeyPair};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::sign::SigningKey as _;

    use super::*;

    /// A certificate and its key in PKCS#8, made by OpenSSL.
    const HOST: &str = include_str!("../goplugin/tests/host.pem");
    const MESSAGE: &[u8] = b"a message";
    /// OpenSSL's signatures of the message with that key, for SHA-256, SHA-384 and SHA-512.
    const SIGNATURES: [&str; 3] = [
        "308187024124d5625d5ea6eeb4a5708b94c963ecac8984fa1fa70b89f42ad9e7b27bc05d5a03c20c1b7c933305387399a8bd\
         141e1dcffaeba1bafa482758a50dc2603b53c876024201233c811884a3c216ee35f6bfabb6a0467fb84aa3ace7f2ad0be1cc\
         773615c6c523b6240000385c7f8280846c37315229fad5ca8a68ed44be71d6f0c8ab86a4bb9d",
        "308187024201e47ac61f6e913f242001121594fe106ec02ee6810ec8b4d051a9868887a03e72313e25b503ca92eea1d01200\
         5dfad2911f472d40fde4d072aea97ae8944fe9eaa102417ee40c3da47382b5b2da5f868072cbddfb9460e52488440cd9b21b\
         7101550f54d8822a0d233b12ef6ae3b65aaf30fd7776045e690858f48c3c2f5d1c085f0c01f2",
        "308188024201be90b28a3c772bbf7aee7947830b70d130d6ce72436bf07688a15158ab23b8ff50a08b705f7c97cc62d6bf9c\
         f9ac510d9a8521d75e644fd69f3e605b44e210ed15024201b85697b45c420e0db19c974d7a2ad6d0bb019a5b7476fad515f5\
         fc37be9bd7abb62ffd6214386757de88316ab894f9909b8a0671768077adfabc62a0c4c4d0df6f",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
    }

    fn key() -> SigningKey {
        SigningKey::read(&PrivateKeyDer::from_pem_slice(HOST.as_bytes()).unwrap()).unwrap()
    }

    /// The point of the public key, as a certificate has it.
    fn point(key: &SigningKey) -> Vec<u8> {
        key.0.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    #[test]
    fn signatures_of_another_library_are_verified() {
        let point = point(&key());
        for (algorithm, signature) in ALL.iter().zip(SIGNATURES) {
            let signature = bytes(signature);
            algorithm.verify_signature(&point, MESSAGE, &signature).unwrap();
            assert!(algorithm.verify_signature(&point, b"a massage", &signature).is_err());
            assert!(algorithm.verify_signature(&point[..132], MESSAGE, &signature).is_err());
            assert!(algorithm.verify_signature(&point, MESSAGE, &signature[..130]).is_err());
            assert!(algorithm.verify_signature(&point, MESSAGE, &[]).is_err());
            let mut changed = signature;
            *changed.last_mut().unwrap() ^= 1;
            assert!(algorithm.verify_signature(&point, MESSAGE, &changed).is_err());
        }
        let [sha256, ..] = SIGNATURES;
        assert!(ALL[2].verify_signature(&point, MESSAGE, &bytes(sha256)).is_err());
    }

    /// A server or client of TLS 1.2 takes the first scheme that its peer offers, whatever the curve of its key. Go does so.
    #[test]
    fn in_tls_1_2_a_key_may_sign_under_the_scheme_of_each_digest() {
        let schemes = [
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
        ];
        let mapping = crate::tls::provider().signature_verification_algorithms.mapping;
        for (scheme, signature) in schemes.into_iter().zip(SIGNATURES) {
            let (_, algorithms) = mapping.iter().find(|(known, _)| *known == scheme).unwrap();
            let of_p521 = algorithms.iter().find(|it| it.public_key_alg_id() == alg_id::ECDSA_P521);
            let algorithm = of_p521.unwrap_or_else(|| panic!("nothing verifies {scheme:?} of P-521"));
            algorithm.verify_signature(&point(&key()), MESSAGE, &bytes(signature)).unwrap();
        }
        let first = |scheme| mapping.iter().find(|(known, _)| *known == scheme).unwrap().1[0];
        let curves = [alg_id::ECDSA_P256, alg_id::ECDSA_P384, alg_id::ECDSA_P521];
        assert_eq!(schemes.map(|scheme| first(scheme).public_key_alg_id()), curves);
    }

    #[test]
    fn a_key_signs_what_its_certificate_verifies() {
        let key = key();
        assert!(key.choose_scheme(&[SignatureScheme::ECDSA_NISTP384_SHA384]).is_none());
        let signer = key.choose_scheme(&[SignatureScheme::ED25519, SCHEME]).unwrap();
        let signature = signer.sign(MESSAGE).unwrap();
        WITH_SHA512[0].verify_signature(&point(&key), MESSAGE, &signature).unwrap();
        let certificate = CertificateDer::from_pem_slice(HOST.as_bytes()).unwrap();
        let info = key.public_key().unwrap();
        assert!(certificate.windows(info.len()).any(|part| part == info.as_ref()));
    }

    #[test]
    fn keys_of_other_curves_are_left_to_ring() {
        let p256 = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(p256, &SystemRandom::new()).unwrap();
        assert!(SigningKey::read(&PrivateKeyDer::Pkcs8(key.as_ref().to_vec().into())).is_none());
        assert!(SigningKey::read(&PrivateKeyDer::Pkcs8(vec![0].into())).is_none());
    }
}
