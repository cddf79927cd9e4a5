//! Turns requests away that find no place: at once, there is no queue. Once the gateway is draining nobody finds one, and
//! connections that are still open hear it from here.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tower::{Layer, Service, layer};

use super::after::{Act, After};
use crate::error::Error;

/// The rung. `places`: one for each request in flight, closed once no further request is to be taken.
pub fn layer<S>(places: Arc<Semaphore>) -> impl Layer<S, Service = Admit<S>> + Clone {
    layer::layer_fn(move |inner| Admit {
        places: places.clone(),
        inner,
    })
}

/// See [`layer()`].
#[derive(Clone, Debug)]
pub struct Admit<S> {
    places: Arc<Semaphore>,
    inner: S,
}

/// Given back once there is an answer, or nobody waits for one.
#[derive(Debug)]
pub struct Place(OwnedSemaphorePermit);

impl<S, R> Service<R> for Admit<S>
where
    S: Service<R, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Either<Ready<Result<S::Response, Error>>, After<S::Future, Place>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Either::Right(After::new(self.inner.call(request), Place(place))),
            Err(TryAcquireError::NoPermits) => Either::Left(ready(Err(Error::Overloaded))),
            Err(TryAcquireError::Closed) => Either::Left(ready(Err(Error::Draining))),
        }
    }
}

impl<T> Act<T> for Place {
    type Output = T;

    fn act(self, answer: T) -> T {
        drop(self.0);
        answer
    }
}
