//! Which build of the plugin this is.

/// The release, as Vault knows it.
pub(super) const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The commit, where the build said it (`BUILD_COMMIT`, as `make build` and the image do).
pub(super) const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// Profile, system and architecture.
pub(super) fn describe() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!("{profile} {} {}", std::env::consts::OS, std::env::consts::ARCH)
}
