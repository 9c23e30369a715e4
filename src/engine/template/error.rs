//! What can be wrong with a template, in the role writer's words.

/// Why a template was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {character} of the template)")]
pub struct TemplateError {
    /// What is wrong.
    pub problem: Problem,
    /// Where, counted from 1.
    pub character: usize,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Longer than a template may be.
    #[error("the template is too long: it must have less than {0} bytes")]
    TooLong(usize),
    /// More actions than anyone needs in a name.
    #[error("the template has too many {{{{ }}}}: at most {0} are allowed")]
    TooManyActions(usize),
    /// More function calls than anyone needs in a name.
    #[error("the template calls too many functions: at most {0} are allowed")]
    TooManyCalls(usize),
    /// More parentheses and pipes in one action than anyone needs.
    #[error("too many parentheses and pipes in one {{{{ }}}}: at most {0} are allowed")]
    TooDeep(usize),
    /// An action without its end.
    #[error("{{{{ has no closing }}}}")]
    UnclosedAction,
    /// A comment without its end, or with something beside it.
    #[error("a comment must be written as {{{{/* ... */}}}} with nothing beside it")]
    Comment,
    /// A text without its closing quote.
    #[error("a text has no closing {0}")]
    UnclosedText(char),
    /// An escape that Go does not know either.
    #[error("the escape \\{0} is not known in a text")]
    UnknownEscape(String),
    /// A number that is not a whole decimal one.
    #[error("{0:?} is not a whole number")]
    Number(String),
    /// A character that means nothing where it stands.
    #[error("unexpected {0:?}")]
    Unexpected(char),
    /// Nothing where a value must be.
    #[error("a value is missing")]
    MissingValue,
    /// A parenthesis that is not closed.
    #[error("( has no closing )")]
    UnclosedParenthesis,
    /// A function that does not exist.
    #[error("function {name:?} is not known; known are {known}")]
    UnknownFunction {
        /// What was called.
        name: String,
        /// The names of those there are.
        known: String,
    },
    /// A variable that does not exist.
    #[error("variable {0:?} is not known; known are .RoleName, .ProjectName and .RandomSuffix")]
    UnknownVariable(String),
    /// A part of Go's language that a name does not need.
    #[error("{0:?} is not supported: a name template has variables, functions and pipes only")]
    Unsupported(String),
    /// Something that is not a function was given arguments.
    #[error("only a function can be given arguments or follow a |")]
    NotAFunction,
    /// The wrong number of arguments.
    #[error("{function} takes {takes} arguments, but was given {given}")]
    ArgumentCount {
        /// The function.
        function: &'static str,
        /// How many it takes.
        takes: usize,
        /// How many there are.
        given: usize,
    },
    /// A number where a text must be, or the other way round.
    #[error("argument {argument} of {function} must be a {takes}")]
    ArgumentKind {
        /// The function.
        function: &'static str,
        /// Which argument, counted from 1.
        argument: usize,
        /// What it must be.
        takes: &'static str,
    },
    /// A length out of range.
    #[error("the length given to {function} must be from {least} to {most}")]
    Length {
        /// The function.
        function: &'static str,
        /// The smallest length.
        least: i64,
        /// The largest length.
        most: i64,
    },
    /// A format of `printf` that is not written out.
    #[error("the format of printf must be written out as a text")]
    FormatNotWritten,
    /// A part of a format that is not known.
    #[error("printf does not know {0:?}; known are %s %v %q %d %x %X %%, with a width and a precision")]
    UnknownVerb(String),
    /// A format and arguments that do not fit.
    #[error("printf's format needs {needs} arguments, but was given {given}")]
    FormatCount {
        /// How many the format needs.
        needs: usize,
        /// How many there are.
        given: usize,
    },
}

/// Why a checked template gave no text all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name template cannot be rendered: {0}")]
pub struct RenderError(pub(super) String);

/// A problem at a byte of the template.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

impl TemplateError {
    pub(super) fn new(text: &str, at: usize, problem: Problem) -> Self {
        let before = text.get(..at).unwrap_or(text);
        Self { problem, character: before.chars().count() + 1 }
    }
}

impl Problem {
    pub(super) fn at(self, at: usize) -> Fault {
        Fault { at, problem: self }
    }
}
