//! A client of OpenAI's Admin API. It knows nothing of Vault, leases or mounts.
