//! Name templates in the writing of Vault's username templates (Go's text/template), rendered by handlebars.
//!
//! `reader` turns the writing into a handlebars tree, with the functions of `functions` as its helpers; no text of a role
//! writer reaches handlebars' own parser. Known are the variables `.RoleName`, `.ProjectName` and `.RandomSuffix`, functions
//! and pipes; there are no conditions, loops or assignments. What OpenAI takes as a name is `names.rs`'s.
//!
//! A rendering costs a bounded amount: a template has few actions and calls (`reader`), each text is short (`functions`).

mod cursor;
mod draw;
mod functions;
mod layout;
mod printf;
mod reader;

use chrono::{DateTime, Utc};
use handlebars::{Context, RenderContext, Renderable as _};
use rand::Rng;
use serde_json::json;

pub use draw::Drawn;
use draw::{DRAWN, Draw};
use functions::NOW;

/// A template that was read and checked, cheap to render again and again.
#[derive(Debug)]
pub struct Template {
    tree: handlebars::Template,
    draws: Vec<Draw>,
}

/// What a template's variables stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `.RoleName`
    pub role_name: &'a str,
    /// `.ProjectName`
    pub project_name: &'a str,
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

/// Why a template was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {character} of the template)")]
pub struct TemplateError {
    /// What is wrong.
    pub problem: String,
    /// Where, counted from 1.
    pub character: usize,
}

/// Why a checked template gave no text all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name template cannot be rendered: {0}")]
pub struct RenderError(String);

impl Template {
    /// A template must be shorter than this many bytes (PROTOCOL 10).
    pub const MAX_LENGTH: usize = 100_000;

    /// Reads a template and checks all of it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() >= Self::MAX_LENGTH {
            let most = Self::MAX_LENGTH;
            let problem = format!("the template is too long: it must have less than {most} bytes");
            return Err(TemplateError { problem, character: 1 });
        }
        let (tree, draws) = reader::read(text).map_err(|fault| {
            let before = text.get(..fault.at).unwrap_or(text);
            TemplateError { problem: fault.problem, character: before.chars().count() + 1 }
        })?;
        Ok(Self { tree, draws })
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
        let context = Context::from(json!({
            "RoleName": values.role_name,
            "ProjectName": values.project_name,
            "RandomSuffix": suffix.as_str(),
            DRAWN: drawn.iter().map(Drawn::as_str).collect::<Vec<_>>(),
            NOW: now.timestamp_millis(),
        }));
        let text = self.tree.renders(&functions::HELPERS, &context, &mut RenderContext::new(None));
        let text = text.map_err(|error| RenderError(error.reason().to_string()))?;
        Ok(Rendering { text, suffix, drawn })
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
