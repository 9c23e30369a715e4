//! A uniform type for an engine's async functions.

use std::sync::Arc;

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

/// An engine's function with a boxed future.
pub(super) type Handler<E, In, Out> =
    Arc<dyn Fn(Arc<E>, In) -> BoxFuture<'static, Result<Out, crate::logical::Error>> + Send + Sync>;

/// Boxes a function and converts its error to Vault's.
pub(super) fn boxed<E, In, Out, Err, H, F>(handler: H) -> Handler<E, In, Out>
where
    H: Fn(Arc<E>, In) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Out, Err>> + Send + 'static,
    Err: Into<crate::logical::Error>,
{
    // An `async` block would reserve space for the future twice.
    Arc::new(move |engine, input| Box::pin(handler(engine, input).err_into()))
}
