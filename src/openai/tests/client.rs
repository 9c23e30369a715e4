//! The client against a server on loopback: the requests that it sends, and its reaction to every kind of response.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::http::{StatusCode, Version};
use axum::response::{Html, IntoResponse, Redirect, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};
use serde_json::{Value, json};

use super::super::{
    AdminKey, Client, ClientCertificate, ClientKey, Denial, Error, NewKey, Outcome, Pages, ProjectId, Role,
    ServiceAccountId, Settings, Urgency,
};
use super::server::{
    ADMIN_KEY, Log, Server, client, demanding_a_certificate_in_tls_1_2, going_away, raw, settings, showing,
    showing_pem,
};

const ACCOUNT_KEY: &str = "sk-svcacct-very-secret-value";

fn project() -> ProjectId {
    "proj_1".parse().unwrap()
}

fn account() -> ServiceAccountId {
    "user-1".parse().unwrap()
}

fn json(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("x-request-id", "req_1")], axum::Json(body)).into_response()
}

fn refusal(status: u16, message: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": "name", "code": "bad"});
    json(status, json!({"error": error}))
}

fn created() -> Value {
    json!({"object": "organization.project.service_account", "id": "user-1", "name": "n", "role": "member",
        "created_at": 1_711_471_533, "more": {"new": 1}, "api_key": {"id": "key_1", "name": "Secret Key",
        "object": "organization.project.service_account.api_key", "created_at": 1_711_471_533,
        "expires_at": 1_711_475_133, "value": ACCOUNT_KEY}})
}

fn deleted() -> Value {
    json!({"object": "organization.project.service_account.deleted", "id": "user-1", "deleted": true})
}

async fn create(client: &Client) -> Result<(), Error> {
    client.create_service_account(&project(), "n", Some(Duration::from_secs(3600))).await.map(drop)
}

/// The error of a creation that gets this response.
async fn refused(answer: impl IntoResponse) -> Error {
    create(&Server::answering([answer]).start().await).await.unwrap_err()
}

#[tokio::test]
async fn a_creation_carries_everything_and_is_read() {
    let server = Server::answering([json(200, created())]);
    let client = server.start().await;
    let made = client.create_service_account(&project(), "n", Some(Duration::from_secs(3600))).await.unwrap();
    assert_eq!((made.id.as_str(), made.key.id.as_str()), ("user-1", "key_1"));
    assert_eq!(made.key.value.expose(), ACCOUNT_KEY);
    assert_eq!(made.key.expires_at.unwrap().timestamp(), 1_711_475_133);
    assert!(!format!("{made:?}").contains("sk-"));

    let (request, body) = server.asked().remove(0);
    assert_eq!(request.method, "POST");
    assert_eq!(request.uri, "/v1/organization/projects/proj_1/service_accounts");
    assert_eq!(request.headers["authorization"], format!("Bearer {ADMIN_KEY}"));
    assert_eq!(request.headers["openai-organization"], "org-1");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(
        request.headers["user-agent"],
        concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"))
    );
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({"name": "n", "expires_in_seconds": 3600}));
}

