//! Federated credentials: the mount is an issuer of signed tokens, and OpenAI exchanges them for access tokens. No API key
//! is created, stored or deleted.
//!
//! [`signing`] holds the signing key, [`token`] signs tokens with it.

pub(in crate::engine) mod signing;
pub(in crate::engine) mod token;
