//! Workload identity providers, rules and the token exchange: against the simulator, which verifies the signatures, and
//! against scripted responses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use openai_simulator::{Federation, Simulator};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::super::connect::Timeouts;
use super::super::{
    AccessToken, AdminKey, Client, Endpoint, Error, ExchangeError, FederationRuleChange, IdentityProvider,
    NewFederationRule, NewIdentityProvider, Permissions, Settings, SubjectToken, TokenExchange, Urgency,
};
use super::server::{Log, Server, settings};

const ISSUER: &str = "https://vault.example.com/v1/openai";
const AUDIENCE: &str = "https://api.openai.com/v1#one";
const SUBJECT: &str = "app:1";
const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl";
const ACCESS_TOKEN: &str = "eyJhY2Nlc3M.dG9rZW4.c2VjcmV0";

/// A simulator, a client of it, and the key of an issuer.
struct World {
    sim: Simulator,
    client: Client,
    key: EcdsaKeyPair,
}

impl World {
    async fn start() -> Self {
        let sim = Simulator::start().await;
        let settings = Settings {
            admin_key: AdminKey::parse(sim.admin_key()).unwrap(),
            organization: sim.organization().parse().unwrap(),
            ..settings(&sim.url())
        };
        let client = Client::new(settings).unwrap().for_work(Urgency::Check, Duration::from_secs(1));
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { sim, client, key }
    }

    fn jwks(&self, kids: &[&str]) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let key = |kid: &&str| {
            json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": part(1..33),
                "y": part(33..65)})
        };
        json!({"keys": kids.iter().map(key).collect::<Vec<_>>()})
    }

    async fn provider(&self, name: &str) -> Result<IdentityProvider, Error> {
        let provider = NewIdentityProvider {
            name: name.to_owned(),
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            description: Some("a description".to_owned()),
            jwks: self.jwks(&["k1"]),
        };
        self.client.create_identity_provider(&provider).await
    }

    fn rule(&self, name: &str, scopes: &[&str]) -> NewFederationRule {
        let account = self.sim.seed_account(self.sim.project(), name, false).unwrap().id;
        NewFederationRule {
            name: name.to_owned(),
            project_id: self.sim.project().parse().unwrap(),
            service_account_id: account.parse().unwrap(),
            subject: SUBJECT.to_owned(),
            scopes: scopes.iter().map(ToString::to_string).collect(),
            enabled: true,
        }
    }

    /// A token that lives for so many seconds.
    fn token(&self, lifetime: i64) -> SubjectToken {
        let now = Utc::now();
        let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now.timestamp() - 30,
            "exp": now.timestamp() + lifetime});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "k1"})), part(&claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        let value = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        SubjectToken::new(value, now, now + TimeDelta::seconds(lifetime))
    }

    fn exchange(&self) -> TokenExchange {
        TokenExchange::new(Endpoint::parse(&self.sim.token_url()).unwrap(), None, None).unwrap()
    }
}

fn at(url: &str) -> TokenExchange {
    let timeouts = Timeouts { connect: Duration::from_secs(1), total: Duration::from_secs(1) };
    TokenExchange::with_timeouts(Endpoint::parse(url).unwrap(), None, None, timeouts).unwrap()
}

fn signed_at() -> DateTime<Utc> {
    DateTime::from_timestamp_secs(1_794_000_000).unwrap()
}

/// Exchanges a token of 15 minutes, signed at [`signed_at`].
async fn exchange(exchange: &TokenExchange) -> Result<AccessToken, ExchangeError> {
    let token = SubjectToken::new(TOKEN, signed_at(), signed_at() + TimeDelta::seconds(900));
    exchange.exchange(&token, &"idp_1".parse().unwrap(), &"user-1".parse().unwrap()).await
}

/// The result of an exchange that gets these responses.
async fn answered(answers: Vec<Response>) -> (Result<AccessToken, ExchangeError>, usize) {
    let server = Server::answering(answers);
    let client = at(&server.start().await.base_url());
    let result = exchange(&client).await;
    (result, server.asked().len())
}

fn json(status: u16, body: &Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("x-request-id", "req_1")], body.to_string()).into_response()
}

fn granted(changes: &Value) -> Response {
    let mut body = json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 900,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    json(200, &body)
}

