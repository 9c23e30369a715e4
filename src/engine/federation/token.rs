//! Signed tokens of the mount (RFC 7519). The three parts are written here: a JWT crate would add a key format and
//! algorithms that nothing uses.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::signing::{ALGORITHM, SigningError, SigningKey};
use crate::openai::SubjectToken;

/// Time by which `iat` lies back, because OpenAI refuses a token from the future.
const BACKDATE: u64 = 30;
/// Longest time from `iat` to `exp`, in seconds.
const LONGEST: u64 = 3_600;

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
    jti: Uuid,
}

/// Signs a token with these claims and a fresh `jti`. Its lifetime from `now` on is cut where `exp` would be more than an
/// hour after `iat`. OpenAI compares both with its own clock.
pub(in crate::engine) fn sign(
    key: &SigningKey,
    iss: &str,
    aud: &str,
    sub: &str,
    lifetime: Duration,
    now: DateTime<Utc>,
) -> Result<SubjectToken, SigningError> {
    let lifetime = lifetime.as_secs().min(LONGEST - BACKDATE);
    let (iat, exp) = (now.timestamp() - BACKDATE as i64, now.timestamp() + lifetime as i64);
    let header = part(&Header { alg: ALGORITHM, typ: "JWT", kid: key.kid() });
    let payload = part(&Payload { iss, aud, sub, iat, exp, jti: Uuid::new_v4() });
    let message = format!("{header}.{payload}");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    let expires_at = DateTime::from_timestamp_secs(exp).unwrap_or(now);
    Ok(SubjectToken::new(format!("{message}.{signature}"), now, expires_at))
}

fn part(value: &impl Serialize) -> String {
    // A plain struct of strings and numbers always serializes.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    const SUBJECT: &str = "vault:abc123:role:app";

    fn signed(key: &SigningKey, lifetime: Duration) -> SubjectToken {
        let now = DateTime::from_timestamp_secs(1_794_000_000).unwrap();
        let (issuer, audience) = ("https://vault.example.com/v1/openai", "https://api.openai.com/v1#abc");
        sign(key, issuer, audience, SUBJECT, lifetime, now).unwrap()
    }

    fn decode(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_token_carries_the_claims_and_the_signature_of_the_key() {
        let key = SigningKey::generate().unwrap();
        let token = signed(&key, Duration::from_secs(900));
        let parts: Vec<_> = token.expose().split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!("{parts:?}") };
        assert_eq!(decode(header), serde_json::json!({"alg": "ES256", "typ": "JWT", "kid": key.kid()}));
        let mut claims = decode(payload);
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        let expected = serde_json::json!({"iss": "https://vault.example.com/v1/openai",
            "aud": "https://api.openai.com/v1#abc", "sub": SUBJECT, "iat": 1_793_999_970, "exp": 1_794_000_900});
        assert_eq!(claims, expected);
        let jwk = key.public_jwk();
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(format!("{header}.{payload}").as_bytes(), &signature).unwrap();
        assert!(public.verify(format!("{header}.{payload}x").as_bytes(), &signature).is_err());
        let other = signed(&key, Duration::from_secs(900));
        assert_ne!(decode(other.expose().split('.').nth(1).unwrap())["jti"], id);
        assert!(!format!("{token:?}").contains("eyJ"));
    }

    #[test]
    fn no_token_lives_longer_than_an_hour_after_iat() {
        let key = SigningKey::generate().unwrap();
        for (asked, told) in [(1, 1), (3_570, 3_570), (3_571, 3_570), (3_600, 3_570), (u64::MAX, 3_570)] {
            let token = signed(&key, Duration::from_secs(asked));
            assert_eq!((token.expires_at() - token.signed_at()).num_seconds(), told);
            let claims = decode(token.expose().split('.').nth(1).unwrap());
            assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 3_600);
        }
    }
}
