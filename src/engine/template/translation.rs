//! Turns a checked template into a handlebars tree, and renders that.
//!
//! The tree is built rather than written out and read again: no quoting can go wrong, and no text of a role
//! writer reaches handlebars' own parser. A call becomes a subexpression, its function a helper.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use handlebars::template::{Parameter, Subexpression, TemplateElement};
use handlebars::{
    Context, Handlebars, Helper, HelperDef, PathAndJson, PathSeg, RenderContext, RenderErrorReason,
    Renderable, ScopedJson,
};
use serde_json::{Value as Json, json};

use super::draw::{Draw, Drawn};
use super::error::RenderError;
use super::expression::{Expression, Part, Variable};
use super::function::Function;

const NOW: &str = "Now";
const DRAWN: &str = "Drawn";

/// All helpers; no text is escaped for HTML, and nothing missing goes unnoticed.
static HELPERS: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
    let mut registry = Handlebars::new();
    registry.register_escape_fn(handlebars::no_escape);
    registry.set_strict_mode(true);
    for function in Function::ALL {
        registry.register_helper(function.name(), Box::new(function));
    }
    registry
});

/// What a template's variables stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `.RoleName`
    pub role_name: &'a str,
    /// `.ProjectName`
    pub project_name: &'a str,
}

/// A template for handlebars, and what must be drawn before each rendering.
pub(super) struct Translation {
    pub(super) tree: handlebars::Template,
    pub(super) draws: Vec<Draw>,
}

pub(super) fn translate(parts: Vec<Part>) -> Translation {
    let mut translation = Translation { tree: handlebars::Template::default(), draws: Vec::new() };
    for part in parts {
        let element = match part {
            Part::Text(text) | Part::Value(Expression::Text(text)) => TemplateElement::RawString(text),
            Part::Value(Expression::Number(number)) => TemplateElement::RawString(number.to_string()),
            Part::Value(value) => element(translation.parameter(value)),
        };
        translation.tree.elements.push(element);
    }
    translation
}

pub(super) fn render(
    tree: &handlebars::Template,
    values: &Values<'_>,
    now: DateTime<Utc>,
    suffix: &Drawn,
    drawn: &[Drawn],
) -> Result<String, RenderError> {
    let context = Context::from(json!({
        Variable::RoleName.name(): values.role_name,
        Variable::ProjectName.name(): values.project_name,
        Variable::RandomSuffix.name(): suffix.as_str(),
        NOW: now.timestamp_millis(),
        DRAWN: drawn.iter().map(Drawn::as_str).collect::<Vec<_>>(),
    }));
    tree.renders(&HELPERS, &context, &mut RenderContext::new(None))
        .map_err(|error| RenderError(error.reason().to_string()))
}

impl Translation {
    fn parameter(&mut self, value: Expression) -> Parameter {
        match value {
            Expression::Text(text) => Parameter::Literal(Json::from(text)),
            Expression::Number(number) => Parameter::Literal(Json::from(number)),
            Expression::Variable(variable) => path(&[variable.name()]),
            Expression::Draw(draw) => self.draw(draw),
            Expression::Call(function, arguments) => self.call(function, arguments),
        }
    }

    fn draw(&mut self, draw: Draw) -> Parameter {
        self.draws.push(draw);
        path(&[DRAWN, &(self.draws.len() - 1).to_string()])
    }

    fn call(&mut self, function: Function, arguments: Vec<Expression>) -> Parameter {
        let mut parameters: Vec<Parameter> =
            arguments.into_iter().map(|argument| self.parameter(argument)).collect();
        if function.needs_time() {
            parameters.push(path(&[NOW]));
        }
        let name = Parameter::Name(function.name().to_owned());
        Parameter::Subexpression(Subexpression::new(name, parameters, HashMap::new()))
    }
}

impl Variable {
    fn name(self) -> &'static str {
        match self {
            Self::RoleName => "RoleName",
            Self::ProjectName => "ProjectName",
            Self::RandomSuffix => "RandomSuffix",
        }
    }
}

fn path(names: &[&str]) -> Parameter {
    let segments = names.iter().map(|name| PathSeg::Named((*name).to_owned())).collect();
    Parameter::Path(handlebars::Path::Relative((segments, names.join("."))))
}

fn element(parameter: Parameter) -> TemplateElement {
    match parameter {
        Parameter::Subexpression(call) => *call.element,
        value => *Subexpression::new(value, Vec::new(), HashMap::new()).element,
    }
}

impl HelperDef for Function {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        let arguments: Vec<&Json> = helper.params().iter().map(PathAndJson::value).collect();
        self.apply(&arguments)
            .map(|text| ScopedJson::Derived(Json::String(text)))
            .map_err(|error| RenderErrorReason::Other(error.to_string()).into())
    }
}
