//! Integers in Go's formats: `16`, `0x10`, `0b1_0000`, `0o20` and `020` all mean sixteen.

/// Reason why a text is not an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The format is invalid.
    Syntax,
    /// The number does not fit into 64 bits.
    Range,
}

impl Fault {
    /// Go's error text.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Syntax => "invalid syntax",
            Self::Range => "value out of range",
        }
    }
}

/// Parses an integer in any of Go's bases.
pub(super) fn parse(text: &str) -> Result<i64, Fault> {
    let (negative, unsigned) = signed(text);
    let (base, digits) = based(unsigned);
    let magnitude = digits_of(digits, base, unsigned.len() != digits.len())?;
    in_range(negative, magnitude)
}

/// Parses a decimal integer.
pub(super) fn parse_decimal(text: &str) -> Result<i64, Fault> {
    let (negative, digits) = signed(text);
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Fault::Syntax);
    }
    in_range(negative, digits_of(digits, 10, false)?)
}

fn signed(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The base of a prefix, and the digits after it.
fn based(text: &str) -> (u32, &str) {
    let Some(rest) = text.strip_prefix('0').filter(|rest| !rest.is_empty()) else { return (10, text) };
    match rest.as_bytes()[0] {
        b'x' | b'X' => (16, &rest[1..]),
        b'b' | b'B' => (2, &rest[1..]),
        b'o' | b'O' => (8, &rest[1..]),
        _ => (8, rest),
    }
}

/// Underscores are allowed between digits, and between a prefix and a digit.
fn digits_of(digits: &str, base: u32, prefixed: bool) -> Result<u128, Fault> {
    let (mut value, mut after_digit) = (0_u128, prefixed);
    for character in digits.chars() {
        if character == '_' {
            if !std::mem::take(&mut after_digit) {
                return Err(Fault::Syntax);
            }
            continue;
        }
        let digit = character.to_digit(base).ok_or(Fault::Syntax)?;
        after_digit = true;
        value = value.saturating_mul(u128::from(base)).saturating_add(u128::from(digit));
    }
    if after_digit && !digits.is_empty() { Ok(value) } else { Err(Fault::Syntax) }
}

fn in_range(negative: bool, magnitude: u128) -> Result<i64, Fault> {
    let magnitude = i128::try_from(magnitude).map_err(|_| Fault::Range)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| Fault::Range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_base_of_go_is_read() {
        for (text, number) in [
            ("5", 5),
            ("+5", 5),
            ("-5", -5),
            ("0", 0),
            ("-0x10", -16),
            ("0x10", 16),
            ("0X1f", 31),
            ("0b101", 5),
            ("0o17", 15),
            ("010", 8),
            ("1_000", 1000),
            ("0x_ff", 255),
            ("0_7", 7),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "x", "1.9", "08", "0x", "0b2", "1__0", "_1", "1_", " 1", "0x1_", "--1", "٣"] {
            assert_eq!(parse(text), Err(Fault::Syntax), "{text}");
        }
        for text in ["9223372036854775808", "0xffffffffffffffffffffffffffffffffffffff"] {
            assert_eq!(parse(text), Err(Fault::Range), "{text}");
        }
        assert_eq!(parse_decimal("0x10"), Err(Fault::Syntax));
        assert_eq!(parse_decimal("1_0"), Err(Fault::Syntax));
        assert_eq!(parse_decimal("010"), Ok(10));
    }

    proptest! {
        #[test]
        fn every_number_is_read_back(number: i64) {
            prop_assert_eq!(parse(&number.to_string()), Ok(number));
            prop_assert_eq!(parse_decimal(&number.to_string()), Ok(number));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[-+0-9a-fxXbBoO_]{0,40}") {
            let _ = parse(&text);
            let _ = parse_decimal(&text);
        }
    }
}
