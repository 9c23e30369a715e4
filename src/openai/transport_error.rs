//! Turns transport failures into errors with advice. Only a failure before the connection was up proves that nothing
//! was sent; every later failure leaves the outcome unknown.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use super::call::Effect;
use super::resolver::ResolveError;
use super::{Call, Error, Outcome, redact};

/// Alerts about a client's certificate, by their names in the TLS library.
const CERTIFICATE_ALERTS: [&str; 9] = [
    "CertificateRequired",
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
    "DecryptError",
];

/// Beginning of every error of a tunnel through a proxy. The type is private to the HTTP library.
const TUNNEL: &str = "tunnel error: ";

/// Context of a call, for its error.
pub(super) struct CallContext<'a> {
    pub(super) call: Call,
    /// Host and port of the endpoint.
    pub(super) host: &'a str,
    /// Name of the setting that holds the endpoint.
    pub(super) setting: &'static str,
    /// The key of the call. No error shows it.
    pub(super) secret: &'a str,
}

impl CallContext<'_> {
    /// The error for this failure of a call.
    pub(super) fn failed(&self, error: &reqwest::Error) -> (Outcome, Error) {
        let (call, detail) = (self.call, self.clean(&root_cause(error)));
        tracing::debug!(
            call = call.as_str(),
            host = self.host,
            detail,
            "a call to OpenAI got no complete response"
        );
        // With TLS 1.3 the server refuses the certificate after this side has finished the handshake. The same alert may
        // follow the work of a request. With TLS 1.2 the alert belongs to the handshake.
        if let Some(alert) = certificate_alert(&detail) {
            let reason = self.certificate_refused(alert);
            let may_be_made = call.effect() == Effect::Creation && !error.is_connect();
            let error = if may_be_made { Error::Cut { call, reason } } else { Error::Untrusted { reason } };
            return (Outcome::Tls, error);
        }
        // A connection that was up may have carried the request, whatever broke it.
        if !error.is_connect() {
            return if error.is_timeout() {
                (Outcome::Timeout, Error::TimedOut { call })
            } else {
                (Outcome::Cut, Error::Cut { call, reason: detail })
            };
        }
        match find::<rustls::Error>(error) {
            Some(error) => (Outcome::Tls, Error::Untrusted { reason: self.tls_error(error) }),
            None => (Outcome::Connect, Error::Unreachable { reason: self.unreachable(error, detail) }),
        }
    }

    /// Reason why no connection was made.
    fn unreachable(&self, error: &reqwest::Error, detail: String) -> String {
        let Self { host, setting, .. } = *self;
        if let Some(unresolved) = find::<ResolveError>(error) {
            return unresolved.to_string();
        }
        if causes(error).any(|cause| cause.to_string().starts_with(TUNNEL)) {
            let reason = detail.trim_start_matches(TUNNEL);
            return format!("the proxy in HTTPS_PROXY makes no tunnel to {host}: {reason}");
        }
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                format!("Connection refused by {host}: check {setting}, and that the host is up")
            }
            _ if error.is_timeout() => {
                format!(
                    "{host} accepted no connection in time: check {setting}, firewalls and the proxy, if there is one"
                )
            }
            _ => format!("no connection to {host}: {detail}"),
        }
    }

    /// Reason of a TLS failure on either side.
    fn tls_error(&self, error: &rustls::Error) -> String {
        let Self { host, setting, .. } = *self;
        match error {
            rustls::Error::InvalidCertificate(reason) => self.certificate_error(reason),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                format!("{host} does not speak TLS: check the port in {setting}")
            }
            // With TLS 1.2 the server says no more, if it demands a client certificate and gets none.
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => format!(
                "{host} refused the TLS connection (HandshakeFailure): it may demand a client certificate (client_cert and \
                 client_key)"
            ),
            rustls::Error::AlertReceived(alert) => format!("{host} refused the TLS connection ({alert:?})"),
            error => format!("TLS with {host} failed: {}", self.clean(&error.to_string())),
        }
    }

    fn certificate_error(&self, reason: &CertificateError) -> String {
        use CertificateError as Bad;
        let Self { host, setting, .. } = *self;
        match reason {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                format!("the certificate of {host} has expired: renew it, or check this server's clock")
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                format!("the certificate of {host} is not valid yet: check this server's clock")
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                format!(
                    "the certificate of {host} is for another name: check {setting}, or issue one for this name"
                )
            }
            Bad::UnknownIssuer => {
                format!(
                    "the certificate of {host} comes from an unknown authority: put the authority's certificate in ca_cert"
                )
            }
            // An authority that was made anew has the name of the one before it. For ring, no short RSA key signs validly.
            Bad::BadSignature => format!(
                "the certificate of {host} is signed by another key than that of the authority of this name in ca_cert, or by \
                 an RSA key of less than 2048 bits: put the authority's present certificate in ca_cert"
            ),
            // ring knows no other kinds.
            Bad::UnsupportedSignatureAlgorithmContext { .. }
            | Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
                "the certificate of {host} has, or its authority's has, a signature of a kind that is not verified here: issue \
                 one signed with SHA-256 or SHA-384, by a key of P-256, P-384, P-521, Ed25519, or RSA of at least 2048 bits"
            ),
            Bad::Revoked => format!("the certificate of {host} was revoked: issue another"),
            // The type of this error belongs to a crate that this program does not use directly.
            Bad::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => format!(
                "the certificate of {host} is a CA certificate used as a server's: issue a server certificate and put its \
                 CA in ca_cert"
            ),
            other => format!("the certificate of {host} cannot be used: {other}"),
        }
    }

    /// Reason of a server that does not take the certificate of this client, or misses one.
    fn certificate_refused(&self, alert: &str) -> String {
        let host = self.host;
        match alert {
            "CertificateRequired" => {
                format!("{host} demands a client certificate: set client_cert and client_key")
            }
            "CertificateExpired" => {
                format!("{host} says that client_cert has expired: issue another")
            }
            alert => format!(
                "{host} refused client_cert ({alert}): set a certificate, with its chain, of an authority that the \
                 organization registered at OpenAI"
            ),
        }
    }

    fn clean(&self, text: &str) -> String {
        redact::sentence(text, self.secret)
    }
}

/// The TLS alert with which the server ended the connection over the certificate of this client. Only its text is left of
/// the error where HTTP/2 was agreed on.
fn certificate_alert(detail: &str) -> Option<&str> {
    let alert = detail.strip_prefix("received fatal alert: ")?;
    CERTIFICATE_ALERTS.contains(&alert).then_some(alert)
}

/// The innermost cause, such as `Connection refused (os error 111)`.
fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}

/// The first cause of this type.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The causes of an error, outermost first.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        // `source` skips an error that an `io::Error` wraps; `get_ref` reaches it.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => cause.source(),
        }
    })
}
