//! Turns transport failures into errors with advice. Only a failure before the connection was up proves that nothing
//! was sent; every later failure leaves the outcome unknown.

use std::error::Error as StdError;
use std::io;

use rustls::{CertificateError, InvalidMessage};

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
        // follow the work of a request.
        if let Some(alert) = certificate_alert(&detail) {
            let reason = self.certificate_refused(alert);
            let is_creation = call.effect() == Effect::Creation;
            let error = if is_creation { Error::Cut { call, reason } } else { Error::Untrusted { reason } };
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
        match find::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                format!("Connection refused by {host}: check {setting}, and that the host is up")
            }
            _ if error.is_timeout() => {
                format!("{host} accepted no connection in time: check {setting} and firewalls")
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
