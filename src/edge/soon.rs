//! Hides that an answer from memory is there at once: rungs say what they do with an answer, and only for one that has to
//! be waited for does that take a future.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

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
    /// What a future has to give, if it has it at once.
    pub(crate) fn of(mut future: BoxFuture<'static, T>) -> Self {
        // If not, the first to wait for it polls it again, and is woken.
        match future.poll_unpin(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(there) => Self::Now(there),
            Poll::Pending => Self::Later(future),
        }
    }

    /// Whether it has to be waited for.
    pub(crate) fn is_waited_for(&self) -> bool {
        matches!(self, Self::Later(_))
    }

    /// Changes it, once it is there.
    pub(crate) fn edit(mut self, act: impl FnOnce(&mut T) + Send + 'static) -> Self {
        if let Self::Later(future) = self {
            let edited = future.map(|mut there| {
                act(&mut there);
                there
            });
            return Self::Later(edited.boxed());
        }
        if let Self::Now(there) = &mut self {
            act(there);
        }
        self
    }

    /// The same with something that has to outlive a wait, of which what is there at once needs no copy.
    pub(crate) fn edit_with<C: Clone + Send + 'static>(
        mut self,
        context: &C,
        act: impl FnOnce(&C, &mut T) + Send + 'static,
    ) -> Self {
        if let Self::Now(there) = &mut self {
            act(context, there);
            return self;
        }
        let context = context.clone();
        self.edit(move |there| act(&context, there))
    }

    /// Does something with it, once it is there.
    pub(crate) fn then<U>(self, act: impl FnOnce(T) -> U + Send + 'static) -> Soon<U> {
        match self {
            Self::Now(there) => Soon::Now(act(there)),
            Self::Later(future) => Soon::Later(future.map(act).boxed()),
            Self::Taken => Soon::Taken,
        }
    }
}

impl<T: Send + 'static> Soon<T> {
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

impl<T: Unpin> Future for Soon<T> {
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
