//! The fields of a path. Each field is one typed `static`.
//!
//! One declaration drives the parser, path help and the OpenAPI document, so the three always agree.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::decode::Refusal;
use super::kind::{Kind, Shape};
use crate::logical::Operation;

/// Default limit for one text, in bytes.
pub const LONGEST_TEXT: usize = 4_096;
/// Default limit for the elements of a list or an object.
pub const MOST_ELEMENTS: usize = 1_000;

/// One field of a request: `static TTL: Field<Duration> = Field::new("ttl", "Lifetime.").default(3600)`.
pub struct Field<T: Kind> {
    info: FieldInfo,
    default: Option<T::Default>,
}

/// Metadata of a field, for help and the OpenAPI document.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own, and any may be set")]
pub struct FieldInfo {
    /// Name of the field.
    pub name: &'static str,
    /// Older name, read if the present name was not sent.
    pub alias: Option<&'static str>,
    /// Description for help and the OpenAPI document.
    pub description: &'static str,
    /// Shape of the values.
    pub shape: Shape,
    /// The first write needs the field. This mark is documentation; [`Call::get`](super::Call::get) enforces it.
    pub required: bool,
    /// The value is a secret, so errors do not quote it.
    pub sensitive: bool,
    /// The field is deprecated.
    pub deprecated: bool,
    /// Reads, lists and deletions take the field from the query string.
    pub query: bool,
    /// The only operation that uses the field. This mark is documentation; every operation accepts the field.
    pub only_on: Option<Operation>,
    /// Limit for one text, in bytes.
    pub longest: usize,
    /// Limit for the elements of a list or an object.
    pub most: usize,
    /// Duplicate elements are an error.
    pub distinct: bool,
    /// `null` takes the value away. In other fields `null` stands for the default.
    pub nullable: bool,
    /// The valid values. This list is documentation, as in Vault's framework; the handler refuses other values.
    pub allowed: &'static [&'static str],
}

/// A field of any type.
pub trait AnyField: Send + Sync {
    /// Metadata of the field.
    fn info(&self) -> &FieldInfo;
    /// Default value for the OpenAPI document.
    fn default_value(&self) -> Option<Value>;
    /// Checks that the value is valid.
    fn check(&self, value: &Value) -> Result<(), Refusal>;
}

impl FieldInfo {
    /// True if the field should not be sent under this name.
    pub(super) fn is_deprecated_as(&self, name: &str) -> bool {
        self.deprecated || name != self.name
    }

    /// True if a write must contain this name.
    pub(super) fn is_required_as(&self, name: &str) -> bool {
        self.required && name == self.name
    }

    /// Description of the field under one of its names.
    pub(super) fn description_as(&self, name: &str) -> Cow<'static, str> {
        if name == self.name {
            Cow::Borrowed(self.description)
        } else {
            Cow::Owned(format!("Older name of `{}`.", self.name))
        }
    }

    /// Error text for an invalid value. The text does not quote a secret.
    pub(super) fn refuses(&self, sent_as: &str, refusal: &Refusal) -> String {
        let converting = format!("error converting input for field {sent_as:?}");
        if self.sensitive {
            format!("{converting}: it must be of type '{}'", self.shape.help_name())
        } else {
            format!("{converting}: {refusal}")
        }
    }
}

impl<T: Kind> Field<T> {
    /// An optional field without a default.
    pub const fn new(name: &'static str, description: &'static str) -> Self {
        let info = FieldInfo {
            name,
            alias: None,
            description,
            shape: T::SHAPE,
            required: false,
            sensitive: false,
            deprecated: false,
            query: false,
            only_on: None,
            longest: LONGEST_TEXT,
            most: MOST_ELEMENTS,
            distinct: false,
            nullable: false,
            allowed: &[],
        };
        Self { info, default: None }
    }

    /// Sets the value of [`Call::get`](super::Call::get) for a field that was not sent.
    #[must_use]
    pub const fn default(mut self, default: T::Default) -> Self {
        self.default = Some(default);
        self
    }

    /// Marks the field as required.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.info.required = true;
        self
    }

    /// Marks the value as a secret, so that errors do not quote it.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.info.sensitive = true;
        self
    }

    /// Sets the limit for one text, in bytes, instead of [`LONGEST_TEXT`].
    #[must_use]
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.info.longest = bytes;
        self
    }

    /// Sets the limit for elements, instead of [`MOST_ELEMENTS`].
    #[must_use]
    pub const fn most(mut self, count: usize) -> Self {
        self.info.most = count;
        self
    }

    /// Refuses lists with duplicate elements.
    #[must_use]
    pub const fn distinct(mut self) -> Self {
        self.info.distinct = true;
        self
    }

    /// Lets `null` take the value away: see [`Call::takes_away`](super::Call::takes_away).
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        self.info.nullable = true;
        self
    }

    /// Documents the valid values.
    #[must_use]
    pub const fn allowed(mut self, values: &'static [&'static str]) -> Self {
        self.info.allowed = values;
        self
    }

    /// Marks the field as deprecated.
    #[must_use]
    pub const fn deprecated(mut self) -> Self {
        self.info.deprecated = true;
        self
    }

    /// Sets an older name, read if the present name was not sent.
    #[must_use]
    pub const fn alias(mut self, older: &'static str) -> Self {
        self.info.alias = Some(older);
        self
    }

    /// Documents that reads, lists and deletions take the field from the query string.
    #[must_use]
    pub const fn query(mut self) -> Self {
        self.info.query = true;
        self
    }

    /// Documents that only this operation uses the field.
    #[must_use]
    pub const fn only_on(mut self, operation: Operation) -> Self {
        self.info.only_on = Some(operation);
        self
    }

    pub(super) const fn info_typed(&self) -> &FieldInfo {
        &self.info
    }

    /// Name of the field.
    pub const fn name(&self) -> &'static str {
        self.info.name
    }

    /// Parses a value of this field.
    pub fn parse(&self, value: &Value) -> Result<Option<T>, Refusal> {
        T::parse(value)
    }

    /// The default, if the field has one.
    pub fn default_typed(&self) -> Option<T> {
        self.default.map(T::of_default)
    }
}

impl<T: Kind> AnyField for Field<T> {
    fn info(&self) -> &FieldInfo {
        &self.info
    }

    fn default_value(&self) -> Option<Value> {
        self.default.map(T::show_default)
    }

    fn check(&self, value: &Value) -> Result<(), Refusal> {
        let parsed = self.parse(value)?;
        match parsed.as_ref().filter(|_| self.info.distinct).and_then(T::repeated) {
            Some(element) => Err(Refusal::repeated(element)),
            None => Ok(()),
        }
    }
}

impl<T: Kind> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Field").field(&self.info.name).finish()
    }
}
