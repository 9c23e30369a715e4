//! Name templates in the syntax of Vault's username templates (Go's text/template), rendered by handlebars.
//!
//! `reader` parses a template into a handlebars tree, with `functions` as helpers. No text of an operator reaches
//! handlebars' own parser. The syntax has the variables `.RoleName`, `.ProjectName`, `.RandomSuffix`,
//! `.DisplayName` and `.EntityName`, functions and pipes, but no conditions, loops or assignments. `names.rs` adapts the text to OpenAI's rules for names.
//!
//! The cost of a rendering is bounded: `reader` limits the actions and calls, and `functions` limits the texts.

mod cursor;
mod draw;
mod functions;
mod layout;
mod printf;
mod reader;

use chrono::{DateTime, Utc};
pub use draw::Drawn;
use draw::{DRAWN, Draw};
use functions::NOW;
use handlebars::{Context, RenderContext, Renderable as _};
use rand::Rng;
use serde_json::json;

/// A parsed and checked template.
#[derive(Debug)]
pub struct Template(reader::Parsed);

/// The values of a template's variables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'a> {
    /// `.RoleName`.
    pub role_name: &'a str,
    /// `.ProjectName`.
    pub project_name: &'a str,
    /// `.DisplayName`.
    pub display_name: &'a str,
    /// `.EntityName`.
    pub entity_name: &'a str,
}

/// One rendering of a template, with its random parts.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// The text.
    pub text: String,
    /// The value of `.RandomSuffix`, whether or not the template uses it.
    pub suffix: Drawn,
    /// The values of `random` and `uuid`, in the order of the template.
    pub drawn: Vec<Drawn>,
}

/// An error in a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {character} of the template)")]
pub struct TemplateError {
    /// The problem.
    pub problem: String,
    /// The position, counted from 1.
    pub character: usize,
}

/// An error in rendering a checked template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name template cannot be rendered: {0}")]
pub struct RenderError(String);

impl Template {
    /// A template must have fewer bytes than this (PROTOCOL 10).
    pub const MAX_LENGTH: usize = 100_000;

    /// Parses and checks a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() >= Self::MAX_LENGTH {
            let max = Self::MAX_LENGTH;
            let problem = format!("the template is too long: it must have less than {max} bytes");
            return Err(TemplateError { problem, character: 1 });
        }
        reader::read(text).map(Self).map_err(|fault| {
            let before = text.get(..fault.at).unwrap_or(text);
            TemplateError { problem: fault.problem, character: before.chars().count() + 1 }
        })
    }

    /// True if the template uses `.EntityName`, for which the server has to be asked.
    pub fn names_entity(&self) -> bool {
        self.0.names_entity
    }

    /// Renders the template. The result depends only on the values, the time and the generator's state.
    pub fn render<R: Rng + ?Sized>(
        &self,
        values: &Values<'_>,
        now: DateTime<Utc>,
        rng: &mut R,
    ) -> Result<Rendering, RenderError> {
        let suffix = Draw::Suffix.draw(rng);
        let drawn: Vec<Drawn> = self.0.draws.iter().map(|draw| draw.draw(rng)).collect();
        let context = Context::from(json!({
            "RoleName": values.role_name,
            "ProjectName": values.project_name,
            "DisplayName": values.display_name,
            "EntityName": values.entity_name,
            "RandomSuffix": suffix.as_str(),
            DRAWN: drawn.iter().map(Drawn::as_str).collect::<Vec<_>>(),
            NOW: now.timestamp_millis(),
        }));
        let text = self.0.tree.renders(&functions::HELPERS, &context, &mut RenderContext::new(None));
        let text = text.map_err(|error| RenderError(error.reason().to_string()))?;
        Ok(Rendering { text, suffix, drawn })
    }
}

impl Rendering {
    /// A rendering of a plain text, with a random suffix.
    pub fn plain<R: Rng + ?Sized>(text: &str, rng: &mut R) -> Self {
        Self { text: text.to_owned(), suffix: Draw::Suffix.draw(rng), drawn: Vec::new() }
    }

    /// True if `name` contains enough of this rendering's random parts to be unique.
    pub fn is_unique_in(&self, name: &str) -> bool {
        std::iter::once(&self.suffix).chain(&self.drawn).any(|drawn| drawn.makes_unique(name))
    }
}

#[cfg(test)]
mod tests;
