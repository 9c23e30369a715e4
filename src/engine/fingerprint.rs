//! Numbers computed from a text, equal in all processes, nodes and releases.
//!
//! Not for secrets that can be guessed, and not where an adversary must not predict the number.

use aws_lc_rs::digest;

/// The first eight bytes of the text's SHA-256, as a number.
pub fn number(text: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The same number as 16 hexadecimal digits.
pub fn text(text: &str) -> String {
    format!("{:016x}", number(text))
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
