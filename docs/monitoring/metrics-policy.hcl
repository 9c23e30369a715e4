# All that a scraper needs. The path begins with the mount's.
path "openai/metrics" {
  capabilities = ["read"]
}