#[tokio::test]
async fn a_provider_and_its_rule_are_made_found_changed_and_deleted() {
    let world = World::start().await;
    let client = &world.client;
    let made = world.provider("one").await.unwrap();
    assert_eq!((made.issuer.as_str(), made.audience.as_str(), made.enabled), (ISSUER, AUDIENCE, true));
    assert_eq!(made.description.as_deref(), Some("a description"));
    world.provider("two").await.unwrap();
    let all = client.identity_providers().await.unwrap();
    let names: Vec<_> = all.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    let kids = |provider: &IdentityProvider| {
        let kids: Vec<_> =
            provider.keys().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
        kids.join(" ")
    };
    assert_eq!(kids(&all[0]), "k1");
    let after = client.update_identity_provider_keys(&made.id, &world.jwks(&["k1", "k2"])).await.unwrap();
    assert_eq!(kids(&after), "k1 k2");
    assert_eq!(kids(&client.identity_provider(&made.id).await.unwrap()), "k1 k2");

    let rule = world.rule("app", &[]);
    let first = client.create_federation_rule(&made.id, &rule).await.unwrap();
    assert_eq!((first.subject(), first.name.as_deref()), (Some(SUBJECT), Some("app")));
    assert_eq!(first.permissions, Permissions::ServiceAccountDefault);
    assert_eq!((&first.project_id, &first.service_account_id), (&rule.project_id, &rule.service_account_id));
    let second =
        client.create_federation_rule(&made.id, &world.rule("b", &["api.model.read"])).await.unwrap();
    assert_eq!(second.permissions, Permissions::of_scopes(&["api.model.read".to_owned()]));
    assert_eq!(client.federation_rules(&made.id).await.unwrap().len(), 2);
    let permissions = Permissions::of_scopes(&["api.model.request".to_owned()]);
    let change = FederationRuleChange { enabled: false, permissions: permissions.clone() };
    let changed = client.update_federation_rule(&made.id, &first.id, &change).await.unwrap();
    assert_eq!((changed.enabled, changed.permissions), (false, permissions));

    let error = client.delete_identity_provider(&made.id).await.unwrap_err();
    assert_eq!(error.status(), Some(409), "{error}");
    for rule in [&first.id, &second.id] {
        client.delete_federation_rule(&made.id, rule).await.unwrap();
        assert!(client.delete_federation_rule(&made.id, rule).await.unwrap_err().is_gone());
    }
    client.delete_identity_provider(&made.id).await.unwrap();
    assert!(client.delete_identity_provider(&made.id).await.unwrap_err().is_gone());
}

#[tokio::test]
async fn an_admin_key_without_the_permission_is_told_the_way_by_hand() {
    let world = World::start().await;
    world.sim.federation(Federation { forbidden: true, ..Federation::default() });
    let error = world.provider("one").await.unwrap_err();
    assert!(error.is_unauthorized() && !error.is_unknown_outcome());
    let says = "the admin key's owner may not manage workload identity providers: register the provider by hand instead \
                (identity_provider_id) (You have insufficient permissions";
    assert!(error.to_string().starts_with(says), "{error}");
}

#[tokio::test]
async fn a_rule_that_matches_more_than_the_subject_is_not_of_one_subject() {
    let subject = |matchers: Value| {
        let rule = json!({"id": "idpm_1", "project_id": "p", "service_account_id": "u", "permissions": {"type": "new"},
            "attribute_matchers": matchers});
        let rule: super::super::FederationRule = serde_json::from_value(rule).unwrap();
        assert_eq!(rule.permissions, Permissions::Unknown);
        rule.subject().map(ToOwned::to_owned)
    };
    assert_eq!(subject(json!({"sub": "a"})).as_deref(), Some("a"));
    for matchers in [json!({"sub": "a", "aud": "b"}), json!({"sub": 1}), json!({"team": "a"}), json!({})] {
        assert_eq!(subject(matchers), None);
    }
}

#[tokio::test]
async fn a_token_is_exchanged_and_a_refusal_is_told_apart() {
    let world = World::start().await;
    let provider = world.provider("one").await.unwrap();
    let rule = world.rule("app", &["api.model.read"]);
    let made = world.client.create_federation_rule(&provider.id, &rule).await.unwrap();
    let (exchange, account) = (world.exchange(), &rule.service_account_id);
    for with_expires_at in [true, false] {
        world.sim.federation(Federation { with_expires_at, ..Federation::default() });
        let token = world.token(900);
        let access = exchange.exchange(&token, &provider.id, account).await.unwrap();
        let early = token.expires_at() - access.expires_at;
        assert!((0..10).contains(&early.num_seconds()), "{early}");
        assert_eq!(access.scope.as_deref(), Some("api.model.read"));
        assert!(access.value.expose().starts_with("eyJ"));
        assert!(!format!("{access:?} {token:?} {exchange:?}").contains("eyJ"));
    }
    let permissions = Permissions::ServiceAccountDefault;
    let change = FederationRuleChange { enabled: true, permissions };
    world.client.update_federation_rule(&provider.id, &made.id, &change).await.unwrap();
    let access = exchange.exchange(&world.token(60), &provider.id, account).await.unwrap();
    assert_eq!(access.scope, None);

    for (token, code, says) in [
        (world.token(-5), "invalid_subject_token", "expired"),
        (world.token(4_000), "invalid_subject_token", "too long"),
    ] {
        let error = exchange.exchange(&token, &provider.id, account).await.unwrap_err();
        let ExchangeError::Refused(refusal) = &error else { panic!("{error:?}") };
        assert_eq!((refusal.code.as_str(), refusal.status), (code, 401));
        assert!(error.to_string().contains(says) && !format!("{error:?}").contains("eyJ"), "{error}");
    }
    world.client.delete_federation_rule(&provider.id, &made.id).await.unwrap();
    let error = exchange.exchange(&world.token(60), &provider.id, account).await.unwrap_err();
    let says = "no mapping matches the token (invalid_grant, HTTP 400) (request req_";
    assert!(error.to_string().starts_with(says), "{error}");
}

