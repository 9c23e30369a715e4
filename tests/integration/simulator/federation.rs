//! Workload identity federation: what OpenAI's documents say of providers, rules, the token exchange and its tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents as RsaPublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Answer, Caller, sent, text, with_json};
use crate::simulator::Federation;

const ISSUER: &str = "https://vault.example.com/v1/openai";
const AUDIENCE: &str = "https://api.openai.com/v1#vault";
const SUBJECT: &str = "vault:abc123:role:app";

/// A key pair of an issuer.
struct Key {
    kid: String,
    algorithm: &'static str,
    /// The public part of the JWK.
    public: Value,
    sign: Box<Sign>,
}

type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// A provider with one rule for an account.
struct Registered {
    caller: Caller,
    key: Key,
    provider: String,
    rule: String,
    account: String,
}

impl Key {
    fn new(kid: &str) -> Self {
        Self::of_curve(kid, "ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn of_curve(
        kid: &str,
        algorithm: &'static str,
        curve: &str,
        signing: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
        let public = json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)});
        let sign = move |message: &[u8]| pair.sign(&random, message).unwrap().as_ref().to_vec();
        Self { kid: kid.to_owned(), algorithm, public, sign: Box::new(sign) }
    }

    fn rsa(kid: &str) -> Self {
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("rsa.pem")).unwrap();
        let pair = RsaKeyPair::from_pkcs8(pkcs8.secret_pkcs8_der()).unwrap();
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
        let public = json!({"kty": "RSA", "n": encoded(&n), "e": encoded(&e)});
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        Self { kid: kid.to_owned(), algorithm: "RS256", public, sign: Box::new(sign) }
    }

    fn jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        (jwk["use"], jwk["alg"], jwk["kid"]) =
            ("sig".into(), self.algorithm.into(), self.kid.as_str().into());
        jwk
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| encoded(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        format!("{message}.{}", encoded(&(self.sign)(message.as_bytes())))
    }

    fn header(&self) -> Value {
        json!({"alg": self.algorithm, "typ": "JWT", "kid": self.kid})
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now() - 10, "exp": now() + 900})
}

fn jwks(keys: &[&Key]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({"type": "uploaded_jwks", "jwks": {"keys": keys}})
}

const PROVIDERS: &str = "/organization/workload_identity_providers";

impl Registered {
    async fn start() -> Self {
        let (caller, key) = (Caller::start().await, Key::new("k1"));
        let body = json!({
            "name": "vault", "type": "oidc", "issuer": ISSUER, "audience": AUDIENCE, "verification": jwks(&[&key]),
        });
        let provider = text(&caller.post(PROVIDERS, body).await.ok()["id"]);
        let account = caller.sim.seed_account(caller.sim.project(), "app", false).unwrap().id;
        let mut registered = Self { caller, key, provider, rule: String::new(), account };
        let rule = registered.rule_for(&registered.account, "app").await.ok();
        registered.rule = text(&rule["id"]);
        registered
    }

    async fn rule_for(&self, account: &str, name: &str) -> Answer {
        let body = json!({
            "name": name, "project_id": self.caller.sim.project(), "service_account_id": account,
            "attribute_matchers": {"sub": SUBJECT},
        });
        self.caller.post(&self.rules(), body).await
    }

    fn at(&self) -> String {
        format!("{PROVIDERS}/{}", self.provider)
    }

    fn rules(&self) -> String {
        format!("{}/federation_rules", self.at())
    }

    async fn change_rule(&self, change: Value) {
        self.caller.post(&format!("{}/{}", self.rules(), self.rule), change).await.ok();
    }

    fn token(&self, claims: &Value) -> String {
        self.key.sign(&self.key.header(), claims)
    }

