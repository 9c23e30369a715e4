//! What one path takes, prepared for checking what a request sent.

use serde_json::Value;

use crate::logical::{Data, Response};

use super::field::AnyField;
use super::kind::Shape;
use super::limits;
use super::pattern::Pattern;

/// The fields of a path by name and older name, sorted.
pub(super) struct Schema {
    fields: Vec<(&'static str, &'static dyn AnyField)>,
    captures: Vec<&'static str>,
}

/// What a request sent in vain.
#[derive(Debug, Default)]
pub(super) struct UnusedFields {
    ignored: Vec<String>,
    replaced: Vec<&'static str>,
}

impl Schema {
    /// Panics on a mistake in the declaration: two fields of a name, a capture without a field, or a default
    /// that its own field refuses.
    pub(super) fn new(declared: &[&'static dyn AnyField], pattern: &Pattern) -> Self {
        let mut fields: Vec<_> = declared.iter().flat_map(|field| named(*field)).collect();
        fields.sort_by_key(|(name, _)| *name);
        for pair in fields.windows(2) {
            assert!(pair[0].0 != pair[1].0, "{} has two fields {:?}", pattern.regex(), pair[0].0);
        }
        for field in declared {
            let fits = field.default_value().is_none_or(|value| field.check(&value).is_ok());
            assert!(fits, "the default of field {:?} is not of its kind", field.info().name);
        }
        let schema = Self { fields, captures: pattern.captures().collect() };
        for capture in &schema.captures {
            assert!(schema.field(capture).is_some(), "{} has no field {capture:?}", pattern.regex());
        }
        schema
    }

    /// The fields by the names they may be sent under, sorted.
    pub(super) fn fields(&self) -> &[(&'static str, &'static dyn AnyField)] {
        &self.fields
    }

    /// Whether the path captures this field.
    pub(super) fn captures(&self, name: &str) -> bool {
        self.captures.contains(&name)
    }

    fn field(&self, name: &str) -> Option<&'static dyn AnyField> {
        let index = self.fields.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.fields[index].1)
    }

    /// Puts what the path captured among what was sent, in place of what the body said.
    pub(super) fn insert_captures(&self, data: &mut Data, captured: &[&str]) -> UnusedFields {
        let mut unused = UnusedFields::default();
        for (name, value) in self.captures.iter().zip(captured) {
            if data.insert((*name).to_owned(), Value::from(*value)).is_some() {
                unused.replaced.push(name);
            }
        }
        unused.replaced.sort_unstable();
        // A JSON object's keys come sorted.
        unused.ignored = data.keys().filter(|key| self.field(key).is_none()).cloned().collect();
        unused
    }

    /// Puts its field's default in the place of each `null`, and refuses the first value that its field does not take.
    pub(super) fn validate(&self, data: &mut Data, writes: bool) -> Result<(), String> {
        for (name, value) in data {
            let Some(field) = self.field(name) else { continue };
            if value.is_null() {
                let without = || {
                    format!(
                        "field {name:?} has no default, which null stands for: give a value, or leave it out"
                    )
                };
                *value = field.default_value().ok_or_else(without)?;
            }
            // What an earlier version stored under a longer name can still be read and deleted.
            let limited = writes || field.info().shape != Shape::Name;
            if let Some(excess) = limits::excess(field.info(), name, value).filter(|_| limited) {
                return Err(excess);
            }
            field.check(value).map_err(|refusal| field.info().refuses(name, &refusal))?;
        }
        Ok(())
    }
}

impl UnusedFields {
    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.ignored.is_empty() && self.replaced.is_empty()
    }

    /// Tells the caller, as Vault's framework does (PROTOCOL 8.4).
    pub(super) fn warn(&self, response: &mut Response) {
        if !self.ignored.is_empty() {
            response.warnings.push(format!(
                "Endpoint ignored these unrecognized parameters: [{}]",
                self.ignored.join(" ")
            ));
        }
        if !self.replaced.is_empty() {
            response.warnings.push(format!(
                "Endpoint replaced the value of these parameters with the values captured from the endpoint's \
                 path: [{}]",
                self.replaced.join(" ")
            ));
        }
    }
}

/// A field under each name it may be sent by.
fn named(field: &'static dyn AnyField) -> impl Iterator<Item = (&'static str, &'static dyn AnyField)> {
    let info = field.info();
    std::iter::once(info.name).chain(info.alias).map(move |name| (name, field))
}
