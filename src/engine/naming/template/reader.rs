//! Parses a template in Go's syntax into a handlebars tree. A call becomes a subexpression, a piped value the call's last
//! argument, and a random part a variable of the context.

use std::collections::HashMap;

use handlebars::PathSeg;
use handlebars::template::{Parameter, Subexpression, TemplateElement};
use serde_json::Value as Json;

use super::cursor::{Cursor, Fault, fault, is_space, is_word};
use super::draw::{DRAWN, Draw};
use super::functions::{self, Function};

/// Maximum number of actions. A name has 64 characters.
const MAX_ACTIONS: usize = 64;
/// Maximum number of calls. With the limit on each text, this bounds the cost of a rendering.
const MAX_CALLS: usize = 64;
/// Maximum depth of expressions, which this parser and handlebars traverse recursively.
const MAX_DEPTH: usize = 32;

const ENTITY: &str = ".EntityName";
const VARIABLES: [&str; 5] = [".RoleName", ".ProjectName", ".RandomSuffix", ".DisplayName", ENTITY];

/// Keywords and constants of Go's template language.
const KEYWORDS: [&str; 14] = [
    "block", "break", "continue", "define", "else", "end", "false", "if", "nil", "range", "template", "true",
    "with", "try",
];

struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Start of the current action.
    opened: usize,
    /// True if the next text loses its leading white space.
    trims: bool,
    actions: usize,
    calls: usize,
    /// Number of parentheses and pipes in the current action.
    depth: usize,
    tree: handlebars::Template,
    draws: Vec<Draw>,
    names_entity: bool,
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: handlebars::Template,
    /// The random parts to draw before each rendering.
    pub(super) draws: Vec<Draw>,
    /// True if the template uses the name of the caller's entity.
    pub(super) names_entity: bool,
}

/// Parses a template.
pub(super) fn read(text: &str) -> Result<Parsed, Fault> {
    let (tree, draws) = (handlebars::Template::default(), Vec::new());
    let mut reader = Reader {
        cursor: Cursor { text, at: 0 },
        opened: 0,
        trims: false,
        actions: 0,
        calls: 0,
        depth: 0,
        tree,
        draws,
        names_entity: false,
    };
    while let Some(start) = reader.cursor.rest().find("{{") {
        let before = reader.cursor.skip(start);
        reader.opened = reader.cursor.at;
        reader.cursor.skip(2);
        let trims_before = reader.trim_marker();
        reader.text(before, trims_before);
        if reader.cursor.rest().starts_with("/*") { reader.comment()? } else { reader.action()? }
    }
    reader.text(reader.cursor.rest(), false);
    Ok(Parsed { tree: reader.tree, draws: reader.draws, names_entity: reader.names_entity })
}

