//! Measurements and events: metrics, their listener, Vault's events, and the state of OpenAI as calls show it.

pub(in crate::engine) mod events;
pub mod listener;
pub mod metrics;
pub(in crate::engine) mod openai_status;
