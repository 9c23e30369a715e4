//! Version, commit and platform of this build.

/// The version, as Vault shows it.
pub(super) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The commit from `BUILD_COMMIT`, which `make build` and the image build set.
pub(super) const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// Profile, operating system and architecture.
pub(super) fn describe() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{profile} {} {}", std::env::consts::OS, std::env::consts::ARCH)
}
