//! Ids and key values in OpenAI's formats. An id contains its serial number, so a page can continue after a deleted
//! object.

use rand::distr::{Alphanumeric, SampleString};

/// An id such as `svc_acct_...`: prefix, serial number and a random suffix.
pub fn id(prefix: &str, serial: u64) -> String {
    format!("{prefix}_{serial:010x}{}", random(12))
}

/// The serial number in an id of this prefix.
pub fn serial(prefix: &str, id: &str) -> Option<u64> {
    let digits = id.strip_prefix(prefix)?.strip_prefix('_')?.get(..10)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Value of a new key: `sk-svcacct-...`, `sk-admin-...`.
pub fn key_value(prefix: &str) -> String {
    format!("{prefix}-{}", random(120))
}

/// `count` random letters and digits.
pub fn random(count: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), count)
}

/// Redacted form of a key in lists: `sk-admin...def`.
pub fn redacted(value: &str) -> String {
    let shown = |range: Option<&str>| range.unwrap_or_default().to_owned();
    let end = value.len().saturating_sub(3).max(8);
    format!("{}...{}", shown(value.get(..8)), shown(value.get(end..)))
}
