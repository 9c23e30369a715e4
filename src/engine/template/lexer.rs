//! Cuts a template into plain text and the tokens of its actions, as Go's lexer does.

use super::error::{Fault, Problem};

/// More than anyone needs in a name of 64 characters, and few enough to render fast.
const MAX_ACTIONS: usize = 64;

/// The budget of a rendering: with the limit on each text (`results`), it bounds the work for one name.
const MAX_CALLS: usize = 64;

/// A part of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Action),
}

/// What stands between `{{` and `}}`.
#[derive(Debug, PartialEq)]
pub(super) struct Action {
    pub(super) tokens: Vec<Token>,
    /// Where its `}}` is.
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) lexeme: Lexeme,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Lexeme {
    /// `random`
    Word(String),
    /// `.RoleName`, with the dot
    Variable(String),
    Text(String),
    Number(i64),
    Open,
    Close,
    Pipe,
}

/// Cuts a template at its actions; comments are dropped and trim marks (`{{-`, `-}}`) are obeyed.
pub(super) fn split(text: &str) -> Result<Vec<Piece>, Fault> {
    let mut lexer = Lexer { text, at: 0, trim: false, actions: 0, calls: 0 };
    let mut pieces = Vec::new();
    while let Some(start) = lexer.rest().find("{{") {
        let before = lexer.skip(start);
        let opened_at = lexer.at;
        lexer.skip(2);
        let trim_before = lexer.left_mark();
        lexer.push_text(before, trim_before, &mut pieces);
        lexer.trim = false;
        if lexer.rest().starts_with("/*") {
            lexer.comment(opened_at)?;
        } else {
            pieces.push(Piece::Action(lexer.action(opened_at)?));
        }
    }
    lexer.push_text(lexer.rest(), false, &mut pieces);
    Ok(pieces)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Whether the text that follows loses its leading white space.
    trim: bool,
    actions: usize,
    calls: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Moves on by so many bytes, which must end at a character, and gives what was passed.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let passed = &self.rest()[..bytes];
        self.at += bytes;
        passed
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        self.skip(rest.find(|c| !wanted(c)).unwrap_or(rest.len()))
    }

    fn push_text(&self, text: &str, trim_end: bool, pieces: &mut Vec<Piece>) {
        let text = if self.trim { text.trim_start_matches(is_space) } else { text };
        let text = if trim_end { text.trim_end_matches(is_space) } else { text };
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// `-` and a space just behind `{{`; `{{-3}}` is a number.
    fn left_mark(&mut self) -> bool {
        let marked = self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
        if marked {
            self.skip(2);
        }
        marked
    }

    /// Passes `}}`, or a space and `-}}`.
    fn closes(&mut self) -> bool {
        let rest = self.rest();
        let marked = rest.strip_prefix(is_space).is_some_and(|rest| rest.starts_with("-}}"));
        let closes = marked || rest.starts_with("}}");
        if closes {
            self.trim = marked;
            self.skip(if marked { 4 } else { 2 });
        }
        closes
    }

    fn comment(&mut self, opened_at: usize) -> Result<(), Fault> {
        let end = self.rest().find("*/").ok_or_else(|| Problem::Comment.at(opened_at))?;
        self.skip(end + 2);
        if self.closes() { Ok(()) } else { Err(Problem::Comment.at(opened_at)) }
    }

    fn action(&mut self, opened_at: usize) -> Result<Action, Fault> {
        self.actions += 1;
        if self.actions > MAX_ACTIONS {
            return Err(Problem::TooManyActions(MAX_ACTIONS).at(opened_at));
        }
        let mut tokens = Vec::new();
        loop {
            let end = self.at;
            if self.closes() {
                return Ok(Action { tokens, end });
            }
            let Some(next) = self.rest().chars().next() else {
                return Err(Problem::UnclosedAction.at(opened_at));
            };
            if is_space(next) {
                self.skip(1);
            } else {
                tokens.push(self.token(next)?);
            }
        }
    }

    fn token(&mut self, first: char) -> Result<Token, Fault> {
        let at = self.at;
        let lexeme = match first {
            '(' => return Ok(self.mark(Lexeme::Open)),
            '|' => return Ok(self.mark(Lexeme::Pipe)),
            ')' => self.mark(Lexeme::Close).lexeme,
            '"' => Lexeme::Text(self.quoted()?),
            '`' => Lexeme::Text(self.raw()?),
            '.' => Lexeme::Variable(self.skip_while(|c| c == '.' || is_word(c)).to_owned()),
            '0'..='9' | '+' | '-' => Lexeme::Number(self.number()?),
            c if is_word(c) => Lexeme::Word(self.word()?),
            '$' => {
                self.skip(1);
                let name = self.skip_while(is_word);
                return Err(Problem::Unsupported(format!("${name}")).at(at));
            }
            other => return Err(Problem::Unexpected(other).at(at)),
        };
        self.must_be_apart()?;
        Ok(Token { at, lexeme })
    }

    fn mark(&mut self, lexeme: Lexeme) -> Token {
        let at = self.at;
        self.skip(1);
        Token { at, lexeme }
    }

    /// A word names a function, so each one is a call.
    fn word(&mut self) -> Result<String, Fault> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(Problem::TooManyCalls(MAX_CALLS).at(self.at));
        }
        Ok(self.skip_while(is_word).to_owned())
    }

    /// What follows a value must be a space, `|`, `)` or the end.
    fn must_be_apart(&self) -> Result<(), Fault> {
        match self.rest().chars().next() {
            None | Some('|' | ')') => Ok(()),
            Some(c) if is_space(c) || self.rest().starts_with("}}") => Ok(()),
            Some(other) => Err(Problem::Unexpected(other).at(self.at)),
        }
    }

    fn raw(&mut self) -> Result<String, Fault> {
        let at = self.at;
        self.skip(1);
        let end = self.rest().find('`').ok_or_else(|| Problem::UnclosedText('`').at(at))?;
        let text = self.skip(end).to_owned();
        self.skip(1);
        Ok(text)
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let opened_at = self.at;
        self.skip(1);
        let mut text = String::new();
        loop {
            text.push_str(self.skip_while(|c| !matches!(c, '"' | '\\' | '\n')));
            match self.rest().chars().next() {
                Some('"') => break,
                Some('\\') => text.push(self.escape()?),
                _ => return Err(Problem::UnclosedText('"').at(opened_at)),
            }
        }
        self.skip(1);
        Ok(text)
    }

    /// One escape of Go's interpreted texts; those by octal or by raw bytes are left out.
    fn escape(&mut self) -> Result<char, Fault> {
        let at = self.at;
        self.skip(1);
        let Some(kind) = self.rest().chars().next() else { return Err(Problem::UnclosedText('"').at(at)) };
        self.skip(kind.len_utf8());
        match kind {
            'a' => Ok('\u{7}'),
            'b' => Ok('\u{8}'),
            'f' => Ok('\u{c}'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\u{b}'),
            '\\' | '"' => Ok(kind),
            'u' => self.code_point(at, kind, 4),
            'U' => self.code_point(at, kind, 8),
            other => Err(Problem::UnknownEscape(other.into()).at(at)),
        }
    }

    fn code_point(&mut self, at: usize, kind: char, digits: usize) -> Result<char, Fault> {
        let code = self.rest().get(..digits).unwrap_or_default();
        let point = if code.chars().all(|c| c.is_ascii_hexdigit()) {
            u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
        } else {
            None
        };
        let point = point.ok_or_else(|| Problem::UnknownEscape(format!("{kind}{code}")).at(at))?;
        self.skip(digits);
        Ok(point)
    }

    /// A whole decimal number. Go reads a leading zero as octal, so it is refused.
    fn number(&mut self) -> Result<i64, Fault> {
        let at = self.at;
        let sign = self.rest().starts_with(['+', '-']);
        self.skip(usize::from(sign));
        let digits = self.skip_while(|c| is_word(c) || c == '.');
        let written = &self.text[at..self.at];
        let octal = digits.len() > 1 && digits.starts_with('0');
        let number = if octal { None } else { written.parse().ok() };
        number.ok_or_else(|| Problem::Number(written.to_owned()).at(at))
    }
}

/// White space to Go's templates.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}
