//! The fields of one path, prepared to validate requests.

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

/// Parameters that a request sent without effect.
#[derive(Debug, Default)]
pub(super) struct UnusedFields {
    ignored: Vec<String>,
    replaced: Vec<&'static str>,
}

impl Schema {
    /// Panics on an invalid declaration: a duplicate name, a capture without a field, or a default that its field
    /// refuses.
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

    /// The fields by every valid name, sorted.
    pub(super) fn fields(&self) -> &[(&'static str, &'static dyn AnyField)] {
        &self.fields
    }

    /// True if the path captures this field.
    pub(super) fn captures(&self, name: &str) -> bool {
        self.captures.contains(&name)
    }

    fn field(&self, name: &str) -> Option<&'static dyn AnyField> {
        let index = self.fields.binary_search_by_key(&name, |(name, _)| name).ok()?;
        Some(self.fields[index].1)
    }

    /// Adds the captured values to the data. They replace values of the same name from the body.
    pub(super) fn insert_captures(&self, data: &mut Data, captured: &[&str]) -> UnusedFields {
        let mut unused = UnusedFields::default();
        for (name, value) in self.captures.iter().zip(captured) {
            if data.insert((*name).to_owned(), Value::from(*value)).is_some() {
                unused.replaced.push(name);
            }
        }
        unused.replaced.sort_unstable();
        // Keys of a JSON object are sorted.
        unused.ignored = data.keys().filter(|key| self.field(key).is_none()).cloned().collect();
        unused
    }

    /// Replaces each `null` with the default of its field, and refuses the first invalid value.
    pub(super) fn validate(&self, data: &mut Data, writes: bool) -> Result<(), String> {
        for (name, value) in data {
            let Some(field) = self.field(name) else { continue };
            if value.is_null() && field.info().nullable {
                continue;
            }
            if value.is_null() {
                let without = || {
                    format!(
                        "field {name:?} has no default, which null stands for: give a value, or leave it out"
                    )
                };
                *value = field.default_value().ok_or_else(without)?;
            }
            // Objects that an earlier version stored under a longer name can still be read and deleted.
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
    /// True if every parameter had an effect.
    pub(super) fn is_empty(&self) -> bool {
        self.ignored.is_empty() && self.replaced.is_empty()
    }

    /// Adds the warnings of Vault's framework (PROTOCOL 8.4).
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

/// A field under each of its names.
fn named(field: &'static dyn AnyField) -> impl Iterator<Item = (&'static str, &'static dyn AnyField)> {
    let info = field.info();
    std::iter::once(info.name).chain(info.alias).map(move |name| (name, field))
}
