//! Vault's backend protocol in protobuf, to and from [`crate::logical`], and nothing else.
