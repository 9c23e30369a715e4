//! Names of accounts and keys at OpenAI, and the templates that they are made from.

pub mod names;
pub mod template;
