//! The environment variables that a host sets for its plugin, parsed once into a value. This file does not act on the
//! values.

use std::ffi::OsString;
use std::path::PathBuf;

/// The host's settings for this process (PROTOCOL 1.2 to 1.4).
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The value of the plugin's cookie variable.
    pub(super) cookie: Option<String>,
    /// The protocol versions that the host offers.
    pub(super) offered_versions: Vec<u32>,
    /// The host's one-time certificate, PEM.
    pub(super) host_certificate: Option<String>,
    /// The host's request for one shared connection.
    pub(super) multiplexing: Multiplexing,
    /// The directory for the socket.
    pub(super) socket_directory: PathBuf,
    /// The group that may connect to the socket, as a number or a name.
    pub(super) socket_group: Option<String>,
    /// True if the host only queries the plugin's metadata and serves nothing behind the broker.
    pub(super) metadata_mode: bool,
    /// True if the host locks its memory and wants the plugin to do the same.
    pub(super) lock_memory: bool,
}

/// The value of `PLUGIN_MULTIPLEX_GRPC`. A host that does not set the variable cannot parse a handshake line with a
/// field about multiplexing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Multiplexing {
    /// The variable is unset or empty.
    #[default]
    Unset,
    /// The host supports multiplexing and does not use it.
    Disabled,
    /// All streams share one connection.
    Enabled,
}

/// The variables in the order of the process's environment block, in which a name may occur twice.
struct Variables(Vec<(OsString, OsString)>);

impl Environment {
    /// Parses `variables`. `cookie` is the name of the plugin's cookie variable.
    pub(super) fn read(cookie: &str, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = Variables(variables.into_iter().collect());
        Self {
            cookie: variables.text(cookie),
            offered_versions: versions(&variables.text("PLUGIN_PROTOCOL_VERSIONS").unwrap_or_default()),
            host_certificate: variables.non_empty("PLUGIN_CLIENT_CERT"),
            multiplexing: Multiplexing::read(&variables.text("PLUGIN_MULTIPLEX_GRPC").unwrap_or_default()),
            socket_directory: variables.socket_directory(),
            socket_group: variables.non_empty("PLUGIN_UNIX_SOCKET_GROUP"),
            metadata_mode: variables.is_true("PLUGIN_METADATA_MODE"),
            lock_memory: variables.is_true("PLUGIN_MLOCK_ENABLED"),
        }
    }
}

impl Multiplexing {
    /// Parses a boolean as Go does. Any other text counts as false.
    fn read(text: &str) -> Self {
        match text {
            "" => Self::Unset,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Self::Enabled,
            _ => Self::Disabled,
        }
    }
}

