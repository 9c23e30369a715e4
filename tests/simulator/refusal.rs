//! OpenAI's error responses: a status and `{"error": {message, type, param, code}}`.
//!
//! The codes and messages are those of OpenAI's API.

use serde_json::{Value, json};

/// Error type of every invalid request.
const INVALID_REQUEST: &str = "invalid_request_error";
/// Marks an error of the token exchange, which has another form.
const OAUTH: &str = "oauth";

/// An error response; [`Refusal::body`] is its JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The error message.
    pub message: String,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// The field or parameter at fault.
    pub param: Option<String>,
    /// OpenAI's `code`.
    pub code: Option<&'static str>,
}

impl Refusal {
    /// JSON body of the response.
    pub fn body(&self) -> Value {
        let Self { message, kind, param, code, .. } = self;
        if *kind == OAUTH {
            return json!({"error": code, "error_description": message});
        }
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }

    fn new(status: u16, code: Option<&'static str>, message: String) -> Self {
        Self { status, message, kind: INVALID_REQUEST, param: None, code }
    }

    fn of(param: &str, code: &'static str, message: String) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(400, Some(code), message) }
    }

    /// The organization's policy or the state of an object forbids the request.
    pub fn forbidden_by_state(param: Option<&str>, code: &'static str, message: String) -> Self {
        Self { param: param.map(str::to_owned), ..Self::new(400, Some(code), message) }
    }

    /// The body is not a JSON object.
    pub fn unreadable_body() -> Self {
        let message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't \
                       using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was \
                       sent was not valid JSON.)";
        Self::new(400, None, message.to_owned())
    }

    /// The content type is not JSON.
    pub fn wrong_content_type(sent: &str) -> Self {
        let message = format!("Invalid Content-Type header ({sent}), expected application/json.");
        Self::new(400, Some("unsupported_content_type"), message)
    }

    /// The body is too large.
    pub fn too_large() -> Self {
        Self::new(413, Some("request_too_large"), "The request body is too large.".to_owned())
    }

    /// An unknown field or query parameter.
    pub fn unknown(param: &str) -> Self {
        Self::of(param, "unknown_parameter", format!("Unknown parameter: '{param}'."))
    }

    /// A required field or query parameter is missing.
    pub fn missing(param: &str) -> Self {
        Self::of(param, "missing_required_parameter", format!("Missing required parameter: '{param}'."))
    }

    /// A value has the wrong JSON type.
    pub fn wrong_type(param: &str, expected: &str, sent: &Value) -> Self {
        let got = named(sent);
        Self::of(
            param,
            "invalid_type",
            format!("Invalid type for '{param}': expected {expected}, but got {got} instead."),
        )
    }

    /// An integer below its minimum.
    pub fn below(param: &str, minimum: i64, sent: impl std::fmt::Display) -> Self {
        let message = format!(
            "Invalid '{param}': integer below minimum value. Expected a value >= {minimum}, but got {sent} instead."
        );
        Self::of(param, "integer_below_min_value", message)
    }

    /// An integer above its maximum.
    pub fn above(param: &str, maximum: i64, sent: impl std::fmt::Display) -> Self {
        let message = format!(
            "Invalid '{param}': integer above maximum value. Expected a value <= {maximum}, but got {sent} instead."
        );
        Self::of(param, "integer_above_max_value", message)
    }

    /// A text is empty.
    pub fn empty(param: &str) -> Self {
        let message = format!(
            "Invalid '{param}': empty string. Expected a string with minimum length 1, but got an empty string instead."
        );
        Self::of(param, "empty_string", message)
    }

    /// A value is not in the list of valid values.
    pub fn not_one_of(param: &str, allowed: &[&str], sent: &str) -> Self {
        let allowed = allowed.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
        let message = format!("Invalid value: '{sent}'. Supported values are: {allowed}.");
        Self::of(param, "invalid_value", message)
    }

    /// A value is invalid for another reason.
    pub fn invalid(param: &str, message: String) -> Self {
        Self::of(param, "invalid_value", message)
    }

    /// The request has no `Authorization: Bearer ...` header.
    pub fn no_key() -> Self {
        let message = "You didn't provide an API key. You need to provide your API key in an Authorization header \
                       using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
        Self::new(401, None, message.to_owned())
    }

    /// The key does not exist, was deleted or has expired. `redacted` is the masked key.
    pub fn wrong_key(redacted: &str) -> Self {
        let message = format!(
            "Incorrect API key provided: {redacted}. You can find your API key at https://platform.openai.com/account/api-keys."
        );
        Self::new(401, Some("invalid_api_key"), message)
    }

    /// The key lacks a permission. OpenAI sends no code with this.
    pub fn missing_scope(scope: &str) -> Self {
        let message = format!(
            "You have insufficient permissions for this operation. Missing scopes: {scope}. Check that you have the correct \
             role in your organization (Reader, Writer, Owner) and project (Member, Owner), and if you're using a \
             restricted API key, that it has the necessary scopes."
        );
        Self::new(401, None, message)
    }

    /// The project has data residency, and its region's host is another.
    pub fn wrong_host() -> Self {
        let message = "attempted to access resource with incorrect regional hostname. Please make your request to \
                       us.api.openai.com";
        Self::new(401, Some("incorrect_hostname"), message.to_owned())
    }

    /// `OpenAI-Organization` names an organization other than the key's.
    pub fn wrong_organization() -> Self {
        let message = "OpenAI-Organization header should match organization for API key";
        Self::new(401, Some("mismatched_organization"), message.to_owned())
    }

    /// An error of the token exchange.
    pub fn oauth(status: u16, code: &'static str, description: String) -> Self {
        Self { kind: OAUTH, ..Self::new(status, Some(code), description) }
    }

    /// The key's owner may not do this.
    pub fn forbidden(message: &str) -> Self {
        Self::new(403, Some("insufficient_permissions"), message.to_owned())
    }

    /// A limit or another object stands in the way.
    pub fn conflict(message: String) -> Self {
        Self::new(409, Some("conflict"), message)
    }

    /// The object does not exist.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(404, Some("not_found"), format!("{what} '{id}' not found."))
    }

    /// The path does not exist.
    pub fn no_such_url(method: &str, path: &str) -> Self {
        Self::new(404, None, format!("Invalid URL ({method} {path})"))
    }

    /// The path exists for other methods.
    pub fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!(
            "Not allowed to {method} on {path} (HINT: Perhaps you meant to use a different HTTP method?)"
        );
        Self::new(405, Some("method_not_supported"), message)
    }

    /// A rate limit refuses the call.
    pub fn limited(message: String) -> Self {
        Self::new(429, Some("rate_limit_exceeded"), message)
    }
}

fn named(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
