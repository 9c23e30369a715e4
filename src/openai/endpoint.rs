//! The base URL of the Admin API. Every call sends the admin key to this URL.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// Base URL of the API: https, or http to loopback only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

/// Reason why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The text is not a URL.
    #[error("it must be a URL such as {}", Endpoint::DEFAULT)]
    NotAUrl,
    /// The URL parser silently drops some blanks, so the parsed URL would differ from the text.
    #[error("it must not hold spaces, tabs or line breaks")]
    Blank,
    /// The host name has letters outside ASCII.
    #[error("its host must be named in ASCII (a name with other letters is written xn--...)")]
    NotAscii,
    /// The scheme is neither https nor http.
    #[error("it must begin with https:// (or http:// to this machine)")]
    Scheme,
    /// Plain http would send the admin key over the network in clear text.
    #[error("http is allowed to localhost, 127.0.0.0/8 and [::1] only: use https")]
    PlainHttp,
    /// A user name or password would appear in logs.
    #[error("it must not hold a user name or password")]
    UserInfo,
    /// Each call adds its own query.
    #[error("it must not hold a query (?)")]
    Query,
    /// A fragment has no meaning in a call.
    #[error("it must not hold a fragment (#)")]
    Fragment,
}

impl Endpoint {
    /// OpenAI's base URL.
    pub const DEFAULT: &'static str = "https://api.openai.com/v1";

    /// Parses a base URL. A trailing slash makes no difference.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err(EndpointError::Blank);
        }
        let mut url = Url::parse(text)
            .map_err(|_| if text.is_ascii() { EndpointError::NotAUrl } else { EndpointError::NotAscii })?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => return Err(EndpointError::PlainHttp),
            _ => return Err(EndpointError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::UserInfo);
        }
        if url.query().is_some() {
            return Err(EndpointError::Query);
        }
        if url.fragment().is_some() {
            return Err(EndpointError::Fragment);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// True for plain http, which is allowed to loopback only.
    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// Host, with the port if the URL names one.
    pub(super) fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Advice for a 404 that OpenAI's resources did not send.
    pub(super) fn not_found_hint(&self) -> String {
        let host = self.host();
        if self.0.path().ends_with("/v1") {
            format!("unexpected 404 from {host}: check api_endpoint")
        } else {
            format!("unexpected 404 from {host}: api_endpoint should end in /v1")
        }
    }

    /// The URL itself.
    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    /// The URL of these path segments below the endpoint.
    pub(super) fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        // The constant is an https URL; the test `defaults_to_openai` checks it.
        #[expect(clippy::expect_used)]
        Self::parse(Self::DEFAULT).expect("a valid constant")
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

fn is_loopback(url: &Url) -> bool {
    // A name that looks like an IP address is an address here: the URL parser normalizes every spelling.
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_to_openai() {
        assert_eq!(Endpoint::default().to_string(), "https://api.openai.com/v1");
    }

    #[test]
    fn a_404_of_nobody_points_to_the_missing_v1() {
        let hint = |text: &str| Endpoint::parse(text).unwrap().not_found_hint();
        assert_eq!(hint("https://h:8443/x/"), "unexpected 404 from h:8443: api_endpoint should end in /v1");
        assert_eq!(hint("https://h/v1/"), "unexpected 404 from h: check api_endpoint");
    }

    #[test]
    fn slashes_at_the_end_make_no_difference() {
        for (text, base, joined) in [
            ("https://h/v1/", "https://h/v1", "https://h/v1/a/b"),
            ("https://h/v1", "https://h/v1", "https://h/v1/a/b"),
            ("https://h", "https://h", "https://h/a/b"),
            ("https://h///", "https://h", "https://h/a/b"),
            ("HTTPS://H:8443/x/v1//", "https://h:8443/x/v1", "https://h:8443/x/v1/a/b"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), base);
            assert_eq!(endpoint.join(&["a", "b"]).as_str(), joined);
        }
    }

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        for text in
            ["http://localhost:1/v1", "http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80/v1"]
        {
            assert!(Endpoint::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://api.openai.com/v1",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://10.0.0.1",
            "http://0.0.0.0",
            "http://[::ffff:127.0.0.1]",
        ] {
            assert_eq!(Endpoint::parse(text), Err(EndpointError::PlainHttp), "{text}");
        }
    }

    #[test]
    fn a_host_with_other_letters_is_named_in_ascii() {
        let endpoint = Endpoint::parse("https://xn--bcher-kva.example/v1").unwrap();
        assert_eq!(endpoint.to_string(), "https://xn--bcher-kva.example/v1");
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        for (text, why) in [
            ("", EndpointError::NotAUrl),
            ("api.openai.com/v1", EndpointError::NotAUrl),
            ("https://", EndpointError::NotAUrl),
            ("https://b\u{fc}cher.example/v1", EndpointError::NotAscii),
            ("ftp://h/v1", EndpointError::Scheme),
            ("file:///etc/passwd", EndpointError::Scheme),
            ("https://u@h/v1", EndpointError::UserInfo),
            ("https://u:p@h/v1", EndpointError::UserInfo),
            ("https://:p@h/v1", EndpointError::UserInfo),
            ("https://h/v1?x=1", EndpointError::Query),
            ("https://h/v1?", EndpointError::Query),
            ("https://h/v1#x", EndpointError::Fragment),
        ] {
            assert_eq!(Endpoint::parse(text), Err(why), "{text}");
        }
    }
}
