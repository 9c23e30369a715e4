//! Reads a template as Go does, straight into a handlebars tree. A call becomes a subexpression, a pipe the call's last
//! argument, and what is random a place in the context.

use std::collections::HashMap;

use handlebars::PathSeg;
use handlebars::template::{Parameter, Subexpression, TemplateElement};
use serde_json::Value as Json;

use super::cursor::{Cursor, Fault, fault, is_space, is_word};
use super::draw::{DRAWN, Draw};
use super::functions::{self, Function};

/// More than anyone needs in a name of 64 characters, and few enough to render fast.
const MAX_ACTIONS: usize = 64;
/// The budget of a rendering: with the limit on each text, it bounds the work for one name.
const MAX_CALLS: usize = 64;
/// Bounds the depth of expressions, which are walked by recursion here and in handlebars.
const MAX_DEPTH: usize = 32;

const VARIABLES: [&str; 3] = [".RoleName", ".ProjectName", ".RandomSuffix"];

/// Words of Go's template language that are no functions.
const LANGUAGE: [&str; 14] = [
    "block", "break", "continue", "define", "else", "end", "false", "if", "nil", "range", "template", "true",
    "with", "try",
];

struct Reader<'a> {
    cursor: Cursor<'a>,
    /// Where the present action begins.
    opened: usize,
    /// Whether the text that follows loses its leading white space.
    trims: bool,
    actions: usize,
    calls: usize,
    /// The parentheses and pipes of the present action.
    depth: usize,
    tree: handlebars::Template,
    draws: Vec<Draw>,
}

/// Reads a template: its tree, and what must be drawn before each rendering.
pub(super) fn read(text: &str) -> Result<(handlebars::Template, Vec<Draw>), Fault> {
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
    };
    while let Some(start) = reader.cursor.rest().find("{{") {
        let before = reader.cursor.skip(start);
        reader.opened = reader.cursor.at;
        reader.cursor.skip(2);
        let trims_before = reader.left_mark();
        reader.text(before, trims_before);
        if reader.cursor.rest().starts_with("/*") { reader.comment()? } else { reader.action()? }
    }
    reader.text(reader.cursor.rest(), false);
    Ok((reader.tree, reader.draws))
}

impl Reader<'_> {
    /// Text between actions, without what trim marks (`{{-`, `-}}`) take away.
    fn text(&mut self, text: &str, trims_end: bool) {
        let text = if self.trims { text.trim_start_matches(is_space) } else { text };
        let text = if trims_end { text.trim_end_matches(is_space) } else { text };
        if !text.is_empty() {
            self.tree.elements.push(TemplateElement::RawString(text.to_owned()));
        }
    }

    /// `-` and a space just behind `{{`; `{{-3}}` is a number.
    fn left_mark(&mut self) -> bool {
        let marked = self.cursor.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
        self.cursor.skip(if marked { 2 } else { 0 });
        marked
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

    /// The next character behind white space; none at the action's end.
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

    /// `command | command | ...`: each value is the last argument of the next command.
    fn pipeline(&mut self) -> Result<Parameter, Fault> {
        let mut value = self.command(None)?;
        while self.peek()? == Some('|') {
            self.deeper()?;
            value = self.command(Some(value))?;
        }
        Ok(value)
    }

    /// `function argument argument ...`, or one value.
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

    /// One value. A function's name is that function without arguments, as in Go.
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
            None if LANGUAGE.contains(&name) => fault(at, unsupported(name)),
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
            arguments.iter().map(|argument| written(argument).unwrap_or(&unknown)).collect();
        if function.name == "printf" && arguments.first().is_some_and(|format| written(format).is_none()) {
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
            let known = ".RoleName, .ProjectName and .RandomSuffix";
            return fault(at, format!("variable {name:?} is not known; known are {known}"));
        }
        Ok(path(&[&name[1..]]))
    }
}

fn unsupported(what: &str) -> String {
    format!("{what:?} is not supported: a name template has variables, functions and pipes only")
}

fn literal(value: impl Into<Json>) -> Parameter {
    Parameter::Literal(value.into())
}

/// The value of what is written out in the template.
fn written(value: &Parameter) -> Option<&Json> {
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
