//! Hides that an answer from memory is there at once: rungs say what they do with an answer, and only for one that has to
//! be waited for does that take a future, and a box.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::Service;

/// What is there, or will be.
pub enum Soon<T> {
    /// It is there.
    Now(T),
    /// It has to be waited for.
    Later(BoxFuture<'static, T>),
    /// It was, and whoever polled has it.
    Taken,
}

impl<T: Send + 'static> Soon<T> {
    /// Whether it has to be waited for.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self, Self::Later(_))
    }

    /// Changes it, once it is there.
    pub(crate) fn edit(&mut self, act: impl FnOnce(&mut T) + Send + 'static) {
        match self {
            Self::Now(there) => act(there),
            Self::Later(_) => {
                let waited = std::mem::replace(self, Self::Taken);
                *self = waited.then(|mut there| {
                    act(&mut there);
                    there
                });
            }
            Self::Taken => {}
        }
    }

    /// The same with something that has to outlive a wait, of which what is there at once needs no copy.
    pub(crate) fn edit_with<C: Clone + Send + 'static>(
        &mut self,
        context: &C,
        act: impl FnOnce(&C, &mut T) + Send + 'static,
    ) {
        if let Self::Now(there) = self {
            return act(context, there);
        }
        let context = context.clone();
        self.edit(move |there| act(&context, there));
    }

    /// Does something with it, once it is there.
    pub(crate) fn then<U>(self, act: impl FnOnce(T) -> U + Send + 'static) -> Soon<U> {
        match self {
            Self::Now(there) => Soon::Now(act(there)),
            Self::Later(future) => Soon::Later(future.map(act).boxed()),
            Self::Taken => Soon::Taken,
        }
    }

    /// The same with something that has to outlive a wait, of which what is there at once needs no copy.
    pub(crate) fn with<C: Clone + Send + 'static, U>(
        self,
        context: &C,
        act: impl FnOnce(&C, T) -> U + Send + 'static,
    ) -> Soon<U> {
        match self {
            Self::Now(there) => Soon::Now(act(context, there)),
            waited => {
                let context = context.clone();
                waited.then(move |there| act(&context, there))
            }
        }
    }
}

/// What is there is not pinned.
impl<T> Unpin for Soon<T> {}

impl<T> Future for Soon<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Self::Later(future) = &mut *self {
            return future.poll_unpin(cx);
        }
        match std::mem::replace(&mut *self, Self::Taken) {
            Self::Now(there) => Poll::Ready(there),
            // Whoever polls a future again that has ended waits for ever, as std allows.
            Self::Later(_) | Self::Taken => Poll::Pending,
        }
    }
}

/// A service of which no more is known than what it takes and what it gives soon. tower's `BoxCloneSyncService` boxes each answer, and
/// has it moved into the box and out of it: a hit passes two of these, which cost it 300 instructions and 0.7 % of its time.
pub struct Closed<R, T, E>(Box<dyn Shut<R, T, E>>);

/// What every service is that can be closed.
trait Shut<R, T, E>:
    Service<R, Response = T, Error = E, Future = Soon<Result<T, E>>> + Send + Sync
{
    fn copy(&self) -> Closed<R, T, E>;
}

impl<S, R, T, E> Shut<R, T, E> for S
where
    S: Service<R, Response = T, Error = E, Future = Soon<Result<T, E>>>,
    S: Clone + Send + Sync + 'static,
{
    fn copy(&self) -> Closed<R, T, E> {
        Closed::new(self.clone())
    }
}

impl<R, T, E> Closed<R, T, E> {
    /// Closes one.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<R, Response = T, Error = E, Future = Soon<Result<T, E>>>,
        S: Clone + Send + Sync + 'static,
    {
        Self(Box::new(service))
    }
}

impl<R, T, E> Clone for Closed<R, T, E> {
    fn clone(&self) -> Self {
        self.0.copy()
    }
}

impl<R, T, E> fmt::Debug for Closed<R, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

impl<R, T, E> Service<R> for Closed<R, T, E> {
    type Response = T;
    type Error = E;
    type Future = Soon<Result<T, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.0.call(request)
    }
}
