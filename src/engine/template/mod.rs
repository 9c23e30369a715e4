//! Name templates in the writing of Vault's username templates (Go's text/template), rendered by handlebars.
//!
//! The writing is read by `lexer` and `parser`, which check every function, argument and variable, and is
//! turned into a handlebars tree by `translation`; rendering is handlebars'. It knows no limits on names: what
//! OpenAI takes as a name is `names.rs`'s.
//!
//! Known are the variables `.RoleName`, `.ProjectName`, `.RandomSuffix` and the functions of `function`; there
//! are no conditions, loops or assignments.

mod calls;
mod draw;
mod error;
mod expression;
mod function;
mod layout;
mod lexer;
mod parser;
mod printf;
mod results;
mod translation;

use chrono::{DateTime, Utc};
use rand::Rng;

use draw::Draw;
pub use draw::Drawn;
pub use error::{Problem, RenderError, TemplateError};
pub use translation::Values;

/// A template that was read and checked, cheap to render again and again.
#[derive(Debug)]
pub struct Template {
    tree: handlebars::Template,
    draws: Vec<Draw>,
}

/// One rendering of a template, with the randomness that went into it.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// The text.
    pub text: String,
    /// What `.RandomSuffix` stood for in this rendering, used or not.
    pub suffix: Drawn,
    /// What `random` and `uuid` gave, in the order of the template.
    pub drawn: Vec<Drawn>,
}

impl Template {
    /// A template must be shorter than this many bytes (PROTOCOL 10).
    pub const MAX_LENGTH: usize = 100_000;

    /// Reads a template and checks all of it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() >= Self::MAX_LENGTH {
            return Err(TemplateError::new(text, 0, Problem::TooLong(Self::MAX_LENGTH)));
        }
        lexer::split(text)
            .and_then(parser::parse)
            .map(|parts| translation::translate(parts).into())
            .map_err(|fault| TemplateError::new(text, fault.at, fault.problem))
    }

    /// Renders it. Equal values, times and generators give equal texts.
    pub fn render<R: Rng + ?Sized>(
        &self,
        values: &Values<'_>,
        now: DateTime<Utc>,
        rng: &mut R,
    ) -> Result<Rendering, RenderError> {
        let suffix = Draw::Suffix.draw(rng);
        let drawn: Vec<Drawn> = self.draws.iter().map(|draw| draw.draw(rng)).collect();
        let text = translation::render(&self.tree, values, now, &suffix, &drawn)?;
        Ok(Rendering { text, suffix, drawn })
    }
}

impl From<translation::Translation> for Template {
    fn from(translation: translation::Translation) -> Self {
        Self { tree: translation.tree, draws: translation.draws }
    }
}

impl Rendering {
    /// A text that is no template, with randomness beside it.
    pub fn plain<R: Rng + ?Sized>(text: &str, rng: &mut R) -> Self {
        Self { text: text.to_owned(), suffix: Draw::Suffix.draw(rng), drawn: Vec::new() }
    }

    /// Whether `name` still holds enough of this rendering's randomness to be unlike any other rendering's.
    pub fn is_unique_in(&self, name: &str) -> bool {
        std::iter::once(&self.suffix).chain(&self.drawn).any(|drawn| drawn.marks(name))
    }
}

#[cfg(test)]
mod tests;
