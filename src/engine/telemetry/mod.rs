//! Metrics, the metrics listener, Vault's events, and the status of OpenAI as recent calls show it.

pub(in crate::engine) mod events;
pub mod listener;
pub mod metrics;
pub(in crate::engine) mod openai_status;
