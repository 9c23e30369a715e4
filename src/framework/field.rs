//! Fields: what a path takes, each declared once as a `static`, typed, with its help.
//!
//! The same value parses what was sent, and fills path help and the OpenAPI document, so the three cannot part.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::decode::Refusal;
use super::kind::{Kind, Shape};
use crate::logical::Operation;

/// The bytes of one text, unless its field says otherwise.
pub const LONGEST_TEXT: usize = 4_096;
/// The elements of a list or an object, unless its field says otherwise.
pub const MOST_ELEMENTS: usize = 1_000;

/// One field of a request: `static TTL: Field<Duration> = Field::new("ttl", "How long it lives.").default(3600)`.
pub struct Field<T: Kind> {
    info: FieldInfo,
    default: Option<T::Default>,
}

/// What help and the OpenAPI document say of a field.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mark of its own, and any may be set")]
pub struct FieldInfo {
    /// The field's name.
    pub name: &'static str,
    /// An older name that is still read where the present one was not sent.
    pub alias: Option<&'static str>,
    /// What it is for.
    pub description: &'static str,
    /// What its values look like.
    pub shape: Shape,
    /// Whether a write needs it at first. Documentation: what enforces it is [`Call::get`](super::Call::get).
    pub required: bool,
    /// Whether its value is a secret, which no error then quotes.
    pub sensitive: bool,
    /// Whether it should no longer be used.
    pub deprecated: bool,
    /// Whether reads, lists and deletions take it from the query string.
    pub query: bool,
    /// The one operation that heeds it; documentation, for all of them accept it.
    pub only_on: Option<Operation>,
    /// The most bytes that a text of it may have.
    pub longest: usize,
    /// The most elements that it may have, if it is a list or an object.
    pub most: usize,
    /// Whether no element may come twice.
    pub distinct: bool,
    /// The values there are; documentation, as in Vault's framework: the handler refuses others.
    pub allowed: &'static [&'static str],
}

/// A field of any type.
pub trait AnyField: Send + Sync {
    /// What is said of it.
    fn info(&self) -> &FieldInfo;
    /// Its default, as the OpenAPI document shows it.
    fn default_value(&self) -> Option<Value>;
    /// Whether the value can be read.
    fn check(&self, value: &Value) -> Result<(), Refusal>;
}

impl FieldInfo {
    /// Whether the field should not be sent by this name.
    pub(super) fn is_deprecated_as(&self, name: &str) -> bool {
        self.deprecated || name != self.name
    }

    /// Whether a write must hold this name.
    pub(super) fn is_required_as(&self, name: &str) -> bool {
        self.required && name == self.name
    }

    /// What is said of the field under one of its names.
    pub(super) fn description_as(&self, name: &str) -> Cow<'static, str> {
        if name == self.name {
            Cow::Borrowed(self.description)
        } else {
            Cow::Owned(format!("Older name of `{}`.", self.name))
        }
    }

    /// The sentence for a value that was not taken; a secret is not quoted.
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
    /// A field that may be left out and has no default.
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
            allowed: &[],
        };
        Self { info, default: None }
    }

    /// What [`Call::get`](super::Call::get) answers where nothing was sent.
    #[must_use]
    pub const fn default(mut self, default: T::Default) -> Self {
        self.default = Some(default);
        self
    }

    /// Marks it as needed.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.info.required = true;
        self
    }

    /// Marks its value as a secret: errors do not quote it.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.info.sensitive = true;
        self
    }

    /// Takes texts of up to so many bytes, instead of [`LONGEST_TEXT`].
    #[must_use]
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.info.longest = bytes;
        self
    }

    /// Takes up to so many elements, instead of [`MOST_ELEMENTS`].
    #[must_use]
    pub const fn most(mut self, count: usize) -> Self {
        self.info.most = count;
        self
    }

    /// Refuses a list in which an element comes twice.
    #[must_use]
    pub const fn distinct(mut self) -> Self {
        self.info.distinct = true;
        self
    }

    /// Documents the only values there are.
    #[must_use]
    pub const fn allowed(mut self, values: &'static [&'static str]) -> Self {
        self.info.allowed = values;
        self
    }

    /// Marks it as one not to use any more.
    #[must_use]
    pub const fn deprecated(mut self) -> Self {
        self.info.deprecated = true;
        self
    }

    /// An older name, read where the present one was not sent.
    #[must_use]
    pub const fn alias(mut self, older: &'static str) -> Self {
        self.info.alias = Some(older);
        self
    }

    /// Documents that reads, lists and deletions take it from the query string.
    #[must_use]
    pub const fn query(mut self) -> Self {
        self.info.query = true;
        self
    }

    /// Documents that no other operation of its path heeds it.
    #[must_use]
    pub const fn only_on(mut self, operation: Operation) -> Self {
        self.info.only_on = Some(operation);
        self
    }

    pub(super) const fn info_typed(&self) -> &FieldInfo {
        &self.info
    }

    /// The field's name.
    pub const fn name(&self) -> &'static str {
        self.info.name
    }

    /// Reads a value of this field.
    pub fn parse(&self, value: &Value) -> Result<Option<T>, Refusal> {
        T::parse(value)
    }

    /// The default, if it has one.
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
