//! Names of accounts and keys at OpenAI, and name templates.

pub mod names;
pub mod template;
