//! The plugin as a later release: the same program under another version, for the tests of upgrades.

use std::process::ExitCode;

#[path = "../../src/main.rs"]
#[expect(dead_code, reason = "it has a main of its own")]
mod plugin;

fn main() -> ExitCode {
    plugin::run("v99.0.0")
}
