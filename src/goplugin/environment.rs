//! The environment that a host gives its plugin, read once into a value. It knows the names of the variables and
//! how odd they may be, not what is done with them.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the host asked of this process (PROTOCOL 1.2 to 1.4).
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// The value of the plugin's cookie variable.
    pub(super) cookie: Option<String>,
    /// The protocol versions that the host offers.
    pub(super) offered_versions: Vec<u32>,
    /// The host's one-time certificate, PEM.
    pub(super) host_certificate: Option<String>,
    /// Whether all streams share one connection.
    pub(super) multiplexing: Multiplexing,
    /// Where the socket goes.
    pub(super) socket_directory: PathBuf,
    /// The group that shall reach the socket, by number or name.
    pub(super) socket_group: Option<String>,
    /// The host only asks what the plugin is and serves nothing behind it.
    pub(super) metadata_mode: bool,
    /// The host locks its memory, and wants the plugin's locked.
    pub(super) lock_memory: bool,
}

/// What `PLUGIN_MULTIPLEX_GRPC` says. A host that never heard of it cannot read a line that mentions it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Multiplexing {
    /// The variable is unset or empty.
    #[default]
    Unset,
    /// The host knows of it and does without.
    Disabled,
    /// All streams share one connection.
    Enabled,
}

/// The variables in the order of the process's environment block, which may name one twice.
struct Variables(Vec<(OsString, OsString)>);

impl Environment {
    /// Reads `variables`; `cookie` is the name of the plugin's cookie variable.
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
    /// Reads a boolean as Go does; what is no boolean is false.
    fn read(text: &str) -> Self {
        match text {
            "" => Self::Unset,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Self::Enabled,
            _ => Self::Disabled,
        }
    }
}

impl Variables {
    /// All values of a name, the last first: where a container runtime kept two, the later one was meant.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a OsString> {
        self.0.iter().rev().filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.all(name).next().map(|value| value.to_string_lossy().into_owned())
    }

    /// The value of a name that is set to more than nothing.
    fn non_empty(&self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    /// Docker's configuration names `PLUGIN_UNIX_SOCKET_DIR` once for the host's side and once for the
    /// container's, and some runtimes keep both (PROTOCOL 1.3): the one that exists here is ours.
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

    /// A switch of the server. OpenBao sets both names, Vault one; OpenBao's counts if it is there at all (PROTOCOL 1.4).
    fn is_true(&self, name: &str) -> bool {
        let openbao = self.text(&format!("BAO_{name}"));
        openbao.or_else(|| self.text(&format!("VAULT_{name}"))).as_deref() == Some("true")
    }
}

/// Reads a comma-separated list; what is no number was not offered to us.
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

    /// A variable that is looked at, with bytes that need not be text.
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
    fn offered_versions_survive_spaces_and_rubbish() {
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