#[tokio::test]
async fn every_call_goes_to_its_own_path() {
    let account_json = json!({"id": "user-1", "name": "n", "role": "none", "created_at": 1});
    let key_json = json!({"id": "key_1", "name": "k", "value": "v", "redacted_value": "sk-...abc", "created_at": 1,
        "owner": {"type": "service_account", "service_account": {"id": "user-1"}}});
    let page = |item: &Value| json!({"data": [item], "has_more": false});
    let server = Server::answering(
        [
            json!({"id": "proj_1", "status": "active"}),
            account_json.clone(),
            account_json.clone(),
            account_json.clone(),
            page(&account_json),
            deleted(),
            key_json.clone(),
            key_json.clone(),
            key_json.clone(),
            page(&key_json),
            deleted(),
            key_json.clone(),
            key_json.clone(),
            page(&key_json),
            deleted(),
        ]
        .map(|body| json(200, body)),
    );
    let client = server.start().await;
    let (project, account, key) = (project(), account(), "key_1".parse().unwrap());
    let admin_key = "key_1".parse().unwrap();
    let pages = || Pages::within(Duration::from_secs(5));
    client.project(&project).await.unwrap();
    client.create_account_only(&project, "n").await.unwrap();
    assert_eq!(client.service_account(&project, &account).await.unwrap().role, Role::None);
    client.rename_service_account(&project, &account, "n", Role::Member).await.unwrap();
    client.next_service_accounts(&project, &mut pages()).await.unwrap();
    client.delete_service_account(&project, &account).await.unwrap();
    client
        .create_key(&project, &account, &NewKey { scopes: vec!["a".into()], ..NewKey::default() })
        .await
        .unwrap();
    client.update_key(&project, &key, Some(&[]), None).await.unwrap();
    assert_eq!(client.key(&project, &key).await.unwrap().service_account(), Some(&account));
    client.next_keys(&project, &mut pages()).await.unwrap();
    client.delete_key(&project, &key).await.unwrap();
    client.create_admin_key("n", None).await.unwrap();
    client.admin_key(&admin_key).await.unwrap();
    client.next_admin_keys(&mut pages()).await.unwrap();
    client.delete_admin_key(&admin_key).await.unwrap();
    let seen: Vec<String> = server
        .asked()
        .iter()
        .map(|(request, body)| {
            let path = request.uri.to_string().replace("/v1/organization/", "");
            format!("{} {path} {}", request.method, String::from_utf8_lossy(body)).trim_end().to_owned()
        })
        .collect();
    assert_eq!(
        seen,
        [
            "GET projects/proj_1",
            r#"POST projects/proj_1/service_accounts {"name":"n","create_service_account_only":true}"#,
            "GET projects/proj_1/service_accounts/user-1",
            r#"POST projects/proj_1/service_accounts/user-1 {"name":"n","role":"member"}"#,
            "GET projects/proj_1/service_accounts?limit=100",
            "DELETE projects/proj_1/service_accounts/user-1",
            r#"POST projects/proj_1/service_accounts/user-1/api_keys {"scopes":["a"]}"#,
            r#"POST projects/proj_1/api_keys/key_1 {"scopes":[]}"#,
            "GET projects/proj_1/api_keys/key_1",
            "GET projects/proj_1/api_keys?owner_project_access=any&limit=100",
            "DELETE projects/proj_1/api_keys/key_1",
            r#"POST admin_api_keys {"name":"n"}"#,
            "GET admin_api_keys/key_1",
            "GET admin_api_keys?limit=100",
            "DELETE admin_api_keys/key_1",
        ]
    );
}

#[tokio::test]
async fn openais_own_words_are_passed_on_with_the_request_id_but_without_keys() {
    let error = refused(refusal(401, &format!("Incorrect API key provided: {ADMIN_KEY}."))).await;
    assert_eq!(error.to_string(), "Incorrect API key provided: [redacted]. (HTTP 401) (request req_1)");
    assert!(error.is_unauthorized() && !error.is_transient() && !error.is_unknown_outcome());
    assert_eq!((error.status(), error.code(), error.request_id()), (Some(401), Some("bad"), Some("req_1")));
    assert!(!format!("{error:?}").contains("sk-"));
}

#[tokio::test]
async fn a_404_is_gone_only_in_openais_own_words() {
    let gone = async |answer: Response| {
        let client = Server::answering([answer]).start().await.for_work(Urgency::Revocation, Duration::ZERO);
        client.delete_service_account(&project(), &account()).await.unwrap_err()
    };
    assert!(gone(refusal(404, "No such service account.")).await.is_gone());
    for answer in [
        (StatusCode::NOT_FOUND, Html("<h1>404</h1>")).into_response(),
        (StatusCode::NOT_FOUND, "").into_response(),
        json(404, json!({"error": "not found"})),
        json(404, json!({"error": {"code": 404, "message": "not found", "status": "NOT_FOUND"}})),
        refusal(404, "Invalid URL (DELETE /organization/projects)"),
        refusal(410, "Gone."),
    ] {
        let error = gone(answer).await;
        assert!(!error.is_gone(), "{error}");
    }
    let proxy = gone((StatusCode::NOT_FOUND, Html("<h1>404</h1>")).into_response()).await;
    assert!(proxy.is_transient());
    let text = proxy.to_string();
    assert!(
        text.starts_with("unexpected 404 from 127.0.0.1:") && text.ends_with(": check api_endpoint"),
        "{text}"
    );
}

