//! The values of a template: what an action shows and what a function takes.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use super::draw::Drawn;
use super::functions::Function;

/// The values of a template's variables.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `.RoleName`
    pub role_name: &'a str,
    /// `.ProjectName`
    pub project_name: &'a str,
}

/// A value that is known when the template is read, or only when a name is made.
#[derive(Debug)]
pub(super) enum Value {
    /// A text or number of the template.
    Literal(Json),
    /// One of the variables.
    Variable(Variable),
    /// The random text at this place of [`Scope::drawn`].
    Drawn(usize),
    /// A function and its arguments.
    Call(Function, Vec<Value>),
}

/// A variable of a template.
#[derive(Clone, Copy, Debug)]
pub(super) enum Variable {
    /// `.RoleName`
    RoleName,
    /// `.ProjectName`
    ProjectName,
    /// `.RandomSuffix`
    RandomSuffix,
}

/// The values and random texts of one rendering.
pub(super) struct Scope<'a> {
    pub(super) values: &'a Values<'a>,
    pub(super) suffix: &'a Drawn,
    pub(super) drawn: &'a [Drawn],
    pub(super) now: DateTime<Utc>,
}

impl Variable {
    /// All variables by name.
    pub(super) const ALL: [(&str, Self); 3] = [
        (".RoleName", Self::RoleName),
        (".ProjectName", Self::ProjectName),
        (".RandomSuffix", Self::RandomSuffix),
    ];
}

impl Value {
    /// The value, if the template contains it.
    pub(super) fn literal(&self) -> Option<&Json> {
        match self {
            Self::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// The value in one rendering. The error is a sentence.
    pub(super) fn evaluate(&self, scope: &Scope<'_>) -> Result<Cow<'_, Json>, String> {
        let text = match self {
            Self::Literal(value) => return Ok(Cow::Borrowed(value)),
            Self::Variable(variable) => scope.variable(*variable).to_owned(),
            Self::Drawn(place) => scope.drawn.get(*place).map(Drawn::as_str).unwrap_or_default().to_owned(),
            Self::Call(function, arguments) => {
                let arguments =
                    arguments.iter().map(|value| value.evaluate(scope)).collect::<Result<Vec<_>, _>>()?;
                function.run(&arguments.iter().map(AsRef::as_ref).collect::<Vec<_>>(), scope.now)?
            }
        };
        Ok(Cow::Owned(Json::String(text)))
    }

    /// Appends the value as an action shows it.
    pub(super) fn show(&self, scope: &Scope<'_>, text: &mut String) -> Result<(), String> {
        match self.evaluate(scope)?.as_ref() {
            Json::String(value) => text.push_str(value),
            number => text.push_str(&number.to_string()),
        }
        Ok(())
    }
}

impl Scope<'_> {
    fn variable(&self, variable: Variable) -> &str {
        match variable {
            Variable::RoleName => self.values.role_name,
            Variable::ProjectName => self.values.project_name,
            Variable::RandomSuffix => self.suffix.as_str(),
        }
    }
}
