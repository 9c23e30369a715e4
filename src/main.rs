//! The plugin's process: wiring only.

fn main() {}