impl Variables {
    /// All values of a name, the last one first. A container runtime may keep two values, and the later one is the
    /// container's.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsString> {
        self.0.iter().rev().filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.all(name).next().map(|value| value.to_string_lossy().into_owned())
    }

    /// The value of a name, if the value is not empty.
    fn non_empty(&self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// The directory for the socket. Docker's configuration sets `PLUGIN_UNIX_SOCKET_DIR` for the host's side and for
    /// the container's, and some runtimes keep both (PROTOCOL 1.3). The directory that exists in this process is the
    /// right one.
    fn socket_directory(&self) -> PathBuf {
        let named =
            || self.all("PLUGIN_UNIX_SOCKET_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
        let temporary = || self.all("TMPDIR").find(|value| !value.is_empty()).map(PathBuf::from);
        named()
            .find(|directory| directory.is_dir())
            .or_else(|| named().next())
            .or_else(temporary)
            .unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// A boolean of the server. OpenBao sets two names and Vault one. OpenBao's name wins if it is set at all
    /// (PROTOCOL 1.4).
    fn is_true(&self, name: &str) -> bool {
        let openbao = self.text(&format!("BAO_{name}"));
        openbao.or_else(|| self.text(&format!("VAULT_{name}"))).as_deref() == Some("true")
    }
}

/// Parses a comma-separated list of versions. Elements that are not numbers are skipped.
fn versions(text: &str) -> Vec<u32> {
    text.split(',').filter_map(|version| version.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read("COOKIE", variables.iter().map(|(key, value)| (key.into(), value.into())))
    }

    /// A variable that the plugin reads, with arbitrary bytes as its value.
    fn variable() -> impl Strategy<Value = (OsString, OsString)> {
        let name = prop::sample::select(vec![
            "COOKIE",
            "PLUGIN_PROTOCOL_VERSIONS",
            "PLUGIN_CLIENT_CERT",
            "PLUGIN_MULTIPLEX_GRPC",
            "PLUGIN_UNIX_SOCKET_DIR",
            "PLUGIN_UNIX_SOCKET_GROUP",
            "TMPDIR",
            "VAULT_PLUGIN_METADATA_MODE",
            "BAO_PLUGIN_METADATA_MODE",
            "VAULT_PLUGIN_MLOCK_ENABLED",
        ]);
        let value = prop_oneof![
            prop::collection::vec(1_u8..=255, 0..40),
            "[-0-9, tT]{0,12}|true|5,6|\\PC{0,20}".prop_map(String::into_bytes),
        ];
        (name, value).prop_map(|(name, value)| (name.into(), OsString::from_vec(value)))
    }

    proptest! {
        #[test]
        fn no_environment_breaks_the_reading(variables in prop::collection::vec(variable(), 0..12)) {
            let named = |name: &str| variables.iter().any(|(key, value)| key == name && !value.is_empty());
            let environment = Environment::read("COOKIE", variables.clone());
            prop_assert_eq!(environment.socket_group.is_some_and(|group| group.is_empty()), false);
            prop_assert!(environment.cookie.is_some() || !named("COOKIE"));
            prop_assert!(!environment.socket_directory.as_os_str().is_empty());
            prop_assert!(environment.multiplexing == Multiplexing::Unset || named("PLUGIN_MULTIPLEX_GRPC"));
        }
    }

    #[test]
    fn an_empty_environment_asks_for_nothing() {
        let environment = read(&[]);
        assert_eq!(environment.cookie, None);
        assert!(environment.offered_versions.is_empty());
        assert_eq!(environment.host_certificate, None);
        assert_eq!(environment.multiplexing, Multiplexing::Unset);
        assert_eq!(environment.socket_directory, PathBuf::from("/tmp"));
        assert_eq!(environment.socket_group, None);
        assert!(!environment.metadata_mode && !environment.lock_memory);
    }

    #[test]
    fn offered_versions_survive_spaces_and_garbage() {
        assert_eq!(read(&[("PLUGIN_PROTOCOL_VERSIONS", " 5,x,,-1, 6")]).offered_versions, [5, 6]);
    }

    #[test]
    fn multiplexing_is_read_as_go_reads_booleans() {
        let of = |text| read(&[("PLUGIN_MULTIPLEX_GRPC", text)]).multiplexing;
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(of(text), Multiplexing::Enabled, "{text}");
        }
        for text in ["0", "false", "yes"] {
            assert_eq!(of(text), Multiplexing::Disabled, "{text}");
        }
        assert_eq!(of(""), Multiplexing::Unset);
    }

    #[test]
    fn of_two_socket_directories_the_one_that_exists_is_taken() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().to_str().unwrap();
        let gone = "/nowhere/to/be/found";
        for order in [[gone, here], [here, gone]] {
            let both = order.map(|directory| ("PLUGIN_UNIX_SOCKET_DIR", directory));
            assert_eq!(read(&both).socket_directory, PathBuf::from(here));
        }
    }

    #[test]
    fn of_two_missing_socket_directories_the_last_is_taken() {
        let both = [("PLUGIN_UNIX_SOCKET_DIR", "/nowhere/1"), ("PLUGIN_UNIX_SOCKET_DIR", "/nowhere/2")];
        assert_eq!(read(&both).socket_directory, PathBuf::from("/nowhere/2"));
    }

    #[test]
    fn empty_values_are_as_good_as_none() {
        let environment = read(&[
            ("PLUGIN_UNIX_SOCKET_DIR", ""),
            ("PLUGIN_UNIX_SOCKET_GROUP", ""),
            ("PLUGIN_CLIENT_CERT", ""),
            ("TMPDIR", "/elsewhere"),
        ]);
        assert_eq!(environment.socket_directory, PathBuf::from("/elsewhere"));
        assert_eq!(environment.socket_group, None);
        assert_eq!(environment.host_certificate, None);
    }

    #[test]
    fn openbaos_metadata_mode_outweighs_vaults_even_when_empty() {
        assert!(read(&[("VAULT_PLUGIN_METADATA_MODE", "true")]).metadata_mode);
        let both = [("VAULT_PLUGIN_METADATA_MODE", "true"), ("BAO_PLUGIN_METADATA_MODE", "")];
        assert!(!read(&both).metadata_mode);
    }

    #[test]
    fn memory_is_locked_only_if_the_host_says_so() {
        for (value, locks) in [("true", true), ("false", false), ("", false)] {
            assert_eq!(read(&[("VAULT_PLUGIN_MLOCK_ENABLED", value)]).lock_memory, locks, "{value:?}");
        }
    }
}
