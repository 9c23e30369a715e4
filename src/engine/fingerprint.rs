//! Numbers computed from a text, equal in all processes, nodes and releases.
//!
//! Not for secrets that can be guessed, and not where an adversary must not predict the number.

use ring::digest;

/// The first eight bytes of the text's SHA-256, as a number.
pub fn number(text: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The same number as 16 hexadecimal digits.
pub fn text(text: &str) -> String {
    format!("{:016x}", number(text))
}

/// The text's whole SHA-256 in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Bytes as lowercase hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_start_of_sha_256() {
        // SHA-256 of "" begins e3b0c44298fc1c14.
        assert_eq!(number(""), 0xe3b0_c442_98fc_1c14);
        assert_eq!(text(""), "e3b0c44298fc1c14");
        assert_ne!(number("a"), number("b"));
    }
}
