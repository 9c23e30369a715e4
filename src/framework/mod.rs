//! Paths, fields, leases and the write-ahead log: what HashiCorp's own framework gives its engines.
