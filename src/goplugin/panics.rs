//! The panic hook. A panic's message can quote secret data, so the log gets only the location.

/// Logs panics by their location, instead of printing their messages.
pub fn log_location_only() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "this plugin panicked, which is a bug; please report this location");
    }));
}
