//! Handlers of any type, behind one.

use std::sync::Arc;

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

/// An engine's function, with its future boxed.
pub(super) type Handler<E, In, Out> =
    Arc<dyn Fn(Arc<E>, In) -> BoxFuture<'static, Result<Out, crate::logical::Error>> + Send + Sync>;

/// Boxes a function of the engine; its error becomes Vault's.
pub(super) fn boxed<E, In, Out, Err, H, F>(handler: H) -> Handler<E, In, Out>
where
    H: Fn(Arc<E>, In) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Out, Err>> + Send + 'static,
    Err: Into<crate::logical::Error>,
{
    // An `async` block would have room for the future twice: where it is made, and where it is awaited.
    Arc::new(move |engine, input| Box::pin(handler(engine, input).err_into()))
}