#[tokio::test]
async fn a_404_for_an_unknown_url_fails_at_once_with_advice() {
    let page = || (StatusCode::NOT_FOUND, Html("<h1>404</h1>")).into_response();
    let own = || refusal(404, "Invalid URL (GET /organization/projects/proj_1)");
    for (answer, says) in [(page(), None), (own(), Some("Invalid URL (GET /organization/projects/proj_1)"))] {
        let server = Server::answering([answer, json(200, json!({"id": "proj_1"}))]);
        let url = server.start().await.base_url();
        let client = client(url.trim_end_matches("/v1"));
        let text = client.project(&project()).await.unwrap_err().to_string();
        assert!(text.contains(": api_endpoint should end in /v1"), "{text}");
        assert!(says.is_none_or(|says| text.contains(says)), "{text}");
        assert_eq!(server.asked().len(), 1, "it is not asked again");
    }
}

#[tokio::test]
async fn an_error_that_is_a_sentence_alone_is_shown_but_proves_nothing() {
    let error = refused(json(400, json!({"error": "Project is out of order."}))).await;
    assert_eq!(error.to_string(), "Project is out of order. (HTTP 400) (request req_1)");
    assert!(error.is_unknown_outcome() && !error.is_unauthorized());
}

#[tokio::test]
async fn an_answer_of_something_on_the_way_leaves_a_creation_open() {
    for status in [400, 401, 403, 404, 409, 413, 422] {
        let page = (StatusCode::from_u16(status).unwrap(), Html("<h1>no</h1>")).into_response();
        let error = refused(page).await;
        assert!(error.is_unknown_outcome(), "{error}");
        assert!(!refused(refusal(status, "No.")).await.is_unknown_outcome(), "{status}");
    }
}

#[tokio::test]
async fn what_openai_refused_may_have_been_made_unless_it_refused_the_key_or_set_a_limit() {
    for (status, may) in
        [(400, true), (404, true), (409, true), (422, true), (401, false), (403, false), (429, false)]
    {
        // So long a wait is not waited for.
        let error = refused(refusal(status, "No. Please try again after 600 seconds.")).await;
        assert_eq!(error.may_have_created(), may, "{error}");
    }
}

#[tokio::test]
async fn a_wait_that_only_the_message_tells_is_kept() {
    let told = refusal(429, "You've exceeded the rate limit, please try again after 6.937 seconds.");
    let error = refused(told).await;
    let wait = error.retry_after().unwrap();
    assert!((6_800..7_800).contains(&wait.as_millis()), "{wait:?}");
}

