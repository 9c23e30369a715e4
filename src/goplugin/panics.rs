//! What a panic says: where, never what. Its message may quote the data it stumbled over, and this data may be secret.

/// Has panics logged by their place alone, instead of printed with their message.
pub fn log_location_only() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a panic: a bug in this plugin, please report the place");
    }));
}
