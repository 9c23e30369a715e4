//! Makes foreign text safe for errors and logs: no keys or tokens, no control characters, bounded length.

/// Longest sentence, in characters. OpenAI's messages are shorter.
const MAX_LENGTH: usize = 600;

/// Replacement for a key or a token.
const MASK: &str = "[redacted]";

/// The beginnings of a key and of a signed token.
const BEGINNINGS: [&str; 2] = ["sk-", "eyJ"];

/// `text` as one line of bounded length, without `secret` and without anything that looks like a key or a
/// signed token.
pub(super) fn sentence(text: &str, secret: &str) -> String {
    let text = if secret.is_empty() { text.to_owned() } else { text.replace(secret, MASK) };
    let line = mask_keys(&text).replace(char::is_control, " ");
    match line.char_indices().nth(MAX_LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Replaces every `sk-...` and `eyJ...`, complete or masked by OpenAI with stars or dots.
fn mask_keys(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, beginning)) = first_beginning(rest) {
        let (before, key) = rest.split_at(at);
        safe.push_str(before);
        if before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            // The end of a word such as `task-`.
            safe.push_str(beginning);
            rest = &key[beginning.len()..];
            continue;
        }
        safe.push_str(MASK);
        let end = key.find(|c: char| !is_key_character(c)).unwrap_or(key.len());
        let key_text = key[..end].trim_end_matches('.');
        rest = &key[key_text.len()..];
    }
    safe + rest
}

fn first_beginning(text: &str) -> Option<(usize, &'static str)> {
    let found = BEGINNINGS.iter().filter_map(|beginning| Some((text.find(beginning)?, *beginning)));
    found.min_by_key(|(at, _)| *at)
}

fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.' | '…' | '•')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_pass_whole_or_shortened() {
        for (text, safe) in [
            (
                "Incorrect API key provided: sk-admin-a*****xyz. See docs.",
                "Incorrect API key provided: [redacted]. See docs.",
            ),
            ("sk-proj-A_b-1", "[redacted]"),
            ("key 'sk-abc...def' and sk-1", "key '[redacted]' and [redacted]"),
            ("eyJhbGciOi.eyJpc3Mi.c2ln-_ and sk-1: eyJ0.", "[redacted] and [redacted]: [redacted]."),
            ("the task-based risk-free way", "the task-based risk-free way"),
            ("no key", "no key"),
            ("my own-s3cret here", "my [redacted] here"),
        ] {
            assert_eq!(sentence(text, "own-s3cret"), safe);
        }
    }

    #[test]
    fn a_sentence_is_one_line_of_bounded_length() {
        assert_eq!(sentence("a\nb\u{1b}c", ""), "a b c");
        assert_eq!(sentence(&"é".repeat(2000), "").chars().count(), MAX_LENGTH + 3);
    }
}
