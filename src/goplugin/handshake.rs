//! The handshake: the cookie that a host sets, the protocol version, and the one line on stdout.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;

use super::environment::{Environment, Multiplexing};
use super::{Error, Plugin};

/// The version of go-plugin's own protocol, the first field of the line (PROTOCOL 1.1).
const CORE_VERSION: u32 = 1;

/// Refuses to run if no host started this process. The cookie is not a secret. The refusal tells a user who runs the
/// binary how to register the plugin.
pub(super) fn check_cookie(plugin: &Plugin, environment: &Environment) -> Result<(), Error> {
    if environment.cookie.as_deref() == Some(plugin.cookie.value) {
        return Ok(());
    }
    Err(Error::StartedByHand(plugin.about))
}

/// True if the host offers the protocol version of this plugin.
pub(super) fn speaks_our_version(plugin: &Plugin, environment: &Environment) -> bool {
    environment.offered_versions.contains(&plugin.protocol_version)
}

/// Writes the line and flushes stdout. The line must be the first output on stdout (PROTOCOL 1.5).
pub(super) fn write_line(mut stdout: impl Write, line: &str) -> Result<(), Error> {
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Handshake)
}

/// The line with the socket's path and the plugin's certificate. The line has six fields, and a seventh if the host
/// sets the multiplexing variable. The sixth field is empty without a certificate. Go rejects base64 padding
/// (PROTOCOL 1.5).
pub(super) fn line(
    version: u32,
    socket: &Path,
    certificate: Option<&CertificateDer<'_>>,
    multiplexing: Multiplexing,
) -> String {
    let certificate = certificate.map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
    let supported = if multiplexing == Multiplexing::Unset { "" } else { "|true" };
    format!("{CORE_VERSION}|{version}|unix|{}|grpc|{certificate}{supported}\n", socket.display())
}

#[cfg(test)]
mod tests {
    use super::super::Cookie;
    use super::*;

    const PLUGIN: Plugin = Plugin {
        cookie: Cookie { key: "COOKIE", value: "crumbs" },
        protocol_version: 5,
        about: "This is a plugin.",
    };

    fn with_cookie(cookie: Option<&str>) -> Environment {
        Environment { cookie: cookie.map(str::to_owned), ..Environment::default() }
    }

    #[test]
    fn only_the_exact_cookie_is_a_host() {
        assert!(check_cookie(&PLUGIN, &with_cookie(Some("crumbs"))).is_ok());
        for other in [None, Some(""), Some("crumb"), Some("crumbs ")] {
            let error = check_cookie(&PLUGIN, &with_cookie(other)).unwrap_err();
            assert!(matches!(error, Error::StartedByHand(_)));
            assert_eq!(error.to_string(), "This is a plugin.");
        }
    }

    #[test]
    fn our_version_is_found_anywhere_among_the_offers() {
        let offered =
            |versions: &[u32]| Environment { offered_versions: versions.to_vec(), ..Environment::default() };
        assert!(speaks_our_version(&PLUGIN, &offered(&[6, 5, 4])));
        assert!(!speaks_our_version(&PLUGIN, &offered(&[3, 4])));
        assert!(!speaks_our_version(&PLUGIN, &offered(&[])));
    }

    #[test]
    fn the_line_has_six_fields_and_no_padding() {
        let certificate = CertificateDer::from(vec![0xfb; 100]);
        let line = line(5, Path::new("/tmp/plugin1"), Some(&certificate), Multiplexing::Unset);
        let fields: Vec<&str> = line.strip_suffix('\n').unwrap().split('|').collect();
        assert_eq!(fields[..5], ["1", "5", "unix", "/tmp/plugin1", "grpc"]);
        assert_eq!(fields.len(), 6);
        assert!(!fields[5].contains('='));
        assert_eq!(STANDARD_NO_PAD.decode(fields[5]).unwrap(), vec![0xfb; 100]);
    }

    #[test]
    fn a_host_that_has_heard_of_multiplexing_is_told_that_we_can() {
        for setting in [Multiplexing::Disabled, Multiplexing::Enabled] {
            assert_eq!(line(5, Path::new("/s"), None, setting), "1|5|unix|/s|grpc||true\n");
        }
        assert_eq!(line(5, Path::new("/s"), None, Multiplexing::Unset), "1|5|unix|/s|grpc|\n");
    }

    #[test]
    fn a_broken_stdout_is_an_error_and_no_panic() {
        let full: &mut [u8] = &mut [];
        assert!(matches!(write_line(full, "line\n"), Err(Error::Handshake(_))));
    }
}
