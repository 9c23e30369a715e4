//! A path: pattern, fields, help and handlers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::logical::{Data, Error, Operation, Response, Writable, data};

use super::field::AnyField;
use super::handler::{Handler, boxed};
use super::pattern::Pattern;
use super::schema::Schema;
use super::{Call, Field, Kind, Shape};

/// Help texts of a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Help {
    /// Summary in one line.
    pub synopsis: &'static str,
    /// Description of any length.
    pub description: &'static str,
}

/// A response field, for the OpenAPI document.
#[derive(Clone, Copy, Debug)]
pub struct ResponseField {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) description: &'static str,
    pub(super) sensitive: bool,
}

/// A field of requests that a read answers as well, with its value in the answer about a `T`.
pub type Shown<T> = (ResponseField, fn(&T) -> Value);

/// The values of these fields.
pub fn show<T>(fields: &[Shown<T>], of: &T) -> Data {
    data(fields.iter().map(|(field, value)| (field.name, value(of))))
}

/// A path of the engine `E`.
pub struct Path<E> {
    pub(super) pattern: &'static str,
    /// Every pattern of the path, if there are several.
    pub(super) patterns: Vec<&'static str>,
    pub(super) help: Help,
    pub(super) noun: Option<&'static str>,
    pub(super) fields: Vec<&'static dyn AnyField>,
    pub(super) operations: BTreeMap<Operation, Endpoint<E>>,
    pub(super) exists: Option<Handler<E, Call, bool>>,
    pub(super) responses: BTreeMap<Operation, Vec<ResponseField>>,
    /// Storage that a node must be able to write to answer an operation itself.
    pub(super) needs: BTreeMap<Operation, Writable>,
}

/// A path with its parsed pattern and its schema.
pub(super) struct Route<E> {
    pub(super) path: Path<E>,
    pub(super) pattern: Pattern,
    pub(super) schema: Schema,
}

pub(super) type Endpoint<E> = Handler<E, Call, Option<Response>>;

impl ResponseField {
    /// A response field of this kind.
    pub const fn new<T: Kind>(name: &'static str, description: &'static str) -> Self {
        Self { name, shape: T::SHAPE, description, sensitive: false }
    }

    /// The response field of the same name, kind and description as a field of requests.
    pub const fn of<T: Kind>(field: &Field<T>) -> Self {
        Self::new::<T>(field.name(), field.info_typed().description)
    }

    /// Marks the value as a secret.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }
}

impl<E: Send + Sync + 'static> Path<E> {
    /// A path of segments, each a literal or a `:capture`. A pattern that ends in `/` also matches without the slash,
    /// for lists.
    pub fn new(pattern: &'static str, help: Help) -> Self {
        Self {
            pattern,
            patterns: Vec::new(),
            help,
            noun: None,
            fields: Vec::new(),
            operations: BTreeMap::new(),
            exists: None,
            responses: BTreeMap::new(),
            needs: [Operation::Create, Operation::Update, Operation::Patch, Operation::Delete]
                .map(|operation| (operation, Writable::Everything))
                .into(),
        }
    }

    /// Adds another pattern for the same path, with the same captures. A policy needs a rule for each.
    #[must_use]
    pub fn also(mut self, pattern: &'static str) -> Self {
        if self.patterns.is_empty() {
            self.patterns.push(self.pattern);
        }
        self.patterns.push(pattern);
        self
    }

    /// The path once for each of its patterns.
    pub(super) fn spelled_out(self) -> Vec<Self> {
        let others: Vec<Self> =
            self.patterns.iter().skip(1).map(|pattern| Self { pattern, ..self.clone() }).collect();
        std::iter::once(self).chain(others).collect()
    }

    /// Adds a field. Every capture needs a field of its name.
    #[must_use]
    pub fn field<T: Kind>(mut self, field: &'static Field<T>) -> Self {
        self.fields.push(field);
        self
    }

    /// Adds these fields.
    #[must_use]
    pub fn fields(mut self, fields: &[&'static dyn AnyField]) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Sets the handler of this operation.
    #[must_use]
    pub fn on<Err, F>(
        mut self,
        operation: Operation,
        handler: impl Fn(Arc<E>, Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<Response>, Err>> + Send + 'static,
        Err: Into<Error>,
    {
        self.operations.insert(operation, boxed(handler));
        self
    }

    /// Sets one handler for create, update and patch.
    #[must_use]
    pub fn on_write<Err, F>(mut self, handler: impl Fn(Arc<E>, Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Response>, Err>> + Send + 'static,
        Err: Into<Error>,
    {
        let endpoint: Endpoint<E> = boxed(handler);
        for operation in [Operation::Create, Operation::Update, Operation::Patch] {
            self.operations.insert(operation, Arc::clone(&endpoint));
        }
        self
    }

    /// Sets the existence check, by which Vault distinguishes create from update.
    #[must_use]
    pub fn exists<Err, F>(mut self, handler: impl Fn(Arc<E>, Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<bool, Err>> + Send + 'static,
        Err: Into<Error>,
    {
        self.exists = Some(boxed(handler));
        self
    }

    /// Sets the noun for the object at the path, with its article. The OpenAPI document then summarizes each
    /// operation with this noun instead of the synopsis.
    #[must_use]
    pub fn noun(mut self, noun: &'static str) -> Self {
        self.noun = Some(noun);
        self
    }

    /// Adds response fields of an operation. A write or deletion without them answers at most warnings.
    #[must_use]
    pub fn responds(mut self, operation: Operation, fields: &[ResponseField]) -> Self {
        self.responses.entry(operation).or_default().extend(fields);
        self
    }

    /// Forwards this operation from every node that may not write the mount's storage. Writes and deletions are
    /// always forwarded.
    #[must_use]
    pub fn forward(mut self, operation: Operation) -> Self {
        self.needs.insert(operation, Writable::Everything);
        self
    }

    /// Declares that any node may answer this operation. The handler itself refuses to write where the node may not.
    #[must_use]
    pub fn answered_anywhere(mut self, operation: Operation) -> Self {
        self.needs.remove(&operation);
        self
    }

    /// Declares that this operation writes at most local storage. A performance secondary then answers it; only a
    /// node without any writable storage forwards it.
    #[must_use]
    pub fn writes_locally(mut self, operation: Operation) -> Self {
        self.needs.insert(operation, Writable::LocalOnly);
        self
    }
}

impl<E> Clone for Path<E> {
    fn clone(&self) -> Self {
        Self {
            pattern: self.pattern,
            patterns: self.patterns.clone(),
            help: self.help,
            noun: self.noun,
            fields: self.fields.clone(),
            operations: self.operations.clone(),
            exists: self.exists.clone(),
            responses: self.responses.clone(),
            needs: self.needs.clone(),
        }
    }
}

impl<E> Route<E> {
    /// Panics on an invalid declaration.
    pub(super) fn new(path: Path<E>) -> Self {
        let pattern = Pattern::new(path.pattern);
        let schema = Schema::new(&path.fields, &pattern);
        Self { path, pattern, schema }
    }
}
