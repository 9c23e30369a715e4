//! Parses a complete response into a value or an error. An error never quotes the body.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::redact;
use super::retry_after::{in_headers, in_message};
use super::{Call, Endpoint, Error, Refusal};

/// Longest request id that errors and logs pass on, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Advice for a service account that was asked of the organization's default project.
const DEFAULT_PROJECT_HINT: &str =
    "OpenAI adds no service account to an organization's default project: name another project";

/// Advice for an admin key whose owner may not manage workload identity providers.
const FEDERATION_HINT: &str = "the admin key's owner may not manage workload identity providers: register the provider \
                               by hand instead (identity_provider_id)";

/// A complete response.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Body of an error response. OpenAI sends `{"error": {"message", "type", "param", "code"}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorField,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorField {
    /// OpenAI's error object.
    Object(ErrorObject),
    /// Only a sentence, from OpenAI or from a proxy.
    Sentence(String),
}

/// OpenAI always sends all four fields. A string in `type` distinguishes OpenAI's errors from those of proxies.
#[derive(Deserialize)]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default)]
    param: Value,
    #[serde(default)]
    code: Value,
}

impl Answer {
    /// The value of a success, or the error that the response describes. The error never contains `secret`.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        call: Call,
        endpoint: &Endpoint,
        secret: &str,
    ) -> Result<T, Error> {
        if !(200..300).contains(&self.status) {
            let mut refusal = self.refusal(call, secret);
            if refusal.is_unknown_url() {
                refusal.hint = Some(endpoint.not_found_hint());
            } else if refusal.is_about_default_project() {
                refusal.hint = Some(DEFAULT_PROJECT_HINT.to_owned());
            } else if refusal.is_about_federation_permission() {
                refusal.hint = Some(FEDERATION_HINT.to_owned());
            }
            return Err(Box::new(refusal).into());
        }
        self.value(call, secret)
    }

    /// The value in the body of a success.
    pub(super) fn value<T: DeserializeOwned>(&self, call: Call, secret: &str) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.malformed(call, secret, reason(&error)))
    }

    /// The error of a success whose body is not usable. `reason` must not quote the body.
    pub(super) fn malformed(&self, call: Call, secret: &str, reason: String) -> Error {
        Error::Malformed { call, reason, request_id: request_id(&self.headers, secret) }
    }

    /// The response's `Date` header: the time by the server's clock.
    pub(super) fn date(&self) -> Option<DateTime<Utc>> {
        let text = self.headers.get(DATE)?.to_str().ok()?;
        httpdate::parse_http_date(text).ok().map(DateTime::from)
    }

    /// The refusal that an error response describes. The refusal never contains `secret`.
    pub(super) fn refusal(&self, call: Call, secret: &str) -> Refusal {
        let clean = |text: &str| redact::sentence(text, secret);
        let word = |value: &Value| value.as_str().map(clean);
        let refusal = Refusal {
            call,
            status: self.status,
            is_from_openai: false,
            message: None,
            code: None,
            param: None,
            request_id: request_id(&self.headers, secret),
            retry_after: in_headers(
                &self.headers,
                self.date().map_or_else(SystemTime::now, SystemTime::from),
            ),
            hint: None,
            should_retry: should_retry(&self.headers),
            key_is_new: false,
            date: self.date(),
        };
        match serde_json::from_slice(&self.body).map(|body: ErrorBody| body.error) {
            Ok(ErrorField::Object(error)) => Refusal {
                is_from_openai: true,
                message: Some(clean(&error.message)),
                code: word(&error.code),
                param: word(&error.param),
                retry_after: refusal.retry_after.or_else(|| self.wait_in(&error.message)),
                ..refusal
            },
            Ok(ErrorField::Sentence(sentence)) => Refusal {
                message: Some(clean(&sentence)),
                retry_after: refusal.retry_after.or_else(|| self.wait_in(&sentence)),
                ..refusal
            },
            Err(_) => refusal,
        }
    }

    /// Wait time in the message of a 429 whose headers name none.
    fn wait_in(&self, message: &str) -> Option<Duration> {
        if self.status == 429 { in_message(message) } else { None }
    }
}

