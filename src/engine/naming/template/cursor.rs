//! A place in a template, and what is read there without regard to what it means: spaces, texts, numbers, as Go reads them.

/// A problem at a byte of the template.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: String,
}

/// How far a template was read.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves on by so many bytes, which must end at a character, and gives what was passed.
    pub(super) fn skip(&mut self, bytes: usize) -> &'a str {
        let passed = &self.rest()[..bytes];
        self.at += bytes;
        passed
    }

    pub(super) fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        self.skip(rest.find(|c| !wanted(c)).unwrap_or(rest.len()))
    }

    /// How many bytes of an action's end come next: of `}}`, or a space and `-}}`.
    pub(super) fn end(&self) -> Option<usize> {
        let rest = self.rest();
        let marked = rest.strip_prefix(is_space).is_some_and(|rest| rest.starts_with("-}}"));
        if marked { Some(4) } else { rest.starts_with("}}").then_some(2) }
    }

    /// What follows a value must be a space, `|`, `)` or the end.
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

    /// One escape of Go's interpreted texts; those by octal or by raw bytes are left out.
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

    /// A whole decimal number. Go reads a leading zero as octal, so it is refused.
    pub(super) fn number(&mut self) -> Result<i64, Fault> {
        let at = self.at;
        let written = self.skip_while(|c| is_word(c) || matches!(c, '.' | '+' | '-'));
        let digits = written.trim_start_matches(['+', '-']);
        let octal = digits.len() > 1 && digits.starts_with('0');
        let number = if octal { None } else { written.parse().ok() };
        number.map_or_else(|| fault(at, format!("{written:?} is not a whole number")), Ok)
    }
}

/// A problem at this byte.
pub(super) fn fault<T>(at: usize, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { at, problem: problem.into() })
}

/// White space to Go's templates.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What names are made of.
pub(super) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
