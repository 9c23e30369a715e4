//! The lexer of templates: a position in the text, and Go's spaces, strings and numbers.

/// A problem at a byte of the template.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: String,
}

/// A position in a template.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips these bytes, which must end at a character boundary, and returns them.
    pub(super) fn skip(&mut self, bytes: usize) -> &'a str {
        let skipped = &self.rest()[..bytes];
        self.at += bytes;
        skipped
    }

    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        self.skip(rest.find(|c| !wanted(c)).unwrap_or(rest.len()))
    }

    /// The length of the action's end at this position: `}}`, or a space and `-}}`. `None` elsewhere.
    pub(super) fn end(&self) -> Option<usize> {
        let rest = self.rest();
        let marked = rest.strip_prefix(is_space).is_some_and(|rest| rest.starts_with("-}}"));
        if marked { Some(4) } else { rest.starts_with("}}").then_some(2) }
    }

    /// Requires a space, `|`, `)` or the action's end after a value.
    pub(super) fn must_be_apart(&self) -> Result<(), Fault> {
        match self.rest().chars().next() {
            Some(other) if !is_space(other) && !matches!(other, '|' | ')') && self.end().is_none() => {
                fault(self.at, format!("unexpected {other:?}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn raw(&mut self) -> Result<String, Fault> {
        let at = self.at;
        self.skip(1);
        let text = self.skip_while(|c| c != '`');
        self.end_of_text(at, '`')?;
        Ok(text.to_owned())
    }

    pub(super) fn quoted(&mut self) -> Result<String, Fault> {
        let at = self.at;
        self.skip(1);
        let mut text = String::new();
        loop {
            text.push_str(self.skip_while(|c| !matches!(c, '"' | '\\' | '\n')));
            if !self.rest().starts_with('\\') {
                break;
            }
            text.push(self.escape()?);
        }
        self.end_of_text(at, '"')?;
        Ok(text)
    }

    fn end_of_text(&mut self, at: usize, quote: char) -> Result<(), Fault> {
        if !self.rest().starts_with(quote) {
            return fault(at, format!("a text has no closing {quote}"));
        }
        self.skip(1);
        Ok(())
    }

    /// An escape sequence of Go's interpreted strings, without octal and byte escapes.
    fn escape(&mut self) -> Result<char, Fault> {
        let at = self.at;
        self.skip(1);
        let mut written = self.rest().chars();
        let kind = written.next().unwrap_or(' ');
        let simple =
            r#"abfnrtv\""#.find(kind).and_then(|index| "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"".chars().nth(index));
        let digits = match kind {
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let code: String = written.take(digits).filter(char::is_ascii_hexdigit).collect();
        let point =
            u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32);
        let Some(character) = simple.or(point) else {
            return fault(at, format!("the escape \\{kind}{code} is not known in a text"));
        };
        self.skip(kind.len_utf8() + digits);
        Ok(character)
    }

    /// A decimal integer. A leading zero is refused, because Go would read an octal number.
    pub(super) fn number(&mut self) -> Result<i64, Fault> {
        let at = self.at;
        let text = self.skip_while(|c| is_word(c) || matches!(c, '.' | '+' | '-'));
        let digits = text.trim_start_matches(['+', '-']);
        let octal = digits.len() > 1 && digits.starts_with('0');
        let number = if octal { None } else { text.parse().ok() };
        number.map_or_else(|| fault(at, format!("{text:?} is not a whole number")), Ok)
    }
}

/// An error at this byte.
pub(super) fn fault<T>(at: usize, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, problem: problem.into() })
}

/// True for white space in Go's templates.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// True for the characters of names.
pub(super) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
