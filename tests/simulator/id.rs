//! Ids and key values as OpenAI writes them. An id carries its serial number, so a page can go on after a thing
//! that was deleted meanwhile.

use rand::distr::{Alphanumeric, SampleString};

/// `svc_acct_...` and such: prefix, serial number, then something nobody can guess.
pub fn id(prefix: &str, serial: u64) -> String {
    format!("{prefix}_{serial:010x}{}", random(12))
}

/// The serial number in an id of this prefix.
pub fn serial(prefix: &str, id: &str) -> Option<u64> {
    let digits = id.strip_prefix(prefix)?.strip_prefix('_')?.get(..10)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The value of a new key: `sk-svcacct-...`, `sk-admin-...`.
pub fn key_value(prefix: &str) -> String {
    format!("{prefix}-{}", random(120))
}

/// `count` random letters and digits.
pub fn random(count: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), count)
}

/// How lists show a key: `sk-admin...def`.
pub fn redacted(value: &str) -> String {
    let shown = |range: Option<&str>| range.unwrap_or_default().to_owned();
    let end = value.len().saturating_sub(3).max(8);
    format!("{}...{}", shown(value.get(..8)), shown(value.get(end..)))
}
