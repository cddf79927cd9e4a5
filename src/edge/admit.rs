//! Turns requests away once the gateway is draining. Connections that are still open hear it from here.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Layer, Service, layer};

use crate::error::Error;

/// The rung. `draining` is set once no further request is to be taken.
pub fn layer<S>(draining: CancellationToken) -> impl Layer<S, Service = Admit<S>> + Clone {
    layer::layer_fn(move |inner| Admit {
        draining: draining.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Admit<S> {
    draining: CancellationToken,
    inner: S,
}

impl<S, R> Service<R> for Admit<S>
where
    S: Service<R, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<Ready<Result<S::Response, BoxError>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        if self.draining.is_cancelled() {
            return Either::Left(ready(Err(Error::Draining.into())));
        }
        Either::Right(self.inner.call(request))
    }
}
