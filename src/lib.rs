//! OpenAI secrets engine for Vault and OpenBao.

pub mod engine;
pub mod framework;
pub mod goplugin;
pub mod logical;
pub mod openai;
pub mod wire;
