//! What a template says once it is read.

use super::draw::Draw;
use super::function::{Function, Kind};

/// A part of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Value(Expression),
}

/// A value in a template.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    Text(String),
    Number(i64),
    Variable(Variable),
    Draw(Draw),
    Call(Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    RoleName,
    ProjectName,
    RandomSuffix,
}

impl Expression {
    /// What it gives.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Number(_) => Kind::Number,
            Self::Text(_) | Self::Variable(_) | Self::Draw(_) | Self::Call(..) => Kind::Text,
        }
    }
}
