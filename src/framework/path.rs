//! A path: pattern, fields, help and handlers together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::logical::{Error, Operation, Response, Writable};

use super::field::AnyField;
use super::handler::{Handler, boxed};
use super::pattern::Pattern;
use super::schema::Schema;
use super::{Call, Field, Kind, Shape};

/// What path help says of a path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Help {
    /// One line.
    pub synopsis: &'static str,
    /// As long as it takes.
    pub description: &'static str,
}

/// A field of an answer, for the OpenAPI document.
#[derive(Clone, Copy, Debug)]
pub struct ResponseField {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) description: &'static str,
    pub(super) sensitive: bool,
}

/// A path of the engine `E`.
pub struct Path<E> {
    pub(super) pattern: &'static str,
    pub(super) help: Help,
    pub(super) noun: Option<&'static str>,
    pub(super) fields: Vec<&'static dyn AnyField>,
    pub(super) operations: BTreeMap<Operation, Endpoint<E>>,
    pub(super) exists: Option<Handler<E, Call, bool>>,
    pub(super) responses: BTreeMap<Operation, &'static [ResponseField]>,
    /// What a node must be able to write to answer an operation itself.
    pub(super) needs: BTreeMap<Operation, Writable>,
}

/// A path with what dispatch needs of it, prepared once.
pub(super) struct Route<E> {
    pub(super) path: Path<E>,
    pub(super) pattern: Pattern,
    pub(super) schema: Schema,
}

pub(super) type Endpoint<E> = Handler<E, Call, Option<Response>>;

impl ResponseField {
    /// A field of this kind.
    pub const fn new<T: Kind>(name: &'static str, description: &'static str) -> Self {
        Self { name, shape: T::SHAPE, description, sensitive: false }
    }

    /// Marks its value as a secret.
    #[must_use]
    pub const fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }
}

impl<E: Send + Sync + 'static> Path<E> {
    /// A path of segments, each literal or `:capture`; one that ends in `/` also matches without it, for lists.
    pub fn new(pattern: &'static str, help: Help) -> Self {
        Self {
            pattern,
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

    /// Takes this field. Every capture needs one of its name.
    #[must_use]
    pub fn field<T: Kind>(mut self, field: &'static Field<T>) -> Self {
        self.fields.push(field);
        self
    }

    /// Answers this operation.
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

    /// Answers create, update and patch alike.
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

    /// Tells whether what the path names exists, so that Vault can tell a create from an update.
    #[must_use]
    pub fn exists<Err, F>(mut self, handler: impl Fn(Arc<E>, Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<bool, Err>> + Send + 'static,
        Err: Into<Error>,
    {
        self.exists = Some(boxed(handler));
        self
    }

    /// What stands at the path, with its article: in the OpenAPI document each operation then says what it does to it,
    /// instead of the synopsis.
    #[must_use]
    pub fn noun(mut self, noun: &'static str) -> Self {
        self.noun = Some(noun);
        self
    }

    /// Documents the fields of an operation's answer. A write or deletion without them answers warnings at most.
    #[must_use]
    pub fn responds(mut self, operation: Operation, fields: &'static [ResponseField]) -> Self {
        self.responses.insert(operation, fields);
        self
    }

    /// Has this operation forwarded from every node that may not write the mount's storage; writes and deletions are
    /// anyway.
    #[must_use]
    pub fn forward(mut self, operation: Operation) -> Self {
        self.needs.insert(operation, Writable::Everything);
        self
    }

    /// This operation, a write or not, writes nothing but local storage. A performance secondary answers it itself; only
    /// a node that may write nothing forwards it.
    #[must_use]
    pub fn writes_locally(mut self, operation: Operation) -> Self {
        self.needs.insert(operation, Writable::LocalOnly);
        self
    }
}

impl<E> Route<E> {
    /// Panics on a mistake in the path's declaration.
    pub(super) fn new(path: Path<E>) -> Self {
        let pattern = Pattern::new(path.pattern);
        let schema = Schema::new(&path.fields, &pattern);
        Self { path, pattern, schema }
    }
}
