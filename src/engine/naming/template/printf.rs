//! A subset of Go's `printf`: `%s %v %q %d %x %X %%` with flags, width and precision.

use serde_json::Value as Json;

use crate::engine::fingerprint;

/// The largest width and precision.
const MAX_WIDTH: usize = 512;

enum Part {
    Text(String),
    Value(Verb),
}

#[derive(Default)]
struct Verb {
    letter: char,
    left: bool,
    zeros: bool,
    sign: bool,
    width: usize,
    precision: Option<usize>,
}

/// The formatted text. Formatting stops after `max` bytes. Refuses values of the wrong number or kind.
pub(super) fn format(format: &str, values: &[&Json], max: usize) -> Result<String, String> {
    let parts = parse(format)?;
    let needs = parts.iter().filter(|part| matches!(part, Part::Value(_))).count();
    if needs != values.len() {
        return Err(format!("printf's format needs {needs} arguments, but was given {}", values.len()));
    }
    let mut values = values.iter().enumerate();
    let mut formatted = String::new();
    for part in parts {
        match part {
            Part::Text(text) => formatted.push_str(&text),
            Part::Value(verb) => {
                if let Some((index, value)) = values.next() {
                    verb.check(index, value)?;
                    formatted.push_str(&verb.write(value));
                }
            }
        }
        if formatted.len() > max {
            break;
        }
    }
    Ok(formatted)
}

fn parse(format: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        parts.push(Part::Text(rest[..start].to_owned()));
        let (verb, after) = Verb::parse(&rest[start + 1..]);
        let text = &rest[start..rest.len() - after.len()];
        parts.push(match verb {
            Some(verb) if verb.letter != '%' => Part::Value(verb),
            Some(_) if text == "%%" => Part::Text("%".to_owned()),
            _ => {
                let known = "%s %v %q %d %x %X %%, with a width and a precision";
                return Err(format!("printf does not know {text:?}; known are {known}"));
            }
        });
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

impl Verb {
    /// Parses flags, width, precision and letter, and returns the rest. `None` for an unknown verb.
    fn parse(text: &str) -> (Option<Self>, &str) {
        let mut verb = Self::default();
        let mut rest = text;
        while let Some(after) = rest.strip_prefix(['-', '0', '+']) {
            match rest.as_bytes()[0] {
                b'-' => verb.left = true,
                b'0' => verb.zeros = true,
                _ => verb.sign = true,
            }
            rest = after;
        }
        (verb.width, rest) = number(rest);
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = number(after);
            verb.precision = Some(precision);
            rest = after;
        }
        let Some(letter) = rest.chars().next() else { return (None, rest) };
        verb.letter = letter;
        let known = matches!(letter, 's' | 'v' | 'q' | 'd' | 'x' | 'X' | '%');
        let bounded = verb.width <= MAX_WIDTH && verb.precision.unwrap_or(0) <= MAX_WIDTH;
        ((known && bounded).then_some(verb), &rest[letter.len_utf8()..])
    }

    /// Requires a number for `%d` and a text for `%s` and `%q`. The format is argument 1 of `printf`.
    fn check(&self, index: usize, value: &Json) -> Result<(), String> {
        let kind = match (self.letter, value.is_number()) {
            ('d', false) => "number",
            ('s' | 'q', true) => "text",
            _ => return Ok(()),
        };
        Err(format!("argument {} of printf must be a {kind}", index + 2))
    }

    fn write(&self, value: &Json) -> String {
        let text = match value {
            Json::String(text) => self.write_text(text),
            number => self.write_number(number.as_i64().unwrap_or_default()),
        };
        self.pad(text)
    }

    fn write_text(&self, text: &str) -> String {
        let text: String = text.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        match self.letter {
            'x' => fingerprint::hex(text.as_bytes()),
            'X' => fingerprint::hex(text.as_bytes()).to_uppercase(),
            'q' => format!("{text:?}"),
            _ => text,
        }
    }

    fn write_number(&self, number: i64) -> String {
        let digits = match self.letter {
            'x' => format!("{:x}", number.unsigned_abs()),
            'X' => format!("{:X}", number.unsigned_abs()),
            _ => number.unsigned_abs().to_string(),
        };
        let sign = if number < 0 {
            "-"
        } else if self.sign {
            "+"
        } else {
            ""
        };
        let width = match self.precision {
            Some(precision) => precision,
            None if self.zeros && !self.left => self.width.saturating_sub(sign.len()),
            None => 0,
        };
        format!("{sign}{digits:0>width$}")
    }

    fn pad(&self, text: String) -> String {
        let width = self.width;
        match (self.left, self.zeros && self.precision.is_none()) {
            (true, _) => format!("{text:<width$}"),
            (false, true) => format!("{text:0>width$}"),
            (false, false) => format!("{text:>width$}"),
        }
    }
}

/// The leading digits as a number, and the rest. A number out of range becomes `usize::MAX`.
fn number(text: &str) -> (usize, &str) {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - rest.len()];
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    (number, rest)
}