#[tokio::test]
async fn an_exchange_sends_the_five_parameters_and_no_key() {
    let server = Server::answering([granted(&json!({}))]);
    let token = exchange(&at(&server.start().await.base_url())).await.unwrap();
    assert_eq!((token.value.expose(), token.scope), (ACCESS_TOKEN, None));
    assert_eq!(token.expires_at, signed_at() + TimeDelta::seconds(900));
    let (request, body) = server.asked().remove(0);
    assert_eq!((request.method.as_str(), request.uri.path()), ("POST", "/v1"));
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(request.headers.get("authorization").is_none());
    let body: Value = serde_json::from_slice(&body).unwrap();
    let expected = json!({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": TOKEN,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "identity_provider_id": "idp_1",
        "service_account_id": "user-1"});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_earliest_of_the_ends_that_an_answer_tells_counts() {
    let signed = signed_at().timestamp();
    for (changes, lifetime) in [
        (json!({"expires_in": 600}), 600),
        (json!({"expires_in": 600.9}), 600),
        (json!({"expires_in": 930}), 900),
        (json!({"expires_in": 600, "expires_at": signed + 700}), 600),
        (json!({"expires_in": 700, "expires_at": signed + 600}), 600),
        (json!({"expires_in": null, "expires_at": signed + 600}), 600),
        (json!({"expires_at": null, "issued_token_type": null, "token_type": "bearer", "more": [1]}), 900),
    ] {
        let token = answered(vec![granted(&changes)]).await.0.unwrap();
        assert_eq!((token.expires_at - signed_at()).num_seconds(), lifetime, "{changes}");
    }
}

#[tokio::test]
async fn an_answer_that_was_not_asked_for_is_an_error_that_quotes_nothing() {
    let signed = signed_at().timestamp();
    let (long, ended) =
        ("its access token lives longer than the subject token", "its access token has already ended");
    let odd = "a field is not of the type it should be";
    for (changes, says) in [
        (json!({"expires_in": null}), "it has no expires_in"),
        (json!({"expires_in": "900"}), odd),
        (json!({"expires_in": -1}), ended),
        (json!({"expires_in": 0}), ended),
        (json!({"expires_in": 315_360_000}), long),
        (json!({"expires_in": 7_200}), long),
        (json!({"expires_in": u64::MAX}), long),
        (json!({"expires_in": 1e300}), long),
        (json!({"expires_in": -1e300}), ended),
        (json!({"expires_at": signed + 7_200}), long),
        (json!({"expires_at": signed}), ended),
        (json!({"expires_at": "soon"}), odd),
        (json!({"token_type": "N_A"}), "its token_type is not Bearer"),
        (json!({"token_type": null}), odd),
        (
            json!({"issued_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}),
            "its issued_token_type is not that of an access token",
        ),
        (json!({"access_token": null}), odd),
        (json!({"access_token": ""}), odd),
        (json!({"access_token": format!("{ACCESS_TOKEN} x")}), odd),
        (json!({"access_token": {"eyJ": 1}}), odd),
        (json!({"scope": ["a"]}), odd),
    ] {
        let (result, asked) = answered(vec![granted(&changes)]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ExchangeError::Unusable(_)), "{changes}: {error:?}");
        let sentence = format!("OpenAI's answer cannot be read: {says} (request req_1)");
        assert_eq!((error.to_string(), asked), (sentence, 1), "{changes}");
        assert!(!format!("{error:?}").contains("eyJ"));
    }
}

#[tokio::test]
async fn garbage_and_foreign_pages_are_no_answers() {
    let page =
        |status| (StatusCode::from_u16(status).unwrap(), Html(format!("<h1>{TOKEN}</h1>"))).into_response();
    for (answer, says) in [
        (Html(ACCESS_TOKEN).into_response(), "it is not JSON"),
        (StatusCode::NO_CONTENT.into_response(), "it ends too early"),
        (json(200, &json!([1])), "a field is not of the type it should be"),
        (json(200, &json!({})), "it has no access_token"),
        (vec![b' '; (1 << 20) + 1].into_response(), "it is longer than 1 MiB"),
        (page(404), "no answer of a token exchange: check token_endpoint"),
        (page(403), "no answer of a token exchange: check token_endpoint"),
        (json(404, &json!({"error": "not_found"})), "check token_endpoint (not_found)"),
        (
            Redirect::temporary("http://127.0.0.1:1/").into_response(),
            "a redirect, which is not followed (HTTP 307)",
        ),
    ] {
        let (result, asked) = answered(vec![answer, granted(&json!({}))]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ExchangeError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(asked, 1);
        assert!(!format!("{error} {error:?}").contains("eyJ"), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_passed_on_in_every_form_without_the_token() {
    let oauth = |code: &str| json!({"error": code, "error_description": format!("no {TOKEN} today")});
    let admin = json!({"error": {"message": "no", "type": "x", "param": null, "code": "c"}});
    for (status, body, says) in [
        (400, oauth("invalid_grant"), "no [redacted] today (invalid_grant, HTTP 400) (request req_1)"),
        (401, oauth(TOKEN), "no [redacted] today ([redacted], HTTP 401) (request req_1)"),
        (403, json!({"error": "access_denied"}), "access_denied (HTTP 403) (request req_1)"),
        (400, json!({"error": "x", "error_description": null, "more": 1}), "x (HTTP 400) (request req_1)"),
        (401, admin, "no (c, HTTP 401) (request req_1)"),
        (401, json!({"error": {"message": "no", "type": "x"}}), "no (no code, HTTP 401) (request req_1)"),
    ] {
        let (result, asked) = answered(vec![json(status, &body), granted(&json!({}))]).await;
        let error = result.unwrap_err();
        assert!(matches!(error, ExchangeError::Refused(_)), "{error:?}");
        assert_eq!((error.to_string().as_str(), asked), (says, 1));
        assert!(!format!("{error:?}").contains("eyJ"));
    }
    let shifted = "Wed, 21 Oct 2026 07:28:00 GMT";
    let body = oauth("invalid_subject_token").to_string();
    let answer = (StatusCode::UNAUTHORIZED, [("date", shifted)], body).into_response();
    let Err(ExchangeError::Refused(refusal)) = answered(vec![answer]).await.0 else { panic!("no refusal") };
    assert_eq!(refusal.date.unwrap().to_rfc3339(), "2026-10-21T07:28:00+00:00");
}

#[tokio::test]
async fn a_limit_is_waited_for_and_told_if_it_is_long() {
    let limited =
        |wait: &'static str| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", wait)], "{}").into_response();
    let start = Instant::now();
    let (result, asked) = answered(vec![limited("1"), granted(&json!({}))]).await;
    assert_eq!((result.is_ok(), asked), (true, 2));
    assert!((1_000..8_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let (result, asked) = answered(vec![limited("60"), granted(&json!({}))]).await;
    let Err(ExchangeError::Limited { retry_after }) = result else { panic!("{result:?}") };
    assert!((55..=61).contains(&retry_after.as_secs()) && asked == 1, "{retry_after:?}");
    let limited = ExchangeError::Limited { retry_after: Duration::from_millis(1_100) };
    assert_eq!(limited.to_string(), "OpenAI allows no more token exchanges now: try again in 2 s");
}

#[tokio::test]
async fn a_failure_is_repeated_for_a_short_time() {
    let broken = || (StatusCode::BAD_GATEWAY, Html("<h1>502</h1>")).into_response();
    let (result, asked) = answered(vec![broken(), granted(&json!({}))]).await;
    assert_eq!((result.is_ok(), asked), (true, 2));
    let start = Instant::now();
    let (result, asked) = answered((0..100).map(|_| broken()).collect()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ExchangeError::Unreachable(_)) && asked > 1, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    let error = exchange(&at("http://127.0.0.1:1/oauth/token")).await.unwrap_err();
    let says = "OpenAI cannot be reached: Connection refused by 127.0.0.1:1: check \
                token_endpoint, and that the host is up";
    assert!(matches!(error, ExchangeError::Unreachable(_)), "{error:?}");
    assert_eq!(error.to_string(), says);
}

#[tokio::test]
async fn the_observer_receives_each_exchange() {
    let log = Arc::new(Log::default());
    let refusal = json(400, &json!({"error": "invalid_grant"}));
    let server = Server::answering([granted(&json!({})), refusal, granted(&json!({"token_type": "x"}))]);
    let client = at(&server.start().await.base_url()).observed_by(Arc::<Log>::clone(&log));
    for _ in 0..3 {
        drop(exchange(&client).await);
    }
    let attempts = log.0.lock().unwrap();
    let told: Vec<_> =
        attempts.iter().map(|it| (it.call.as_str(), it.outcome.label().into_owned())).collect();
    let expected = ["200", "400", "malformed"].map(|outcome| ("exchange_token", outcome.to_owned()));
    assert_eq!(told, expected);
}
