//! Calls that are right by construction: of functions with the arguments that they take.

use super::draw::Draw;
use super::error::Problem;
use super::expression::Expression;
use super::function::{Function, Kind};
use super::printf;

/// A call, if the function takes these arguments.
pub(super) fn call(function: Function, arguments: Vec<Expression>) -> Result<Expression, Problem> {
    check_arguments(function, &arguments)?;
    check_length(function, &arguments)?;
    match (function, arguments.as_slice()) {
        (Function::Uuid, _) => Ok(Expression::Draw(Draw::Uuid)),
        (Function::Random, [Expression::Number(length), ..]) => {
            Ok(Expression::Draw(Draw::Random(usize::try_from(*length).unwrap_or(usize::MAX))))
        }
        (Function::Printf, [Expression::Text(format), values @ ..]) => {
            let numbers: Vec<bool> = values.iter().map(|value| value.kind() == Kind::Number).collect();
            printf::check(format, &numbers)?;
            Ok(Expression::Call(function, arguments))
        }
        (Function::Printf, _) => Err(Problem::FormatNotWritten),
        _ => Ok(Expression::Call(function, arguments)),
    }
}

fn check_arguments(function: Function, arguments: &[Expression]) -> Result<(), Problem> {
    let takes = function.takes();
    let name = function.name();
    let more = function == Function::Printf && arguments.len() > takes.len();
    if arguments.len() != takes.len() && !more {
        return Err(Problem::ArgumentCount { function: name, takes: takes.len(), given: arguments.len() });
    }
    match takes.iter().zip(arguments).position(|(kind, argument)| *kind != argument.kind()) {
        None => Ok(()),
        Some(index) => Err(Problem::ArgumentKind {
            function: name,
            argument: index + 1,
            takes: match takes[index] {
                Kind::Text => "text",
                Kind::Number => "number",
            },
        }),
    }
}

fn check_length(function: Function, arguments: &[Expression]) -> Result<(), Problem> {
    match (function.lengths(), arguments.first()) {
        (Some((least, most)), Some(Expression::Number(length))) if !(least..=most).contains(length) => {
            Err(Problem::Length { function: function.name(), least, most })
        }
        _ => Ok(()),
    }
}