    fn body(&self, token: &str) -> Value {
        json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "identity_provider_id": self.provider, "service_account_id": self.account,
        })
    }

    async fn send(&self, body: &Value) -> Answer {
        let request = self.caller.http.post(self.caller.sim.token_url());
        sent(with_json(request, body)).await
    }

    async fn exchange(&self) -> Answer {
        self.send(&self.body(&self.token(&claims()))).await
    }

    #[track_caller]
    fn refused(answer: &Answer, code: &str, why: &str) {
        assert!((400..404).contains(&answer.status), "{}", answer.body);
        assert_eq!(answer.body["error"], code, "{}", answer.body);
        assert!(text(&answer.body["error_description"]).contains(why), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_token_of_the_provider_is_exchanged_for_one_that_opens_what_its_account_may() {
    let registered = Registered::start().await;
    let mut body = registered.body(&registered.token(&claims()));
    body["client_id"] = "an-sdk".into();
    let answer = registered.send(&body).await.ok();
    assert_eq!(answer["token_type"], "Bearer");
    let lifetime = answer["expires_in"].as_u64().unwrap();
    assert!((890..=900).contains(&lifetime), "{answer}");
    assert!(answer.get("scope").is_none() && answer["expires_at"].as_u64().unwrap() >= now() + 890);
    let token = text(&answer["access_token"]);
    assert!(registered.caller.opens(&token).await);
    let admin = sent(registered.caller.with_key(&token, "GET", "/organization/projects")).await;
    assert_eq!(admin.status, 403);
    let models = sent(registered.caller.with_key(&token, "DELETE", "/models/gpt-5")).await;
    assert_eq!(models.status, 403);
    registered.caller.sim.advance(Duration::from_secs(901));
    assert!(!registered.caller.opens(&token).await);
}

#[tokio::test]
async fn a_restricted_rule_narrows_its_tokens() {
    let registered = Registered::start().await;
    registered
        .change_rule(json!({"permissions": {"type": "restricted", "scopes": ["api.model.request"]}}))
        .await;
    let answer = registered.exchange().await.ok();
    assert_eq!(answer["scope"], "api.model.request");
    assert!(!registered.caller.opens(&text(&answer["access_token"])).await);
    registered
        .change_rule(
            json!({"permissions": {"type": "restricted", "scopes": ["api.model.read", "api.model.request"]}}),
        )
        .await;
    assert!(registered.caller.opens(&text(&registered.exchange().await.ok()["access_token"])).await);
}

#[tokio::test]
async fn a_token_that_the_provider_does_not_vouch_for_is_refused() {
    let registered = Registered::start().await;
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        registered.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        registered.token(&claims)
    };
    let good = registered.token(&claims());
    let other = Key::new("k1");
    let mut bad: Vec<(String, &str)> = vec![
        ("x.y".to_owned(), "malformed"),
        (format!("{}A", &good[..good.len() - 1]).replace("AA", "BB"), "signature"),
        (other.sign(&other.header(), &claims()), "signature"),
        (registered.key.sign(&json!({"alg": "ES256"}), &claims()), "kid"),
        (registered.key.sign(&json!({"alg": "ES256", "kid": "k2"}), &claims()), "no key"),
        (registered.key.sign(&json!({"alg": "none", "kid": "k1"}), &claims()), "malformed"),
        (registered.key.sign(&json!({"alg": "HS256", "kid": "k1"}), &claims()), "alg"),
        (with("iss", "https://vault.example.com/v1/other".into()), "iss"),
        (with("aud", "someone-else".into()), "aud"),
        (with("aud", json!(["a", "b"])), "aud"),
        (with("exp", now().into()), "expired"),
        (with("iat", (now() + 30).into()), "not valid yet"),
        (with("exp", (now() + 3_600).into()), "too long"),
        (with("exp", "soon".into()), "numbers"),
    ];
    // A signature that ends in the changed letter by chance proves nothing.
    bad.remove(1);
    bad.extend(["iss", "aud", "sub", "exp", "iat"].map(|name| (without(name), name)));
    for (token, why) in bad {
        Registered::refused(&registered.send(&registered.body(&token)).await, "invalid_subject_token", why);
    }
    for good in [with("iss", format!("{ISSUER}/").into()), with("aud", json!(["a", AUDIENCE]))] {
        registered.send(&registered.body(&good)).await.ok();
    }
}

#[tokio::test]
async fn tokens_of_three_algorithms_are_taken_and_each_alone_with_its_own_signature() {
    let registered = Registered::start().await;
    let keys = [
        Key::new("es256"),
        Key::of_curve("es384", "ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        Key::rsa("rs256"),
    ];
    let change = json!({"verification": jwks(&keys.each_ref())});
    registered.caller.post(&registered.at(), change).await.ok();
    for (key, other) in keys.iter().zip(keys.iter().cycle().skip(1)) {
        let token = key.sign(&key.header(), &claims());
        registered.send(&registered.body(&token)).await.ok();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        signature[20] ^= 1;
        let changed = format!("{message}.{}", encoded(&signature));
        for bad in [changed, key.sign(&other.header(), &claims())] {
            let answer = registered.send(&registered.body(&bad)).await;
            Registered::refused(&answer, "invalid_subject_token", "signature");
        }
    }
}

#[tokio::test]
async fn every_parameter_is_required_and_no_other_is_known() {
    let registered = Registered::start().await;
    let body = registered.body(&registered.token(&claims()));
    for name in body.as_object().unwrap().keys() {
        let mut short = body.clone();
        short.as_object_mut().unwrap().remove(name);
        Registered::refused(&registered.send(&short).await, "invalid_request", name);
    }
    let mut wrong = body.clone();
    wrong["grant_type"] = "password".into();
    Registered::refused(&registered.send(&wrong).await, "unsupported_grant_type", "grant_type");
    let mut more = body.clone();
    more["resource"] = "x".into();
    Registered::refused(&registered.send(&more).await, "invalid_request", "resource");
    let mut elsewhere = body.clone();
    elsewhere["identity_provider_id"] = "idp_0000000001abcdefghijkl".into();
    Registered::refused(&registered.send(&elsewhere).await, "invalid_grant", "provider");
    let below = registered.caller.anonymous("POST", "/oauth/token");
    assert_eq!(sent(with_json(below, &body)).await.status, 404);
}

#[tokio::test]
async fn exactly_one_enabled_rule_of_the_account_has_to_match() {
    let registered = Registered::start().await;
    for (matchers, fits) in [
        (json!({"sub": "vault:abc123:role:*"}), true),
        (json!({"sub": SUBJECT, "aud": AUDIENCE}), true),
        (json!({"sub": "vault:abc123:role:ap"}), false),
        (json!({"openai.sub": SUBJECT}), false),
        (json!({"sub": SUBJECT, "team": "x"}), false),
    ] {
        registered.change_rule(json!({"attribute_matchers": matchers})).await;
        assert_eq!(registered.exchange().await.status == 200, fits, "{matchers}");
    }
    registered.change_rule(json!({"attribute_matchers": {"sub": SUBJECT}, "enabled": false})).await;
    Registered::refused(&registered.exchange().await, "invalid_grant", "mapping");
    registered.change_rule(json!({"enabled": true})).await;
    registered.caller.post(&registered.at(), json!({"enabled": false})).await.ok();
    Registered::refused(&registered.exchange().await, "invalid_grant", "disabled");
}

#[tokio::test]
async fn the_limits_and_names_of_providers_and_rules_hold() {
    let registered = Registered::start().await;
    let caller = &registered.caller;
    registered.rule_for(&registered.account, "other").await.refused(409, "conflict", Value::Null);
    for number in 1..50 {
        let account = caller.sim.seed_account(caller.sim.project(), &format!("a{number}"), false).unwrap().id;
        registered.rule_for(&account, &format!("r{number}")).await.ok();
    }
    let account = caller.sim.seed_account(caller.sim.project(), "one-more", false).unwrap().id;
    registered.rule_for(&account, "r51").await.refused(409, "conflict", Value::Null);
    let page = caller.get(&format!("{}?limit=30", registered.rules())).await.ok();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (30, &json!(true)));
    let one =
        caller.get(&format!("{}?service_account_id={}", registered.rules(), registered.account)).await.ok();
    assert_eq!((one["data"].as_array().unwrap().len(), &one["data"][0]["id"]), (1, &json!(registered.rule)));
    let provider = |name: &str, verification: Value| json!({"name": name, "type": "oidc", "issuer": ISSUER, "audience": AUDIENCE, "verification": verification});
    caller.post(PROVIDERS, provider("vault", jwks(&[&registered.key]))).await.refused(
        409,
        "conflict",
        Value::Null,
    );
    let mut private = registered.key.jwk();
    private["d"] = "AAAA".into();
    for keys in [json!([]), json!([private]), json!([registered.key.jwk(), registered.key.jwk()])] {
        let sent = json!({"type": "uploaded_jwks", "jwks": {"keys": keys}});
        caller.post(PROVIDERS, provider("new", sent)).await.refused(400, "invalid_value", "verification");
    }
    caller.delete(&registered.at()).await.refused(409, "conflict", Value::Null);
    for matcher in ["*", "a*b", ""] {
        let change = json!({"attribute_matchers": {"sub": matcher}});
        let answer = caller.post(&format!("{}/{}", registered.rules(), registered.rule), change).await;
        answer.refused(400, "invalid_value", "attribute_matchers");
    }
}

#[tokio::test]
async fn a_deleted_provider_and_a_missing_permission_are_refused() {
    let registered = Registered::start().await;
    let caller = &registered.caller;
    caller.delete(&format!("{}/{}", registered.rules(), registered.rule)).await.ok();
    assert_eq!(caller.delete(&registered.at()).await.ok()["deleted"], true);
    Registered::refused(&registered.exchange().await, "invalid_grant", "unknown");
    assert_eq!(caller.get(&registered.at()).await.status, 404);
    caller.sim.federation(Federation { forbidden: true, ..Federation::default() });
    assert_eq!(caller.get(PROVIDERS).await.status, 403);
}

#[tokio::test]
async fn the_switches_change_what_the_documents_leave_open() {
    let registered = Registered::start().await;
    let sim = &registered.caller.sim;
    sim.federation(Federation {
        with_expires_at: false,
        leeway_seconds: 60,
        strict_lifetime: false,
        ..Federation::default()
    });
    let mut long = claims();
    (long["iat"], long["exp"]) = ((now() + 30).into(), (now() + 9_000).into());
    let answer = registered.send(&registered.body(&registered.token(&long))).await.ok();
    assert_eq!((&answer["expires_in"], answer.get("expires_at")), (&json!(3_600), None));

    sim.federation(Federation { propagation_ms: 5_000, ..Federation::default() });
    sim.advance(Duration::from_secs(6));
    let new = Key::new("k2");
    registered
        .caller
        .post(&registered.at(), json!({"verification": jwks(&[&registered.key, &new])}))
        .await
        .ok();
    let by_new = registered.body(&new.sign(&new.header(), &claims()));
    Registered::refused(&registered.send(&by_new).await, "invalid_subject_token", "no key");
    sim.advance(Duration::from_secs(6));
    let token = text(&registered.send(&by_new).await.ok()["access_token"]);
    assert!(registered.caller.opens(&token).await);

    sim.federation(Federation { revoke_on_key_change: true, ..Federation::default() });
    registered.caller.post(&registered.at(), json!({"verification": jwks(&[&new])})).await.ok();
    assert!(!registered.caller.opens(&token).await);
    let token = text(&registered.send(&by_new).await.ok()["access_token"]);
    sim.federation(Federation { revoke_on_disable: true, ..Federation::default() });
    registered.change_rule(json!({"enabled": false})).await;
    assert!(!registered.caller.opens(&token).await);
}

#[tokio::test]
async fn a_token_ends_with_its_account_and_opens_nothing_for_one_without_a_role() {
    let registered = Registered::start().await;
    let token = text(&registered.exchange().await.ok()["access_token"]);
    registered.caller.delete(&format!("{}/{}", registered.caller.accounts(), registered.account)).await.ok();
    assert!(!registered.caller.opens(&token).await);
    Registered::refused(&registered.exchange().await, "invalid_grant", "account");
}
