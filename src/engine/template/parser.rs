//! Reads the tokens of actions into expressions that are right by construction: every function exists and has
//! the arguments it takes.

use super::calls;
use super::error::{Fault, Problem};
use super::expression::{Expression, Part, Variable};
use super::function::{self, Function};
use super::lexer::{Action, Lexeme, Piece, Token};

/// Bounds the depth of expressions, which are walked by recursion here and in handlebars.
const MAX_DEPTH: usize = 32;

/// Words of Go's template language that are no functions.
const LANGUAGE: [&str; 14] = [
    "block", "break", "continue", "define", "else", "end", "false", "if", "nil", "range", "template", "true",
    "with", "try",
];

/// Reads a template's pieces.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Part>, Fault> {
    pieces
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text)),
            Piece::Action(action) => action_value(action).map(Part::Value),
        })
        .collect()
}

fn action_value(action: Action) -> Result<Expression, Fault> {
    let mut deep = action.tokens.iter().filter(|token| matches!(token.lexeme, Lexeme::Open | Lexeme::Pipe));
    if let Some(token) = deep.nth(MAX_DEPTH) {
        return Err(Problem::TooDeep(MAX_DEPTH).at(token.at));
    }
    let mut parser = Parser { tokens: action.tokens.into_iter().peekable(), end: action.end };
    let value = parser.pipeline()?;
    match parser.tokens.next() {
        None => Ok(value),
        Some(token) => Err(Problem::Unexpected(')').at(token.at)),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    end: usize,
}

impl Parser {
    /// `command | command | ...`: each value is the last argument of the next command.
    fn pipeline(&mut self) -> Result<Expression, Fault> {
        let mut value = self.command(None)?;
        while self.tokens.next_if(|token| token.lexeme == Lexeme::Pipe).is_some() {
            value = self.command(Some(value))?;
        }
        Ok(value)
    }

    /// `function argument argument ...`, or one value.
    fn command(&mut self, piped: Option<Expression>) -> Result<Expression, Fault> {
        let first = self.operand_token()?;
        let at = first.at;
        if let Lexeme::Word(name) = &first.lexeme {
            let function = known(name).map_err(|problem| problem.at(at))?;
            let mut arguments = self.operands()?;
            arguments.extend(piped);
            return calls::call(function, arguments).map_err(|problem| problem.at(at));
        }
        let value = self.operand(first)?;
        if piped.is_some() || self.next_is_operand() {
            return Err(Problem::NotAFunction.at(at));
        }
        Ok(value)
    }

    fn operands(&mut self) -> Result<Vec<Expression>, Fault> {
        let mut operands = Vec::new();
        while self.next_is_operand() {
            let token = self.operand_token()?;
            operands.push(self.operand(token)?);
        }
        Ok(operands)
    }

    fn next_is_operand(&mut self) -> bool {
        self.tokens.peek().is_some_and(|token| !matches!(token.lexeme, Lexeme::Pipe | Lexeme::Close))
    }

    fn operand_token(&mut self) -> Result<Token, Fault> {
        let at = self.tokens.peek().map_or(self.end, |token| token.at);
        self.tokens
            .next_if(|token| !matches!(token.lexeme, Lexeme::Pipe | Lexeme::Close))
            .ok_or_else(|| Problem::MissingValue.at(at))
    }

    /// One argument. A function's name as an argument is that function without arguments, as in Go.
    fn operand(&mut self, token: Token) -> Result<Expression, Fault> {
        let at = token.at;
        match token.lexeme {
            Lexeme::Text(text) => Ok(Expression::Text(text)),
            Lexeme::Number(number) => Ok(Expression::Number(number)),
            Lexeme::Variable(name) => variable(&name).map_err(|problem| problem.at(at)),
            Lexeme::Word(name) => known(&name)
                .and_then(|function| calls::call(function, Vec::new()))
                .map_err(|problem| problem.at(at)),
            Lexeme::Open => self.parenthesised(at),
            Lexeme::Close | Lexeme::Pipe => Err(Problem::MissingValue.at(at)),
        }
    }

    fn parenthesised(&mut self, at: usize) -> Result<Expression, Fault> {
        let value = self.pipeline()?;
        self.tokens
            .next_if(|token| token.lexeme == Lexeme::Close)
            .map(|_| value)
            .ok_or_else(|| Problem::UnclosedParenthesis.at(at))
    }
}

fn known(name: &str) -> Result<Function, Problem> {
    match Function::named(name) {
        Some(function) => Ok(function),
        None if LANGUAGE.contains(&name) => Err(Problem::Unsupported(name.to_owned())),
        None => Err(Problem::UnknownFunction { name: name.to_owned(), known: function::names() }),
    }
}

fn variable(name: &str) -> Result<Expression, Problem> {
    let variable = match name {
        ".RoleName" => Variable::RoleName,
        ".ProjectName" => Variable::ProjectName,
        ".RandomSuffix" => Variable::RandomSuffix,
        other => return Err(Problem::UnknownVariable(other.to_owned())),
    };
    Ok(Expression::Variable(variable))
}
