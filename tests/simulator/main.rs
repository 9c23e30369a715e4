//! A strict simulator of OpenAI's Admin API, for tests and the demo.
fn main() {}