/// OpenAI's SDK obeys this header, too.
fn should_retry(headers: &HeaderMap) -> Option<bool> {
    headers.get("x-should-retry")?.to_str().ok()?.trim().parse().ok()
}

/// OpenAI's id for the request (header `x-request-id`).
pub(super) fn request_id(headers: &HeaderMap, secret: &str) -> Option<String> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= MAX_REQUEST_ID).then(|| redact::sentence(id, secret))
}

/// Reason why the body cannot be parsed. Serde would quote the body; this text does not.
fn reason(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => match missing_field(&error.to_string()) {
            Some(field) => format!("it has no {field}"),
            None => "a field is not of the type it should be".to_owned(),
        },
        Category::Eof => "it ends too early".to_owned(),
        Category::Syntax | Category::Io => "it is not JSON".to_owned(),
    }
}

/// The field name between the backticks. Field names come from this program, not from the body.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::super::page::WirePage;
    use super::super::{AdminKeyRecord, CreatedAdminKey, CreatedKey, Project, ServiceAccount};
    use super::*;

    const SECRET: &str = "sk-admin-the-key-that-the-call-carried";

    /// Bodies that OpenAI could send. Some contain the key of the call.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(Value::from(SECRET)),
            "\\PC{0,20}".prop_map(|text| Value::from(format!("{text}{SECRET}{text}"))),
            "(proj|key|svc_acct)_[a-z0-9]{0,9}|sk-[a-z0-9*]{0,30}|active|archived".prop_map(Value::from),
        ];
        let name = "id|object|name|value|data|error|message|type|param|code|has_more|last_id|api_key|created_at|owner|x";
        let value = leaf.prop_recursive(4, 32, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        let text = value.prop_map(|value| value.to_string().into_bytes());
        let cut = (text.clone(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
            bytes.truncate(at.index(bytes.len() + 1));
            bytes
        });
        prop_oneof![4 => text, 2 => cut, 1 => prop::collection::vec(any::<u8>(), 0..99)]
    }

    /// The error of the response as text; empty if the response is a success.
    fn error<T: DeserializeOwned>(answer: &Answer) -> String {
        answer
            .read::<T>(Call::Key, &Endpoint::default(), SECRET)
            .err()
            .map(|error| format!("{error} {error:?}"))
            .unwrap_or_default()
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reading_or_shows_the_key(
            status in 100_u16..600,
            body in body(),
            request_id in "[ -~]{0,150}",
            wait in "[ -~]{0,20}|[0-9]{1,25}|-1|1e300",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [("x-request-id", &request_id), ("retry-after", &wait), ("retry-after-ms", &wait)] {
                let value = HeaderValue::from_str(value).unwrap();
                headers.insert(HeaderName::from_static(name), value);
            }
            let answer = Answer { status, headers, body: Zeroizing::new(body) };
            for text in [
                error::<Project>(&answer),
                error::<ServiceAccount>(&answer),
                error::<CreatedKey>(&answer),
                error::<AdminKeyRecord>(&answer),
                error::<CreatedAdminKey>(&answer),
                error::<WirePage<ServiceAccount>>(&answer),
            ] {
                prop_assert!(!text.contains(SECRET), "{}", text);
            }
        }
    }

    #[test]
    fn a_date_to_wait_for_counts_by_the_clock_of_the_server_that_set_it() {
        let headers =
            [("date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")];
        let headers =
            headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer =
            Answer { status: 429, headers: HeaderMap::from_iter(headers), body: Zeroizing::new(Vec::new()) };
        let refusal = answer.refusal(Call::Key, SECRET);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_key_in_a_refusal_is_taken_out() {
        let told = json!({"error": {"message": format!("no {SECRET}"), "type": "x", "param": SECRET, "code": SECRET}});
        let body = Zeroizing::new(told.to_string().into_bytes());
        let text = error::<Project>(&Answer { status: 401, headers: HeaderMap::new(), body });
        assert!(text.contains("no ") && !text.contains(SECRET), "{text}");
    }
}