impl Reader<'_> {
    /// Adds the text between actions, without the white space that trim markers (`{{-`, `-}}`) remove.
    fn text(&mut self, text: &str, trims_end: bool) {
        let text = if self.trims { text.trim_start_matches(is_space) } else { text };
        let text = if trims_end { text.trim_end_matches(is_space) } else { text };
        if !text.is_empty() {
            self.tree.elements.push(TemplateElement::RawString(text.to_owned()));
        }
    }

    /// Skips a trim marker after `{{`: `-` and a space. `{{-3}}` is a number.
    fn trim_marker(&mut self) -> bool {
        let is_marked = self.cursor.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
        self.cursor.skip(if is_marked { 2 } else { 0 });
        is_marked
    }

    fn close(&mut self, end: usize) {
        self.trims = end == 4;
        self.cursor.skip(end);
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let length = self.cursor.rest().find("*/").map(|end| end + 2);
        self.cursor.skip(length.unwrap_or(0));
        match (length, self.cursor.end()) {
            (Some(_), Some(end)) => self.close(end),
            _ => {
                return fault(
                    self.opened,
                    "a comment must be written as {{/* ... */}} with nothing beside it",
                );
            }
        }
        Ok(())
    }

    fn action(&mut self) -> Result<(), Fault> {
        (self.depth, self.actions) = (0, self.actions + 1);
        if self.actions > MAX_ACTIONS {
            let problem = format!("the template has too many {{{{ }}}}: at most {MAX_ACTIONS} are allowed");
            return fault(self.opened, problem);
        }
        let value = self.pipeline()?;
        if let Some(other) = self.peek()? {
            return fault(self.cursor.at, format!("unexpected {other:?}"));
        }
        self.close(self.cursor.end().unwrap_or(0));
        self.tree.elements.push(element(value));
        Ok(())
    }

    /// The next character after white space; `None` at the action's end.
    fn peek(&mut self) -> Result<Option<char>, Fault> {
        loop {
            if self.cursor.end().is_some() {
                return Ok(None);
            }
            match self.cursor.rest().chars().next() {
                None => return fault(self.opened, "{{ has no closing }}"),
                Some(c) if is_space(c) => self.cursor.skip(1),
                next => return Ok(next),
            };
        }
    }

    fn deeper(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let problem =
                format!("too many parentheses and pipes in one {{{{ }}}}: at most {MAX_DEPTH} are allowed");
            return fault(self.cursor.at, problem);
        }
        self.cursor.skip(1);
        Ok(())
    }

    /// Parses `command | command | ...`. Each value is the last argument of the next command.
    fn pipeline(&mut self) -> Result<Parameter, Fault> {
        let mut value = self.command(None)?;
        while self.peek()? == Some('|') {
            self.deeper()?;
            value = self.command(Some(value))?;
        }
        Ok(value)
    }

    /// Parses `function argument argument ...`, or one value.
    fn command(&mut self, piped: Option<Parameter>) -> Result<Parameter, Fault> {
        let is_call = self.peek()?.is_some_and(|first| is_word(first) && !first.is_ascii_digit());
        let at = self.cursor.at;
        if is_call {
            let function = self.function()?;
            let mut arguments = Vec::new();
            while self.has_operand()? {
                arguments.push(self.operand()?);
            }
            arguments.extend(piped);
            return self.call(at, function, arguments);
        }
        let value = self.operand()?;
        if piped.is_some() || self.has_operand()? {
            return fault(at, "only a function can be given arguments or follow a |");
        }
        Ok(value)
    }

    fn has_operand(&mut self) -> Result<bool, Fault> {
        Ok(self.peek()?.is_some_and(|next| !matches!(next, '|' | ')')))
    }

    /// Parses one value. A function's name calls the function without arguments, as in Go.
    fn operand(&mut self) -> Result<Parameter, Fault> {
        let next = self.peek()?;
        let at = self.cursor.at;
        let value = match next {
            None | Some('|' | ')') => return fault(at, "a value is missing"),
            Some('(') => self.parenthesised()?,
            Some('"') => literal(self.cursor.quoted()?),
            Some('`') => literal(self.cursor.raw()?),
            Some('.') => self.variable()?,
            Some('0'..='9' | '+' | '-') => literal(self.cursor.number()?),
            Some(first) if is_word(first) => {
                let function = self.function()?;
                return self.call(at, function, Vec::new());
            }
            Some('$') => {
                self.cursor.skip(1);
                let name = self.cursor.skip_while(is_word);
                return fault(at, unsupported(&format!("${name}")));
            }
            Some(other) => return fault(at, format!("unexpected {other:?}")),
        };
        self.cursor.must_be_apart()?;
        Ok(value)
    }

    fn parenthesised(&mut self) -> Result<Parameter, Fault> {
        let at = self.cursor.at;
        self.deeper()?;
        let value = self.pipeline()?;
        if self.peek()? != Some(')') {
            return fault(at, "( has no closing )");
        }
        self.cursor.skip(1);
        Ok(value)
    }

    fn function(&mut self) -> Result<Function, Fault> {
        let at = self.cursor.at;
        let name = self.cursor.skip_while(is_word);
        self.cursor.must_be_apart()?;
        match functions::named(name) {
            Some(function) => Ok(function),
            None if KEYWORDS.contains(&name) => fault(at, unsupported(name)),
            None => fault(at, format!("function {name:?} is not known; known are {}", functions::names())),
        }
    }

    fn call(&mut self, at: usize, function: Function, arguments: Vec<Parameter>) -> Result<Parameter, Fault> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            let problem = format!("the template calls too many functions: at most {MAX_CALLS} are allowed");
            return fault(at, problem);
        }
        let unknown = Json::from("");
        let known: Vec<&Json> =
            arguments.iter().map(|argument| constant(argument).unwrap_or(&unknown)).collect();
        if function.name == "printf" && arguments.first().is_some_and(|format| constant(format).is_none()) {
            return fault(at, "the format of printf must be written out as a text");
        }
        function.check(&known).or_else(|problem| fault(at, problem))?;
        let length = known.first().and_then(|length| length.as_u64());
        Ok(match (function.name, length) {
            ("uuid", _) => self.draw(Draw::Uuid),
            ("random", Some(length)) => {
                self.draw(Draw::Random(usize::try_from(length).unwrap_or(usize::MAX)))
            }
            (name, _) => {
                let name = Parameter::Name(name.to_owned());
                Parameter::Subexpression(Subexpression::new(name, arguments, HashMap::new()))
            }
        })
    }

    fn draw(&mut self, draw: Draw) -> Parameter {
        self.draws.push(draw);
        path(&[DRAWN, &(self.draws.len() - 1).to_string()])
    }

    fn variable(&mut self) -> Result<Parameter, Fault> {
        let at = self.cursor.at;
        let name = self.cursor.skip_while(|c| c == '.' || is_word(c));
        if !VARIABLES.contains(&name) {
            let known = ".RoleName, .ProjectName, .RandomSuffix, .DisplayName and .EntityName";
            return fault(at, format!("variable {name:?} is not known; known are {known}"));
        }
        self.names_entity |= name == ENTITY;
        Ok(path(&[&name[1..]]))
    }
}

fn unsupported(what: &str) -> String {
    format!("{what:?} is not supported: a name template has variables, functions and pipes only")
}

fn literal(value: impl Into<Json>) -> Parameter {
    Parameter::Literal(value.into())
}

/// The value of a constant; `None` for a variable or a call.
fn constant(value: &Parameter) -> Option<&Json> {
    match value {
        Parameter::Literal(value) => Some(value),
        _ => None,
    }
}

fn path(names: &[&str]) -> Parameter {
    let segments = names.iter().map(|name| PathSeg::Named((*name).to_owned())).collect();
    Parameter::Path(handlebars::Path::Relative((segments, names.join("."))))
}

fn element(value: Parameter) -> TemplateElement {
    match value {
        Parameter::Literal(Json::String(text)) => TemplateElement::RawString(text),
        Parameter::Literal(number) => TemplateElement::RawString(number.to_string()),
        Parameter::Subexpression(call) => *call.element,
        value => *Subexpression::new(value, Vec::new(), HashMap::new()).element,
    }
}
