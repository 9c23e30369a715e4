//! HashiCorp's go-plugin protocol, serving side. It could serve any plugin: it knows nothing of Vault.