#[tokio::test]
async fn a_creation_that_a_server_says_not_to_have_processed_is_not_sent_again() {
    let (url, pem, taken) = going_away().await;
    let client = Client::new(Settings { ca_cert: Some(pem), ..settings(&url) }).unwrap();
    let error = create(&client.for_work(Urgency::Issue, Duration::from_secs(1))).await.unwrap_err();
    assert!(matches!(error, Error::Cut { .. }) && error.is_unknown_outcome(), "{error:?}");
    assert_eq!(taken.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_is_not_trusted_is_named_with_what_to_do() {
    let named = |name: &str| CertificateParams::new(vec![name.to_owned()]).unwrap();
    let mut expired = named("localhost");
    (expired.not_before, expired.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let mut young = named("localhost");
    (young.not_before, young.not_after) = (date_time_ymd(4000, 1, 1), date_time_ymd(4001, 1, 1));
    let mut authority = named("localhost");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (shown, is_trusted, says) in [
        (expired, true, "has expired: renew it, or check this server's clock"),
        (young, true, "is not valid yet: check this server's clock"),
        (named("other.test"), true, "is for another name: check api_endpoint, or issue one for this name"),
        (
            named("localhost"),
            false,
            "comes from an unknown authority: put the authority's certificate in ca_cert",
        ),
        (
            authority,
            true,
            "is a CA certificate used as a server's: issue a server certificate and put its CA in ca_cert",
        ),
    ] {
        let (url, pem) = showing(shown).await;
        let client = Client::new(Settings { ca_cert: is_trusted.then_some(pem), ..settings(&url) }).unwrap();
        let error = create(&client).await.unwrap_err();
        let host = url.trim_start_matches("https://").trim_end_matches("/v1");
        let sentence = format!("the connection to OpenAI is not trusted: the certificate of {host} {says}");
        assert_eq!(error.to_string(), sentence);
        assert!(!error.is_unknown_outcome() && !error.is_transient());
    }
}

/// ring verifies no SHA-512 of P-384 and P-256.
#[tokio::test]
async fn a_certificate_with_a_signature_of_an_unknown_kind_is_named_with_the_kinds_that_work() {
    let (url, pem) = showing_pem(include_str!("p384_sha512.pem")).await;
    let client = Client::new(Settings { ca_cert: Some(pem), ..settings(&url) }).unwrap();
    let error = create(&client).await.unwrap_err().to_string();
    let says = "has, or its authority's has, a signature of a kind that is not verified here: issue one signed with \
                SHA-256 or SHA-384, by a key of P-256, P-384, P-521, Ed25519, or RSA of at least 2048 bits";
    assert!(error.ends_with(says), "{error}");
}

#[tokio::test]
async fn an_authority_that_was_made_anew_under_its_name_is_asked_for() {
    let named = || CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let ((url, _), (_, former)) = (showing(named()).await, showing(named()).await);
    let client = Client::new(Settings { ca_cert: Some(former), ..settings(&url) }).unwrap();
    let error = create(&client).await.unwrap_err().to_string();
    assert!(error.ends_with("put the authority's present certificate in ca_cert"), "{error}");
}

/// With TLS 1.2 the server judges the certificate within the handshake, before any request.
#[tokio::test]
async fn where_a_certificate_is_refused_in_the_handshake_nothing_was_created() {
    let (url, pem) = demanding_a_certificate_in_tls_1_2().await;
    let refused = async |client_certificate| {
        let settings = Settings { ca_cert: Some(pem.clone()), client_certificate, ..settings(&url) };
        let error = create(&Client::new(settings).unwrap()).await.unwrap_err();
        assert!(matches!(error, Error::Untrusted { .. }) && !error.is_unknown_outcome(), "{error:?}");
        error.to_string()
    };
    let pair = include_str!("../../goplugin/tests/host.pem");
    let foreign = ClientCertificate { certificate: pair.to_owned(), key: ClientKey::new(pair) };
    let error = refused(Some(foreign)).await;
    assert!(error.contains("refused client_cert"), "{error}");
    let error = refused(None).await;
    assert!(
        error.contains("demands a client certificate") || error.contains("may demand a client"),
        "{error}"
    );
}

#[tokio::test]
async fn a_host_without_tls_and_a_name_without_an_address_are_reported() {
    let plain = Server::answering([json(200, created())]).start().await.base_url().replace("http:", "https:");
    let host = plain.trim_start_matches("https://").trim_end_matches("/v1").to_owned();
    let error = create(&client(&plain)).await.unwrap_err();
    let says = format!("the connection to OpenAI is not trusted: {host} does not speak TLS: check the port");
    assert!(error.to_string().starts_with(&says), "{error}");
    let error = create(&client("https://nothing.invalid/v1")).await.unwrap_err();
    let says = "OpenAI cannot be reached: cannot resolve nothing.invalid: ";
    assert!(error.to_string().starts_with(says) && !error.is_unknown_outcome(), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::answering([json(200, created())]);
    let elsewhere = target.start().await;
    let error = refused(Redirect::temporary(&elsewhere.base_url())).await;
    assert_eq!(error.to_string(), "the endpoint answered with a redirect, which is not followed (HTTP 307)");
    assert!(error.is_unknown_outcome());
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn a_success_that_cannot_be_read_leaves_a_creation_open_and_is_not_quoted() {
    let mut without_key = created();
    without_key["api_key"] = Value::Null;
    let mut odd_key = created();
    odd_key["api_key"]["id"] = json!({"sk-secret": 1});
    let cut = created().to_string()[..60].to_owned();
    for (answer, says) in [
        (json(200, without_key), "a field is not of the type it should be"),
        (json(200, odd_key), "a field is not of the type it should be"),
        (json(200, json!({"id": "user-1", "name": "n"})), "it has no api_key"),
        (Html(format!("<html>{ACCOUNT_KEY}")).into_response(), "it is not JSON"),
        (cut.into_response(), "it ends too early"),
        (StatusCode::NO_CONTENT.into_response(), "it ends too early"),
    ] {
        let error = refused(answer).await;
        assert!(error.is_unknown_outcome() && !error.is_transient(), "{error}");
        assert!(error.to_string().starts_with(&format!("OpenAI's answer cannot be read: {says}")), "{error}");
        assert!(!format!("{error} {error:?}").contains("sk-"), "{error}");
    }
    let error = refused(json(200, json!({}))).await;
    assert_eq!(error.request_id(), Some("req_1"));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off_announced_or_not() {
    let long = || vec![b'x'; (1 << 20) + 1];
    let announced = refused(long()).await;
    let streamed = axum::body::Body::from_stream(futures_util::stream::iter(
        (0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16])),
    ));
    let streamed = refused(Response::new(streamed)).await;
    for error in [announced, streamed] {
        assert_eq!(error.to_string(), "OpenAI's answer cannot be read: it is longer than 1 MiB");
        assert!(error.is_unknown_outcome());
    }
}

#[tokio::test]
async fn a_connection_cut_after_sending_leaves_a_creation_open() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":".to_vec();
    for answer in [Vec::new(), half] {
        let error = create(&raw(vec![answer]).await).await.unwrap_err();
        assert!(matches!(error, Error::Cut { .. }) && error.is_unknown_outcome(), "{error:?}");
    }
}

#[tokio::test]
async fn a_read_or_deletion_is_repeated_where_a_creation_is_not() {
    let body = deleted().to_string();
    let whole =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let client = raw(vec![Vec::new(), whole.into_bytes()]).await;
    client.delete_service_account(&project(), &account()).await.unwrap();

    let server = Server::answering([refusal(503, "overloaded"), json(200, json!({"id": "proj_1"}))]);
    server.start().await.project(&project()).await.unwrap();

    let server = Server::answering([refusal(500, "oops"), json(200, created())]);
    let error = create(&server.start().await).await.unwrap_err();
    assert!(error.is_unknown_outcome() && error.is_transient());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_limited_creation_is_sent_again_when_openai_says() {
    let limited =
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after-ms", "300"), ("retry-after", "9")]).into_response();
    let server = Server::answering([limited, json(200, created())]);
    let client = server.start().await;
    let start = Instant::now();
    create(&client).await.unwrap();
    assert!((300..8000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_404_of_a_new_object_does_not_start_the_wait_for_the_limit_anew() {
    let gone = || json(404, json!({"error": {"message": "no", "type": "x", "param": null, "code": null}}));
    let limited = || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response();
    let later = (0..8).flat_map(|_| [limited(), gone()]);
    let server = Server::answering([json(200, created()), gone()].into_iter().chain(later));
    let client = server.start().await.for_work(Urgency::Revocation, Duration::from_secs(2));
    create(&client).await.unwrap();
    let begun = Instant::now();
    let error = client.delete_service_account(&project(), &account()).await.unwrap_err();
    assert!(error.is_not_found_yet(), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(3_500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_limited_creation_without_time_to_wait_reports_the_wait_time() {
    let limited = (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response();
    let error = refused(limited).await;
    assert!(error.is_limited() && !error.is_unknown_outcome());
    assert!(error.retry_after().unwrap() >= Duration::from_millis(6900), "{error:?}");
    assert!(error.to_string().starts_with("OpenAI allows no more calls now: try again in "), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_done() {
    let client = client("http://127.0.0.1:1").for_work(Urgency::Issue, Duration::from_millis(100));
    let error = create(&client).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.is_transient() && !error.is_unknown_outcome());
    let says = "OpenAI cannot be reached: Connection refused by 127.0.0.1:1: check api_endpoint";
    assert!(error.to_string().starts_with(says), "{error}");
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for_and_leaves_a_creation_open() {
    let server = Server::answering([json(200, created())]).after(Duration::from_secs(60));
    let client = server.start().await;
    let start = Instant::now();
    let error = create(&client).await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }) && error.is_unknown_outcome(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_if_it_is_given_and_http2_is_spoken() {
    let server = Server::answering([json(200, created()), json(200, created())]);
    let (url, pem) = server.start_tls().await;
    let start = Instant::now();
    let error = create(&client(&url)).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }) && !error.is_unknown_outcome(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(4), "a lack of trust is not waited out");

    let trusting = Client::new(Settings { ca_cert: Some(pem), ..settings(&url) }).unwrap();
    create(&trusting).await.unwrap();
    create(&trusting).await.unwrap();
    assert!(server.asked().iter().all(|(request, _)| request.version == Version::HTTP_2));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn many_calls_at_once_reuse_their_connections() {
    let answers = (0..640).map(|_| json(200, created()));
    let server = Server::answering(answers).after(Duration::from_millis(20));
    let client = server.start().await;
    let caller = async || {
        for _ in 0..10 {
            create(&client).await.unwrap();
        }
    };
    futures_util::future::join_all((0..64).map(|_| caller())).await;
    // A call without an idle connection opens one and uses the first that is ready, so spare connections are
    // possible.
    assert!(server.connections() <= 128, "{}", server.connections());
}

#[tokio::test]
async fn a_key_is_found_in_the_list_by_its_redacted_value() {
    let record = |id: &str, redacted: &str| json!({"id": id, "redacted_value": redacted, "created_at": 1});
    let first = json!({"data": [record("key_1", "sk-admin...xyz")], "has_more": true, "last_id": "key_1"});
    let second = json!({"data": [record("key_2", "sk-admin...hij")], "has_more": false});
    let twice = json!({"data": [record("a", "sk-admin...hij"), record("b", "sk-...hij")], "has_more": false});
    let server = Server::answering([json(200, first), json(200, second), json(200, twice)]);
    let client = server.start().await;
    let own = AdminKey::parse(ADMIN_KEY).unwrap();
    assert_eq!(client.find_admin_key(&own).await.unwrap().unwrap().id.as_str(), "key_2");
    assert_eq!(server.asked()[1].0.uri.query(), Some("limit=100&after=key_1"));
    assert!(client.find_admin_key(&own).await.unwrap().is_none(), "two fit");
}

#[tokio::test]
async fn the_observer_receives_each_attempt_and_an_abandoned_one() {
    let log = Arc::new(Log::default());
    let server = Server::answering([refusal(502, "oops"), json(200, json!({"id": "proj_1"}))]);
    let (url, observer) = (server.start().await.base_url(), Arc::clone(&log));
    let client = Client::new(Settings { observer, ..settings(&url) }).unwrap();
    client.project(&project()).await.unwrap();
    let slow = Server::answering([json(200, created())]).after(Duration::from_secs(60));
    let (url, observer) = (slow.start().await.base_url(), Arc::clone(&log));
    let client = Client::new(Settings { observer, ..settings(&url) }).unwrap();
    tokio::time::timeout(Duration::from_millis(300), create(&client)).await.unwrap_err();

    let attempts = log.0.lock().unwrap();
    let told: Vec<_> =
        attempts.iter().map(|it| (it.call.as_str(), it.outcome.label().into_owned(), it.retries)).collect();
    assert_eq!(
        told,
        [
            ("project", "502".to_owned(), 0),
            ("project", "200".to_owned(), 1),
            ("create_service_account", "abandoned".to_owned(), 0),
        ]
    );
    assert!(attempts[1].outcome.is_success() && attempts[2].outcome == Outcome::Abandoned);
}

#[tokio::test]
async fn a_client_shows_no_key() {
    assert!(!format!("{:?}", client("http://127.0.0.1:1")).contains("sk-"));
}

#[tokio::test]
async fn a_call_refused_for_a_key_that_was_replaced_meanwhile_is_sent_with_the_new_one() {
    let invalid = || refusal(401, "Incorrect API key provided");
    let server = Server::answering([invalid(), json(200, created())]).after(Duration::from_millis(100));
    let client = server.start().await;
    let waiting = client.clone();
    let call = tokio::spawn(async move { create(&waiting).await });
    while server.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    client.set_admin_key(&AdminKey::parse("sk-admin-new").unwrap()).unwrap();
    call.await.unwrap().unwrap();
    let keys: Vec<_> =
        server.asked().iter().map(|(request, _)| request.headers["authorization"].clone()).collect();
    assert_eq!(keys, [format!("Bearer {ADMIN_KEY}"), "Bearer sk-admin-new".to_owned()]);
}

#[tokio::test]
async fn a_call_refused_for_the_present_key_is_not_sent_again() {
    let server = Server::answering([refusal(401, "Incorrect API key provided"), json(200, created())]);
    let client = server.start().await;
    client.set_admin_key(&AdminKey::parse("sk-admin-new").unwrap()).unwrap();
    assert_eq!(create(&client).await.unwrap_err().status(), Some(401));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_new_key_that_is_not_known_yet_is_tried_again_for_a_minute() {
    let unknown = || {
        let error = json!({"message": "no", "type": "x", "param": null, "code": "invalid_api_key"});
        json(401, json!({"error": error}))
    };
    let server =
        Server::answering([unknown(), unknown(), json(200, created()), unknown(), json(200, created())]);
    let client = server.start().await;
    client.set_admin_key(&AdminKey::parse("sk-admin-new").unwrap()).unwrap();
    create(&client).await.unwrap();
    assert_eq!(server.asked().len(), 3);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert!(create(&client).await.unwrap_err().refuses_key());
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_client_with_another_key_shares_the_rate_limit_and_leaves_the_first_client_unchanged() {
    let limited = (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response();
    let server = Server::answering([json(200, created()), limited, json(200, created())]);
    let client = server.start().await;
    let other = client
        .with_admin_key(&AdminKey::parse("sk-admin-other").unwrap(), Arc::new(super::super::NoopObserver))
        .unwrap();
    create(&client).await.unwrap();
    let none = Duration::ZERO;
    create(&other.for_work(Urgency::Issue, none)).await.unwrap_err();
    let waits = create(&client.for_work(Urgency::Issue, none)).await.unwrap_err();
    assert!(matches!(waits, Error::Throttled { .. }), "{waits}");
    let keys: Vec<_> =
        server.asked().iter().map(|(request, _)| request.headers["authorization"].clone()).collect();
    assert_eq!(keys, [format!("Bearer {ADMIN_KEY}"), "Bearer sk-admin-other".to_owned()]);
}

#[tokio::test]
async fn openai_decides_about_a_repeat_where_a_repeat_does_no_harm() {
    let told = |status, word: &'static str| {
        let mut response = refusal(status, "told");
        response.headers_mut().insert("x-should-retry", word.parse().unwrap());
        response
    };
    let delete = async |answers: Vec<Response>| {
        let server = Server::answering(answers);
        let client = server.start().await;
        (client.delete_service_account(&project(), &account()).await.is_ok(), server.asked().len())
    };
    let done = || json(200, deleted());
    assert_eq!(delete(vec![refusal(409, "conflict"), done()]).await, (true, 2));
    assert_eq!(delete(vec![told(400, "true"), done()]).await, (true, 2));
    assert_eq!(delete(vec![told(409, "false"), done()]).await, (false, 1));
    assert_eq!(delete(vec![told(503, "false"), done()]).await, (false, 1));
    assert_eq!(delete(vec![told(400, "perhaps"), done()]).await, (false, 1));
    for response in [refusal(409, "conflict"), told(400, "true"), told(429, "false")] {
        let server = Server::answering([response, json(200, created())]);
        create(&server.start().await).await.unwrap_err();
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_401_or_403_is_about_the_key_the_project_or_this_call() {
    let coded = |status, code: Value| {
        let error = json!({"message": "no", "type": "invalid_request_error", "param": null, "code": code});
        json(status, json!({"error": error}))
    };
    for (status, code, denial) in [
        (401, json!("invalid_api_key"), Some(Denial::Key)),
        (401, json!("incorrect_hostname"), Some(Denial::Project)),
        (401, json!("ip_not_authorized"), Some(Denial::Call)),
        (401, Value::Null, Some(Denial::Call)),
        (401, json!(17), Some(Denial::Call)),
        (403, json!("invalid_api_key"), Some(Denial::Call)),
        (403, Value::Null, Some(Denial::Call)),
        (404, json!("invalid_api_key"), None),
    ] {
        let error = refused(coded(status, code.clone())).await;
        assert_eq!(error.denial(), denial, "{status} {code}");
        assert_eq!(error.is_unexplained_401(), status == 401 && !code.is_string(), "{status} {code}");
    }
    // A proxy's 401 says nothing of OpenAI's key.
    assert_eq!(refused(json(401, json!({"error": "log in first"}))).await.denial(), None);
    // A 403 that names a field is about its value.
    let field = json!({"message": "no", "type": "invalid_request_error", "param": "name", "code": null});
    assert_eq!(refused(json(403, json!({"error": field}))).await.denial(), None);
}
